//! podman's own default network (bridge, portmap, firewall, tuning), unchanged, where everything forwarded is dropped.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::runtimes::{PAGE, Podman, SERVE};
use testnode::{HttpServer, Netns, Node, Shared, await_same, http_get, links, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const OWN: [&str; 5] = ["bridge", "host-local", "portmap", "firewall", "tuning"];

/// A node with Docker's policy.
fn node() -> Node {
    let node = Node::new();
    for tool in ["iptables", "ip6tables"] {
        node.run([tool, "-P", "FORWARD", "DROP"]);
    }
    node
}

/// The network that podman has where it is given none: it is written nowhere but into libcni's cache.
fn own_network() -> Value {
    let node = node();
    let podman = Podman::new(&node, &node.dir("net.d"), &links(&node, CATENA, &OWN));
    podman.start_busybox("any", &[], &SERVE);
    let mut cached = fs::read_dir("/var/lib/cni/results").unwrap();
    let cached = fs::read(cached.next().unwrap().unwrap().path()).unwrap();
    let cached: Value = serde_json::from_slice(&cached).unwrap();
    let list = node.cmd(["base64", "-d"]).stdin(cached["config"].as_str().unwrap()).output();
    let list = list.json();
    podman.remove("any");
    let kinds: Vec<_> = list["plugins"].as_array().unwrap().iter().map(|p| &p["type"]).collect();
    assert_eq!(kinds, ["bridge", "portmap", "firewall", "tuning"], "{list}");
    list
}

#[track_caller]
fn page(from: &Netns, url: &str, text: &str) {
    let answer =
        until(&format!("{url} answers"), Duration::from_secs(10), || http_get(from, url).ok());
    assert_eq!(answer.text, text);
}

/// podman runs containers with the plugins of these names, on this network, or else its own.
fn runs_containers(names: &[&str], list: Option<&Value>) {
    let node = node();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let _page = HttpServer::start(&outside, 80, "outside");
    let conf = node.dir("net.d");
    if let Some(list) = list {
        node.write(conf.join("87-podman.conflist"), &list.to_string());
    }
    let podman = Podman::new(&node, &conf, &links(&node, CATENA, names));
    // What is put into FORWARD stays, as Catena's table does.
    podman.run_busybox(&[], &["/bin/ls"]).success();
    let shared = Shared::none()
        .catena("podman")
        .device("cni-podman0")
        // Its routes change with forwarding.
        .device("outside")
        .directory("/var/lib/cni/results");
    let before = node.snapshot();

    podman.start_busybox("first", &["-p", "8080:80"], &SERVE);
    podman.start_busybox("second", &[], &SERVE);
    let (first, second) = (podman.netns("first"), podman.netns("second"));
    page(&second, &format!("http://{}/", outside.v4()), "outside");
    let published = SocketAddr::new(outside.node_v4(), 8080);
    page(&outside, &format!("http://{published}{PAGE}"), "busybox");
    page(&node, &format!("http://127.0.0.1:8080{PAGE}"), "busybox");
    let address = first.json(["ip", "-j", "-4", "addr", "show", "dev", "eth0"]);
    let address = address[0]["addr_info"][0]["local"].as_str().unwrap();
    page(&second, &format!("http://{address}{PAGE}"), "busybox");

    podman.remove("first");
    podman.remove("second");
    await_same(&before, &node, &shared);
}

#[test]
fn podmans_own_network_works_with_links_in_place_of_the_go_plugins() {
    runs_containers(&OWN, None);
}

/// There is no plugin but the meta plugin: whatever it would execute is missing.
#[test]
fn podmans_own_network_works_wholly_in_one_process() {
    let list = own_network();
    let meta = json!({
        "type": "catena",
        "capabilities": { "portMappings": true },
        "plugins": list["plugins"]
    });
    let list = json!({ "cniVersion": list["cniVersion"], "name": list["name"], "plugins": [meta] });
    runs_containers(&["catena"], Some(&list));
}
