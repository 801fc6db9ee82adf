//! ADD, CHECK and DEL where other containers are there already: what does not grow is flat.
//!
//! Each peer has the machine to itself: some of what grows is one for all namespaces.

use std::time::{Duration, Instant};

use anyhow::Result;
use testnode::{Attachment, Node, until};

use super::{floor, table};
use crate::{
    networks::Kind,
    peers::{FLOOR, Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

const PRESENT: [u16; 3] = [0, 100, 1000];
/// Longer than a container waits before it looks for a router again (RFC 4861, section 6.3.7).
const SILENCE: Duration = Duration::from_secs(5);
/// How long that is waited for.
const SILENT: Duration = Duration::from_secs(60);
/// How long the kernel may take for the namespaces of a thousand containers that are gone.
const GONE: Duration = Duration::from_secs(300);

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let columns = PRESENT.map(|n| n.to_string());
    let mut verbs = ["ADD", "CHECK", "DEL"].map(|verb| {
        let title = format!("{verb} of the full chain with so many containers present");
        table("present", title, "ms", &columns.each_ref().map(String::as_str))
    });
    let ways = peers.all.iter().map(|peer| (peer.name, peer.way));
    for (name, way) in ways.chain([(FLOOR, Way::Floor)]) {
        // On a node that nobody has worked on.
        let times = one(&Peer::start(name, way, &peers.binaries), rounds)?;
        await_quiet();
        for (table, times) in verbs.iter_mut().zip(times) {
            let cells = times.iter().map(|times| Cell::of_times(times)).collect();
            table.rows.push(Row { name: name.to_owned(), cells });
        }
    }
    Ok(verbs.into())
}

/// By verb and column.
fn one(peer: &Peer, rounds: usize) -> Result<[[Vec<Duration>; PRESENT.len()]; 3]> {
    let mut times = [const { [const { Vec::new() }; PRESENT.len()] }; 3];
    if peer.way == Way::Floor {
        peer.run(floor::prepare)?;
    }
    let mut present = 0;
    for (column, many) in PRESENT.into_iter().enumerate() {
        peer.run(move |stand| {
            fill(stand, present, many);
            await_silence(stand.node);
        })?;
        present = many;
        for round in 0..=rounds {
            let name = format!("next-{many}-{round}");
            let taken = match peer.way {
                Way::Floor => peer.run(|stand| floor::times(stand, 5000))?,
                _ => peer.run(move |stand| stand.times(Kind::Full, &name, 5000))?.map(Some),
            };
            for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
                times[column].extend(taken);
            }
        }
    }
    Ok(times)
}

/// Adds containers until there are so many. They stay until the node goes.
fn fill(stand: &Stand<'_>, from: u16, to: u16) {
    let runtime = stand.runtime(Kind::Full);
    for n in from..to {
        let container = stand.node.container(&format!("there-{n}"));
        if stand.way == Way::Floor {
            floor::add(stand, &container, 10 + n);
            continue;
        }
        let attachment = Kind::Full.offer(Attachment::new(&container), 10 + n);
        if let Err(failure) = runtime.add(&attachment) {
            panic!("{failure}");
        }
    }
}

/// Waits until new containers have said what each says to all others: they look for routers and for IPv6 neighbours of their address.
/// Those of the Go plugins go on looking for routers, less and less often.
fn await_silence(node: &Node) {
    let heard = || node.run(["ip", "-s", "-o", "link", "show", "type", "bridge"]);
    let begin = Instant::now();
    let mut last = (heard(), begin);
    until("the containers are silent", 2 * SILENT, || {
        let now = heard();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > SILENCE || begin.elapsed() > SILENT).then_some(())
    });
}

/// Waits until the kernel has taken away all namespaces that are gone: it does so in their order, and this one is the last.
fn await_quiet() {
    let node = Node::new();
    let last = node.container("last");
    node.ip(&format!("link add marker type veth peer name eth0 netns {}\n", last.name()));
    last.delete();
    let is_gone = || (!node.run(["ip", "-o", "link"]).contains("marker")).then_some(());
    until("all namespaces are gone", GONE, is_gone);
}
