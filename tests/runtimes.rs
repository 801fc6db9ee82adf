//! Real runtimes run containers on Catena's networks: podman (CNI backend) and containerd, from Debian's packages.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, portmap};
use testnode::runtimes::{Containerd, PAGE, Podman, SERVE};
use testnode::{Neighbour, Netns, Node, PLUGINS, Shared, await_same, http_get, links, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

/// The chain as a runtime's administrator has had it for years; Catena's links are in place of the Go plugins.
fn plugin_by_plugin() -> Vec<Value> {
    let mut bridge = bridge("cni0", &DUAL);
    bridge["ipMasq"] = json!(true);
    let mut bandwidth = bandwidth();
    for (field, value) in [("ingressRate", 100_000_000), ("ingressBurst", 10_000_000)] {
        bandwidth[field] = json!(value);
    }
    vec![bridge, portmap(), bandwidth]
}

/// The same and masquerading that knows a cluster, as one plugin.
fn meta() -> Vec<Value> {
    let mut plugins = plugin_by_plugin();
    plugins.push(json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] }));
    plugins[0]["ipMasq"] = json!(false);
    let capabilities = json!({ "portMappings": true, "bandwidth": true });
    vec![json!({ "type": "catena", "capabilities": capabilities, "plugins": plugins })]
}

/// A folder with this network alone, and one with the plugins.
fn dirs(node: &Node, plugins: Vec<Value>) -> (PathBuf, PathBuf) {
    let dir = node.dir("net.d");
    // What both runtimes' libraries know.
    let list = json!({ "cniVersion": "1.0.0", "name": "web", "plugins": plugins });
    node.write(dir.join("10-web.conflist"), &list.to_string());
    (dir, links(node, CATENA, &PLUGINS))
}

fn shared() -> Shared {
    Shared::none()
        .catena("web")
        .device("cni0")
        // Its routes change with forwarding.
        .device("outside")
        // The runtimes' own.
        .directory("/var/lib/cni/results")
}

/// The address that the container's page says it was asked from.
#[track_caller]
fn page(from: &Netns, url: &str) -> SocketAddr {
    let answer =
        until(&format!("{url} answers"), Duration::from_secs(10), || http_get(from, url).ok());
    assert_eq!(answer.text, "busybox");
    answer.from
}

fn outside(node: &Node) -> Neighbour {
    node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64")
}

/// Whether the node shapes what a container gets.
fn is_shaped(node: &Node) -> bool {
    node.run(["tc", "qdisc"]).contains("qdisc tbf")
}

#[track_caller]
fn podman_runs_containers(plugins: Vec<Value>) {
    let node = Node::new();
    let outside = outside(&node);
    let (conf, bin) = dirs(&node, plugins);
    let podman = Podman::new(&node, &conf, &bin);
    let before = node.snapshot();

    let output = podman.run_busybox(&["--network", "web"], &["/bin/ip", "addr"]).success();
    assert!(output.contains("10.1.0.2/24") && output.contains("fd00:1::2/64"), "{output}");
    await_same(&before, &node, &shared());

    podman.start_busybox("first", &["--network", "web", "-p", "8080:80"], &SERVE);
    assert!(is_shaped(&node));
    let published = SocketAddr::new(outside.node_v4(), 8080);
    assert_eq!(page(&outside, &format!("http://{published}{PAGE}")).ip(), outside.v4());
    page(&node, &format!("http://127.0.0.1:8080{PAGE}"));
    let published = SocketAddr::new(outside.node_v6(), 8080);
    assert_eq!(page(&outside, &format!("http://{published}{PAGE}")).ip(), outside.v6());
    podman.start_busybox("second", &["--network", "web"], &SERVE);
    page(&podman.netns("second"), &format!("http://10.1.0.3{PAGE}"));
    // A port that is taken is told in the plugin's words.
    let taken = ["--network", "web", "-p", "8080:80"];
    let refused = podman.run_busybox(&taken, &["/bin/ls"]).failure();
    assert!(refused.stderr.contains("and its namespace"), "{refused}");
    podman.remove("second");
    podman.remove("first");
    await_same(&before, &node, &shared());
}

#[test]
fn podman_runs_containers_with_the_meta_plugin() {
    podman_runs_containers(meta());
}

#[test]
fn podman_runs_containers_with_links_in_place_of_the_go_plugins() {
    podman_runs_containers(plugin_by_plugin());
}

#[track_caller]
fn containerd_runs_containers(plugins: Vec<Value>) {
    let node = Node::new();
    let outside = outside(&node);
    let (conf, bin) = dirs(&node, plugins);
    let containerd = Containerd::start(&node, &conf, &bin);
    let before = node.snapshot();

    let output = containerd.run_busybox("once", &[], &["/bin/ip", "addr"]).success();
    assert!(output.contains("10.1.0.2/24") && output.contains("fd00:1::2/64"), "{output}");
    await_same(&before, &node, &shared());

    let server = containerd.start_busybox("server", &[], &SERVE);
    assert!(is_shaped(&node));
    page(&outside, &format!("http://10.1.0.3{PAGE}"));
    page(&outside, &format!("http://[fd00:1::3]{PAGE}"));
    // The way out is under the node's address.
    server.netns().ping(&outside.v4().to_string());
    containerd.stop(server);
    await_same(&before, &node, &shared());
}

#[test]
fn containerd_runs_containers_with_the_meta_plugin() {
    containerd_runs_containers(meta());
}

#[test]
fn containerd_runs_containers_with_links_in_place_of_the_go_plugins() {
    containerd_runs_containers(plugin_by_plugin());
}
