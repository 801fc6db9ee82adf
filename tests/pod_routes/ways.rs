//! `--pod-routes` says by which ways other nodes' pods are reached.

use testnode::{Node, until};

use crate::machines::{METRICS, Machine, Wires};
use crate::{A, B, C, PATIENCE, assert_reached, fifth, sized};

/// How many bytes a device has sent and received.
fn counted(machine: &Machine<'_>, device: &str) -> [u64; 2] {
    let link = machine.netns.json(["ip", "-j", "-s", "link", "show", device]);
    ["tx", "rx"].map(|way| link[0]["stats64"][way]["bytes"].as_u64().unwrap())
}

#[test]
fn three_nodes_on_one_link_reach_each_other_by_the_ways_that_the_flag_says() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let machines = [("a", 11, A), ("b", 12, B), ("c", 13, C)].map(|(name, host, cidrs)| {
        let machine = wires.machine(name, 1, host);
        machine.join(&cidrs);
        (machine, cidrs)
    });
    let pods = ["pod-a", "pod-b", "pod-c"];
    let pods = [0, 1, 2].map(|n| machines[n].0.pod(pods[n], machines[n].1));
    let all = [0, 1, 2].map(|n| (&pods[n], fifth(machines[n].1)));
    let (a, b) = (&machines[0].0, &machines[1].0);
    for (ways, device) in [
        ("auto", "eth0"),
        ("vxlan", "catena.vxlan"),
        ("host-gw", "eth0"),
        ("vxlan", "catena.vxlan"),
    ] {
        let args = [&*format!("--pod-routes={ways}")];
        let _daemons = machines.each_ref().map(|(machine, _)| machine.daemon(&args));
        until(&format!("with {ways} all ways lead by {device}"), PATIENCE, || {
            machines
                .iter()
                .all(|(machine, own)| {
                    let others = [A, B, C].into_iter().filter(|cidrs| cidrs != own);
                    let others: Vec<_> = others.flat_map(fifth).collect();
                    let is_kept = machine.kept().len() == others.len();
                    is_kept && others.iter().all(|address| machine.way(address).0 == device)
                })
                .then_some(())
        });
        assert_reached(&all);
        if device == "eth0" {
            let tunnel = a.netns.try_run(["ip", "link", "show", "catena.vxlan"]);
            assert!(!tunnel.is_success(), "{ways}: {tunnel}");
            // It may remember how little the tunnel took.
            pods[0].ip("route flush cache\n");
            assert!(sized(&pods[0], "10.1.2.5", "1472"), "{ways}: 1500 bytes");
            continue;
        }
        // It all goes through the tunnel, and as much as fits there.
        let before = [a, b].map(|machine| counted(machine, device));
        for to in ["10.1.2.5", "10.1.3.5"] {
            assert!(sized(&pods[0], to, "1422"), "{ways}: 1450 bytes");
            assert!(!sized(&pods[0], to, "1423"), "{ways}: 1451 bytes");
        }
        let after = [a, b].map(|machine| counted(machine, device));
        for way in [0, 1] {
            // Two pings and answers at node a, one at node b.
            assert!(after[0][way] >= before[0][way] + 2 * 1450, "{before:?} {after:?}");
            assert!(after[1][way] >= before[1][way] + 1450, "{before:?} {after:?}");
        }
    }
}

#[test]
fn by_host_gw_near_nodes_are_reached_and_far_ones_are_told_of() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    for (machine, cidrs) in [(&a, A), (&b, B), (&c, C)] {
        machine.join(&cidrs);
    }
    let args = ["--pod-routes=host-gw", "--metrics-address", METRICS];
    let daemons = [&a, &b, &c].map(|machine| machine.daemon(&args));
    a.await_kept(&C);
    c.await_kept(&A);
    let problems = |machine: &Machine<'_>, count: u64| {
        until(&format!("{count} problems are counted"), PATIENCE, || {
            (machine.metric("catena_route_problems")? == count).then_some(())
        });
    };
    // One for each family and node.
    problems(&a, 2);
    problems(&b, 4);
    problems(&c, 2);
    for cidr in B {
        let expected =
            format!("node b: its podCIDR {cidr} needs an InternalIP of the same family on a link");
        let log = daemons[0].log();
        assert!(log.contains(&expected) && log.contains("use --pod-routes auto or vxlan"), "{log}");
    }
    let (of_a, of_b, of_c) = (a.pod("pod-a", A), b.pod("pod-b", B), c.pod("pod-c", C));
    assert_reached(&[(&of_a, fifth(A)), (&of_c, fifth(C))]);
    assert!(!of_a.pings("10.1.2.5") && !of_b.pings("10.1.1.5"));
    assert_eq!(b.kept(), [""; 0]);
    // The far node comes near.
    b.leave();
    problems(&a, 0);
}
