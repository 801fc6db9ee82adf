//! `catena install`: the binary and its plugins' names in a directory.

use std::{fs, path::PathBuf};

use chain::{Error, Result};
use clap::Args;

use super::bin_dir::{BINARY, BinDir, failed};
use crate::wiring;

/// What to install, and where.
#[derive(Args)]
pub struct InstallArgs {
    /// The directory that runtimes look for plugins in; made where it is missing.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    pub bin_dir: PathBuf,
}

/// Installs. Each name answers at any time, by what had it before or by Catena, and a running version goes on running
/// on its own file. Whoever had a plugin's name is kept aside.
pub fn run(args: &InstallArgs) -> Result<()> {
    fs::create_dir_all(&args.bin_dir).map_err(failed("make", &args.bin_dir))?;
    let dir = BinDir::lock(&args.bin_dir)?;
    let own =
        std::env::current_exe().map_err(|error| Error::io(format!("find this binary: {error}")))?;
    dir.tidy()?;
    dir.require_files(&wiring::builtin_kinds())?;
    dir.copy(&own, BINARY)?;
    for kind in wiring::builtin_kinds().into_iter().filter(|kind| *kind != BINARY) {
        dir.link(kind)?;
    }
    dir.tidy()
}
