//! calico, whose result has the node's end of the interface as if it was in the container.

use serde_json::{Value, json};
use testnode::{
    Container, Node, Others, PluginOutput, Shared, Snapshot, assert_same, http_get, url,
};

use crate::documented;
use crate::ways::{Bench, Way};

fn network() -> Value {
    documented::network("calico", "k8s-pod-network")
}

fn bench<'n>(node: &'n Node, others: &'n Others<'n>, way: Way) -> Bench<'n> {
    others.start_calico();
    let leases = "/var/lib/cni/calico/k8s-pod-network";
    let shared = Shared::none()
        .directory(leases)
        .file(&format!("{leases}/lock"))
        .file(&format!("{leases}/last_reserved_ip.*"));
    Bench::new(others, node, network(), way, shared)
}

fn looks_like_calicos(bench: &Bench<'_>, container: &Container, result: &Value) {
    let interface = &result["interfaces"][0];
    assert_eq!(interface["name"], bench.host_end(container), "{result:#}");
    assert_eq!(interface["sandbox"], container.path().to_str().unwrap(), "{result:#}");
    assert_eq!(result["ips"][0], json!({ "address": "192.168.0.2/32" }), "{result:#}");
    assert_eq!(result["ips"][1], json!({ "address": "fd00:192::2/128" }), "{result:#}");
}

#[test]
fn a_chain_behind_calico_serves_and_leaves_nothing() {
    for way in [Way::Tool, Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        let bench = bench(&node, &others, way);
        bench.lives(|container, result| looks_like_calicos(&bench, container, result));
    }
}

#[test]
fn a_pod_of_calico_goes_without_its_namespace() {
    for way in [Way::Runtime, Way::Meta] {
        let node = Node::new();
        let others = Others::new(&node);
        bench(&node, &others, way).is_deleted_without_its_namespace();
    }
}

#[test]
fn a_chain_that_fails_behind_calico_is_rolled_back() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).is_rolled_back();
}

#[test]
fn the_measured_rates_behind_calico_are_those_asked_for() {
    let node = Node::new();
    let others = Others::new(&node);
    bench(&node, &others, Way::Tool).runs_at_its_rates();
}

/// Its addresses are networks of their own: what the cluster's addresses are only the configuration knows.
#[test]
fn pods_of_calico_see_each_other_as_they_are() {
    let node = Node::new();
    let others = Others::new(&node);
    let bench = bench(&node, &others, Way::Runtime);
    let runtime = bench.runtime();
    let [client, server] = ["c1", "c2"].map(|name| node.container(name));
    runtime.add(&bench.attachment(&client)).unwrap();
    let mut second = bench.attachment(&server);
    second.capabilities.clear();
    runtime.add(&second).unwrap();
    let _server = testnode::HttpServer::start(&server, 80, "page");
    let page = http_get(&client, &url([192, 168, 0, 3].into(), 80)).unwrap();
    assert_eq!(page.from.ip().to_string(), "192.168.0.2");
}

#[test]
fn what_calico_does_not_serve_is_told_in_its_words_and_rolled_back() {
    let node = Node::new();
    let others = Others::new(&node);
    let bench = bench(&node, &others, Way::Tool);
    let c1 = node.container("c1");
    let catena = testnode::Catena::new(&node, crate::CATENA).cni_path(others.dir());
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let mut newer = bench.list.clone();
    newer["cniVersion"] = json!("1.1.0");
    let failed = PluginOutput::from(catena.try_add(&newer, &c1));
    assert_eq!(failed.error_code(), 1);
    assert!(failed.error_text().contains("calico: incompatible CNI versions"), "{failed}");
    node.run(["rm", "/var/lib/calico/nodename"]);
    let failed = PluginOutput::from(catena.try_add(&bench.list, &c1));
    assert!(failed.error_text().contains("calico/node container is running"), "{failed}");
    // Nor does it do DEL then, which the record waits for.
    assert!(failed.error_text().contains("rolling back was not complete"), "{failed}");
    others.start_calico();
    catena.del(&bench.list, &c1);
    let leases = "/var/lib/cni/calico/k8s-pod-network";
    let shared = Shared::none().catena("k8s-pod-network").directory(leases);
    assert_same(&before, &node.snapshot(), &shared.file(&format!("{leases}/lock")));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}
