//! Memory and size.

use std::{fs, path::Path, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use testnode::{Attachment, Container, PLUGINS, Plugins, Runtime, links};

use super::{at_once::spread, memory, table};
use crate::{
    networks::Kind,
    peers::{GO, Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

/// The containers that a daemon has served when its memory is looked at.
const CONTAINERS: u16 = 250;
/// How many then go and come at the same time.
const AT_ONCE: usize = 32;
/// How long after that what they took of the memory has been given back.
const SETTLING: Duration = Duration::from_secs(26);
/// How often a plugin's process is looked at.
const ADDS: usize = 5;

pub fn run(peers: &Peers, _: usize) -> Result<Vec<Table>> {
    let size = |path: &Path| -> Result<f64> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(metadata.len() as f64 / 1e6)
    };
    let go =
        super::PLUGINS.iter().map(|name| size(&Path::new(GO).join(name))).sum::<Result<f64>>()?;
    let catena = size(&peers.binaries.catena)?;
    let mut installed = table(
        "footprint",
        "Size of what is installed, of the plugins that both have",
        "MB",
        &["size"],
    );
    for (name, size) in [("Go plugins", go), ("catena, everything", catena)] {
        installed.rows.push(Row { name: name.to_owned(), cells: vec![Some(Cell::single(size))] });
    }
    let mut process = table(
        "footprint",
        "Memory of the largest process that an ADD of the full chain executes",
        "MB",
        &["at most"],
    );
    for peer in &peers.all {
        let weights = peer.run(|stand| (0..ADDS).map(|n| weight(stand, n)).collect())?;
        process.rows.push(Row { name: peer.name.to_owned(), cells: vec![Cell::of(weights)] });
    }
    let columns = [
        "at first".to_owned(),
        format!("with {CONTAINERS} containers"),
        format!("at most, {AT_ONCE} at once"),
        format!("{} s later", SETTLING.as_secs()),
    ];
    let columns = columns.each_ref().map(String::as_str);
    let title = format!(
        "Memory of the daemon: {CONTAINERS} containers come, and go and come {AT_ONCE} at once"
    );
    let mut memory = table("footprint", title, "MB", &columns);
    // One that nothing has been measured with yet.
    for peer in peers.all.iter().filter(|peer| peer.way == Way::Daemon) {
        let fresh = Peer::start(peer.name, peer.way, &peers.binaries);
        let cells = fresh.run(daemons)?;
        memory.rows.push(Row { name: peer.name.to_owned(), cells: cells.to_vec() });
    }
    Ok(vec![installed, process, memory])
}

/// What the largest of the processes that a runtime executes for an ADD has in memory at most, in MB, or one that it executes in
/// turn.
fn weight(stand: &Stand<'_>, n: usize) -> f64 {
    let weighing = links(stand.node, &stand.binaries.weighed, &PLUGINS);
    let plugins = Plugins::new(stand.node, [&weighing, &stand.dir]);
    let runtime = Runtime::new(plugins, stand.conflist(Kind::Full));
    let container = stand.node.container(&format!("weighed-{n}"));
    let attachment = Kind::Full.offer(Attachment::new(&container), 199);
    if let Err(failure) = runtime.add(&attachment) {
        panic!("{failure}");
    }
    let weights = fs::read_to_string(weighing.join("weights"));
    if let Err(failure) = runtime.del(&attachment) {
        panic!("{failure}");
    }
    container.delete();
    let weights = weights.unwrap_or_else(|error| panic!("{}: {error}", weighing.display()));
    let weights = weights.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
    weights.fold(0.0, f64::max) / 1e3
}

fn daemons(stand: &Stand<'_>) -> [Option<Cell>; 4] {
    let look = |what| stand.daemon.as_ref().and_then(|daemon| memory(&daemon.process, what));
    let first = look("VmRSS");
    let runtime = stand.runtime(Kind::Full);
    let containers: Vec<_> =
        (0..CONTAINERS).map(|n| stand.node.container(&format!("served-{n}"))).collect();
    let attachments: Vec<_> = containers
        .iter()
        .zip(0..)
        .map(|(container, n)| Kind::Full.offer(Attachment::new(container), 200 + n))
        .collect();
    for attachment in &attachments {
        if let Err(failure) = runtime.add(attachment) {
            panic!("{failure}");
        }
    }
    let all = look("VmRSS");
    spread(&attachments, AT_ONCE, |one| runtime.del(one));
    spread(&attachments, AT_ONCE, |one| runtime.add(one).map(drop));
    let most = look("VmHWM");
    sleep(SETTLING);
    let settled = look("VmRSS");
    spread(&attachments, AT_ONCE, |one| runtime.del(one));
    containers.into_iter().for_each(Container::delete);
    [first, all, most, settled]
}
