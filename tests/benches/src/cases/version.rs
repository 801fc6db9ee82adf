//! VERSION: what it costs to start a plugin.

use std::{convert::Infallible, time::Duration};

use anyhow::Result;
use testnode::Call;

use super::{PLUGINS, table};
use crate::{
    peers::{Peers, Stand, Way, timed},
    summary::{Cell, Row, Table},
};

/// What the Go plugins have nothing of.
const OWN: [&str; 2] = ["snat", "catena"];

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let names: Vec<_> = PLUGINS.into_iter().chain(OWN).collect();
    let mut table = table("version", "VERSION", "ms", &names);
    let measured: Vec<_> =
        peers.all.iter().filter(|peer| matches!(peer.way, Way::Go | Way::Multicall)).collect();
    let mut times = vec![vec![Vec::<Duration>::new(); names.len()]; measured.len()];
    for round in 0..=rounds {
        for (peer, times) in measured.iter().zip(&mut times) {
            let has = match peer.way {
                Way::Go => &names[..PLUGINS.len()],
                _ => &names[..],
            };
            let has = has.to_vec();
            let taken = peer.run(move |stand| {
                has.iter().map(|plugin| version(stand, plugin)).collect::<Vec<_>>()
            })?;
            for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
                times.push(taken);
            }
        }
    }
    for (peer, times) in measured.iter().zip(times) {
        let name = if peer.way == Way::Go { peer.name } else { "catena" };
        let cells = times.iter().map(|times| Cell::of_times(times)).collect();
        table.rows.push(Row { name: name.to_owned(), cells });
    }
    Ok(vec![table])
}

fn version(stand: &Stand<'_>, plugin: &str) -> Duration {
    timed(|| {
        stand.plugins.call(plugin, &Call::new("VERSION"), "{\"cniVersion\":\"1.0.0\"}").success();
        Ok::<_, Infallible>(())
    })
}
