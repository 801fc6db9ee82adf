//! What the other tests rely on: pods run on a whole node, and nothing of them stays behind.

use std::path::PathBuf;

use serde_json::{Value, json};
use testnode::conf::bridge;
use testnode::kubernetes::{NODE_NAME, WholeNode, pod};
use testnode::{Node, PLUGINS, Shared, await_same, links};

use crate::CATENA;

/// A folder with the network `cluster` alone, and one with the plugins.
fn dirs(node: &Node) -> (PathBuf, PathBuf) {
    let dir = node.dir("net.d");
    let plugins = [json!({ "type": "catena", "plugins": [bridge("cni0", &["10.1.0.0/24"])] })];
    let list = json!({ "cniVersion": "1.0.0", "name": "cluster", "plugins": plugins });
    node.write(dir.join("10-cluster.conflist"), &list.to_string());
    (dir, links(node, CATENA, &PLUGINS))
}

fn shared() -> Shared {
    Shared::none()
        .catena("cluster")
        .catena("cni-loopback")
        .device("cni0")
        .directory("/var/lib/cni/results")
}

#[test]
fn a_pod_runs_on_the_cluster_network_alone() {
    let node = Node::new();
    let (conf, bin) = dirs(&node);
    let whole = WholeNode::start(&node, &conf, &bin);
    whole.await_ready();
    let before = node.snapshot();
    let first = whole.run_pod("first", &json!({}));
    assert_eq!(first["status"]["podIP"], "10.1.0.2");
    let second = whole.run_pod("second", &json!({}));
    whole.netns(&second).ping("10.1.0.2");
    whole.delete_pod("default", "first");
    assert!(node.run(["ls", "/run/netns"]).lines().count() == 1);
    whole.delete_pod("default", "second");
    await_same(&before, &node, &shared());
    for name in ["first", "second"] {
        whole.await_gone("default", name);
    }
}

#[test]
fn pods_outlive_the_daemons() {
    let node = Node::new();
    let (conf, bin) = dirs(&node);
    let whole = WholeNode::start(&node, &conf, &bin);
    whole.await_ready();
    let before = node.snapshot();
    let first = whole.run_pod("first", &json!({}));
    whole.restart_containerd();
    whole.restart_kubelet();
    let second = whole.run_pod("second", &json!({}));
    whole.netns(&first).ping(second["status"]["podIP"].as_str().unwrap());
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    assert_eq!(restarts(&whole.await_running("default", "first")), 0);

    whole.stop_kubelet();
    whole.create_pod("default", &pod("third", NODE_NAME, &json!({})));
    whole.start_kubelet();
    whole.await_running("default", "third");
    whole.delete_pods("default", &["first", "second", "third"]);
    await_same(&before, &node, &shared());
}
