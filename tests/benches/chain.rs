//! The full chain beside the Go reference plugins: ADD, CHECK and DEL of one container, driven by the same runtime code
//! in one run, the peers taking turns. Prints medians and their ratios to the Go plugins'.
//!
//! `make bench` runs it; the number of rounds is the first argument that is a number (default 30).

#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints a table")]

use std::{
    env,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testnode::{Attachment, Node, PLUGINS, Plugins, Runtime, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// bridge, host-local, masquerade, two ports, both rates: what the reference plugins can do as well.
fn plugins(bridge: &str, subnet: &str) -> Value {
    json!([
        {
            "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ])
}

fn conflist(name: &str, plugins: &Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins})
}

fn main() {
    let rounds: usize = env::args().find_map(|arg| arg.parse().ok()).unwrap_or(30);
    let node = Node::new();
    let multicall = links(&node, CATENA, &PLUGINS);
    let meta = json!([{
        "type": "catena",
        "capabilities": {"portMappings": true, "bandwidth": true},
        "plugins": plugins("cni2", "10.3.0.0/16"),
    }]);
    let peers = [
        (
            "Go plugins",
            Plugins::debian(&node),
            conflist("go", &plugins("cni0", "10.1.0.0/16")),
            0_usize,
        ),
        (
            "catena, plugin by plugin",
            Plugins::new(&node, [&multicall]),
            conflist("multicall", &plugins("cni1", "10.2.0.0/16")),
            1,
        ),
        ("catena, one process", Plugins::new(&node, [&multicall]), conflist("meta", &meta), 2),
    ]
    .map(|(name, plugins, conflist, index)| (name, Runtime::new(plugins, conflist), index));

    let mut times = vec![[const { Vec::new() }; 3]; peers.len()];
    for round in 0..=rounds {
        for (_, runtime, index) in &peers {
            let container = node.container(&format!("c{index}-{round}"));
            let port = 20_000 + 10 * index;
            let attachment = Attachment::new(&container)
                .capability(
                    "portMappings",
                    json!([
                        {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
                        {"hostPort": port + 1, "containerPort": 53, "protocol": "udp"},
                    ]),
                )
                .capability(
                    "bandwidth",
                    json!({
                        "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
                        "egressRate": 100_000_000, "egressBurst": 10_000_000,
                    }),
                );
            let timed = [
                time(|| runtime.add(&attachment).map(drop)),
                // Debian's portmap 1.1.1 finds fault with every container that has no IPv6.
                time(|| match runtime.check_each(&attachment).as_slice() {
                    [] => Ok(()),
                    [only] if *index == 0 && only.plugin == "portmap" => Ok(()),
                    [first, ..] => Err(first.clone()),
                }),
                time(|| runtime.del(&attachment)),
            ];
            // The first round makes the bridge and loads the ruleset.
            if round > 0 {
                for (verb, time) in timed.into_iter().enumerate() {
                    times[*index][verb].push(time);
                }
            }
            container.delete();
        }
    }

    println!("{rounds} rounds, medians in ms (ratio to the Go plugins)");
    println!("{:26} {:>16} {:>16} {:>16}", "", "ADD", "CHECK", "DEL");
    let baseline = times[0].clone().map(median);
    for ((name, ..), times) in peers.iter().zip(times) {
        let cells: Vec<_> = times
            .map(median)
            .iter()
            .zip(&baseline)
            .map(|(own, go)| format!("{:.1} ({:.2})", own * 1e3, own / go))
            .collect();
        println!("{name:26} {:>16} {:>16} {:>16}", cells[0], cells[1], cells[2]);
    }
}

fn time<E: std::fmt::Display>(work: impl FnOnce() -> Result<(), E>) -> Duration {
    let start = Instant::now();
    if let Err(error) = work() {
        panic!("{error}");
    }
    start.elapsed()
}

/// In seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
