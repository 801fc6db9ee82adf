//! What the kernel lists before and after each verb: DEL gives the node back as ADD found it, what networks share aside.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{
    Attachment, Catena, Container, Netns, Node, PLUGINS, Plugins, Runtime, Shared, Snapshot,
    assert_same, links, until,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn snat() -> Value {
    json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8", "fd00::/8"] })
}

fn full() -> Vec<Value> {
    vec![bridge("cni0", &DUAL), portmap(), bandwidth(), snat()]
}

/// Chains by what they are called in messages.
fn chains() -> Vec<(&'static str, Value)> {
    let with = |mut plugin: Value, more: Value| {
        for (key, value) in more.as_object().unwrap() {
            plugin[key] = value.clone();
        }
        plugin
    };
    let options = json!({
        "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": 1400,
        "macspoofchk": true, "portIsolation": true
    });
    let fixed = json!({
        "type": "static",
        "addresses": [{ "address": "10.1.0.7/24", "gateway": "10.1.0.1" }, { "address": "fd00:1::7/64" }],
        "routes": [{ "dst": "0.0.0.0/0" }]
    });
    let meta = json!({
        "type": "catena",
        "capabilities": { "portMappings": true, "bandwidth": true },
        "plugins": full()
    });
    let ptp = json!({ "type": "ptp", "ipam": host_local(&DUAL) });
    let firewall = json!({ "type": "firewall", "ingressPolicy": "same-bridge" });
    [
        ("bridge, IPv4", vec![bridge("cni0", &DUAL[..1])]),
        ("bridge, IPv6", vec![bridge("cni0", &DUAL[1..])]),
        ("bridge, both", vec![bridge("cni0", &DUAL)]),
        ("bridge, options", vec![with(bridge("cni0", &DUAL), options)]),
        ("bridge, static", vec![with(bridge("cni0", &[]), json!({ "ipam": fixed }))]),
        ("bridge, layer 2", vec![json!({ "type": "bridge", "bridge": "cni0" })]),
        ("ptp", vec![ptp.clone()]),
        ("ptp, full", vec![ptp, portmap(), bandwidth(), snat()]),
        ("firewall", vec![bridge("cni0", &DUAL), portmap(), firewall]),
        ("loopback", vec![json!({ "type": "loopback" })]),
        ("full", full()),
        ("meta", vec![meta.clone()]),
    ]
    .into_iter()
    .map(|(name, plugins)| (name, conflist("web", &plugins)))
    .collect()
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// The bridge itself, whose addresses the kernel tries for duplicates.
fn bridge_aside() -> Shared {
    Shared::none().device("cni0")
}

fn by_tool(node: &Node) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(8080))
}

/// A runtime that executes each plugin of the chain by itself.
fn by_name<'n>(node: &'n Node, list: &Value) -> Runtime<'n> {
    Runtime::new(Plugins::new(node, [links(node, CATENA, &PLUGINS)]), list.clone())
}

fn attachment(container: &Netns) -> Attachment {
    let capabilities = port_and_rates(8080);
    capabilities
        .as_object()
        .unwrap()
        .iter()
        .fold(Attachment::new(container), |a, (name, value)| a.capability(name, value.clone()))
}

/// The listings of a node and of a container on it.
struct Before<'n> {
    node: &'n Node,
    outside: Snapshot,
    inside: Snapshot,
}

impl<'n> Before<'n> {
    fn new(node: &'n Node, container: &Container) -> Self {
        Self { node, outside: node.snapshot(), inside: Snapshot::of(container) }
    }

    /// Both must be as before.
    #[track_caller]
    fn assert(&self, container: &Container) {
        self.assert_outside();
        // What has been up keeps 127.0.0.1.
        let lo = Shared::none().device("lo");
        assert_same(&self.inside, &Snapshot::of(container), &lo);
    }

    #[track_caller]
    fn assert_outside(&self) {
        assert_same(&self.outside, &self.node.snapshot(), &shared());
    }
}

/// A chain on a node that had none, and a container for it.
struct Chain<'n> {
    name: &'static str,
    list: &'n Value,
    node: &'n Node,
    c1: Container,
    before: Before<'n>,
}

/// Runs `test` for each chain.
fn each_chain(test: impl Fn(&Chain<'_>)) {
    for (name, list) in &chains() {
        eprintln!("{name}");
        let node = &Node::new();
        let c1 = node.container("c1");
        let before = Before::new(node, &c1);
        test(&Chain { name, list, node, c1, before });
    }
}

#[test]
fn check_changes_nothing_and_del_restores_the_node() {
    each_chain(|chain| {
        let Chain { name, list, node, c1, before } = chain;
        let catena = by_tool(node);
        catena.add(list, c1);
        let added = Before::new(node, c1);
        let new = before.inside.diff(&added.inside);
        assert!(new.contains("eth0") || *name == "loopback", "nothing was added:\n{new}");
        catena.check(list, c1);
        assert_same(&added.outside, &node.snapshot(), &bridge_aside());
        assert_same(&added.inside, &Snapshot::of(c1), &Shared::none());
        catena.del(list, c1);
        before.assert(c1);
        catena.del(list, c1);
        before.assert(c1);
    });
}

#[test]
fn the_listings_have_all_that_the_full_chain_makes() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = Before::new(&node, &c1);
    by_tool(&node).add(&conflist("web", &full()), &c1);
    let new = before.outside.diff(&node.snapshot());
    for part in [
        "+ link cni0",
        "+ link veth",
        "+ link ifb",
        "+ address cni0 10.1.0.1/24",
        "+ address cni0 fd00:1::1/64",
        "+ qdisc veth",
        "+ qdisc ifb",
        "+ filter veth",
        "+ nft inet catena element hostports4 ",
        "+ nft inet catena element hostports6 ",
        "+ nft inet catena element hairpin4 ",
        "+ nft inet catena element egress4 ",
        "+ nft inet catena element egress6 ",
        "+ nft inet catena chain egress_",
        "+ files /var/lib/cni/networks/web/10.1.0.2",
        "+ files /var/lib/cni/networks/web/fd00:1::2",
        "+ files /var/lib/catena/attachments/web/",
    ] {
        assert!(new.contains(part), "{part} is missing in\n{new}");
    }
    assert_eq!(new.matches("\"kind\":\"tbf\"").count(), 2, "both directions are shaped:\n{new}");
}

#[test]
fn the_same_holds_where_a_runtime_executes_each_plugin() {
    each_chain(|chain| {
        let Chain { list, node, c1, before, .. } = chain;
        let runtime = by_name(node, list);
        let attachment = attachment(c1);
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        let added = Before::new(node, c1);
        runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&added.outside, &node.snapshot(), &bridge_aside());
        assert_same(&added.inside, &Snapshot::of(c1), &Shared::none());
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        before.assert(c1);
        // Without a result: it has forgotten that there was an ADD.
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        before.assert(c1);
    });
}

#[test]
fn del_without_a_namespace_restores_the_node() {
    each_chain(|chain| {
        let Chain { list, node, c1, before, .. } = chain;
        let runtime = by_name(node, list);
        let attachment = attachment(c1);
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        runtime.del(&attachment.without_netns()).unwrap_or_else(|e| panic!("{e}"));
        before.assert_outside();
    });
}

#[test]
fn del_after_the_namespace_is_gone_restores_the_node() {
    for (name, list) in chains() {
        println!("{name}");
        let node = Node::new();
        let c1 = node.container("c1");
        let c2 = node.container("c2");
        let before = node.snapshot();
        let catena = by_tool(&node);
        let runtime = by_name(&node, &list);
        let path = c1.path().to_owned();
        catena.add(&list, &c1);
        c1.delete();
        catena.try_del(&list, &path).success();
        assert_same(&before, &node.snapshot(), &shared());
        catena.try_del(&list, &path).success();

        let attachment = attachment(&c2);
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        c2.delete();
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&before, &node.snapshot(), &shared());
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn del_works_with_the_conflist_deleted() {
    each_chain(|chain| {
        let Chain { list, node, c1, before, .. } = chain;
        let dir = node.dir("net.d");
        let file = dir.join("10-web.conflist");
        node.write(&file, &list.to_string());
        let catena = by_tool(node).env("NETCONFPATH", &dir);
        let netns = c1.path().to_str().unwrap();
        catena.cmd(["add", "web", netns]).output().json();
        std::fs::remove_file(&file).unwrap();
        catena.cmd(["del", "web", netns]).output().success();
        before.assert(c1);
    });
}

#[test]
fn a_changed_conflist_does_not_change_what_del_undoes() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = Before::new(&node, &c1);
    by_tool(&node).add(&conflist("web", &full()), &c1);
    let other = conflist("web", &[json!({ "type": "ptp", "ipam": host_local(&["10.7.0.0/24"]) })]);
    by_tool(&node).del(&other, &c1);
    before.assert(&c1);
}

#[test]
fn the_second_pod_of_a_network_leaves_the_first_as_it_is() {
    for (name, list) in chains() {
        println!("{name}");
        if name == "bridge, static" {
            continue; // Its one address is for one pod.
        }
        let node = Node::new();
        let (c1, c2) = (node.container("c1"), node.container("c2"));
        by_tool(&node).add(&list, &c1);
        let before = Before::new(&node, &c1);
        let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8081));
        catena.add(&list, &c2);
        catena.del(&list, &c2);
        before.assert(&c1);
        by_tool(&node).check(&list, &c1);
    }
}

#[test]
fn the_kernel_may_take_its_time_with_a_namespace() {
    // Without a DEL the devices of a namespace go when the kernel comes to it; a DEL meanwhile is no error.
    let node = Node::new();
    let c1 = node.container("c1");
    let before = node.snapshot();
    let list = conflist("web", &full());
    let path = c1.path().to_owned();
    by_tool(&node).add(&list, &c1);
    c1.delete();
    until("the kernel has removed the veth", Duration::from_secs(10), || {
        let links = node.json(["ip", "-j", "link", "show", "type", "veth"]);
        links.as_array().is_none_or(|links| links.is_empty()).then_some(())
    });
    by_tool(&node).try_del(&list, &path).success();
    assert_same(&before, &node.snapshot(), &shared());
}
