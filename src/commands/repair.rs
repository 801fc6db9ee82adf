//! `catena repair`: what containers that run have lost is put back.

use std::process::ExitCode;

use chain::{Condition, Error, Repaired, Result, check_network_name};
use clap::Args;
use serde_json::{Value, json};

use crate::{cli::Format, kubernetes::pods::Pods, output, wiring};

/// What to repair.
#[derive(Args)]
pub struct RepairArgs {
    /// The name of a network [default: all networks that have containers].
    #[arg(value_name = "NETWORK")]
    pub network: Option<String>,
    /// Say what is missing and would be put back, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How to print the report [default: table on a terminal, json elsewhere].
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
}

/// Repairs, and prints a report. It fails where something is missing in the end.
pub fn run(args: &RepairArgs) -> Result<ExitCode> {
    if let Some(network) = &args.network {
        check_network_name(network)?;
    }
    // Executables are looked for where their ADD found them.
    let all = wiring::with_executor(None, Vec::new(), |executor, node| {
        let mut all = executor.repair(args.network.as_deref(), args.dry_run, None, node)?;
        Pods::new(executor, None).repair(args.dry_run, &mut all, node)?;
        Ok(all)
    })?;
    let printed = match Format::or_suitable(args.output) {
        Format::Json => output::print_json(&report(&all)),
        Format::Table => output::print_text(&text(&all, args.dry_run)),
    };
    printed.map_err(|error| Error::io(format!("standard output: {error}")))?;
    let damaged = all.iter().filter(|one| one.condition == Condition::Damaged).count();
    if damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("catena: {damaged} of {} attachments miss something", all.len());
    Ok(ExitCode::FAILURE)
}

fn report(all: &[Repaired]) -> Value {
    let texts = |errors: &[Error]| errors.iter().map(Error::to_string).collect::<Vec<_>>();
    let attachments = all.iter().map(|one| {
        json!({
            "network": one.attachment.network,
            "containerID": one.attachment.container_id,
            "ifname": one.attachment.ifname,
            "condition": word(one.condition),
            "missing": texts(&one.missing),
            "left": texts(&one.left),
        })
    });
    json!({ "attachments": attachments.collect::<Vec<_>>() })
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Well => "well",
        Condition::Repaired => "repaired",
        Condition::Damaged => "damaged",
        Condition::Busy => "busy",
        Condition::Unchecked => "unchecked",
    }
}

/// The report for people: a line for each attachment, and below it what was missing.
fn text(all: &[Repaired], dry_run: bool) -> String {
    if all.is_empty() {
        return "No running container is on record.\n".to_owned();
    }
    let mut text = String::new();
    for one in all {
        let condition = match one.condition {
            Condition::Damaged if dry_run => "damaged, and would be repaired",
            Condition::Busy => "busy (its ADD or DEL is at work)",
            Condition::Unchecked => "not checked (disableCheck)",
            other => word(other),
        };
        text += &format!("{}: {condition}\n", one.attachment);
        for missing in &one.missing {
            text += &format!("  missing: {missing}\n");
        }
        for left in &one.left {
            text += &format!("  left: {left}\n");
        }
    }
    text
}
