//! `catena install`: the binary and its plugins' names in a directory, and the configuration by which runtimes find it.

use std::{fs, os::fd::AsFd, path::PathBuf};

use chain::{Error, Result};
use clap::Args;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::SignalFd,
};

use super::bin_dir::{BINARY, BinDir, failed};
use crate::{
    net_conf::{self, NetConf, NetConfArgs},
    wiring,
};

/// What to install, and where.
#[derive(Args)]
pub struct InstallArgs {
    /// The directory that runtimes look for plugins in; made where it is missing.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    pub bin_dir: PathBuf,
    #[command(flatten)]
    pub conf: NetConfArgs,
    /// Stay, and keep the configuration in step with the cluster network, the token and the settings.
    #[arg(long, requires = "write_conf")]
    pub watch: bool,
}

/// Installs. Each name answers at any time, by what had it before or by Catena, and a running version goes on running
/// on its own file. Whoever had a plugin's name is kept aside. The configuration comes last: what it names is there by then.
pub fn run(args: &InstallArgs) -> Result<()> {
    fs::create_dir_all(&args.bin_dir).map_err(failed("make", &args.bin_dir))?;
    let dir = BinDir::lock(&args.bin_dir)?;
    let own =
        std::env::current_exe().map_err(|error| Error::io(format!("find this binary: {error}")))?;
    dir.tidy()?;
    dir.require_files(&wiring::installed_kinds())?;
    dir.copy(&own, BINARY)?;
    for kind in wiring::installed_kinds().into_iter().filter(|kind| *kind != BINARY) {
        dir.link(kind)?;
    }
    dir.tidy()?;
    drop(dir);
    if !args.conf.write_conf {
        return Ok(());
    }
    let conf = NetConf::open(&args.conf, &args.bin_dir)?;
    match args.watch {
        true => watch(&conf),
        false => conf.update().map(|_| ()),
    }
}

/// Keeps the configuration in step until somebody asks for the end. As the first process of a container it would not be
/// ended by a signal that it does not look at.
fn watch(conf: &NetConf) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let taken = signals.thread_block().and_then(|()| SignalFd::new(&signals));
    let stop = taken.map_err(|errno| Error::internal(format!("take signals: {errno}")))?;
    net_conf::keep(conf, stop.as_fd())
}
