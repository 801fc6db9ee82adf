//! Cilium, as the plugin that makes the interface, and as generic-veth behind another one. Its programs are in clsact at the
//! node's end.

use serde_json::{Value, json};
use testnode::{Catena, Node, Others, PluginOutput, Shared, Snapshot, assert_same};

use crate::CATENA;
use crate::documented;
use crate::ways::{Bench, Way};

fn bench<'n>(node: &'n Node, others: &'n Others<'n>, network: &str, way: Way) -> Bench<'n> {
    others.start_cilium();
    let list = documented::network("Cilium", network);
    let leases = format!("/var/lib/cni/cilium/leases/{network}");
    let shared = Shared::none()
        .directory(&leases)
        .file(&format!("{leases}/lock"))
        .file(&format!("{leases}/last_reserved_ip.*"));
    Bench::new(others, node, list, way, shared)
}

#[test]
fn a_chain_behind_cilium_serves_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        let bench = bench(&node, &others, "cilium", way);
        bench.lives(|container, result| {
            assert_eq!(result["interfaces"][0]["name"], bench.host_end(container), "{result:#}");
            assert_eq!(
                result["ips"],
                json!([{ "address": "10.0.0.2/32", "gateway": "10.0.0.1", "interface": 1 }])
            );
            assert_eq!(result["routes"][1], json!({ "dst": "0.0.0.0/0", "gw": "10.0.0.1" }));
        });
    }
}

#[test]
fn cilium_behind_a_chain_sees_its_interface_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        let bench = bench(&node, &others, "behind-cilium", way);
        bench.lives(|container, result| {
            let looked_after = node.run(["sh", "-c", "cat /var/lib/cni/cilium/*:eth0"]);
            assert_eq!(looked_after.trim(), bench.host_end(container));
            assert_eq!(result["ips"][0]["address"], "10.244.1.2/24", "{result:#}");
        });
        let calls = others.calls();
        for verb in ["CHECK", "STATUS"] {
            assert!(calls.contains(&format!("{verb} cilium-cni")), "{calls:?}");
        }
        // Behind the meta plugin what Cilium keeps is another network's than the runtime's; the tool asks with --all alone.
        let collects = calls.contains(&"GC cilium-cni".to_owned());
        assert_eq!(collects, way == Way::Runtime, "{calls:?}");
    }
}

#[test]
fn a_pod_of_cilium_goes_without_its_namespace() {
    for network in ["cilium", "behind-cilium"] {
        for way in [Way::Runtime, Way::Meta] {
            let node = Node::new();
            let others = Others::new(&node);
            bench(&node, &others, network, way).is_deleted_without_its_namespace();
        }
    }
}

#[test]
fn a_chain_that_fails_behind_cilium_is_rolled_back() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, "cilium", Way::Tool).is_rolled_back();
}

#[test]
fn the_measured_rates_behind_cilium_are_those_asked_for() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, "cilium", Way::Tool).runs_at_its_rates();
}

/// What comes in by the node's end has one place to be looked at, and Cilium has taken it, or takes it next.
#[test]
fn shaping_at_the_nodes_end_is_refused_with_the_way_out() {
    for (network, part) in [
        ("cilium", "\"egressAt\": \"container\""),
        ("behind-cilium", "cilium-cni: unable to create endpoint"),
    ] {
        let node = Node::new();
        let others = Others::new(&node);
        let mut list = bench(&node, &others, network, Way::Tool).list;
        let chain = list["plugins"].as_array_mut().unwrap();
        let bandwidth = chain.iter_mut().find(|plugin| plugin["type"] == "bandwidth").unwrap();
        *bandwidth = json!({ "type": "bandwidth", "egressRate": 10_000_000 });
        let c1 = node.container("c1");
        let catena = Catena::new(&node, CATENA).cni_path(others.dir());
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        let failed = PluginOutput::from(catena.try_add(&list, &c1));
        assert!(failed.error_text().contains(part), "{failed}");
        let leases = format!("/var/lib/cni/cilium/leases/{network}");
        let shared = Shared::none()
            .catena(network)
            .directory(&leases)
            .file(&format!("{leases}/lock"))
            .file(&format!("{leases}/last_reserved_ip.*"));
        assert_same(&before, &node.snapshot(), &shared);
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}

#[test]
fn without_its_agent_status_and_check_say_so_and_del_waits_for_nothing() {
    let node = Node::new();
    let others = Others::new(&node);
    let bench = bench(&node, &others, "behind-cilium", Way::Meta);
    let runtime = bench.runtime();
    let before = node.snapshot();
    let c1 = node.container("c1");
    let attachment = bench.attachment(&c1);
    runtime.add(&attachment).unwrap();
    runtime.check(&attachment).unwrap();
    others.stop_cilium();
    let says = |error: testnode::PluginFailure| -> Value { error.output.json.unwrap() };
    let status = says(runtime.status().unwrap_err());
    assert_eq!(status["code"], 50, "{status}");
    assert!(status.to_string().contains("unable to connect to Cilium agent"), "{status}");
    let check = says(runtime.check(&attachment).unwrap_err());
    assert!(check.to_string().contains("DaemonDown"), "{check}");
    runtime.del(&attachment).unwrap();
    let shared = Shared::none().catena("behind-cilium").catena("catena");
    let shared = shared.directory("/var/lib/catena/pods").directory("/var/lib/cni/cilium/leases");
    assert_same(&before, &node.snapshot(), &shared);
}
