//! ADD, CHECK and DEL of one container at a time, and what the kernel alone takes for the full chain.

use std::{convert::Infallible, time::Duration};

use anyhow::{Result, ensure};
use testnode::Attachment;

use super::table;
use crate::{
    networks::Kind,
    peers::{Peer, Peers, Stand, Way, timed},
    summary::{Cell, Row, Table},
};

const KINDS: [(Kind, &str); 4] = [
    (Kind::Full, "The full chain: bridge, host-local, two ports, both rates, masquerade"),
    (Kind::Bridge, "bridge and host-local"),
    (Kind::Ptp, "ptp and host-local"),
    (Kind::Loopback, "loopback"),
];

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let floor = Peer::start("the kernel alone", Way::Floor, &peers.binaries);
    floor.run(prepare)?;
    KINDS.map(|(kind, title)| one(peers, &floor, rounds, kind, title)).into_iter().collect()
}

fn one(peers: &Peers, floor: &Peer, rounds: usize, kind: Kind, title: &str) -> Result<Table> {
    let measured = peers.all.iter().chain((kind == Kind::Full).then_some(floor));
    let measured: Vec<_> = measured.collect();
    let mut times = vec![[const { Vec::<Duration>::new() }; 3]; measured.len()];
    for peer in &measured {
        peer.run(move |stand| first(stand, kind))?;
    }
    for round in 0..=rounds {
        for (peer, times) in measured.iter().zip(&mut times) {
            let name = format!("one-{}-{round}", kind.name());
            let taken = match peer.way {
                Way::Floor => peer.run(alone)?,
                _ => peer.run(move |stand| stand.times(kind, &name, 1))?.map(Some),
            };
            for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
                times.extend(taken);
            }
        }
    }
    let mut table = table("one", title, "ms", &["ADD", "CHECK", "DEL"]);
    for (peer, times) in measured.iter().zip(times) {
        let cells = times.iter().map(|times| Cell::of_times(times)).collect();
        table.rows.push(Row { name: peer.name.to_owned(), cells });
    }
    ensure!(table.rows.iter().all(|row| row.cells[0].is_some()), "no time of some ADD");
    Ok(table)
}

/// One that stays: a node in use has its bridge, its ruleset, and a bridge's first port.
fn first(stand: &Stand<'_>, kind: Kind) {
    let container = stand.node.container(&format!("first-{}", kind.name()));
    let path = container.path().display().to_string();
    if stand.way == Way::Floor {
        stand.node.cmd([&stand.binaries.floor]).args(["add", &path, "2"]).output().success();
        return;
    }
    let attachment = kind.offer(Attachment::new(&container), 2);
    if let Err(failure) = stand.runtime(kind).add(&attachment) {
        panic!("{failure}");
    }
}

/// What the floor finds there, as a first container of Catena's would have made it.
fn prepare(stand: &Stand<'_>) {
    stand
        .node
        .ip("link add floor0 type bridge\naddr add 10.9.0.1/16 dev floor0\nlink set floor0 up\n");
    let rules = "table ip floor {
        map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
        chain hide { ip daddr 10.9.0.0/16 return; masquerade; }
        set hairpin { type ipv4_addr . ipv4_addr; }
        map pods { type ipv4_addr : verdict; }
        chain in { type nat hook prerouting priority -90; dnat ip to meta l4proto . th dport map @ports; }
        chain out { type nat hook postrouting priority 100; ip saddr vmap @pods; }
    }";
    stand.node.cmd(["nft", "-f", "-"]).stdin(rules).output().success();
}

/// The same kernel objects, by the bare program.
fn alone(stand: &Stand<'_>) -> [Option<Duration>; 3] {
    let container = stand.node.container("alone");
    let path = container.path().display().to_string();
    let run = |args: &[&str]| {
        timed(|| {
            stand.node.cmd([&stand.binaries.floor]).args(args).output().success();
            Ok::<_, Infallible>(())
        })
    };
    let times = [Some(run(&["add", &path, "1"])), None, Some(run(&["del", "1"]))];
    container.delete();
    times
}
