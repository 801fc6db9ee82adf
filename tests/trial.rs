//! `catena try` shows what a network does, and proves that nothing of it is left.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, portmap};
use testnode::{Catena, Node, Output, Shared, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/full-chain.conflist");

/// Where foreign plugins of the tests are: a throw-away node has a `/run` of its own.
const PLUGINS: &str = "/opt/plugins";

fn plugin(node: &Node, name: &str, body: &str) {
    let path = Path::new(PLUGINS).join(name);
    node.write(&path, &format!("#!/bin/sh\nconf=$(cat)\n{body}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn try_it(node: &Node, list: &Value, words: &[&str]) -> Output {
    let file = node.json_file("web.conflist", list);
    let catena = Catena::new(node, CATENA).cni_path(PLUGINS);
    catena.cmd([&["try", file.to_str().unwrap()], words].concat()).output()
}

fn web() -> Value {
    conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap(), bandwidth()])
}

#[track_caller]
fn assert_tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn the_example_is_tried_from_add_to_the_proof_that_nothing_is_left() {
    let node = Node::new();
    let before = node.snapshot();
    let told = Catena::new(&node, CATENA).cmd(["try", EXAMPLE]).output().success();
    for verb in ["ADD", "CHECK", "DEL"] {
        for delegate in ["bridge", "portmap", "bandwidth", "snat"] {
            let step = |line: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                matches!(words[..], [v, d, time, "ms"] if v == verb && d == delegate && time.parse::<f64>().is_ok())
            };
            assert!(told.lines().any(step), "no time of {verb} {delegate} in\n{told}");
        }
    }
    assert_tells(
        &told,
        &[
            "catena0",
            "10.88.0.2/16 fd00:88::2/64",
            "0.0.0.0/0  10.88.0.1",
            "0.0.0.0:8080/tcp  10.88.0.2:80",
            "[::]:8080/tcp     [fd00:88::2]:80",
            "100000000 bit/s",
            "tcp://127.0.0.1:8080 from the node: answered",
            "from outside: answered; the container saw 192.0.2.2",
            "from the container itself: answered",
            "from outside: answered; the container saw 2001:db8::2",
            "Nothing is left",
        ],
    );
    assert_eq!(before.diff(&node.snapshot()), "", "the machine was not touched");
}

#[test]
fn ports_are_published_as_asked() {
    let node = Node::new();
    let words = ["-p", "8081:81", "--publish", "8082:82/udp", "-p", "192.0.2.1:8083:83/tcp"];
    let told = try_it(&node, &web(), &words).success();
    assert_tells(
        &told,
        &[
            "tcp://127.0.0.1:8081 from the node: answered",
            "udp://127.0.0.1:8082 from the node: answered",
            "udp://192.0.2.1:8082 from outside: answered; the container saw 192.0.2.2",
            "tcp://192.0.2.1:8083 from outside: answered",
            "192.0.2.1:8083/tcp  10.1.0.2:83",
        ],
    );
    assert!(!told.contains("8080"), "{told}");
    for (wrong, part) in [
        ("8080", "for example 8080:80/tcp"),
        ("0:80", "for example"),
        ("8080:80/icmp", "tcp, udp and sctp"),
    ] {
        let refused = try_it(&node, &web(), &["-p", wrong]).failure();
        assert_tells(&refused.stderr, &[wrong, part]);
    }
    let plain = conflist("web", &[bridge("cni0", &["10.1.0.0/24"])]);
    let refused = try_it(&node, &plain, &["-p", "8080:80"]).failure();
    assert_tells(&refused.stderr, &["no plugin of network web declares", "portmap"]);
    try_it(&node, &plain, &[]).success();
}

#[test]
fn a_chain_that_fails_is_told_with_its_step() {
    let node = Node::new();
    let before = node.snapshot();
    plugin(
        &node,
        "fail",
        "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\":117,\"msg\":\"no luck\"}'; exit 1",
    );
    let chain = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "fail" })]);
    let failed = try_it(&node, &chain, &[]).failure();
    assert_tells(
        &failed.stdout,
        &["ADD   fail", "(executable)", "failed: fail: no luck", "\"code\": 117"],
    );
    assert_tells(&failed.stderr, &["delegate 2 of 2 failed: fail: no luck"]);
    assert_eq!(before.diff(&node.snapshot()), "");
}

#[test]
fn what_a_plugin_leaves_behind_is_found() {
    let node = Node::new();
    plugin(
        &node,
        "litter",
        "[ $CNI_COMMAND = ADD ] || exit 0\nip link add litter type ifb\necho '{\"cniVersion\":\"1.1.0\"}'",
    );
    let failed = try_it(&node, &conflist("web", &[json!({ "type": "litter" })]), &[]).failure();
    assert!(!failed.stdout.contains("Nothing is left"), "{failed}");
    assert_tells(&failed.stderr, &["not as it was before", "interface litter is left"]);
}

#[test]
fn on_this_node_it_uses_the_node_and_leaves_it_as_it_was() {
    let node = Node::new();
    let before = node.snapshot();
    let told = try_it(&node, &web(), &["--on-this-node"]).success();
    assert_tells(
        &told,
        &["on this node", "tcp://127.0.0.1:8080 from the node: answered", "Nothing is left"],
    );
    let shared = Shared::none().catena("web").device("cni0");
    assert_same(&before, &node.snapshot(), &shared);
    assert!(Path::new("/sys/class/net/cni0").exists(), "it was this node");
    let rest: Vec<_> = fs::read_dir("/run/netns").unwrap().collect();
    assert!(rest.is_empty() && !Path::new("/run/catena-try").exists(), "{rest:?}");
}
