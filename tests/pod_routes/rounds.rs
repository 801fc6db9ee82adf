//! What a daemon does round by round, whatever others do meanwhile.

use std::fs;
use std::time::Instant;

use serde_json::Value;
use testnode::{Node, until};

use crate::machines::{METRICS, Wires};
use crate::{A, B, C, PATIENCE};

const ROUNDS: &str = "catena_network_rounds_total";
const PROBLEMS: &str = "catena_route_problems";

#[test]
fn a_route_that_cannot_be_set_is_logged_and_counted_and_the_network_is_there_all_the_same() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 1, 12), wires.machine("c", 1, 13));
    for (machine, cidrs) in [(&a, A), (&b, B), (&c, C)] {
        machine.join(&cidrs);
    }
    a.netns.ip("route add 10.1.2.0/24 via 192.168.1.1\n");
    let conf_dir = a.conf_dir();
    let daemon =
        a.daemon(&["--pod-network", "--conf-dir", &conf_dir, "--metrics-address", METRICS]);
    a.pod_of_network("pod-a");
    a.await_kept(&[C[0], B[1], C[1]]);
    let expected = "set route 10.1.2.0/24 via 192.168.1.12";
    until("the problem is counted", PATIENCE, || (a.metric(PROBLEMS)? == 1).then_some(()));
    assert_eq!(daemon.log().matches(expected).count(), 1, "{}", daemon.log());
    let rounds = a.metric(ROUNDS);
    until("there was another round", PATIENCE, || (a.metric(ROUNDS) > rounds).then_some(()));
    assert_eq!(daemon.log().matches(expected).count(), 1, "it is said once");
    a.netns.ip("route del 10.1.2.0/24 via 192.168.1.1\n");
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    until("there is no problem", PATIENCE, || (a.metric(PROBLEMS)? == 0).then_some(()));
}

#[test]
fn heartbeats_of_kubelets_begin_no_round() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 1, 12), wires.machine("c", 1, 13));
    a.join(&A);
    b.join(&B);
    let _daemon = a.daemon(&["--pod-routes", "--metrics-address", METRICS]);
    a.await_kept(&B);
    until("rounds are counted", PATIENCE, || a.metric(ROUNDS));
    let (begun, before) = (Instant::now(), a.metric(ROUNDS).unwrap());
    for beat in 0..50 {
        b.set_condition("Ready", if beat % 2 == 0 { "True" } else { "False" });
    }
    // All before has been seen when this has.
    c.join(&C);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    // One each 10 s, and those of the new Node: it comes, and has its addresses.
    let due = begun.elapsed().as_secs() / 10 + 1 + 3;
    let rounds = a.metric(ROUNDS).unwrap() - before;
    assert!(rounds <= due, "{rounds} rounds instead of {due} and less");
}

#[test]
fn a_node_that_is_deleted_and_comes_back_keeps_its_network_and_comes_into_step_again() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 1, 12), wires.machine("c", 1, 13));
    a.join(&A);
    b.join(&B);
    let conf_dir = a.conf_dir();
    let daemon =
        a.daemon(&["--pod-network", "--conf-dir", &conf_dir, "--metrics-address", METRICS]);
    let (from, to) = (a.pod_of_network("one"), a.pod_of_network("two"));
    let other = b.pod("pod-b", B);
    b.netns.ip("route add 10.1.1.0/24 via 192.168.1.11\n");
    a.await_kept(&B);
    let [address, _] = a.addresses_of("two");
    let conflist = || fs::read_to_string(a.conflist()).unwrap();
    let set = || a.netns.run(["nft", "list", "set", "inet", "catena", "cluster_pods4"]);
    let before = (conflist(), set());

    a.leave();
    until("the log says what is missing", PATIENCE, || {
        daemon.log().contains("there is no Node a").then_some(())
    });
    c.join(&C);
    let rounds = a.metric(ROUNDS).unwrap();
    until("there were rounds", PATIENCE, || (a.metric(ROUNDS)? > rounds + 1).then_some(()));
    a.await_kept(&B);
    assert_eq!((conflist(), set()), before);
    from.ping(&address);
    other.ping(&address);
    assert!(to.pings("192.168.1.11"));
    assert_eq!(a.metric(PROBLEMS), Some(1));

    a.join(&A);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    until("there is no problem", PATIENCE, || (a.metric(PROBLEMS)? == 0).then_some(()));
    assert_eq!(conflist(), before.0);
    assert!(set().contains("10.1.1.0-10.1.3.255"), "{}", set());
    from.ping(&address);
}

#[test]
fn a_damaged_record_of_the_clusters_addresses_is_written_again_and_keeps_nothing_from_the_rules() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 1, 12));
    a.join(&A);
    let conf_dir = a.conf_dir();
    let daemon =
        a.daemon(&["--pod-network", "--conf-dir", &conf_dir, "--metrics-address", METRICS]);
    until("the network is there", PATIENCE, || a.conflist().exists().then_some(()));
    let record = node.dir("machine-a").join("var/lib/catena/cluster.json");
    let set = || a.netns.run(["nft", "list", "set", "inet", "catena", "cluster_nodes4"]);
    let recorded = || {
        let record: Value = serde_json::from_slice(&fs::read(&record).ok()?).ok()?;
        Some(record["nodes"].as_array()?.len())
    };
    // Of each node two addresses.
    let await_nodes = |count: usize| {
        until("rules and record know the nodes", PATIENCE, || {
            (set().contains("192.168.1.12") == (count == 2) && recorded()? == 2 * count)
                .then_some(())
        });
    };
    await_nodes(1);
    fs::write(&record, "{ nodes: garbage").unwrap();
    b.join(&B);
    await_nodes(2);
    fs::write(&record, "").unwrap();
    b.leave();
    await_nodes(1);
    fs::remove_file(&record).unwrap();
    fs::create_dir_all(record.join("something")).unwrap();
    b.join(&B);
    await_nodes(2);
    // Damaged alone: no node changes.
    fs::write(&record, "\0\0\0").unwrap();
    await_nodes(2);

    // One that cannot be replaced.
    let mount = ["nsenter", "-m", "-t", &daemon.pid().to_string(), "mount", "--bind", "/dev/null"];
    node.run([&mount[..], &["/var/lib/catena/cluster.json"]].concat());
    fs::remove_file(a.conflist()).unwrap();
    b.leave();
    until("the rules follow", PATIENCE, || (!set().contains("192.168.1.12")).then_some(()));
    until("the network is there again", PATIENCE, || a.conflist().exists().then_some(()));
    until("the problem is counted", PATIENCE, || (a.metric(PROBLEMS)? == 1).then_some(()));
    let log = daemon.log();
    assert!(log.contains("the pods' network: /var/lib/catena/cluster.json: "), "{log}");
}
