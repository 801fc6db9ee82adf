//! Pods whose cluster network is other CNI software's.

use std::fs;
use std::path::Path;

use serde_json::{Deserializer, Value, json};
use testnode::{HttpServer, Node, Others, Snapshot, assert_same, http_get, url};

use crate::cluster::Cluster;

/// The network of calico, as docs/chaining.md has it.
fn calico() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/chaining.md");
    let text = fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once("\n## calico\n").unwrap();
    let (_, block) = section.split_once("\n```json\n").unwrap();
    Deserializer::from_str(block).into_iter().next().unwrap().unwrap()
}

#[test]
fn calico_gives_eth0_and_the_pods_annotation_net1() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let others = Others::new(&node);
    others.start_calico();
    // Without a default route the node would not answer for calico's gateway.
    let outside = node.uplink("outside", "192.0.2.2/24", "2001:db8::2/64");
    let dir = node.dir("calico/net.d");
    node.write(dir.join("10-calico.conflist"), &calico().to_string());
    let runtime = cluster.runtime("catena", &json!({ "confDir": dir, "binDir": others.dir() }));
    let before = node.snapshot();
    let mut pod = cluster.pod("web", &json!("storage"));
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    pod.attachment = pod.attachment.capability("portMappings", ports);
    let inside = Snapshot::of(&pod.container);
    runtime.status().unwrap();
    let result = runtime.add(&pod.attachment).unwrap();
    // printf default.web | sha1sum
    let host = &result["interfaces"][0]["name"];
    assert_eq!(host, "cali68caf03a5f4", "the name that Felix knows it by");
    assert_eq!(result["ips"][0]["address"], "192.168.0.2/32");
    let status = cluster.status("default", "web").unwrap();
    let shown = |entry: &Value| (entry["interface"].clone(), entry["ips"][0].clone());
    assert_eq!(shown(&status[0]), (json!("eth0"), json!("192.168.0.2")), "{status:#}");
    assert_eq!(shown(&status[1]), (json!("net1"), json!("10.2.0.2")), "{status:#}");
    assert_eq!(status[0]["default"], true);
    assert_eq!(
        cluster.events("default", "AddedInterface"),
        [
            "Add eth0 [192.168.0.2/32 fd00:192::2/128] from k8s-pod-network",
            "Add net1 [10.2.0.2/24] from default/storage",
        ]
    );
    let server = HttpServer::start(&pod.container, 80, "page");
    assert_eq!(http_get(&node, "http://127.0.0.1:8080/").unwrap().text, "page");
    let port = url(outside.node_v4(), 8080);
    assert_eq!(http_get(&outside, &port).unwrap().text, "page");
    drop(server);
    runtime.check(&pod.attachment).unwrap();
    runtime.gc(std::slice::from_ref(&pod.attachment)).unwrap();
    runtime.check(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    let leases = "/var/lib/cni/calico/k8s-pod-network";
    let shared = cluster.shared().catena("k8s-pod-network").directory(leases);
    let shared =
        shared.file(&format!("{leases}/lock")).file(&format!("{leases}/last_reserved_ip.*"));
    assert_same(&before, &node.snapshot(), &shared);
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none().forwarding());
}
