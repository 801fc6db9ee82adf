//! The chain's speed, beside the Go reference plugins' and beside what the kernel itself takes: `make bench`.
//!
//! Every peer has a node of its own, and all are driven by the same runtime code (each plugin executed, as libcni does), in one
//! run, taking turns. What is printed is written to a folder as well: a page with the table and the machine, JSON, and plots.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod cases;
mod compare;
mod networks;
mod page;
mod peers;
mod plots;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::{
    peers::{Binaries, Peers},
    summary::{Report, Table},
};

/// Times Catena beside the Go reference plugins.
#[derive(Debug, Parser)]
struct Args {
    /// The binary under test.
    #[arg(long, value_name = "FILE")]
    catena: PathBuf,
    /// Where page, JSON and plots are written, beside what is there of other cases.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A report to compare the ratios with; fails where one has become worse than noise explains.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// How often each peer does each thing.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Only these cases, by the beginnings of their names.
    cases: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let binaries = Binaries::find(&args.catena)?;
    let mut report = Report::new()?;
    let peers = Peers::start(&binaries);
    for case in cases::ALL {
        if args.cases.is_empty() || args.cases.iter().any(|name| case.name.starts_with(name)) {
            eprintln!("{}: {}", case.name, case.title);
            report.tables.extend((case.run)(&peers, args.rounds as usize)?);
            if let Some(dir) = &args.out {
                write(dir, &report)?;
            }
        }
    }
    println!("{}", page::text(&report));
    match &args.compare {
        Some(file) => compare::with(file, &report),
        None => Ok(()),
    }
}

/// Writes the report, with what was measured of other cases before, on the same machine.
fn write(dir: &Path, report: &Report) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut all = report.clone();
    let recorded = page::recorded(dir)?.filter(|recorded| recorded.machine == report.machine);
    let is_new = |table: &Table| report.tables.iter().any(|new| new.case == table.case);
    let others = recorded.into_iter().flat_map(|recorded| recorded.tables);
    all.tables.extend(others.filter(|table| !is_new(table)));
    let position = |table: &Table| cases::ALL.iter().position(|case| case.name == table.case);
    all.tables.sort_by_key(position);
    page::write(dir, &all)?;
    plots::write(dir, &all)
}
