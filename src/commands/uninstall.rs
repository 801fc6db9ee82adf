//! `catena uninstall`: the directory as it was before `catena install`.

use std::{collections::BTreeSet, path::PathBuf};

use chain::{Code, Error, Records, Result};
use clap::Args;

use super::bin_dir::{BINARY, BinDir, Holder};
use crate::{kubernetes::conf, net_conf, wiring};

/// How many attachments an error names.
const NAMED: usize = 5;

/// From where to uninstall.
#[derive(Args)]
pub struct UninstallArgs {
    /// The directory that Catena was installed in.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    pub bin_dir: PathBuf,
    /// The directory that the runtime looks for networks in.
    #[arg(long, default_value = conf::NET_DIR, value_name = "DIR")]
    pub conf_dir: PathBuf,
    /// Uninstall although attachments that Catena made still live.
    #[arg(long)]
    pub force: bool,
}

/// Uninstalls. The configuration that `catena install` or a daemon has written goes first, so that no runtime looks for what is
/// gone, and nobody writes it meanwhile. The
/// names that others had before go back to them, each by one rename, and answer at any time; then the
/// other names go, and the binary last. What others have put under a name since is left alone. Where no container needs it
/// any more, the node's firewall loses what the plugin firewall put into it.
///
/// Errors (11): attachments live that Catena made: what takes its place cannot undo all of them.
pub fn run(args: &UninstallArgs) -> Result<()> {
    let living = living()?;
    if !args.force {
        require_none(&living)?;
    }
    let _nobody_writes = net_conf::remove(&args.conf_dir)?;
    if !args.bin_dir.is_dir() {
        return Ok(());
    }
    let dir = BinDir::lock(&args.bin_dir)?;
    let (binary, kept): (Vec<_>, Vec<_>) = dir.kept()?.into_iter().partition(|name| name == BINARY);
    for name in kept {
        put_back(&dir, &name)?;
    }
    for name in dir.links()? {
        dir.remove(&name)?;
    }
    // The last of all: until here links led to it.
    if !binary.is_empty() {
        put_back(&dir, BINARY)?;
    } else {
        match dir.holder(BINARY)? {
            Holder::Catena => dir.remove(BINARY)?,
            Holder::Other => {
                tracing::warn!("{} is not Catena's, and stays", dir.path(BINARY).display());
            }
            Holder::Nobody => {}
        }
    }
    dir.tidy()?;
    if living.is_empty()
        && let Err(error) = wiring::dirs().and_then(|dirs| delegates::firewall::withdraw(&dirs))
    {
        tracing::warn!(%error, "a rule for containers stays in the node's firewall");
    }
    Ok(())
}

/// Gives a name back to what is kept aside, unless somebody else has it by now.
fn put_back(dir: &BinDir, name: &str) -> Result<()> {
    if dir.is_kept(name) {
        // It never lost its name.
        return dir.forget(name);
    }
    if dir.holder(name)? == Holder::Other {
        tracing::warn!(
            "{} was put there after Catena, and stays; what was there before Catena is {}",
            dir.path(name).display(),
            dir.aside(name).display()
        );
        return Ok(());
    }
    dir.put_back(name)
}

/// The attachments that Catena made and that live.
fn living() -> Result<BTreeSet<String>> {
    let dirs = wiring::dirs()?;
    let records = Records::open(&dirs);
    let networks = records.networks()?;
    if networks.is_empty() {
        return Ok(BTreeSet::new());
    }
    let boot = dirs.boot()?;
    let mut living = BTreeSet::new();
    for network in networks {
        let records = records.list(&network)?.into_iter();
        living.extend(
            records
                .filter(|record| record.namespace_lives(&boot))
                .map(|record| format!("{network} {}/{}", record.container_id, record.ifname)),
        );
    }
    Ok(living)
}

/// Refuses where containers are on networks by Catena.
fn require_none(living: &BTreeSet<String>) -> Result<()> {
    if living.is_empty() {
        return Ok(());
    }
    let dirs = wiring::dirs()?;
    let named: Vec<_> = living.iter().take(NAMED).map(String::as_str).collect();
    let more = if living.len() > NAMED { ", …" } else { "" };
    Err(Error::new(
        Code::TryAgain,
        format!(
            "attachments that Catena made still live: {} ({}{more}; their records are in {}). Other plugins cannot undo \
             all of them, since their rules, rates and records are Catena's: remove their containers first, or say \
             --force",
            living.len(),
            named.join(", "),
            dirs.state.join("attachments").display()
        ),
    ))
}
