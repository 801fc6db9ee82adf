//! A meta plugin within another one.

use serde_json::{Value, json};
use testnode::{Node, Snapshot, assert_same, conf::bridge};

use crate::cluster::{Cluster, network};

/// The outer one attaches the pod to what its annotation asks for, and the inner ones do not do so again, though they
/// could ask the API as well.
#[test]
fn an_inner_meta_plugin_attaches_the_pod_to_its_own_network_alone() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let inner = |plugins: Value| {
        json!({
            "cniVersion": "1.0.0",
            "type": "catena",
            "kubeconfig": cluster.kubeconfig,
            "plugins": plugins,
        })
    };
    let cni0 = bridge("cni0", &["10.1.0.0/24"]);
    let carried = inner(json!([inner(json!([cni0]))]));
    cluster.define("default", "carrier", &inner(json!([network("", "cr0", "10.9.0.0/24")])));
    for keys in [json!({ "plugins": [carried] }), json!({ "delegates": [carried] })] {
        let runtime = cluster.runtime("catena", &keys);
        let name = if keys["plugins"].is_null() { "delegates" } else { "plugins" };
        let pod = cluster.pod(name, &json!("storage@data,carrier"));
        let inside = Snapshot::of(&pod.container);
        runtime.add(&pod.attachment).unwrap();
        let links = pod.container.json(["ip", "-j", "link", "show"]);
        let names: Vec<_> =
            links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap()).collect();
        assert_eq!(names, ["lo", "eth0", "data", "net2"]);
        runtime.check(&pod.attachment).unwrap();
        runtime.gc(std::slice::from_ref(&pod.attachment)).unwrap();
        runtime.check(&pod.attachment).unwrap();
        runtime.status().unwrap();
        runtime.del(&pod.attachment).unwrap();
        assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
    }
}
