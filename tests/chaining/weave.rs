//! weave-net, which speaks CNI 0.3.0 and tells of no interfaces.

use serde_json::{Value, json};
use testnode::{Node, Others, PluginOutput, Shared, Snapshot, assert_same};

use crate::CATENA;
use crate::documented;
use crate::ways::{Bench, Way};

fn network() -> Value {
    documented::network("weave-net", "weave")
}

fn bench<'n>(node: &'n Node, others: &'n Others<'n>, way: Way) -> Bench<'n> {
    others.start_weave();
    let leases = "/var/lib/cni/weave/weave";
    let shared = Shared::none()
        .directory(leases)
        .file(&format!("{leases}/lock"))
        .file(&format!("{leases}/last_reserved_ip.*"))
        .device("weave");
    Bench::new(others, node, network(), way, shared)
}

#[test]
fn a_chain_behind_weave_net_serves_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        let bench = bench(&node, &others, way);
        bench.lives(|container, result| {
            assert_eq!(result["ips"][0]["address"], "10.32.0.2/12", "{result:#}");
            assert_eq!(result["ips"][0]["gateway"], "10.32.0.1", "{result:#}");
            // Nothing but what bandwidth has made.
            assert_eq!(result["interfaces"].as_array().unwrap().len(), 1, "{result:#}");
            assert!(bench.host_end(container).starts_with("vethwepl"));
        });
        // It knows none of the newer verbs, and is not asked.
        let calls = others.calls();
        let verb = |call: &String| call.split(' ').next().unwrap().to_owned();
        assert!(calls.iter().map(verb).all(|verb| ["ADD", "DEL"].contains(&&*verb)), "{calls:?}");
    }
}

#[test]
fn a_pod_of_weave_net_goes_without_its_namespace() {
    for way in [Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        bench(&node, &others, way).is_deleted_without_its_namespace();
    }
}

#[test]
fn a_chain_that_fails_behind_weave_net_is_rolled_back() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).is_rolled_back();
}

#[test]
fn the_measured_rates_behind_weave_net_are_those_asked_for() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).runs_at_its_rates();
}

/// A container that reaches its own port through the bridge comes back by the port that it left by.
#[test]
fn its_port_gets_hairpin_mode_by_portmap_where_weave_net_leaves_it_off() {
    let node = Node::new();
    let others = Others::new(&node);
    let mut bench = bench(&node, &others, Way::Runtime);
    bench.list["plugins"][0]["hairpinMode"] = json!(false);
    node.bridge_nf(true);
    bench.lives(|container, _| {
        let link = node.json(["ip", "-j", "-d", "link", "show", &bench.host_end(container)]);
        assert_eq!(link[0]["linkinfo"]["info_slave_data"]["hairpin"], true, "{link:#}");
    });
}

#[test]
fn what_weave_net_does_not_speak_is_told() {
    let node = Node::new();
    let others = Others::new(&node);
    let mut list = bench(&node, &others, Way::Tool).list;
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = testnode::Catena::new(&node, CATENA).cni_path(others.dir());
    list["cniVersion"] = json!("0.3.1");
    let failed = PluginOutput::from(catena.try_add(&list, &c1));
    assert_eq!(failed.error_code(), 1);
    assert!(failed.error_text().contains("weave-net: incompatible CNI versions"), "{failed}");
    assert_same(&before, &node.snapshot(), &Shared::none().catena("weave"));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}
