//! How exactly rates are kept.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use serde_json::json;
use testnode::{Attachment, Measure, Sink, throughput};

use super::table;
use crate::{
    networks::{Kind, rates},
    peers::{Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

const RATES: [(u64, &str); 3] =
    [(1_000_000, "1 Mbit/s"), (100_000_000, "100 Mbit/s"), (1_000_000_000, "1 Gbit/s")];
const ROUNDS: usize = 3;
/// What TCP carries of what is counted, over IPv4 in full-sized segments.
const PAYLOAD: f64 = 0.957;

pub fn run(peers: &Peers, _: usize) -> Result<Vec<Table>> {
    let columns = RATES.map(|(_, name)| name);
    let title = "What passes of the rate that was asked for, to the container";
    let mut ingress = table("shaping", title, "% of the rate", &columns);
    let mut egress =
        table("shaping", title.replace("to the", "from the"), "% of the rate", &columns);
    for peer in peers.all.iter().filter(|peer| matches!(peer.way, Way::Go | Way::OneProcess)) {
        let mut cells = [Vec::new(), Vec::new()];
        for (rate, _) in RATES {
            let fresh = Peer::start(peer.name, peer.way, &peers.binaries);
            let measured = fresh.run(move |stand| measure(stand, rate))??;
            for (cells, samples) in cells.iter_mut().zip(measured) {
                cells.push(Cell::of(samples));
            }
        }
        let name = if peer.way == Way::Go { peer.name } else { "catena" };
        for (table, cells) in [&mut ingress, &mut egress].into_iter().zip(cells) {
            table.rows.push(Row { name: name.to_owned(), cells });
        }
    }
    Ok(vec![ingress, egress])
}

fn measure(stand: &Stand<'_>, rate: u64) -> Result<[Vec<f64>; 2]> {
    let runtime = stand.runtime(Kind::Full);
    let container = stand.node.container("shaped");
    let attachment = Attachment::new(&container)
        .capability("bandwidth", rates(rate))
        .capability("portMappings", json!([]));
    let result = runtime.add(&attachment).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default().parse()?;
    let client = stand.node.neighbour("client", "192.0.2.0/24", "2001:db8::/64");
    let burst = rates(rate)["ingressBurst"].as_u64().unwrap_or_default() / 8;
    let [inside, outside] = [Sink::start(&container, 5001), Sink::start(&client, 5001)];
    let mut samples = [Vec::new(), Vec::new()];
    let percent = |payload: f64| payload / PAYLOAD / rate as f64 * 100.0;
    for _ in 0..ROUNDS {
        // A slow one takes longer to send enough packets to count.
        let seconds = if rate < 10_000_000 { 6 } else { 2 };
        let window = Duration::from_secs(seconds);
        let measure = Measure { window, ..Measure::after_burst(burst) };
        let to = SocketAddr::new(address, 5001);
        samples[0].push(percent(throughput(&client, to, &inside, measure)));
        let to = SocketAddr::new(client.v4(), 5001);
        samples[1].push(percent(throughput(&container, to, &outside, measure)));
    }
    Ok(samples)
}
