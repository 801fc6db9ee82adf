//! CHECK of bridge names each single thing that is not as ADD left it.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

#[macro_use]
mod common;

use common::Case;
use serde_json::{Value, json};
use testnode::{Container, Node};

fn conf() -> Value {
    json!({
        "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "hairpinMode": true, "mtu": 1400,
        "ipMasq": true, "macspoofchk": true, "portIsolation": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00:1::/64" }]],
            "routes": [{ "dst": "10.7.0.0/16", "mtu": 1300 }] },
    })
}

struct Broken {
    outer: Node,
    container: Container,
    port: String,
}

/// Breaks one thing and returns what CHECK says about it.
#[track_caller]
fn finding(break_it: impl FnOnce(&Broken)) -> String {
    let outer = Node::new();
    let container = outer.container("c1");
    let case = Case::new(conf(), &container);
    let port = case.add().unwrap().interfaces[1].name.clone();
    case.check().unwrap();
    let broken = Broken { outer, container, port };
    break_it(&broken);
    let finding = case.finding();
    assert!(!finding.contains("; "), "one thing is broken, and found is: {finding}");
    case.del().unwrap();
    finding
}

finds! {
    another_mac_in_the_container: |b| b.container.ip("link set eth0 address 02:00:00:00:00:77\n")
        => "the hardware address of eth0 is 02:00:00:00:00:77, not";
    another_mtu_in_the_container: |b| b.container.ip("link set eth0 mtu 1300\n")
        => "the MTU of eth0 is 1300, not 1400";
    a_missing_address: |b| b.container.ip("addr del 10.1.0.2/24 dev eth0\naddr add 10.1.0.99/24 dev eth0\n\
        route replace default via 10.1.0.1\nroute replace 10.7.0.0/16 via 10.1.0.1 mtu 1300\n")
        => "eth0 has no address 10.1.0.2/24";
    a_missing_ipv6_address: |b| b.container.ip("addr add fd00:1::99/64 dev eth0 nodad\naddr del fd00:1::2/64 dev eth0\n")
        => "eth0 has no address fd00:1::2/64";
    a_missing_default_route: |b| b.container.ip("route del default via 10.1.0.1\n")
        => "there is no route 0.0.0.0/0 via 10.1.0.1 by eth0";
    a_missing_route: |b| b.container.ip("route del 10.7.0.0/16\n")
        => "there is no route 10.7.0.0/16 via 10.1.0.1 by eth0";
    another_gateway: |b| b.container.ip("route replace default via 10.1.0.9\n")
        => "there is no route 0.0.0.0/0 via 10.1.0.1 by eth0";
    another_mtu_of_a_route: |b| b.container.ip("route replace 10.7.0.0/16 via 10.1.0.1 mtu 1200\n")
        => "there is no route 10.7.0.0/16 via 10.1.0.1 by eth0";
    a_port_taken_out_of_the_bridge: |b| b.outer.ip(&format!("link set {} nomaster\n", b.port))
        => "is not a port of bridge br0";
    a_port_of_another_bridge: |b| b.outer.ip(&format!("link add br9 type bridge\nlink set {} master br9\n", b.port))
        => "is not a port of bridge br0";
    hairpin_off: |b| b.outer.ip(&format!("link set {} type bridge_slave hairpin off\n", b.port))
        => "hairpin mode of veth";
    isolation_off: |b| b.outer.ip(&format!("link set {} type bridge_slave isolated off\n", b.port))
        => "isolation of veth";
    another_mac_of_the_port: |b| b.outer.ip(&format!("link set {} address 02:00:00:00:00:77\n", b.port))
        => "is 02:00:00:00:00:77, not";
    another_mtu_of_the_port: |b| b.outer.ip(&format!("link set {} mtu 1300\n", b.port))
        => "is 1300, not 1400";
    a_missing_gateway_address: |b| b.outer.ip("addr del 10.1.0.1/24 dev br0\n")
        => "bridge br0 has no address 10.1.0.1/24";
    another_mac_of_the_bridge: |b| b.outer.ip("link set br0 address 02:00:00:00:00:77\n")
        => "the hardware address of br0 is 02:00:00:00:00:77, not";
    forwarding_off: |b| b.outer.set_sysctl("ipv4.ip_forward", "0")
        => "forwarding (net/ipv4/ip_forward) is off, not on";
    a_missing_masquerade: |b| drop(b.outer.run(["nft", "delete element inet catena egress4 { 10.1.0.2 }"]))
        => "egress of 10.1.0.2: not in the nf_tables ruleset";
    a_missing_spoof_check: |b| drop(b.outer.run(["nft", &format!("delete element bridge catena macspoofchk {{ {} }}", b.port)]))
        => "of port veth";
}

#[test]
fn a_missing_interface_is_named() {
    let outer = Node::new();
    let container = outer.container("c1");
    let case = Case::new(conf(), &container);
    case.add().unwrap();
    container.ip("link del eth0\n");
    assert!(case.finding().contains("there is no interface eth0 in /run/netns/c1"));
}

#[test]
fn a_missing_bridge_is_named() {
    let outer = Node::new();
    let container = outer.container("c1");
    let case = Case::new(json!({ "type": "bridge", "bridge": "br0" }), &container);
    case.add().unwrap();
    outer.ip("link del br0\n");
    assert!(case.finding().contains("there is no interface br0 in the host"));
}

#[test]
fn promiscuous_mode_off_is_named() {
    let outer = Node::new();
    let container = outer.container("c1");
    let case =
        Case::new(json!({ "type": "bridge", "bridge": "br0", "promiscMode": true }), &container);
    case.add().unwrap();
    outer.ip("link set br0 promisc off\n");
    assert!(
        case.finding().contains("promiscuous mode of br0 is off, not on"),
        "{}",
        case.finding()
    );
}

#[test]
fn all_that_is_broken_is_in_one_error() {
    let outer = Node::new();
    let container = outer.container("c1");
    let case = Case::new(conf(), &container);
    case.add().unwrap();
    outer.ip("addr del 10.1.0.1/24 dev br0\n");
    container.ip("link set eth0 mtu 1300\n");
    let finding = case.finding();
    assert!(
        finding.contains("MTU of eth0") && finding.contains("no address 10.1.0.1/24"),
        "{finding}"
    );
}
