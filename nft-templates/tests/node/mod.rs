//! What the tests have in common.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::IpAddr;

use nft_templates::{Action, Condition, Element, Owner, Policy, Protocol, Ruleset, Transaction};
pub use testnode::Node;

/// The node's ruleset.
pub fn open(node: &Node) -> Ruleset {
    Ruleset::open(&node.dir("run").join("nft.lock")).unwrap()
}

/// Runs nft in the node.
pub fn nft(node: &Node, arguments: &[&str]) -> String {
    node.run([&["nft"], arguments].concat())
}

pub fn owner(id: &str) -> Owner {
    Owner::new("web", id, "eth0")
}

pub fn port(host_port: u16, to: &str) -> Element {
    port_under(host_port, to, &[])
}

/// A port that is taken under conditions only.
pub fn port_under(host_port: u16, to: &str, conditions: &[Condition]) -> Element {
    Element::HostPort {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port,
        to: to.parse().unwrap(),
        conditions: conditions.to_vec(),
    }
}

pub fn egress(source: &str, excluded: &[&str]) -> Element {
    let policy = Policy {
        excluded: excluded.iter().map(|net| net.parse().unwrap()).collect(),
        cluster: false,
        action: Action::Masquerade,
    };
    Element::Egress { source: source.parse().unwrap(), policy }
}

pub fn hairpin(address: &str) -> Element {
    Element::Hairpin { address: address.parse::<IpAddr>().unwrap() }
}

pub fn adding(elements: &[Element], owner: &Owner) -> Transaction {
    let mut transaction = Transaction::new();
    for element in elements {
        transaction.add(element.clone(), owner.clone());
    }
    transaction
}

pub fn removing(elements: &[Element], owner: &Owner) -> Transaction {
    let mut transaction = Transaction::new();
    for element in elements {
        transaction.remove(element, owner.clone());
    }
    transaction
}
