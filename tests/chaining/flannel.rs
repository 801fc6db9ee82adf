//! flannel, which has bridge do its work, and passes its result on.

use serde_json::{Value, json};
use testnode::{Node, Others, PLUGINS, PluginOutput, Shared, Snapshot, assert_same};

use crate::documented;
use crate::ways::{Bench, Way};

fn network() -> Value {
    documented::network("flannel", "cbr0")
}

fn bench<'n>(node: &'n Node, others: &'n Others<'n>, way: Way) -> Bench<'n> {
    others.start_flannel(false);
    let shared = Shared::none().device("cni0").directory("/var/lib/cni/flannel");
    Bench::new(others, node, network(), way, shared)
}

/// As [`bench`], with the reference's bridge and host-local in the plugins' folder.
fn with_the_references_bridge<'n>(node: &'n Node, others: &'n Others<'n>, way: Way) -> Bench<'n> {
    let mut bench = bench(node, others, way);
    bench.ours.retain(|plugin| !["bridge", "host-local"].contains(plugin));
    bench
}

fn lives(bench: &Bench<'_>) {
    bench.lives(|container, result| {
        assert_eq!(result["interfaces"][0]["name"], "cni0", "{result:#}");
        assert_eq!(result["interfaces"][1]["name"], bench.host_end(container), "{result:#}");
        assert_eq!(result["ips"][0]["address"], "10.244.1.2/24", "{result:#}");
        assert_eq!(result["ips"][1]["address"], "fd00:244:0:1::2/64", "{result:#}");
        let link = container.json(["ip", "-j", "link", "show", "eth0"]);
        assert_eq!(link[0]["mtu"], 1450);
    });
}

#[test]
fn a_chain_behind_flannel_serves_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        lives(&bench(&node, &others, way));
    }
}

#[test]
fn a_chain_behind_flannel_with_the_references_bridge_serves_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        lives(&with_the_references_bridge(&node, &others, way));
    }
}

#[test]
fn a_pod_of_flannel_goes_without_its_namespace() {
    for way in [Way::Runtime, Way::Meta] {
        for bench in [bench, with_the_references_bridge] {
            let node = Node::new();
            let others = Others::new(&node);
            bench(&node, &others, way).is_deleted_without_its_namespace();
        }
    }
}

#[test]
fn a_chain_that_fails_behind_flannel_is_rolled_back() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).is_rolled_back();
}

#[test]
fn the_measured_rates_behind_flannel_are_those_asked_for() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).runs_at_its_rates();
}

/// flanneld says in its file who masquerades: where it does not itself, bridge would, and `delegate` says no.
#[test]
fn flannels_bridge_masquerades_unless_it_is_told_not_to() {
    for (told, expected) in [(json!({ "ipMasq": false }), false), (json!({}), true)] {
        let node = Node::new();
        let others = Others::new(&node);
        let mut list = bench(&node, &others, Way::Tool).list;
        list["plugins"] = json!([{ "type": "flannel", "delegate": told }]);
        let path = format!(
            "{}:{}",
            others.dir().display(),
            testnode::links(&node, crate::CATENA, &PLUGINS).display()
        );
        let catena = testnode::Catena::new(&node, crate::CATENA).env("CNI_PATH", path);
        catena.add(&list, &node.container("c1"));
        let rules = node.try_run(["nft", "list", "table", "inet", "catena"]).stdout;
        assert_eq!(rules.contains("10.244.1.2"), expected, "{rules}");
    }
}

#[test]
fn without_flanneld_the_error_is_its_own_and_nothing_is_left() {
    let node = Node::new();
    let others = Others::new(&node);
    let list = network();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = testnode::Catena::new(&node, crate::CATENA).cni_path(others.dir());
    let failed = PluginOutput::from(catena.try_add(&list, &c1));
    assert!(failed.error_text().contains("/run/flannel/subnet.env"), "{failed}");
    assert_same(&before, &node.snapshot(), &Shared::none().catena("cbr0"));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}
