//! host-local where a subnet is nearly full: a /16 of which nine tenths are leased.

use std::{fs, io, time::Duration};

use anyhow::Result;

use super::table;
use crate::{
    networks::Kind,
    peers::{Peers, Stand},
    summary::{Cell, Row, Table},
};

/// Nine tenths of the addresses of a /16.
const LEASED: u32 = 58_982;

pub fn run(peers: &Peers, rounds: usize) -> Result<Vec<Table>> {
    let title = "bridge and host-local, nine tenths of a /16 leased";
    let mut table = table("allocated", title, "ms", &["ADD", "CHECK", "DEL"]);
    let mut times = vec![[const { Vec::<Duration>::new() }; 3]; peers.all.len()];
    for peer in &peers.all {
        peer.run(lease)??;
    }
    for round in 0..=rounds {
        for (peer, times) in peers.all.iter().zip(&mut times) {
            let name = format!("late-{round}");
            let taken = peer.run(move |stand| stand.times(Kind::Bridge, &name, 1))?;
            for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
                times.push(taken);
            }
        }
    }
    for peer in &peers.all {
        peer.run(|_| fs::remove_dir_all(FOLDER))??;
    }
    for (peer, times) in peers.all.iter().zip(times) {
        let cells = times.iter().map(|times| Cell::of_times(times)).collect();
        table.rows.push(Row { name: peer.name.to_owned(), cells });
    }
    Ok(vec![table])
}

/// Where host-local keeps the leases of the network `bridge`.
const FOLDER: &str = "/var/lib/cni/networks/bridge";

/// Writes the leases as host-local does: a file for each address, with its owner.
fn lease(_: &Stand<'_>) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    for n in 2..LEASED {
        let [.., high, low] = n.to_be_bytes();
        fs::write(format!("{FOLDER}/10.2.{high}.{low}"), format!("id-there-{n}\r\neth0"))?;
    }
    Ok(())
}
