//! A pod sends and receives at the rate that was asked for.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::{Measure, Neighbour, Netns, Network, Node, Pod, Sink, assert_rate, throughput};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Bits per second; different ones for the directions, so that mixing them up is noticed.
const TO_POD: u64 = 20_000_000;
const FROM_POD: u64 = 12_000_000;
/// Bits.
const BURST: u64 = 800_000;

fn rates() -> Value {
    json!({
        "ingressRate": TO_POD,
        "ingressBurst": BURST,
        "egressRate": FROM_POD,
        "egressBurst": BURST
    })
}

fn outside(node: &Node) -> Neighbour {
    node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64")
}

/// A network whose pods are shaped as `bandwidth` says.
fn network<'n>(node: &'n Node, plugin: &str, bandwidth: &Value) -> Network<'n> {
    let mut interface = json!({
        "type": plugin,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.1.0.0/24" }]],
            "routes": [{ "dst": "0.0.0.0/0" }]
        }
    });
    if plugin == "bridge" {
        interface["isGateway"] = json!(true);
    }
    let mut bandwidth = bandwidth.clone();
    bandwidth["type"] = json!("bandwidth");
    Network::new(node, CATENA, "web", &[interface, bandwidth])
}

/// Measures both directions.
fn assert_shaped(pod: &Pod<'_>, outside: &Neighbour) {
    let (inside_sink, outside_sink) = (Sink::start(pod, 5001), Sink::start(outside, 5001));
    assert_rate(outside, (pod.v4(), 5001).into(), &inside_sink, TO_POD, BURST / 8);
    assert_rate(pod, (outside.v4(), 5001).into(), &outside_sink, FROM_POD, BURST / 8);
}

/// The rate of a transfer that may be as fast as the machine is.
fn unlimited(from: &Netns, to: IpAddr, sink: &Sink) -> f64 {
    let measure = Measure { window: Duration::from_millis(500), ..Measure::default() };
    throughput(from, (to, 5001).into(), sink, measure)
}

fn is_shaped_as_configured(plugin: &str) {
    let node = Node::new();
    let outside = outside(&node);
    let network = network(&node, plugin, &rates());
    assert_shaped(&network.pod("pod"), &outside);
}

fn is_shaped_as_the_runtime_asks(plugin: &str) {
    let node = Node::new();
    let outside = outside(&node);
    let network = network(&node, plugin, &json!({ "capabilities": { "bandwidth": true } }));
    let pod = network.pod_with("pod", &json!({ "bandwidth": rates() }));
    assert_shaped(&pod, &outside);
}

#[test]
fn a_bridge_pod_is_shaped_as_configured() {
    is_shaped_as_configured("bridge");
}

#[test]
fn a_point_to_point_pod_is_shaped_as_configured() {
    is_shaped_as_configured("ptp");
}

#[test]
fn a_bridge_pod_is_shaped_as_the_runtime_asks() {
    is_shaped_as_the_runtime_asks("bridge");
}

#[test]
fn a_point_to_point_pod_is_shaped_as_the_runtime_asks() {
    is_shaped_as_the_runtime_asks("ptp");
}

#[test]
fn only_the_direction_that_has_a_rate_is_shaped() {
    for (direction, other) in [("ingress", "egress"), ("egress", "ingress")] {
        let node = Node::new();
        let outside = outside(&node);
        let mut conf = json!({});
        conf[format!("{direction}Rate")] = json!(TO_POD);
        conf[format!("{direction}Burst")] = json!(BURST);
        let network = network(&node, "bridge", &conf);
        let pod = network.pod("pod");
        let (inside_sink, outside_sink) = (Sink::start(&pod, 5001), Sink::start(&outside, 5001));
        let free = if direction == "ingress" {
            unlimited(&pod, outside.v4(), &outside_sink)
        } else {
            unlimited(&outside, pod.v4(), &inside_sink)
        };
        assert!(free > 3.0 * TO_POD as f64, "{other} at {free:.0} bit/s");
    }
}

#[test]
fn neighbours_of_a_shaped_pod_are_not() {
    let node = Node::new();
    let outside = outside(&node);
    let network = network(&node, "bridge", &json!({ "capabilities": { "bandwidth": true } }));
    let _shaped = network.pod_with("shaped", &json!({ "bandwidth": rates() }));
    let free = network.pod("free");
    let sink = Sink::start(&free, 5001);
    let rate = unlimited(&outside, free.v4(), &sink);
    assert!(rate > 3.0 * TO_POD as f64, "{rate:.0} bit/s");
}

/// The kubelet asks for a burst of 256 MiB whatever the rate is, so that what most pods ever
/// transfer would go unshaped.
#[test]
fn a_burst_out_of_proportion_does_not_undo_the_rate() {
    let node = Node::new();
    let outside = outside(&node);
    let network = network(&node, "bridge", &json!({ "capabilities": { "bandwidth": true } }));
    let burst = u64::from(u32::MAX / 2);
    let asked = json!({
        "ingressRate": TO_POD,
        "ingressBurst": burst,
        "egressRate": FROM_POD,
        "egressBurst": burst
    });
    let pod = network.pod_with("pod", &json!({ "bandwidth": asked }));
    let (inside_sink, outside_sink) = (Sink::start(&pod, 5001), Sink::start(&outside, 5001));
    // A second's worth of data may go ahead of the rate. (What is usually not measured would be
    // time enough for the whole burst.)
    let measure =
        |rate: u64| Measure { skip: Duration::from_millis(50), ..Measure::after_burst(rate / 8) };
    let to_pod = throughput(&outside, (pod.v4(), 5001).into(), &inside_sink, measure(TO_POD));
    assert!(to_pod < 1.1 * TO_POD as f64, "{to_pod:.0} bit/s to the pod");
    let from_pod = throughput(&pod, (outside.v4(), 5001).into(), &outside_sink, measure(FROM_POD));
    assert!(from_pod < 1.1 * FROM_POD as f64, "{from_pod:.0} bit/s from the pod");
}
