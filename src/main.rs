//! Catena gives containers their networks.
//!
//! One binary behind three doors: under a plugin's name it is that CNI plugin, as `catena` with `CNI_COMMAND` set it is
//! the meta plugin, and otherwise it is a tool. This file only tells which door was taken.
#![cfg_attr(all(not(test), target_env = "gnu"), no_main)]

mod cli;
mod commands;
mod daemon;
mod dhcp;
mod handover;
mod kept_folder;
mod kubernetes;
mod living;
mod logging;
mod meta;
mod multus_shim;
mod net_conf;
mod output;
mod plugin;
mod reach;
#[cfg(all(not(test), target_env = "gnu"))]
mod start;
mod trial;
mod wiring;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[cfg(any(test, not(target_env = "gnu")))]
fn main() -> ExitCode {
    run()
}

/// Does what the process was started for.
fn run() -> ExitCode {
    let name = env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_call = env::var_os("CNI_COMMAND").is_some() && env::args_os().len() == 1;
    let is_daemon = || env::args_os().nth(1).is_some_and(|word| word == "daemon");
    match name.and_then(wiring::builtin_kind) {
        // As with the reference plugins, the daemon is the plugin's executable.
        Some("dhcp") if is_daemon() => dhcp::run(env::args_os().skip(2)),
        Some(kind) if kind != meta::KIND => plugin::run(kind),
        // Under any name of its own, as of a copy of some version.
        _ if is_call && name.is_none_or(|name| name.starts_with(meta::KIND)) => {
            plugin::run(meta::KIND)
        }
        _ if is_call => plugin::refuse(name.unwrap_or_default()),
        _ => cli::run(),
    }
}
