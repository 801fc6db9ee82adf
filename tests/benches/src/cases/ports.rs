//! Traffic through a mapped port, with so many mappings on the node.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    libc::linger,
    sys::socket::{Shutdown, setsockopt, shutdown, sockopt},
};
use serde_json::{Value, json};
use testnode::{Attachment, Measure, Netns, Sink, throughput};

use super::table;
use crate::{
    networks::Kind,
    peers::{Peer, Peers, Stand, Way},
    summary::{Cell, Row, Table},
};

const PRESENT: [u32; 3] = [1, 100, 10_000];
const ROUNDS: usize = 3;
/// How often connections are counted, and for how long.
const COUNTS: usize = 11;
const WINDOW: Duration = Duration::from_millis(300);
/// The port that is measured: it was mapped last.
const HOST_PORT: u16 = 9000;

pub fn run(peers: &Peers, _: usize) -> Result<Vec<Table>> {
    let columns = PRESENT.map(|n| n.to_string());
    let columns = columns.each_ref().map(String::as_str);
    let mut connections = table(
        "ports",
        "New TCP connections through a mapped port, with so many mappings",
        "per second",
        &columns,
    );
    let mut bits = table(
        "ports",
        "Throughput through a mapped port, with so many mappings",
        "Gbit/s",
        &columns,
    );
    connections.more_is_better = true;
    bits.more_is_better = true;
    // How they came about makes no difference to traffic.
    for peer in peers.all.iter().filter(|peer| matches!(peer.way, Way::Go | Way::OneProcess)) {
        let mut cells = [Vec::new(), Vec::new()];
        for present in PRESENT {
            // A node that has no other ports.
            let fresh = Peer::start(peer.name, peer.way, &peers.binaries);
            let measured = fresh.run(move |stand| measure(stand, present))??;
            for (cells, samples) in cells.iter_mut().zip(measured) {
                cells.push(Cell::of_rates(samples));
            }
        }
        let name = if peer.way == Way::Go { peer.name } else { "catena" };
        for (table, cells) in [&mut connections, &mut bits].into_iter().zip(cells) {
            table.rows.push(Row { name: name.to_owned(), cells });
        }
    }
    Ok(vec![connections, bits])
}

/// Connections in a second and Gbit/s, several times each.
fn measure(stand: &Stand<'_>, present: u32) -> Result<[Vec<f64>; 2]> {
    let chain: Vec<_> =
        Kind::Full.chain().as_array().into_iter().flatten().take(2).cloned().collect();
    let chain = match stand.way {
        Way::Go => json!(chain),
        _ => {
            json!([{ "type": "catena", "capabilities": { "portMappings": true }, "plugins": chain }])
        }
    };
    let runtime =
        stand.runtime_of(json!({ "cniVersion": "1.0.0", "name": "ports", "plugins": chain }));
    let add = |name: &str, mappings: Value| -> Result<_> {
        let container = stand.node.container(name);
        let attachment = Attachment::new(&container).capability("portMappings", mappings);
        runtime.add(&attachment).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        Ok(container)
    };
    let others = present.saturating_sub(1);
    let mapping =
        |n: u32| json!({ "hostPort": 10_000 + n, "containerPort": 80, "protocol": "tcp" });
    let _other = match stand.way {
        Way::Go => {
            // One by one they would take hours: the rules of one are repeated for the others.
            let other = (others > 0).then(|| add("other", json!([mapping(0)]))).transpose()?;
            multiply(stand, others.saturating_sub(1))?;
            other
        }
        _ => {
            let all: Vec<_> = (0..others).map(mapping).collect();
            (others > 0).then(|| add("other", json!(all))).transpose()?
        }
    };
    let pod =
        add("pod", json!([{ "hostPort": HOST_PORT, "containerPort": 80, "protocol": "tcp" }]))?;
    let client = stand.node.neighbour("client", "192.0.2.0/24", "2001:db8::/64");
    let to = SocketAddr::new(client.node_v4(), HOST_PORT);
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..COUNTS {
        samples[0].push(connections(&client, &pod, to)?);
    }
    for _ in 0..ROUNDS {
        let sink = Sink::start(&pod, 80);
        samples[1].push(throughput(&client, to, &sink, Measure::default()) / 1e9);
    }
    Ok(samples)
}

/// Repeats what iptables has for the container `other` for so many more, each with a chain and a port of its own.
fn multiply(stand: &Stand<'_>, more: u32) -> Result<()> {
    let saved = stand.node.run(["iptables-save", "-t", "nat"]);
    let chain = saved.lines().find_map(|line| line.strip_prefix(":CNI-DN-")?.split(' ').next());
    if more == 0 {
        return Ok(());
    }
    let chain = format!("CNI-DN-{}", chain.context("no chain CNI-DN-… after ADD")?);
    let rules: Vec<_> =
        saved.lines().filter(|line| line.starts_with("-A") && line.contains(&chain)).collect();
    let mut restored = String::from("*nat\n");
    for n in 1..=more {
        restored.push_str(&format!(":CNI-DN-{n:020} - [0:0]\n"));
        for rule in &rules {
            let rule = rule.replace(&chain, &format!("CNI-DN-{n:020}"));
            let rule = rule.replace("dport 10000", &format!("dport {}", 10_000 + n));
            restored.push_str(&rule.replace("dports 10000", &format!("dports {}", 10_000 + n)));
            restored.push('\n');
        }
    }
    restored.push_str("COMMIT\n");
    stand.node.cmd(["iptables-restore", "--noflush"]).stdin(restored).output().success();
    Ok(())
}

/// How many connections a client makes in a second, one after the other: each is accepted before the next, or some would find the
/// listener's queue full and be tried again a second later.
fn connections(client: &Netns, pod: &Netns, to: SocketAddr) -> Result<f64> {
    let listener = pod.enter(|| TcpListener::bind((IpAddr::from([0, 0, 0, 0]), 80)))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut stream, _)) = listener.accept() {
                // The client may have gone meanwhile.
                let _ = stream.write_all(&[0]);
            }
        });
        let counted = client.enter(|| -> std::io::Result<f64> {
            let start = Instant::now();
            let mut count = 0;
            while start.elapsed() < WINDOW {
                let mut stream = TcpStream::connect(to)?;
                stream.read_exact(&mut [0])?;
                // A reset leaves no port waiting.
                setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
                count += 1;
            }
            Ok(f64::from(count) / start.elapsed().as_secs_f64())
        });
        // The listener's thread ends.
        shutdown(listener.as_raw_fd(), Shutdown::Both)?;
        Ok(counted?)
    })
}
