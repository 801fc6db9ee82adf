//! Addresses by DHCP: dnsmasq serves, and each peer's daemon keeps the leases.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use testnode::{
    Attachment, Background,
    dhcp::{DhcpServer, Family, Pool, Program},
    until,
};

use super::{at_once::spread, memory, table};
use crate::{
    peers::{GO, Peer, Peers, Stand, Way, timed},
    summary::{Cell, Row, Table},
};

/// How many leases a daemon keeps when its memory is looked at.
const LEASES: u8 = 200;
/// How many of these come at once: a single one of the Go plugins takes two seconds.
const AT_ONCE: usize = 32;
/// The peers take turns with so many rounds.
const TURN: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let title = "bridge and dhcp, beside the same dnsmasq, each with its own daemon";
    let mut times_of = table("dhcp", title, "ms", &["ADD", "DEL"]);
    let title = "Memory of the DHCP daemon";
    let columns = ["at first".to_owned(), format!("with {LEASES} leases")];
    let mut memory = table("dhcp", title, "MB", &columns.each_ref().map(String::as_str));
    let measured: Vec<_> =
        peers.all.iter().filter(|peer| matches!(peer.way, Way::Go | Way::Multicall)).collect();
    let fresh = |peer: &Peer| Peer::start(peer.name, peer.way, &peers.binaries);
    let mut times = vec![[const { Vec::new() }; 2]; measured.len()];
    for turn in 0..rounds.div_ceil(TURN) {
        for (peer, times) in measured.iter().zip(&mut times) {
            let taken = fresh(peer).run(move |stand| take_turn(stand, turn))?;
            for (times, taken) in times.iter_mut().zip(taken) {
                times.extend(taken);
            }
        }
    }
    for (peer, times) in measured.iter().zip(times) {
        let name = peer.name.to_owned();
        let cells = times.iter().map(|times| Cell::of_times(times)).collect();
        times_of.rows.push(Row { name: name.clone(), cells });
        let cells = fresh(peer).run(keep_many)?.to_vec();
        memory.rows.push(Row { name, cells });
    }
    Ok(vec![times_of, memory])
}

/// Some rounds on a new node.
fn take_turn(stand: &Stand<'_>, turn: usize) -> [Vec<Duration>; 2] {
    let _server = DhcpServer::start(stand.node, Program::Dnsmasq, pool());
    let _daemon = daemon(stand);
    let runtime = stand.runtime_of(conflist());
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=TURN {
        let container = stand.node.container(&format!("leased-{turn}-{round}"));
        let attachment = Attachment::new(&container);
        let taken =
            [timed(|| runtime.add(&attachment).map(drop)), timed(|| runtime.del(&attachment))];
        if round > 0 {
            for (times, taken) in times.iter_mut().zip(taken) {
                times.push(taken);
            }
        }
        container.delete();
    }
    times
}

/// What the daemon has in memory at first, and with its leases.
fn keep_many(stand: &Stand<'_>) -> [Option<Cell>; 2] {
    let _server = DhcpServer::start(stand.node, Program::Dnsmasq, pool());
    let daemon = daemon(stand);
    let first = memory(&daemon, "VmRSS");
    let runtime = stand.runtime_of(conflist());
    let containers = (0..LEASES).map(|n| stand.node.container(&format!("kept-{n}")));
    let attachments: Vec<_> = containers.map(|container| Attachment::new(&container)).collect();
    spread(&attachments, AT_ONCE, |one| runtime.add(one).map(drop));
    [first, memory(&daemon, "VmRSS")]
}

fn pool() -> Pool {
    Pool { addresses: LEASES, ..Pool::new(Family::V4) }
}

fn conflist() -> Value {
    let bridge = json!({ "type": "bridge", "bridge": "cni1", "ipam": { "type": "dhcp" } });
    json!({ "cniVersion": "1.0.0", "name": "leased", "plugins": [bridge] })
}

/// The peer's daemon, which listens when this returns.
fn daemon(stand: &Stand<'_>) -> Background {
    let socket = PathBuf::from("/run/cni/dhcp.sock");
    stand.node.run(["mkdir", "-p", "/run/cni"]);
    let run = match stand.way {
        Way::Go => stand.node.cmd([PathBuf::from(GO).join("dhcp")]),
        _ => stand
            .node
            .cmd([testnode::links(stand.node, &stand.binaries.catena, &["dhcp"]).join("dhcp")]),
    };
    let daemon = run.args(["daemon"]).spawn(stand.node.fresh_path("dhcp.log"));
    until("the DHCP daemon listens", PATIENCE, || socket.exists().then_some(()));
    daemon
}
