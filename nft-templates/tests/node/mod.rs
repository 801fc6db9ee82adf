//! A network namespace of the test's own thread, and what the tests look at it with.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{net::IpAddr, process::Command};

use nft_templates::{Action, Element, Owner, Policy, Protocol, Ruleset, Transaction};
use nix::sched::{CloneFlags, unshare};

/// A host of its own: the thread that makes it is in it from then on.
pub struct Node {
    pub directory: tempfile::TempDir,
}

impl Node {
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests need root");
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn ruleset(&self) -> Ruleset {
        Ruleset::open(&self.directory.path().join("run/nft.lock")).unwrap()
    }
}

/// Runs nft, in the namespace of the calling thread.
pub fn nft(arguments: &[&str]) -> String {
    run("nft", arguments)
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn owner(id: &str) -> Owner {
    Owner::new("web", id, "eth0")
}

pub fn port(host_port: u16, to: &str) -> Element {
    Element::HostPort { protocol: Protocol::Tcp, host_ip: None, host_port, to: to.parse().unwrap() }
}

pub fn egress(source: &str, excluded: &[&str]) -> Element {
    let policy = Policy {
        excluded: excluded.iter().map(|net| net.parse().unwrap()).collect(),
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
