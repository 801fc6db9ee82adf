//! Containers that come and go at the same time: how many in a second.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use testnode::Attachment;

use super::table;
use crate::{
    networks::Kind,
    peers::{Peers, Stand},
    summary::{Cell, Row, Table},
};

const AT_ONCE: [usize; 3] = [1, 8, 32];
/// How many come in a round; more than are at work at once.
const CONTAINERS: u16 = 32;
const ROUNDS: usize = 3;

pub fn run(peers: &Peers, _: usize) -> Result<Vec<Table>> {
    let mut verbs = ["ADDs", "DELs"].map(|verb| {
        let title = format!("{verb} of the full chain in a second, so many at once");
        let columns = AT_ONCE.map(|n| n.to_string());
        let mut table =
            table("at-once", title, "per second", &columns.each_ref().map(String::as_str));
        table.more_is_better = true;
        table
    });
    let mut rates = vec![[const { [const { Vec::new() }; AT_ONCE.len()] }; 2]; peers.all.len()];
    for round in 0..ROUNDS {
        for (column, at_once) in AT_ONCE.into_iter().enumerate() {
            for (peer, rates) in peers.all.iter().zip(&mut rates) {
                let taken = peer.run(move |stand| all(stand, at_once, round))?;
                for (rates, taken) in rates.iter_mut().zip(taken) {
                    rates[column].push(f64::from(CONTAINERS) / taken.as_secs_f64());
                }
            }
        }
    }
    for (peer, rates) in peers.all.iter().zip(rates) {
        for (table, rates) in verbs.iter_mut().zip(rates) {
            let cells = rates.into_iter().map(Cell::of_rates).collect();
            table.rows.push(Row { name: peer.name.to_owned(), cells });
        }
    }
    Ok(verbs.into())
}

/// How long the ADDs of all take, and their DELs.
fn all(stand: &Stand<'_>, at_once: usize, round: usize) -> [Duration; 2] {
    let runtime = stand.runtime(Kind::Full);
    let containers: Vec<_> = (0..CONTAINERS)
        .map(|n| stand.node.container(&format!("many-{at_once}-{round}-{n}")))
        .collect();
    let attachments: Vec<_> = containers
        .iter()
        .zip(0..)
        .map(|(container, n)| Kind::Full.offer(Attachment::new(container), 100 + n))
        .collect();
    let times = [
        spread(&attachments, at_once, |one| runtime.add(one).map(drop)),
        spread(&attachments, at_once, |one| runtime.del(one)),
    ];
    for container in containers {
        container.delete();
    }
    times
}

/// How long something takes for all, as many at once as there are threads.
pub(super) fn spread<E: std::fmt::Display>(
    all: &[Attachment],
    at_once: usize,
    work: impl Fn(&Attachment) -> Result<(), E> + Sync,
) -> Duration {
    let left = Mutex::new(all.iter());
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = left.lock().ok().and_then(|mut left| left.next());
                    let Some(attachment) = next else { return };
                    if let Err(error) = work(attachment) {
                        panic!("{error}");
                    }
                }
            });
        }
    });
    start.elapsed()
}
