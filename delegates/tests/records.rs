//! What the records say decides about the elements of the ruleset.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod common;

use common::Case;
use serde_json::{Value, json};
use testnode::Node;

fn chain(ports: &[u16]) -> Value {
    let mappings: Vec<_> = ports
        .iter()
        .map(|port| json!({ "hostPort": port, "containerPort": 80, "protocol": "tcp" }))
        .collect();
    json!([
        { "type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true,
          "ipam": { "type": "host-local", "subnet": "10.1.0.0/24" } },
        { "type": "portmap", "runtimeConfig": { "portMappings": mappings } },
    ])
}

fn rules(outer: &Node) -> String {
    outer.run(["nft", "list", "ruleset"])
}

#[test]
fn a_port_of_a_living_container_is_refused_and_the_error_names_the_holder() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let first = Case::chain(chain(&[8080]), &c1);
    first.add().unwrap();
    let before = testnode::Snapshot::of(&outer);
    let second = Case::chain(chain(&[8081, 8080]), &c2);
    let error = second.add().unwrap_err();
    for part in ["8080/tcp", "container c1", "eth0", "network net", "/run/netns/c1", "another port"]
    {
        assert!(error.msg.contains(part), "{part}: {error}");
    }
    testnode::assert_same(&before, &testnode::Snapshot::of(&outer), &testnode::Shared::none());
    first.check().unwrap();
    first.del().unwrap();
    second.add().unwrap();
}

#[test]
fn a_port_of_a_container_that_is_gone_is_taken_over_and_its_late_del_takes_nothing() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let first = Case::chain(chain(&[8080, 8082]), &c1);
    first.add().unwrap();
    c1.delete();
    let second = Case::chain(chain(&[8080]), &c2);
    second.add().unwrap();
    assert!(rules(&outer).contains("tcp . 8080 comment \"net c2/eth0\""), "{}", rules(&outer));
    first.del().unwrap();
    assert!(!rules(&outer).contains("net c1/eth0"), "{}", rules(&outer));
    second.check().unwrap();
}

#[test]
fn after_a_flush_of_the_ruleset_the_next_add_restores_what_living_containers_have() {
    let outer = Node::new();
    let containers = ["c1", "c2", "c3", "c4"].map(|name| outer.container(name));
    let cases: Vec<_> = containers
        .iter()
        .zip([8081, 8082, 8083, 8084])
        .map(|(container, port)| Case::chain(chain(&[port]), container))
        .collect();
    for case in &cases[..3] {
        case.add().unwrap();
    }
    outer.run(["nft", "flush", "ruleset"]);
    assert!(cases[0].check().is_err());
    let [_, _, third, _] = containers;
    third.delete();
    cases[3].add().unwrap();
    for index in [0, 1, 3] {
        cases[index].check().unwrap();
    }
    assert!(!rules(&outer).contains("net c3/eth0"), "it is gone");
    cases[2].del().unwrap();

    outer.run(["nft", "flush", "ruleset"]);
    cases[0].del().unwrap();
    assert!(!rules(&outer).contains("net c1/eth0"), "it was just removed");
}
