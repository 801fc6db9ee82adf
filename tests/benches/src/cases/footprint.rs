//! Memory and size.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use testnode::Attachment;

use super::{PLUGINS, resident, table};
use crate::{
    networks::Kind,
    peers::{GO, Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

/// The containers that a daemon has served when its memory is looked at.
const CONTAINERS: u16 = 250;

pub fn run(peers: &Peers, _: usize) -> Result<Vec<Table>> {
    let size = |path: &Path| -> Result<f64> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(metadata.len() as f64 / 1e6)
    };
    let go = PLUGINS.iter().map(|name| size(&Path::new(GO).join(name))).sum::<Result<f64>>()?;
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
    let title = format!("Memory of the daemon, and after {CONTAINERS} containers came");
    let mut memory = table("footprint", title, "MB", &["at first", "then"]);
    // One that nothing has been measured with yet: what many calls at once took, the heap keeps.
    for peer in peers.all.iter().filter(|peer| peer.way == Way::Daemon) {
        let fresh = Peer::start(peer.name, peer.way, &peers.binaries);
        let cells = fresh.run(daemons)?;
        memory.rows.push(Row { name: peer.name.to_owned(), cells: cells.to_vec() });
    }
    Ok(vec![installed, memory])
}

fn daemons(stand: &Stand<'_>) -> [Option<Cell>; 2] {
    let now = || stand.daemon.as_ref().and_then(|daemon| resident(&daemon.process));
    let first = now();
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
    let then = now();
    for (attachment, container) in attachments.iter().zip(containers) {
        if let Err(failure) = runtime.del(attachment) {
            panic!("{failure}");
        }
        container.delete();
    }
    [first, then]
}
