//! `catena uninstall`: the directory as it was before `catena install`.

use std::{collections::BTreeSet, path::PathBuf};

use chain::{Code, Dirs, Error, Result};
use clap::Args;
use delegates::{Elements, Node, cluster, firewall};

use super::bin_dir::{BINARY, BinDir, Holder};
use crate::{kubernetes::conf, living::living, net_conf, reach, wiring};

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
/// any more, the node then loses what Catena has put into its kernel; a daemon that runs on puts nothing of it back.
///
/// Errors (11): attachments live that Catena made: what takes its place cannot undo all of them.
pub fn run(args: &UninstallArgs) -> Result<()> {
    let dirs = wiring::dirs()?;
    let living = living(&dirs)?;
    if !args.force {
        require_none(&living, &dirs)?;
    }
    let _no_round = match reach::alone(&dirs) {
        Err(error) if error.code == Code::TryAgain => return Err(error),
        // Who may not lock may not change the node's network either.
        alone => alone.ok(),
    };
    let _nobody_writes = net_conf::remove(&args.conf_dir)?;
    if args.bin_dir.is_dir() {
        clear(&BinDir::lock(&args.bin_dir)?)?;
    }
    if living.is_empty()
        && let Err(error) = leave_node(&dirs)
    {
        tracing::warn!("something of Catena's stays in the node's kernel: {error}");
    }
    Ok(())
}

/// Gives the directory back as it was.
fn clear(dir: &BinDir) -> Result<()> {
    let (binary, kept): (Vec<_>, Vec<_>) = dir.kept()?.into_iter().partition(|name| name == BINARY);
    for name in kept {
        put_back(dir, &name)?;
    }
    for name in dir.links()? {
        dir.remove(&name)?;
    }
    // The last of all: until here links led to it.
    if !binary.is_empty() {
        put_back(dir, BINARY)?;
    } else {
        match dir.holder(BINARY)? {
            Holder::Catena => dir.remove(BINARY)?,
            Holder::Other => {
                tracing::warn!("{} is not Catena's, and stays", dir.path(BINARY).display());
            }
            Holder::Nobody => {}
        }
    }
    dir.tidy()
}

/// Takes the tables, the rules in chains of others, the routes to other nodes' pods and the tunnel out of the node's kernel, and
/// the cluster's addresses off the record. All of it stays where containers of another installation have elements in the tables.
///
/// Goes on over errors, and returns them together.
fn leave_node(dirs: &Dirs) -> Result<()> {
    match Elements::take_tables_away(dirs) {
        Ok(None) => {}
        Ok(Some(owner)) => {
            tracing::warn!(
                "attachment {owner} has elements in the nf_tables table catena and no record in {}: it may be of another \
                 installation, so tables, routes and the tunnel stay; if nobody needs them: nft delete table inet catena; \
                 nft delete table bridge catena; ip route flush proto {protocol}; ip -6 route flush proto {protocol}; \
                 ip link del {device}",
                dirs.state.display(),
                protocol = reach::PROTOCOL,
                device = reach::DEVICE,
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let node = Node::with_dirs(dirs.clone());
    let done = [
        firewall::withdraw(dirs),
        node.host().and_then(|net| reach::remove(&net)),
        cluster::forget(dirs),
    ];
    Error::join(done.into_iter().filter_map(Result::err).collect()).map_or(Ok(()), Err)
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

/// Refuses where containers are on networks by Catena.
fn require_none(living: &BTreeSet<String>, dirs: &Dirs) -> Result<()> {
    if living.is_empty() {
        return Ok(());
    }
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
