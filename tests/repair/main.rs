//! What others take away from running containers CHECK names, and `catena repair` puts back.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod attachments;
mod damages;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, host_local, portmap};
use testnode::{
    Attachment, Catena, Container, HttpServer, Neighbour, NftMonitor, Node, PluginOutput, Plugins,
    Runtime, Shared, Snapshot, UdpClient, UdpServer, assert_same, http_get, links, url,
};

use damages::{COMMON, Damage, OF_BRIDGE, OF_PTP, RULESET};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

/// A firewall that drops what is forwarded.
const FOREIGN: &str = "add table inet foreign; \
    add chain inet foreign forward { type filter hook forward priority 0; policy drop; }";

fn chain(interface: Value) -> Value {
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    let tuning = json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.all.log_martians": "1" } });
    let firewall = json!({ "type": "firewall" });
    conflist("web", &[interface, portmap(), bandwidth(), firewall, snat, tuning])
}

fn with_bridge() -> Value {
    chain(bridge("cni0", &DUAL))
}

fn with_ptp() -> Value {
    chain(json!({ "type": "ptp", "ipam": host_local(&DUAL) }))
}

fn capabilities(port: u16) -> Value {
    let rate = 100_000_000;
    json!({
        "portMappings": [
            { "hostPort": port, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": port, "containerPort": 53, "protocol": "udp" }
        ],
        "bandwidth": { "ingressRate": rate, "ingressBurst": rate / 10, "egressRate": rate, "egressBurst": rate / 10 }
    })
}

/// A node with an uplink and a firewall that drops what is forwarded, and a container on the network.
struct Scene<'n> {
    node: &'n Node,
    outside: Neighbour,
    list: Value,
    c1: Container,
    result: Value,
    _page: HttpServer,
    _names: UdpServer,
}

impl<'n> Scene<'n> {
    fn new(node: &'n Node, list: Value) -> Self {
        let outside = node.uplink("up0", "192.0.2.2/24", "2001:db8::2/64");
        node.run(["nft", FOREIGN]);
        let c1 = node.container("c1");
        let result = Catena::new(node, CATENA).cap_args(&capabilities(8080)).add(&list, &c1);
        let _page = HttpServer::start(&c1, 80, "page");
        let _names = UdpServer::start(&c1, 53, "names");
        let scene = Self { node, outside, list, c1, result, _page, _names };
        scene.works();
        scene
    }

    fn catena(&self) -> Catena<'n> {
        Catena::new(self.node, CATENA).cap_args(&capabilities(8080))
    }

    fn listings(&self) -> [Snapshot; 2] {
        [self.node.snapshot(), Snapshot::of(&self.c1)]
    }

    /// What `catena repair` prints; whether it exits with 0.
    fn repair(&self, args: &[&str]) -> (Value, bool) {
        let output = self.catena().cmd([&["repair"], args].concat()).output();
        let done = output.is_success();
        (serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}")), done)
    }

    /// Real traffic: from outside and from the node to published ports, from the container out and to its own port.
    #[track_caller]
    fn works(&self) {
        let page = |from: &testnode::Netns, address, port| {
            let page = http_get(from, &url(address, port)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(page.text, "page");
        };
        let outside = &self.outside;
        page(outside, outside.node_v4(), 8080);
        page(outside, outside.node_v6(), 8080);
        page(self.node, "127.0.0.1".parse().unwrap(), 8080);
        page(&self.c1, outside.node_v4(), 8080);
        let names = SocketAddr::new(outside.node_v4(), 8080);
        assert_eq!(UdpClient::v4(outside, 0).answer(names).text, "names");
        self.c1.ping(&outside.v4().to_string());
        self.c1.ping(&outside.v6().to_string());
    }

    /// What CHECK says, with what differs from run to run replaced.
    fn check(&self) -> String {
        let check = PluginOutput::from(self.catena().try_check(&self.list, &self.c1));
        self.without_chance(&check.error_text())
    }

    fn without_chance(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for interface in self.result["interfaces"].as_array().unwrap() {
            text = text.replace(interface["mac"].as_str().unwrap(), "$MAC");
        }
        text
    }
}

/// Each delegate's findings on lines of their own.
fn lines(text: &str) -> String {
    text.split("delegate ").skip(1).fold(String::new(), |lines, finding| {
        let (_, finding) = finding.split_once(" failed: ").unwrap();
        format!("{lines}  {}\n", finding.trim_end_matches("; "))
    })
}

/// Damages the chain in each of these ways, one after the other, and has it repaired. Returns what CHECK said.
fn all_are_repaired(list: Value, damages: &[&[Damage]]) -> String {
    let node = Node::new();
    let scene = Scene::new(&node, list);
    let mut said = String::new();
    let mut whole = scene.listings();
    for damage in damages.iter().copied().flatten() {
        println!("{damage}");
        damage.be_done(&node, &scene.c1, &scene.result);
        let damaged = scene.listings();
        let text = scene.check();
        said += &format!("{damage}\n{}", lines(&text));

        let (report, well) = scene.repair(&["--dry-run"]);
        assert!(!well, "{damage}: {report}");
        let found = &report["attachments"][0];
        assert_eq!(found["condition"], "damaged");
        assert_eq!(found["left"], json!([]));
        let missing: Vec<_> =
            found["missing"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert_eq!(scene.without_chance(&missing.join("; ")), text, "{damage}");
        same(&damaged, &scene.listings(), damage);

        let (report, well) = scene.repair(&[]);
        assert!(well, "{damage}: {report}");
        assert_eq!(report["attachments"][0]["condition"], "repaired", "{damage}: {report}");
        scene.catena().check(&scene.list, &scene.c1);
        let repaired = scene.listings();
        same(&whole, &repaired, damage);
        whole = repaired;
        scene.works();
    }
    let mut monitor = NftMonitor::start(&node);
    let (report, _) = scene.repair(&[]);
    assert_eq!(report["attachments"][0]["condition"], "well");
    assert_eq!(monitor.transactions(), 0);
    said
}

#[track_caller]
fn same(before: &[Snapshot; 2], after: &[Snapshot; 2], damage: &Damage) {
    // The index of host-local follows the leases when anybody looks; and CHECK has an eye on others' tables.
    let mut shared = Shared::none().file("/run/catena/nft.seen").file("/var/lib/catena/leases/*");
    shared = shared.whole_table("inet foreign");
    if let Some(device) = damage.leaves_other() {
        let named = before[0].section("link").keys().filter(|name| name.starts_with(device));
        shared = named.fold(shared, |shared, name| shared.device(name));
    }
    for (before, after) in before.iter().zip(after) {
        assert_same(before, after, &shared);
    }
}

#[test]
fn what_a_ruleset_has_lost_is_named_and_put_back() {
    insta::assert_snapshot!(all_are_repaired(with_bridge(), &[RULESET]));
}

#[test]
fn what_a_bridge_chain_has_lost_is_named_and_put_back() {
    insta::assert_snapshot!(all_are_repaired(with_bridge(), &[COMMON, OF_BRIDGE]));
}

#[test]
fn what_a_ptp_chain_has_lost_is_named_and_put_back() {
    insta::assert_snapshot!(all_are_repaired(with_ptp(), &[COMMON, OF_PTP]));
}

/// Another container on the same chain, with other ports.
fn add_another(node: &Node, list: &Value) -> Container {
    let c2 = node.container("c2");
    Catena::new(node, CATENA).cap_args(&capabilities(9090)).add(list, &c2);
    c2
}

#[test]
fn the_next_add_brings_a_lost_table_back_with_all_elements_in_one_transaction() {
    for damage in ["flush ruleset", "delete table inet catena", "flush table inet catena"] {
        let node = Node::new();
        let scene = Scene::new(&node, with_bridge());
        let mut monitor = NftMonitor::start(&node);
        // All that a table of the same version can lose at once.
        node.run(["nft", "flush", "map", "inet", "catena", "hostports4"]);
        node.run([&["nft"][..], &damage.split(' ').collect::<Vec<_>>()].concat());
        monitor.transactions();
        let _c2 = add_another(&node, &scene.list);
        assert_eq!(monitor.transactions(), 1, "{damage}");
        scene.catena().check(&scene.list, &scene.c1);
        scene.works();
    }
}

/// Whatever was lost before: afterwards the node is as it was before ADD.
fn nothing_is_left(list: &Value, damages: &[&[Damage]]) {
    let node = Node::new();
    node.run(["nft", FOREIGN]);
    let catena = Catena::new(&node, CATENA).cap_args(&capabilities(8080));
    let before = node.snapshot();
    let shared = Shared::none().catena("web").device("cni0").whole_table("inet foreign");
    let shared = shared.directory("/run/cni/tuning");
    let all = damages.iter().copied().flatten();
    for damage in all.filter(|damage| damage.command != damages::OF_NOBODY) {
        for del_first in [true, false] {
            println!("{damage}, {}", if del_first { "DEL" } else { "GC" });
            let c1 = node.container("c1");
            let result = catena.add(list, &c1);
            damage.be_done(&node, &c1, &result);
            if del_first {
                catena.del(list, &c1);
            }
            // Where an element went before it, DEL leaves the chain that it led to.
            catena.gc(list, &["--all"]).success();
            assert_same(&before, &node.snapshot(), &shared);
            c1.delete();
            // It is never deleted, whatever somebody did to it.
            let _ = node.try_run(["ip", "link", "del", "cni0"]);
        }
    }
}

#[test]
fn del_and_gc_of_a_damaged_bridge_chain_leave_nothing() {
    nothing_is_left(&with_bridge(), &[COMMON, OF_BRIDGE, RULESET]);
}

#[test]
fn del_and_gc_of_a_damaged_ptp_chain_leave_nothing() {
    nothing_is_left(&with_ptp(), &[COMMON, OF_PTP]);
}
