//! ADD and CHECK where other containers are there already: what does not grow is flat.

use std::time::Duration;

use anyhow::Result;
use testnode::Attachment;

use super::table;
use crate::{
    networks::Kind,
    peers::{Peer, Peers, Stand},
    summary::{Cell, Row, Table},
};

const PRESENT: [u16; 3] = [0, 100, 1000];

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let columns = PRESENT.map(|n| n.to_string());
    let mut verbs = ["ADD", "CHECK", "DEL"].map(|verb| {
        let title = format!("{verb} of the full chain with so many containers present");
        table("present", title, "ms", &columns.each_ref().map(String::as_str))
    });
    // On nodes that nobody has worked on.
    let fresh: Vec<_> =
        peers.all.iter().map(|peer| Peer::start(peer.name, peer.way, &peers.binaries)).collect();
    let mut times =
        vec![[const { [const { Vec::<Duration>::new() }; PRESENT.len()] }; 3]; fresh.len()];
    let mut present = 0;
    for (column, many) in PRESENT.into_iter().enumerate() {
        for peer in &fresh {
            peer.run(move |stand| fill(stand, present, many))?;
        }
        present = many;
        for round in 0..=rounds {
            for (peer, times) in fresh.iter().zip(&mut times) {
                let name = format!("next-{many}-{round}");
                let taken = peer.run(move |stand| stand.times(Kind::Full, &name, 5000))?;
                for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
                    times[column].push(taken);
                }
            }
        }
    }
    for (peer, times) in fresh.iter().zip(times) {
        for (table, times) in verbs.iter_mut().zip(times) {
            let cells = times.iter().map(|times| Cell::of_times(times)).collect();
            table.rows.push(Row { name: peer.name.to_owned(), cells });
        }
    }
    Ok(verbs.into())
}

/// Adds containers until there are so many. They stay until the node goes.
fn fill(stand: &Stand<'_>, from: u16, to: u16) {
    let runtime = stand.runtime(Kind::Full);
    for n in from..to {
        let container = stand.node.container(&format!("there-{n}"));
        let attachment = Kind::Full.offer(Attachment::new(&container), 10 + n);
        if let Err(failure) = runtime.add(&attachment) {
            panic!("{failure}");
        }
    }
}
