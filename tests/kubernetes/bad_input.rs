//! What a pod asks for and cannot have: the runtime's error and the pod's Event say what to change, nothing stays on the node,
//! and other pods are not held up.

use std::thread;

use serde_json::{Value, json};
use testnode::kubernetes::{Fault, Proxy, events, pods};
use testnode::{Node, NodeDaemon, Snapshot, assert_same, until};

use crate::CATENA;
use crate::cluster::{Cluster, NETWORKS, PATIENCE, Pod};

const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// Reasons and messages of the warnings on a pod, once there is one.
fn warnings(cluster: &Cluster<'_>, pod: &str) -> Vec<String> {
    until("the pod is told", PATIENCE, || {
        let all = cluster.api.admin().list(&events("default"));
        let of = all
            .iter()
            .filter(|event| event["involvedObject"]["name"] == pod && event["type"] == "Warning");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all: Vec<_> =
            of.map(|event| [&event["reason"], &event["message"]].map(text).join(": ")).collect();
        (!all.is_empty()).then_some(all)
    })
}

/// A daemon of the node, by this kubeconfig.
fn daemon<'n>(node: &'n Node, kubeconfig: &std::path::Path) -> NodeDaemon<'n> {
    let kubeconfig = kubeconfig.display().to_string();
    NodeDaemon::start(node, CATENA, &["--node-name", "worker", "--kubeconfig", &kubeconfig])
}

#[test]
fn what_a_pod_cannot_have_is_told_to_runtime_and_pod_and_leaves_nothing() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.runtime(
        "catena",
        &json!({
            "plugins": [testnode::conf::bridge("cni0", &["10.1.0.0/24"])], "namespaceIsolation": true,
        }),
    );
    for (name, config) in [
        ("by-path", json!({ "cniVersion": "1.0.0", "type": "/bin/sh" })),
        ("empty", json!({ "cniVersion": "1.0.0", "plugins": [] })),
        ("lacking", json!({ "cniVersion": "1.0.0", "type": "nowhere" })),
    ] {
        cluster.define("default", name, &config);
    }
    cluster.define("default", "text", &json!("{"));
    let element = |key: &str, value: Value| json!([{ "name": "storage", key: value }]).to_string();
    let cases = [
        (NETWORKS, "storage,,media".to_owned(), ["element 2", "remove the comma"]),
        (NETWORKS, "[{".to_owned(), [NETWORKS, "JSON"]),
        (NETWORKS, "nowhere".to_owned(), ["no NetworkAttachmentDefinition nowhere", "create it"]),
        (NETWORKS, "blue/private".to_owned(), ["namespace isolation", "globalNamespaces"]),
        (DEFAULT_NETWORK, "blue/private".to_owned(), ["namespace isolation", "globalNamespaces"]),
        (NETWORKS, "storage@data,media@data".to_owned(), ["elements 1", "\"data\""]),
        (NETWORKS, "storage@eth0".to_owned(), ["cluster network's interface", "choose another"]),
        (NETWORKS, "storage@a%d".to_owned(), ["\"a%d\"", "%"]),
        (NETWORKS, element("ips", json!(["10.99.0.7"])), ["10.99.0.7", "default/storage"]),
        (NETWORKS, element("ips", json!(["10.2.0"])), ["\"10.2.0\"", "write it as"]),
        (NETWORKS, element("mac", json!("02:11")), ["\"02:11\"", "write it as"]),
        (NETWORKS, element("bandwidth", json!({ "ingressRate": 1000 })), ["bandwidth", "storage"]),
        (NETWORKS, element("default-route", json!(["10.2.9.9"])), ["10.2.9.9", "default route"]),
        (NETWORKS, "by-path".to_owned(), ["default/by-path", "not a path"]),
        (NETWORKS, "empty".to_owned(), ["default/empty", "no plugins"]),
        (NETWORKS, "text".to_owned(), ["default/text", "not a JSON object"]),
        (NETWORKS, "storage,lacking".to_owned(), ["network default/lacking", "CNI_PATH"]),
    ];
    // What networks share is there from the first pod on.
    let first = cluster.pod("first", &json!("storage,media"));
    runtime.add(&first.attachment).unwrap();
    let before = node.snapshot();
    for by_daemon in [false, true] {
        let daemon = by_daemon.then(|| daemon(&node, &cluster.kubeconfig));
        for (index, (annotation, value, parts)) in cases.iter().enumerate() {
            let name = format!("bad-{by_daemon}-{index}");
            let pod = cluster.pod_with("default", &name, &json!({ *annotation: value }));
            let inside = Snapshot::of(&pod.container);
            let error = runtime.add(&pod.attachment).unwrap_err().output.error_text();
            let told = warnings(&cluster, &name);
            assert_eq!(told.len(), 1, "{value}: {told:#?}");
            for part in parts {
                assert!(error.contains(part), "{value}: {part:?} is missing in {error}");
                assert!(told[0].contains(part), "{value}: {part:?} is missing in {told:?}");
            }
            assert_eq!(cluster.status("default", &name), None, "{value}");
            assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
            runtime.del(&pod.attachment).unwrap();
            pod.container.delete();
        }
        let good = cluster.pod(&format!("good-{by_daemon}"), &json!("storage,media"));
        runtime.add(&good.attachment).unwrap();
        runtime.del(&good.attachment).unwrap();
        good.container.delete();
        let served = daemon.map_or(0, |daemon| daemon.served("ADD", 0));
        assert_eq!(served, u64::from(by_daemon));
        let shared = cluster.shared().catena("lacking").file("/run/catena/*");
        assert_same(&before, &node.snapshot(), &shared);
    }
}

#[test]
fn a_pod_that_is_made_anew_while_its_networks_come_gets_none_of_them() {
    let node = Node::new();
    let mut cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    cluster.kubeconfig = proxy.kubeconfig(&cluster.api.token("kube-system", "catena"));
    let runtime = cluster.usual();
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,media"));
    let inside = Snapshot::of(&pod.container);
    // All networks are there, and the status is on its way.
    proxy.once("PATCH", "/status", Fault::Hold);
    let error = thread::scope(|scope| {
        let add = scope.spawn(|| runtime.add(&pod.attachment).unwrap_err());
        until("the status is on its way", PATIENCE, || {
            proxy.seen().iter().any(|seen| seen.verb == "PATCH").then_some(())
        });
        assert!(pod.container.run(["ip", "addr", "show", "net2"]).contains("10.3.0.2"));
        let admin = cluster.api.admin();
        admin.delete(&format!("{}/web?gracePeriodSeconds=0", pods("default")));
        let again = testnode::kubernetes::pod("web", "worker", &json!({ NETWORKS: "storage" }));
        admin.create(&pods("default"), &again);
        proxy.let_go();
        add.join().unwrap().output.error_text()
    });
    for part in [pod.uid.as_str(), "default/web", "made anew"] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
    assert_eq!(cluster.status("default", "web"), None);
    assert_same(&before, &node.snapshot(), &cluster.shared());
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
}

#[test]
fn a_pod_whose_api_server_is_silent_gets_nothing_and_holds_up_no_other() {
    let node = Node::new();
    let mut cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    cluster.kubeconfig = proxy.kubeconfig(&cluster.api.token("kube-system", "catena"));
    let runtime = cluster.usual();
    let slow = ["slow-alone", "slow-by-daemon"].map(|name| cluster.pod(name, &json!("storage")));
    let other = cluster.pod("other", &json!("storage"));
    let before = node.snapshot();
    proxy.always("PATCH", "/slow-", Fault::Hang);
    let asks = |pod: &str| {
        until("the status is on its way", PATIENCE, || {
            let is_it = |path: &str| path.contains(&format!("/{pod}/status"));
            proxy.seen().iter().any(|seen| is_it(&seen.path)).then_some(())
        });
    };
    let add = |pod: &Pod| runtime.add(&pod.attachment).unwrap_err().output;
    thread::scope(|scope| {
        let alone = scope.spawn(|| add(&slow[0]));
        asks("slow-alone");
        let daemon = daemon(&node, &cluster.kubeconfig);
        let by_daemon = scope.spawn(|| add(&slow[1]));
        asks("slow-by-daemon");
        runtime.add(&other.attachment).unwrap();
        runtime.del(&other.attachment).unwrap();
        assert!(!by_daemon.is_finished(), "the silence was over before the other pod came");
        for add in [alone, by_daemon] {
            let error = add.join().unwrap();
            assert_eq!(error.error_code(), 11, "{error}");
            for part in
                ["network-status of pod default/slow-", "no answer within", "whether this node"]
            {
                assert!(error.error_text().contains(part), "{part:?} is missing in {error}");
            }
        }
        assert_eq!((daemon.served("ADD", 0), daemon.served("ADD", 11)), (1, 1));
    });
    assert_same(&before, &node.snapshot(), &cluster.shared().file("/run/catena/*"));
}
