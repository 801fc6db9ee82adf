//! Pods with secondary networks, by the plugin alone.

use std::fs;

use serde_json::{Value, json};
use testnode::conf::bridge;
use testnode::kubernetes::{definitions, pods};
use testnode::{Node, Snapshot, assert_same};

use crate::cluster::{Cluster, network};

/// The interfaces and addresses of a status.
fn summary(status: &Value) -> Vec<(String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = status.as_array().unwrap().iter();
    entries
        .map(|entry| (text(&entry["name"]), text(&entry["interface"]), entry["default"] == true))
        .collect()
}

fn entry(name: &str, interface: &str, default: bool) -> (String, String, bool) {
    (name.to_owned(), interface.to_owned(), default)
}

#[test]
fn a_pod_gets_all_its_networks_says_so_and_goes_without_a_trace() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,blue/private@net9"));
    let inside = Snapshot::of(&pod.container);

    let result = runtime.add(&pod.attachment).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(
        summary(&status),
        [
            entry("pods", "eth0", true),
            entry("default/storage", "net1", false),
            entry("blue/private", "net9", false),
        ]
    );
    assert_eq!(status[1]["ips"], json!(["10.2.0.2"]));
    assert_eq!(status[2]["ips"], json!(["10.4.0.2"]));
    for (ifname, address) in [("eth0", "10.1.0.2"), ("net1", "10.2.0.2"), ("net9", "10.4.0.2")] {
        let shown = pod.container.run(["ip", "-4", "addr", "show", ifname]);
        assert!(shown.contains(address), "{shown}");
    }
    assert_eq!(
        cluster.events("default", "AddedInterface"),
        [
            "Add eth0 [10.1.0.2/24] from pods",
            "Add net1 [10.2.0.2/24] from default/storage",
            "Add net9 [10.4.0.2/24] from blue/private",
        ]
    );
    runtime.check(&pod.attachment).unwrap();

    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared());
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
    runtime.del(&pod.attachment).unwrap();
}

#[test]
fn the_log_tells_what_each_network_and_the_api_took() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let file = node.fresh_path("catena.log");
    let runtime = cluster.runtime(
        "catena",
        &json!({
            "plugins": [bridge("cni0", &["10.1.0.0/24"])],
            "logFile": file, "logLevel": "debug",
        }),
    );
    let pod = cluster.pod("web", &json!("storage"));
    runtime.add(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    let log = fs::read_to_string(&file).unwrap();
    for step in [
        "step: catena/prepare API client ",
        "step: catena/ask API for pod ",
        "step: catena/ask API for definition ",
        "step: catena/write status by API ",
        "step: catena/ADD/bridge/veth ",
        "step: catena/ADD/write record ",
        "step: catena/DEL/bridge ",
        "step: catena/flush/devices ",
    ] {
        let told = |line: &str| line.contains(step) && line.contains(" ms");
        assert!(log.lines().any(told), "no {step:?} in\n{log}");
    }
    let of = |network: &str| format!("(network={network} container=id-web interface=");
    assert!(log.contains(&of("pods")) && log.contains(&of("storage")), "{log}");
}

#[test]
fn where_the_third_network_fails_the_first_two_are_undone_and_the_error_names_it() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    cluster.define("default", "full", &network("full", "fl0", "10.9.0.0/31"));
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,full"));
    let error = runtime.add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("network default/full (net2)"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared().device("fl0").catena("full"));
    assert!(cluster.status("default", "web").is_none());
    let events = cluster.events("default", "FailedAddingInterface");
    assert!(events[0].starts_with("net2 on network default/full: "), "{events:?}");
}

#[test]
fn what_is_missing_of_a_secondary_network_is_found_by_check() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let pod = cluster.pod("web", &json!("storage,media"));
    runtime.add(&pod.attachment).unwrap();
    pod.container.run(["ip", "addr", "flush", "dev", "net2"]);
    let error = runtime.check(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("network default/media (net2)"), "{error}");
    assert!(!error.contains("storage"), "{error}");
}

#[test]
fn del_needs_neither_pod_nor_definition_nor_api() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,media"));
    runtime.add(&pod.attachment).unwrap();
    cluster.api.stop();
    fs::remove_file(&cluster.kubeconfig).unwrap();
    let Ok(()) = runtime.del(&pod.attachment) else { panic!("DEL needs the API") };
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn gc_of_eth0_alone_keeps_net1_of_pods_that_live() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let before = node.snapshot();
    let live = cluster.pod("live", &json!("storage"));
    let dead = cluster.pod("dead", &json!("storage,media"));
    runtime.add(&live.attachment).unwrap();
    runtime.add(&dead.attachment).unwrap();
    runtime.gc(std::slice::from_ref(&live.attachment)).unwrap();
    runtime.check(&live.attachment).unwrap();
    assert!(live.container.run(["ip", "addr", "show", "net1"]).contains("10.2.0.2"));
    // Of the other one nothing is left: its lease is free again.
    let next = cluster.pod("next", &json!("media"));
    runtime.add(&next.attachment).unwrap();
    runtime.gc(&[]).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn gc_removes_what_is_on_record_also_where_the_cluster_network_is_not_found() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    cluster.define("kube-system", "main", &network("main", "cni0", "10.1.0.0/24"));
    let runtime = cluster.runtime("catena", &json!({ "clusterNetwork": "main" }));
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    runtime.add(&pod.attachment).unwrap();
    cluster.api.admin().delete(&format!("{}/main", definitions("kube-system")));
    let error = runtime.gc(&[]).unwrap_err().output.error_text();
    assert!(error.contains("main"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("main"));
}

#[test]
fn a_pods_own_ports_stay_on_the_cluster_network() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let chain = json!([network("storage", "st0", "10.2.0.0/24"), testnode::conf::portmap()]);
    let list = json!({ "cniVersion": "1.0.0", "name": "mapped", "plugins": chain });
    cluster.define("default", "mapped", &list);
    let cluster_chain = [bridge("cni0", &["10.1.0.0/24"]), testnode::conf::portmap()];
    let runtime = cluster.runtime("catena", &json!({ "plugins": cluster_chain }));
    let mut pod = cluster.pod("web", &json!("mapped"));
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    pod.attachment = pod.attachment.capability("portMappings", ports);
    runtime.add(&pod.attachment).unwrap();
    let rules = node.run(["nft", "list", "table", "inet", "catena"]);
    assert!(rules.contains("10.1.0.2"), "{rules}");
    assert!(!rules.contains("8080 : 10.2.0.2") && !rules.contains("10.2.0.2 . 80"), "{rules}");
}

#[test]
fn a_pod_that_is_not_there_or_was_made_anew_fails() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    cluster.api.admin().delete(&format!("{}/web?gracePeriodSeconds=0", pods("default")));
    let error = runtime.add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("default/web"), "{error}");
    let object = testnode::kubernetes::pod("web", "worker", &json!({}));
    cluster.api.admin().create(&pods("default"), &object);
    let error = runtime.add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains(&pod.uid), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn a_multus_file_works_unchanged_under_its_name() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let dir = node.dir("multus/net.d");
    let master = network("kindnet", "cni0", "10.1.0.0/24");
    node.write(dir.join("10-kindnet.conf"), &master.to_string());
    let keys = json!({
        "confDir": dir,
        "clusterNetwork": "kindnet",
        "defaultNetworks": ["media"],
        "multusNamespace": "default",
        "logLevel": "debug",
        "logToStderr": true,
        "namespaceIsolation": true,
    });
    let runtime = cluster.runtime("multus", &keys);
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    runtime.add(&pod.attachment).unwrap();
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(
        summary(&status),
        [
            entry("kindnet", "eth0", true),
            entry("default/media", "net1", false),
            entry("default/storage", "net2", false),
        ]
    );
    let other = cluster.pod("other", &json!("blue/private"));
    let error = runtime.add(&other.attachment).unwrap_err().output.error_text();
    assert!(error.contains("namespaceIsolation") || error.contains("isolation"), "{error}");
    runtime.del(&other.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("kindnet"));
}

#[test]
fn a_cluster_network_that_is_a_meta_plugins_own_is_detached_too() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let inner = json!({ "type": "catena", "name": "inner", "plugins": [network("inner", "cni0", "10.1.0.0/24")] });
    let runtime = cluster.runtime("catena", &json!({ "delegates": [inner] }));
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    runtime.add(&pod.attachment).unwrap();
    runtime.check(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("inner"));
}

#[test]
fn a_pod_of_multus_is_detached_by_catena() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let delegate = network("main", "cni0", "10.1.0.0/24");
    let keys = json!({ "delegates": [delegate] });
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    cluster.runtime("multus", &keys).add(&pod.attachment).unwrap();
    cluster.runtime("catena", &keys).del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("main"));
}

#[test]
fn a_pod_whose_record_is_lost_is_detached_from_all_networks() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let before = node.snapshot();
    let first = cluster.pod("first", &json!("storage,media"));
    let second = cluster.pod("second", &json!("storage,media"));
    let live = cluster.pod("live", &json!("storage"));
    for pod in [&first, &second, &live] {
        runtime.add(&pod.attachment).unwrap();
    }
    for pod in ["first", "second"] {
        node.run(["sh", "-c", &format!("rm /var/lib/catena/pods/id-{pod}@*")]);
    }
    runtime.del(&first.attachment).unwrap();
    runtime.gc(std::slice::from_ref(&live.attachment)).unwrap();
    runtime.check(&live.attachment).unwrap();
    runtime.del(&live.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn what_multus_has_attached_is_detached_by_its_scratch_file_or_the_configuration() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let dir = node.dir("multus");
    let main = network("main", "cni0", "10.1.0.0/24");
    let media = network("media", "md0", "10.3.0.0/24");
    let runtime = cluster.runtime("multus", &json!({ "cniDir": dir, "delegates": [main.clone()] }));
    // As Multus ran them: each by itself.
    let run = |pod: &crate::cluster::Pod, conf: &Value, ifname: &str| {
        let list = json!({ "cniVersion": "1.0.0", "name": conf["name"], "plugins": [conf] });
        let attachment = pod.attachment.clone().ifname(ifname).args("");
        let go = testnode::Runtime::new(testnode::Plugins::debian(&node), list);
        go.add(&attachment).unwrap();
    };
    let base64 = |conf: &Value| {
        let text = node.json_file("conf", conf);
        node.run(["base64", "-w0", text.to_str().unwrap()])
    };
    let before = node.snapshot();
    for scratch in [
        format!(
            r#"[{{"Bytes":"{}"}},{{"ifnameRequest":"net7","Bytes":"{}"}}]"#,
            base64(&main),
            base64(&media)
        ),
        String::new(),
        "[{\"Conf".to_owned(),
        "[]".to_owned(),
    ] {
        let pod = cluster.pod(&format!("web{}", scratch.len()), &json!(null));
        run(&pod, &main, "eth0");
        if scratch.len() > 9 {
            run(&pod, &media, "net7");
        }
        node.write(dir.join(&pod.attachment.container_id), &scratch);
        runtime.del(&pod.attachment).unwrap();
        assert!(!dir.join(&pod.attachment.container_id).exists(), "{scratch}");
        pod.container.delete();
        let shared = cluster.shared().catena("main").forwarding();
        assert_same(&before, &node.snapshot(), &shared);
    }
}
