//! No packet is lost while daemons are killed and come back.

use testnode::{Background, Netns, Node, until};

use crate::filtered::DROP;
use crate::machines::{METRICS, Machine, Wires};
use crate::{A, B, C, PATIENCE};

/// How many packets are sent, one each hundredth of a second.
const PACKETS: &str = "1500";

/// A pod that sends numbered packets to another one, and counts what is answered.
fn flood(node: &Node, from: &Netns, to: &str) -> Background {
    let ping = ["ping", "-n", "-q", "-i", "0.01", "-W", "5", "-c", PACKETS, to];
    from.cmd(ping).spawn(node.fresh_path("ping.log"))
}

#[test]
fn no_packet_is_lost_while_daemons_are_killed_and_come_back() {
    let node = Node::new();
    let wires = Wires::new(&node);
    // The link of a and c, and the tunnel of a and b.
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    let all = [&a, &b, &c];
    for (machine, cidrs) in all.into_iter().zip([A, B, C]) {
        // Without the rule that the daemon keeps nothing passes.
        machine.netns.run(["sh", "-c", DROP]);
        machine.join(&cidrs);
    }
    let daemon = |machine: &Machine<'_>| {
        let conf_dir = machine.conf_dir();
        let args = ["--pod-network", "--conf-dir", &conf_dir, "--metrics-address", METRICS];
        let daemon = machine.daemon(&args);
        until("a daemon has looked at everything", PATIENCE, || {
            (machine.metric("catena_network_rounds_total")? > 0).then_some(())
        });
        daemon
    };
    let mut daemons = all.map(daemon);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    b.await_kept(&[A[0], C[0], A[1], C[1]]);
    c.await_kept(&[A[0], B[0], A[1], B[1]]);
    let from = a.pod_of_network("from");
    let _others = [b.pod_of_network("far"), c.pod_of_network("near")];
    let targets = [b.addresses_of("far"), c.addresses_of("near")].concat();
    for to in &targets {
        from.ping(to);
    }
    let mut floods: Vec<_> = targets.iter().map(|to| flood(&node, &from, to)).collect();
    let are_at_work =
        |floods: &[Background]| floods.iter().all(|flood| !flood.log().contains("statistics"));
    let mut kills = 0;
    while are_at_work(&floods) {
        let n = kills % all.len();
        daemons[n].kill();
        daemons[n] = daemon(all[n]);
        kills += usize::from(are_at_work(&floods));
    }
    assert!(kills >= all.len(), "{kills} daemons came back in time: send more");
    for flood in &mut floods {
        flood.wait(PATIENCE);
        let expected = format!("{PACKETS} packets transmitted, {PACKETS} received, 0% packet loss");
        assert!(flood.log().contains(&expected), "{}", flood.log());
    }
}
