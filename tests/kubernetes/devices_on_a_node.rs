//! Networks with a device each, which the kubelet gives to a pod from a device plugin.

use std::fs;

use serde_json::{Value, json};
use testnode::conf::bridge;
use testnode::kubernetes::{NODE_NAME, Rights, WholeNode, definitions, pod};
use testnode::{Node, Scripts, Shared, await_same, links, until};

use crate::CATENA;
use crate::cluster::{NETWORKS, PATIENCE, STATUS};

const RESOURCE: &str = "vendor.example/port";

/// What a device plugin tells of a device.
fn device_info(id: &str) -> Value {
    json!({ "type": "pci", "version": "1.1.0", "pci": { "pci-address": id } })
}

#[test]
fn a_pods_networks_get_the_devices_that_the_kubelet_gave_to_the_pod() {
    let node = Node::new();
    let conf_dir = node.dir("net.d");
    let bin = links(&node, CATENA, &["catena", "loopback"]);
    let scripts = Scripts::new(&node);
    let result = r#"{"cniVersion":"1.0.0","ips":[]}"#;
    scripts.plugin("fast", &format!("[ $CNI_COMMAND != ADD ] || printf %s '{result}'"));
    fs::copy(scripts.dir().join("fast"), bin.join("fast")).unwrap();

    let whole = WholeNode::start(&node, &conf_dir, &bin);
    let plugin = json!({
        "type": "catena",
        "kubeconfig": whole.api().kubeconfig(&whole.api().deploy(Rights::Thin)),
        "plugins": [bridge("cni0", &["10.1.0.0/24"])],
    });
    let list = json!({ "cniVersion": "1.0.0", "name": "cluster", "plugins": [plugin] });
    node.write(conf_dir.join("new"), &list.to_string());
    fs::rename(conf_dir.join("new"), conf_dir.join("10-cluster.conflist")).unwrap();
    let definition = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": "fast",
            "annotations": { "k8s.v1.cni.cncf.io/resourceName": RESOURCE },
        },
        "spec": { "config": json!({ "cniVersion": "1.0.0", "type": "fast" }).to_string() },
    });
    whole.api().admin().create(&definitions("default"), &definition);

    let ids = ["0000:03:00.1", "0000:03:00.2", "0000:03:00.3"];
    for id in ids {
        let file = format!("/run/k8s.cni.cncf.io/devinfo/dp/vendor.example-port-{id}-device.json");
        node.write(&file, &device_info(id).to_string());
    }
    let _plugin = whole.device_plugin(RESOURCE, &ids);
    whole.await_ready();
    let before = node.snapshot();

    let mut web = pod("web", NODE_NAME, &json!({ NETWORKS: "fast,fast" }));
    web["spec"]["containers"][0]["resources"] = json!({ "limits": { RESOURCE: "2" } });
    whole.create_pod("default", &web);
    let web = whole.await_running("default", "web");
    let status: Value =
        serde_json::from_str(web["metadata"]["annotations"][STATUS].as_str().unwrap()).unwrap();
    let given: Vec<_> =
        (1..=2).map(|n| status[n]["device-info"]["pci"]["pci-address"].as_str().unwrap()).collect();
    // The kubelet chooses which; they are handed out in their order.
    assert!(given.iter().all(|id| ids.contains(id)) && given[0] < given[1], "{status:#}");
    for (n, id) in [(1, given[0]), (2, given[1])] {
        assert_eq!(status[n]["interface"], format!("net{n}"));
        assert_eq!(status[n]["device-info"], device_info(id));
    }
    let conf = scripts.stdin("fast", "ADD");
    assert_eq!([&conf["deviceID"], &conf["pciBusID"]], [given[1]; 2]);

    // One that has asked for less than its networks need is told so, and takes nobody's device.
    let mut greedy = pod("greedy", NODE_NAME, &json!({ NETWORKS: "fast,fast" }));
    greedy["spec"]["containers"][0]["resources"] = json!({ "limits": { RESOURCE: "1" } });
    whole.create_pod("default", &greedy);
    let what_to_do = "no device of vendor.example/port is left for pod default/greedy, which has 1";
    until("an Event says what to change", PATIENCE, || {
        let events = whole.events("default", "greedy");
        events.iter().any(|event| event.contains(what_to_do)).then_some(())
    });

    whole.api().admin().delete("/api/v1/namespaces/default/pods/greedy");
    whole.await_gone("default", "greedy");
    whole.delete_pod("default", "web");
    let shared =
        ["cluster", "cni-loopback", "fast"].into_iter().fold(Shared::none(), Shared::catena);
    let shared = shared.directory("/var/lib/cni/results").directory("/var/lib/catena/pods");
    await_same(&before, &node, &shared.device("cni0"));
    assert_eq!(fs::read_dir("/run/k8s.cni.cncf.io/devinfo/cni").unwrap().count(), 0);
}
