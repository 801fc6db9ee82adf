//! How soon pods of a new node are reached: three nodes with a daemon each, and one of them in a cluster of many more, which are
//! Node objects alone. Prints medians, and the daemon's memory.
//!
//! `make bench-nodes` runs it; the number of rounds is the first argument that is a number (default 10), that of the nodes the
//! second (default 1000).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program that prints a table"
)]

#[allow(dead_code, reason = "the tests' own need more of it")]
#[path = "../pod_routes/machines.rs"]
mod machines;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use machines::{Machine, Wires};
use serde_json::json;
use testnode::{Netns, Node, kubernetes::nodes, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const PATIENCE: Duration = Duration::from_secs(120);

fn part(n: usize) -> [String; 2] {
    [format!("10.{}.{}.0/24", 64 + n / 256, n % 256), format!("fd10:0:0:{n:x}::/64")]
}

fn main() {
    let mut numbers = env::args().filter_map(|arg| arg.parse().ok());
    let rounds: usize = numbers.next().unwrap_or(10);
    let many: usize = numbers.next().unwrap_or(1000);
    let node = Node::new();
    let wires = Wires::new(&node);
    let near = wires.machine("near", 1, 11);
    let far = wires.machine("far", 2, 12);
    let new = wires.machine("new", 2, 13);
    near.join(&["10.1.1.0/24", "fd10:0:1:1::/64"]);
    far.join(&["10.1.2.0/24", "fd10:0:1:2::/64"]);
    let daemon = near.daemon(&["--pod-routes"]);
    let _others = [far.daemon(&["--pod-routes"]), new.daemon(&["--pod-routes"])];
    let from = near.pod("pod-near", ["10.1.1.0/24", "fd10:0:1:1::/64"]);
    let _to = new.pod("pod-new", ["10.1.3.0/24", "fd10:0:1:3::/64"]);
    near.await_kept(&["10.1.2.0/24", "fd10:0:1:2::/64"]);
    println!("{rounds} rounds, from the new Node's object to an answer of its pod, medians in ms");
    println!("{:>6} nodes: {:>7.1}", 3, reached((&near, &new), &from, rounds));
    println!("the daemon's memory: {:.1} MB", resident(daemon.pid()));
    let admin = wires.api.admin();
    let started = Instant::now();
    for n in 0..many {
        let name = format!("many-{n}");
        let cidrs = part(n);
        wires.api.add_node(&name, &cidrs.each_ref().map(String::as_str));
        // Every other one is on the link.
        let address = format!("192.168.{}.{}", 1 + n % 2, 20 + n % 200);
        let addresses = json!([{ "type": "InternalIP", "address": address }]);
        let status = json!({ "status": { "addresses": addresses } });
        admin.patch(&format!("{}/{name}/status", nodes()), &status);
    }
    println!("{many} Node objects made in {:.1} s", started.elapsed().as_secs_f64());
    until("all are routed to", PATIENCE, || (near.kept().len() == 2 * (many + 1)).then_some(()));
    println!("{:>6} nodes: {:>7.1}", many + 3, reached((&near, &new), &from, rounds));
    println!("the daemon's memory: {:.1} MB", resident(daemon.pid()));
}

/// The median time from the Node's object to its pod's answer, in milliseconds.
fn reached((near, new): (&Machine<'_>, &Machine<'_>), from: &Netns, rounds: usize) -> f64 {
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            new.join(&["10.1.3.0/24", "fd10:0:1:3::/64"]);
            let ping = ["ping", "-c", "1", "-W", "0.1", "10.1.3.5"];
            while !from.try_run(ping).is_success() {
                assert!(started.elapsed() < PATIENCE, "the new node's pod is not reached");
            }
            let time = started.elapsed();
            new.leave();
            until("the route is gone", PATIENCE, || {
                (!near.kept().iter().any(|route| route == "10.1.3.0/24")).then_some(())
            });
            time
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// What a process has in memory, in MB (`VmRSS` of proc(5)).
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}
