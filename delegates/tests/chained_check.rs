//! CHECK of portmap and snat names each single thing that is not as ADD left it; DEL takes what is theirs and no more.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

#[macro_use]
mod common;

use common::Case;
use serde_json::{Value, json};
use testnode::Node;

fn chain() -> Value {
    json!([
        { "type": "bridge", "bridge": "br0", "isGateway": true,
          "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00:1::/64" }]] } },
        { "type": "portmap", "runtimeConfig": { "portMappings": [
            { "hostPort": 8080, "containerPort": 80 },
            { "hostPort": 8053, "containerPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1" },
        ] } },
        { "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8", "fd00::/8"], "sourceAddress": "192.0.2.7" },
    ])
}

#[track_caller]
fn finding(break_it: impl FnOnce(&Node)) -> String {
    let outer = Node::new();
    outer.bridge_nf(false);
    let container = outer.container("c1");
    let case = Case::chain(chain(), &container);
    case.add().unwrap();
    case.check().unwrap();
    break_it(&outer);
    let finding = case.finding();
    assert!(!finding.contains("; "), "one thing is broken, and found is: {finding}");
    case.del().unwrap();
    let left = outer.run(["nft", "list", "ruleset"]);
    assert!(!left.contains("c1/eth0"), "{left}");
    finding
}

fn delete(b: &Node, element: &str) {
    b.run(["nft", &format!("delete element inet catena {element}")]);
}

finds! {
    a_missing_port: |b| delete(b, "hostports4 { tcp . 8080 }") => "host port 0.0.0.0:8080/tcp";
    a_missing_ipv6_port: |b| delete(b, "hostports6 { tcp . 8080 }") => "host port [::]:8080/tcp";
    a_missing_port_of_one_address: |b| delete(b, "hostports4_addr { 127.0.0.1 . udp . 8053 }")
        => "host port 127.0.0.1:8053/udp";
    a_port_that_leads_elsewhere: |b| {
        delete(b, "hostports4 { tcp . 8080 }");
        b.run(["nft", "add element inet catena hostports4 { tcp . 8080 comment \"net c1/eth0\" : 10.1.0.99 . 80 }"]);
    } => "host port 0.0.0.0:8080/tcp";
    a_missing_hairpin: |b| delete(b, "hairpin4 { 10.1.0.2 . 10.1.0.2 }") => "hairpin of 10.1.0.2";
    a_missing_bridge: |b| delete(b, "bridges { \"br0\" . \"br0\" }") => "bridge br0";
    route_localnet_off: |b| b.set_sysctl("ipv4.conf.br0.route_localnet", "0")
        => "route_localnet";
    a_missing_source_address: |b| delete(b, "egress4 { 10.1.0.2 }") => "egress of 10.1.0.2";
    a_missing_masquerade: |b| delete(b, "egress6 { fd00:1::2 }") => "egress of fd00:1::2";
}

/// Hairpin mode is wanted for the addresses of both families, and is one thing all the same.
#[test]
fn hairpin_mode_off() {
    let outer = Node::new();
    let container = outer.container("c1");
    let case = Case::chain(chain(), &container);
    let port = case.add().unwrap().interfaces[1].name.clone();
    outer.ip(&format!("link set {port} type bridge_slave hairpin off\n"));
    let found = case.finding();
    assert!(found.contains(&format!("hairpin mode of {port}")), "{found}");
    case.del().unwrap();
}

#[test]
fn del_of_one_attachment_leaves_the_others_ports_and_addresses() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let first = Case::chain(chain(), &c1);
    first.add().unwrap();
    let mut other = chain();
    other[1]["runtimeConfig"]["portMappings"] = json!([{ "hostPort": 8081, "containerPort": 80 }]);
    let second = Case::chain(other, &c2);
    second.add().unwrap();
    first.del().unwrap();
    second.check().unwrap();
    let rules = outer.run(["nft", "list", "ruleset"]);
    assert!(!rules.contains("c1/eth0") && rules.contains("c2/eth0"), "{rules}");
    second.del().unwrap();
}
