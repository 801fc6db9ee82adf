//! ADD, CHECK and DEL of one container at a time, and what the kernel alone takes for the full chain.

use std::time::Duration;

use anyhow::{Result, ensure};
use testnode::Attachment;

use super::{floor, table};
use crate::{
    networks::Kind,
    peers::{Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

const KINDS: [(Kind, &str); 4] = [
    (Kind::Full, "The full chain: bridge, host-local, two ports, both rates, masquerade"),
    (Kind::Bridge, "bridge and host-local"),
    (Kind::Ptp, "ptp and host-local"),
    (Kind::Loopback, "loopback"),
];

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let alone = [Peer::floor(&peers.binaries), Peer::veth(&peers.binaries)];
    alone.iter().try_for_each(|peer| peer.run(floor::prepare))?;
    KINDS.map(|(kind, title)| one(peers, &alone, rounds, kind, title)).into_iter().collect()
}

fn one(peers: &Peers, alone: &[Peer], rounds: usize, kind: Kind, title: &str) -> Result<Table> {
    let alone = if kind == Kind::Full { alone } else { &[] };
    let measured: Vec<_> = peers.all.iter().chain(alone).collect();
    let mut times = vec![[const { Vec::<Duration>::new() }; 3]; measured.len()];
    for peer in &measured {
        peer.run(move |stand| first(stand, kind))?;
    }
    for round in 0..=rounds {
        for (peer, times) in measured.iter().zip(&mut times) {
            let name = format!("one-{}-{round}", kind.name());
            let taken = match peer.way {
                Way::Floor | Way::Veth => peer.run(|stand| floor::times(stand, 1))?,
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
    if matches!(stand.way, Way::Floor | Way::Veth) {
        floor::add(stand, &container, 2);
        return;
    }
    let attachment = kind.offer(Attachment::new(&container), 2);
    if let Err(failure) = stand.runtime(kind).add(&attachment) {
        panic!("{failure}");
    }
}
