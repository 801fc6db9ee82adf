//! What a run puts off is done together at its end.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

use std::net::UdpSocket;

use chain::Node as _;
use delegates::{
    Node,
    net::{conntrack::ConntrackFlush, link::Ifb},
};
use nft_templates::{Action, Element, IpFamily, Owner, Policy, Protocol};
use testnode::Node as TestNode;

/// Ports of tracked connections, in the original direction.
fn tracked(outer: &TestNode, family: &str) -> Vec<String> {
    let listed = outer.run(["conntrack", "-L", "-f", family]);
    let mut ports: Vec<_> = listed
        .lines()
        .filter_map(|line| {
            let of = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
            Some(format!("{}:{}", of("dst=")?, of("dport=")?))
        })
        .collect();
    ports.sort();
    ports
}

#[test]
fn only_connections_to_the_port_on_the_nodes_own_addresses_are_forgotten() {
    let outer = TestNode::new();
    let outside = outer.neighbour("up0", "192.0.2.2/24", "2001:db8::2/64");
    outer.run(["nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new accept"]);
    let v4 = UdpSocket::bind("0.0.0.0:0").unwrap();
    let v6 = UdpSocket::bind("[::]:0").unwrap();
    for to in ["127.0.0.1:5353", "192.0.2.1:5353", "192.0.2.2:5353", "127.0.0.1:5354"] {
        v4.send_to(b"x", to).unwrap();
    }
    for to in ["[::1]:5353", "[2001:db8::2]:5353"] {
        v6.send_to(b"x", to).unwrap();
    }
    drop(outside);
    assert_eq!(
        tracked(&outer, "ipv4"),
        ["127.0.0.1:5353", "127.0.0.1:5354", "192.0.2.1:5353", "192.0.2.2:5353"]
    );
    assert_eq!(tracked(&outer, "ipv6"), ["2001:db8::2:5353", "::1:5353"]);

    let mut node = Node::new();
    let flush = |family, destination: Option<&str>| ConntrackFlush {
        family,
        protocol: Protocol::Udp,
        port: 5353,
        destination: destination.map(|ip| ip.parse().unwrap()),
    };
    node.flush_conntrack(flush(IpFamily::V4, Some("192.0.2.1")));
    node.flush().unwrap();
    assert_eq!(tracked(&outer, "ipv4"), ["127.0.0.1:5353", "127.0.0.1:5354", "192.0.2.2:5353"]);
    node.flush_conntrack(flush(IpFamily::V4, None));
    node.flush_conntrack(flush(IpFamily::V6, None));
    node.flush().unwrap();
    assert_eq!(tracked(&outer, "ipv4"), ["127.0.0.1:5354", "192.0.2.2:5353"]);
    assert_eq!(tracked(&outer, "ipv6"), ["2001:db8::2:5353"]);
}

#[test]
fn elements_are_committed_and_devices_deleted_at_the_end_of_the_run() {
    let outer = TestNode::new();
    let mut node = Node::new();
    let host = node.host().unwrap();
    for name in ["ifb7", "ifb8"] {
        host.link().add(&Ifb { name, mtu: None }).unwrap();
        node.delete_link(name);
    }
    let owner = Owner::new("net", "c1", "eth0");
    let source = "10.1.0.2".parse().unwrap();
    let policy = Policy {
        excluded: vec!["10.1.0.0/24".parse().unwrap()],
        cluster: false,
        action: Action::Masquerade,
    };
    let element = Element::Egress { source, policy };
    node.elements().add(element.clone(), &owner);
    assert!(host.link().get("ifb7").unwrap().is_some(), "not before the end");
    node.flush().unwrap();
    assert!(host.link().get("ifb7").unwrap().is_none());
    assert!(host.link().get("ifb8").unwrap().is_none());
    let listed = || outer.run(["nft", "list", "map", "inet", "catena", "egress4"]);
    assert!(listed().contains("10.1.0.2 comment \"net c1/eth0\""), "{}", listed());

    node.elements().remove(&element, &Owner::new("net", "c2", "eth0"));
    node.flush().unwrap();
    assert!(listed().contains("10.1.0.2"), "another's is left");
    node.elements().purge(&owner);
    node.flush().unwrap();
    assert!(!listed().contains("10.1.0.2"));

    node.elements().add(element, &owner);
    node.discard();
    node.flush().unwrap();
    assert!(!listed().contains("10.1.0.2"), "discarded");
}
