//! How the binary under test is called, seen with a script in its place.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use testnode::{Call, Catena, Node, Plugins, links};

/// Answers with its name, arguments and CNI environment, and the file it was given.
const SCRIPT: &str = r#"#!/bin/sh
file=null; [ -f "$2" ] && file=$(cat "$2")
printf '{"name":"%s","verb":"%s","netns":"%s","path":"%s","cap":%s,"home":"%s","file":%s}' \
  "${0##*/}" "$1" "${3:-$CNI_NETNS}" "$CNI_PATH" "${CAP_ARGS:-null}" "$HOME" "$file"
"#;

fn script(node: &Node) -> PathBuf {
    let path = node.fresh_path("catena");
    node.write(&path, SCRIPT);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_verb_gets_a_conflist_a_namespace_and_its_environment_only() {
    let node = Node::new();
    let container = node.container("c1");
    let conflist = json!({ "name": "web", "plugins": [] });
    let catena = Catena::new(&node, script(&node))
        .cni_path("/usr/lib/cni")
        .cap_args(&json!({ "portMappings": [] }));
    let result = catena.add(&conflist, &container);
    assert_eq!(result["verb"], "add");
    assert_eq!(result["file"], conflist);
    assert_eq!(result["netns"], "/run/netns/c1");
    assert_eq!(result["path"], "/usr/lib/cni");
    assert_eq!(result["cap"], json!({ "portMappings": [] }));
    assert_eq!(result["home"], "", "the test's own environment must not reach it");
    assert_eq!(catena.try_del(&conflist, Path::new("/gone")).json()["netns"], "/gone");
}

#[test]
fn a_link_runs_the_binary_under_the_plugins_name() {
    let node = Node::new();
    let dir = links(&node, script(&node), &["bridge", "portmap"]);
    let call = Call { netns: "/run/netns/c1".to_owned(), ..Call::new("ADD") };
    let result = Plugins::new(&node, [&dir]).call("portmap", &call, "{}").result();
    assert_eq!(result["name"], "portmap");
    assert_eq!(result["netns"], "/run/netns/c1");
    assert_eq!(result["path"], dir.display().to_string());
}
