//! A Kubernetes pod with a cluster network and two secondary ones against a real API server: by the plugin alone and with
//! the node's daemon, taking turns in one run. Prints medians, and the daemon's memory with many pods.
//!
//! `make bench-pods` runs it; the number of rounds is the first argument that is a number (default 30), that of the pods for
//! the memory the second (default 250).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program that prints a table"
)]

#[allow(dead_code, reason = "the tests' own need more of it")]
#[path = "../kubernetes/cluster.rs"]
mod cluster;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use cluster::{Cluster, Pod};
use serde_json::{Value, json};
use testnode::{
    Node, NodeDaemon, Runtime,
    conf::{bridge, host_local},
    kubernetes::pods,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// A network for all pods of a run.
fn network(name: &str, device: &str, subnet: &str) -> Value {
    let mut network = bridge(device, &[]);
    network["cniVersion"] = json!("1.0.0");
    network["name"] = json!(name);
    network["isGateway"] = json!(false);
    network["ipam"] = host_local(&[subnet]);
    network["ipam"]["routes"] = json!([]);
    network
}

struct Timed {
    name: &'static str,
    times: [Vec<Duration>; 3],
}

fn main() {
    let mut numbers = env::args().filter_map(|arg| arg.parse().ok());
    let rounds: usize = numbers.next().unwrap_or(30);
    let many: usize = numbers.next().unwrap_or(250);
    let node = Node::new();
    let cluster = Cluster::new(&node);
    cluster.define("default", "one", &network("one", "on0", "10.20.0.0/16"));
    cluster.define("default", "two", &network("two", "tw0", "10.30.0.0/16"));
    let runtime =
        cluster.runtime("catena", &json!({ "plugins": [bridge("cni0", &["10.1.0.0/16"])] }));
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let args = ["--kubeconfig", &kubeconfig, "--node-name", "worker"];

    let mut alone = Timed { name: "the plugin alone", times: Default::default() };
    let mut with_daemon = Timed { name: "with the daemon", times: Default::default() };
    for round in 0..=rounds {
        // The first round makes the bridges.
        one(&cluster, &runtime, &format!("alone-{round}"), (round > 0).then_some(&mut alone));
        let daemon = NodeDaemon::start(&node, CATENA, &args);
        one(
            &cluster,
            &runtime,
            &format!("daemon-{round}"),
            (round > 0).then_some(&mut with_daemon),
        );
        drop(daemon);
    }
    println!("{rounds} rounds, a cluster network and two secondary ones, medians in ms");
    println!("{:20} {:>8} {:>8} {:>8}", "", "ADD", "CHECK", "DEL");
    for Timed { name, times } in [alone, with_daemon] {
        let [add, check, del] = times.map(median);
        println!("{name:20} {add:>8.1} {check:>8.1} {del:>8.1}");
    }

    let daemon = NodeDaemon::start(&node, CATENA, &args);
    let at_first = resident(daemon.process.pid());
    let running: Vec<_> = (0..many).map(|n| pod(&cluster, &format!("many-{n}"))).collect();
    for pod in &running {
        runtime.add(&pod.attachment).unwrap();
    }
    let then = resident(daemon.process.pid());
    println!("the daemon's memory: {at_first:.1} MB, with {many} pods {then:.1} MB");
}

fn pod(cluster: &Cluster<'_>, name: &str) -> Pod {
    cluster.pod(name, &json!("one,two"))
}

fn one(cluster: &Cluster<'_>, runtime: &Runtime<'_>, name: &str, timed: Option<&mut Timed>) {
    let pod = pod(cluster, name);
    let times = [
        time(|| drop(runtime.add(&pod.attachment).unwrap())),
        time(|| runtime.check(&pod.attachment).unwrap()),
        time(|| runtime.del(&pod.attachment).unwrap()),
    ];
    if let Some(timed) = timed {
        for (all, time) in timed.times.iter_mut().zip(times) {
            all.push(time);
        }
    }
    cluster.api.admin().delete(&format!("{}/{name}?gracePeriodSeconds=0", pods("default")));
    pod.container.delete();
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// What a process has in memory, in MB (`VmRSS` of proc(5)).
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}
