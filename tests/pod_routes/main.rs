//! Pods of different nodes reach each other, without NAT: `catena daemon --pod-routes`.
#![allow(clippy::unwrap_used, reason = "test code")]

mod beside;
mod egress;
mod filtered;
mod flannel;
mod gapless;
mod host_ports;
mod led;
mod left;
mod machines;
mod moved;
mod rates;
mod rounds;
mod together;
mod transfer;
mod twins;
mod upgrade;
mod variables;
mod ways;

use std::time::Duration;

use machines::Wires;
use testnode::kubernetes::nodes;
use testnode::{HttpServer, Netns, Node, http_get, until};
use transfer::Transfer;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of the pods' addresses.
const A: [&str; 2] = ["10.1.1.0/24", "fd10:0:0:1::/64"];
const B: [&str; 2] = ["10.1.2.0/24", "fd10:0:0:2::/64"];
const C: [&str; 2] = ["10.1.3.0/24", "fd10:0:0:3::/64"];

/// A server sees the pod's own address.
#[track_caller]
fn assert_without_nat(from: &Netns, own: &str, to: &Netns, address: &str) {
    let server = HttpServer::start(to, 8080, "hello");
    let url = testnode::url(address.parse().unwrap(), 8080);
    assert_eq!(http_get(from, &url).unwrap().text, "hello");
    let peers: Vec<_> = server.peers().iter().map(|peer| peer.ip().to_string()).collect();
    assert_eq!(peers, [own]);
}

/// Each of these pods reaches each other one, over both families, and is seen under its own address.
#[track_caller]
fn assert_reached(pods: &[(&Netns, [String; 2])]) {
    for (from, own) in pods {
        for (to, at) in pods.iter().filter(|(to, _)| to.name() != from.name()) {
            assert_without_nat(from, &own[0], to, &at[0]);
            assert_without_nat(from, &own[1], to, &at[1]);
        }
    }
}

/// The addresses of the pod that [`machines::Machine::pod`] makes with this part of them.
fn fifth([v4, v6]: [&str; 2]) -> [String; 2] {
    [v4.replace("0/24", "5"), v6.replace("::/64", "::5")]
}

/// Whether another pod is reached by a packet with as much data in one piece.
fn sized(from: &Netns, to: &str, size: &str) -> bool {
    from.try_run(["ping", "-c", "1", "-W", "2", "-M", "do", "-s", size, to]).is_success()
}

#[test]
fn nodes_on_one_link_are_each_others_next_hops() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 1, 12));
    a.join(&A);
    b.join(&B);
    let (_of_a, _of_b) = (a.daemon(&["--pod-routes"]), b.daemon(&["--pod-routes"]));
    a.await_kept(&B);
    b.await_kept(&A);
    assert_eq!(a.way("10.1.2.5"), ("eth0".into(), Some("192.168.1.12".parse().unwrap())));
    assert_eq!(a.way("fd10:0:0:2::5"), ("eth0".into(), Some("fd01::c".parse().unwrap())));
    assert!(!a.netns.try_run(["ip", "link", "show", "catena.vxlan"]).is_success());
    let (from, to) = (a.pod("pod-a", A), b.pod("pod-b", B));
    assert_reached(&[(&from, fifth(A)), (&to, fifth(B))]);
    // The nodes reach each other's pods, too.
    a.netns.ping("10.1.2.5");
    b.netns.ping("fd10:0:0:1::5");
}

#[test]
fn nodes_on_other_links_are_reached_through_the_tunnel() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    a.join(&A);
    b.join(&B);
    c.join(&C);
    let _daemons = [&a, &b, &c].map(|machine| machine.daemon(&["--pod-routes"]));
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    b.await_kept(&[A[0], C[0], A[1], C[1]]);
    assert_eq!(a.way("10.1.2.5").0, "catena.vxlan");
    assert_eq!(a.way("10.1.3.5").0, "eth0");
    c.await_kept(&[A[0], B[0], A[1], B[1]]);
    let (from, to, third) = (a.pod("pod-a", A), b.pod("pod-b", B), c.pod("pod-c", C));
    assert_reached(&[(&from, fifth(A)), (&to, fifth(B)), (&third, fifth(C))]);
    a.netns.ping("10.1.2.5");
    b.netns.ping("fd10:0:0:1::5");
    // 1500 less the headers of IPv4, UDP, VXLAN and Ethernet: as much as fits, whole, and no more.
    assert!(sized(&from, "10.1.2.5", "1422"), "1450 bytes with ICMP's and IP's headers");
    assert!(!sized(&from, "10.1.2.5", "1423"));
    let link = a.netns.json(["ip", "-j", "-d", "link", "show", "catena.vxlan"]);
    assert_eq!(
        (&link[0]["mtu"], &link[0]["linkinfo"]["info_data"]["port"]),
        (&1450.into(), &4789.into())
    );
}

#[test]
fn a_tunnel_between_ipv6_addresses_carries_both_families() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    a.join_by_ipv6(&A);
    b.join_by_ipv6(&B);
    let _daemons = [&a, &b].map(|machine| machine.daemon(&["--pod-routes", "vxlan"]));
    a.await_kept(&B);
    b.await_kept(&A);
    let (from, to) = (a.pod("pod-a", A), b.pod("pod-b", B));
    assert_reached(&[(&from, fifth(A)), (&to, fifth(B))]);
    let link = a.netns.json(["ip", "-j", "-d", "link", "show", "catena.vxlan"]);
    assert_eq!(link[0]["mtu"], 1430);
}

#[test]
fn a_transfer_goes_on_while_nodes_come_go_and_change_and_the_daemon_is_killed() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 2, 13));
    a.join(&A);
    b.join(&B);
    let mut of_a = a.daemon(&["--pod-routes"]);
    let _of_b = b.daemon(&["--pod-routes"]);
    a.await_kept(&B);
    b.await_kept(&A);
    let (from, to) = (a.pod("pod-a", A), b.pod("pod-b", B));
    let transfer = Transfer::start(&from, &to, "10.1.2.5:9000".parse().unwrap());

    c.join(&C);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    transfer.assert_goes_on();
    // A Node's podCIDRs cannot be changed: it is made anew.
    c.leave();
    c.join(&["10.1.4.0/24"]);
    a.await_kept(&[B[0], "10.1.4.0/24", B[1]]);
    transfer.assert_goes_on();
    c.leave();
    a.await_kept(&B);
    transfer.assert_goes_on();

    let before = a.netns.run(["ip", "-d", "link", "show", "catena.vxlan"]);
    of_a.kill();
    transfer.assert_goes_on();
    let _of_a = a.daemon(&["--pod-routes"]);
    // It has seen the cluster when it has done something new there.
    c.join(&C);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    transfer.assert_goes_on();
    assert_eq!(a.netns.run(["ip", "-d", "link", "show", "catena.vxlan"]), before);
}

#[test]
fn what_others_change_is_put_right_and_what_is_theirs_left_alone() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    a.join(&A);
    b.join(&B);
    c.join(&C);
    a.netns.ip("route add 10.9.0.0/16 via 192.168.1.1\n");
    let daemon = a.daemon(&["--pod-routes"]);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    a.netns.ip("route del 10.1.3.0/24\nlink del catena.vxlan\n");
    a.netns.ip("route add 10.8.0.0/16 via 192.168.1.1 proto 202\n");
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    until("the tunnel's ends are known again", PATIENCE, || {
        let known = a.netns.run(["bridge", "fdb", "show", "dev", "catena.vxlan"]);
        known.contains("dst 192.168.2.12").then_some(())
    });
    assert!(a.netns.run(["ip", "route"]).contains("10.9.0.0/16 via 192.168.1.1"));

    // Two nodes with the same addresses: the first keeps them, and the log says what to do.
    let d = wires.machine("d", 1, 14);
    d.join(&["10.1.3.128/25"]);
    until("the log names the overlap", PATIENCE, || {
        let expected = "node d: its podCIDR 10.1.3.128/25 overlaps that of node c: give it another";
        daemon.log().contains(expected).then_some(())
    });
    assert_eq!(a.kept(), [B[0], C[0], B[1], C[1]]);
    wires.api.admin().delete(&format!("{}/c", nodes()));
    a.await_kept(&[B[0], "10.1.3.128/25", B[1]]);
}

#[test]
fn pods_get_their_network_from_the_nodes_cidrs_and_leave_the_cluster_under_the_nodes_address() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let outside = node.uplink("outside", "192.0.2.7/24", "2001:db8::7/64");
    outside.ip("route add default via 192.0.2.1\nroute add default via 2001:db8::1\n");
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    let daemons = [&a, &b].map(|machine| {
        let dir = machine.conf_dir();
        let args = ["--pod-network", "--conf-dir", &dir, "--write-conf"];
        // Its Node comes later, and its podCIDRs later still: no network is written before.
        machine.daemon(&args)
    });
    a.join(&[]);
    a.set_condition("NetworkUnavailable", "True");
    until("the log says what the Node lacks", PATIENCE, || {
        daemons[0].log().contains("node a has no podCIDRs yet").then_some(())
    });
    assert!(!a.conflist().exists());
    assert_eq!(a.condition("NetworkUnavailable"), Some("True".into()));
    a.leave();
    a.join(&A);
    a.set_condition("NetworkUnavailable", "True");
    b.join(&B);
    a.await_kept(&B);
    b.await_kept(&A);
    until("the Node's condition is cleared", PATIENCE, || {
        (a.condition("NetworkUnavailable") == Some("False".into())).then_some(())
    });
    assert_eq!(b.condition("NetworkUnavailable"), None, "nobody set it");
    let (from, to) = (a.pod_of_network("pod-a"), b.pod_of_network("pod-b"));
    let [own, _] = a.addresses_of("pod-a");
    let [at, at6] = b.addresses_of("pod-b");
    assert_without_nat(&from, &own, &to, &at);
    to.ping(&a.addresses_of("pod-a")[1]);
    from.ping(&at6);
    for (address, node) in [("192.0.2.7", "192.168.1.11"), ("2001:db8::7", "fd01::b")] {
        let server = HttpServer::start(&outside, 8080, "hello");
        let url = testnode::url(address.parse().unwrap(), 8080);
        assert_eq!(http_get(&from, &url).unwrap().text, "hello");
        let peers: Vec<_> = server.peers().iter().map(|peer| peer.ip().to_string()).collect();
        assert_eq!(peers, [node]);
    }
    // The meta plugin comes before it, and passes on what it takes.
    let meta = a.conflist().with_file_name("00-catena.conflist");
    until("the meta plugin's configuration is there", PATIENCE, || {
        let text = std::fs::read_to_string(&meta).ok()?;
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let passed = serde_json::json!({ "bandwidth": true, "portMappings": true });
        (list["plugins"][0]["capabilities"] == passed).then_some(())
    });
    // What reaches the other node whole is what the pods' interfaces take.
    let link = from.json(["ip", "-j", "link", "show", "eth0"]);
    assert_eq!(link[0]["mtu"], 1450);
}
