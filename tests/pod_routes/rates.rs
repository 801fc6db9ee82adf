//! Rates of pods that the daemon's own network attaches.

use serde_json::json;
use testnode::{Node, Sink, assert_rate};

use crate::machines::Wires;
use crate::{A, B};

/// Bits per second; different ones for the directions, so that mixing them up is noticed.
const TO_POD: u64 = 20_000_000;
const FROM_POD: u64 = 12_000_000;
/// Bits.
const BURST: u64 = 800_000;

#[test]
fn rates_between_pods_of_two_nodes_are_measured_as_they_were_asked_for() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    a.join(&A);
    b.join(&B);
    let _daemons = [&a, &b]
        .map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    a.await_kept(&B);
    b.await_kept(&A);
    // As runtimes pass on the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth.
    let rates = json!({ "bandwidth": {
        "ingressRate": TO_POD, "ingressBurst": BURST, "egressRate": FROM_POD, "egressBurst": BURST,
    } });
    let (shaped, other) = (a.pod_that_asks("shaped", &rates), b.pod_of_network("other"));
    let (into, out) = (Sink::start(&shaped, 5001), Sink::start(&other, 5001));
    let at = |address: &str| (address.parse::<std::net::IpAddr>().unwrap(), 5001).into();
    let ([v4, v6], [other4, other6]) = (a.addresses_of("shaped"), b.addresses_of("other"));
    for (to_pod, to_other) in [(v4, other4), (v6, other6)] {
        assert_rate(&other, at(&to_pod), &into, TO_POD, BURST / 8);
        assert_rate(&shaped, at(&to_other), &out, FROM_POD, BURST / 8);
    }
}
