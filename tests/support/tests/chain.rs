//! Debian's Go plugins, driven as libcni drives them.

use serde_json::json;
use testnode::{Attachment, Call, Network, Node, Plugins, Runtime, Shared, Snapshot, assert_same};

fn conflist() -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "web",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00:1::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
                }
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
            { "type": "bandwidth", "capabilities": { "bandwidth": true } }
        ]
    })
}

fn shared() -> Shared {
    ["ip nat", "ip6 nat", "ip filter", "ip6 filter"]
        .iter()
        .fold(Shared::none(), |shared, table| shared.whole_table(table))
        .device("cni0")
        .forwarding()
        .host_local("web")
}

#[test]
fn add_and_del_of_a_chain_leave_only_what_is_shared() {
    let node = Node::new();
    let runtime = Runtime::new(Plugins::debian(&node), conflist());
    let container = node.container("c1");
    let attachment = Attachment::new(&container)
        .capability(
            "portMappings",
            json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]),
        )
        .capability("bandwidth", json!({ "ingressRate": 1_000_000, "ingressBurst": 100_000 }));
    let before = node.snapshot();
    let inside_before = Snapshot::of(&container);

    let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    let during = node.snapshot();
    let diff = before.without(&shared()).diff(&during.without(&shared()));
    for part in ["+ link veth", "+ files /var/lib/cni/networks/web/10.1.0.2", "+ qdisc veth"] {
        assert!(diff.contains(part), "{part} is missing in:\n{diff}");
    }
    node.ping("10.1.0.2");
    node.ping("fd00:1::2");

    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside_before, &Snapshot::of(&container), &Shared::none().forwarding());
    assert!(runtime.cached(&attachment).is_none());
    runtime.del(&attachment).unwrap_or_else(|e| panic!("a second DEL: {e}"));
}

#[test]
fn check_gets_the_result_of_add() {
    let node = Node::new();
    let mut conflist = conflist();
    // CHECK of these plugins' version fails with both families, and without a rate.
    conflist["plugins"].as_array_mut().unwrap().truncate(1);
    let runtime = Runtime::new(Plugins::debian(&node), conflist);
    let container = node.container("c1");
    let attachment = Attachment::new(&container);
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    container.ip("addr del 10.1.0.2/24 dev eth0\n");
    assert_eq!(runtime.check(&attachment).unwrap_err().plugin, "bridge");
}

#[test]
fn a_failing_plugin_is_named_with_its_error() {
    let node = Node::new();
    let runtime = Runtime::new(Plugins::debian(&node), conflist());
    let container = node.container("c1");
    let taken = Attachment::new(&container);
    runtime.add(&taken).unwrap_or_else(|e| panic!("{e}"));
    let failure = runtime.add(&taken).unwrap_err();
    assert_eq!(failure.plugin, "bridge");
    assert_eq!(failure.output.error_code(), 999);
    assert!(failure.output.error_text().contains("eth0"), "{failure}");
}

#[test]
fn a_plugin_answers_version() {
    let node = Node::new();
    let output = Plugins::debian(&node).call(
        "host-local",
        &Call::new("VERSION"),
        &json!({ "cniVersion": "1.0.0" }).to_string(),
    );
    let versions = output.result();
    assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("1.0.0")));
}

#[test]
fn a_pod_is_on_its_network_until_del() {
    let node = Node::new();
    let conflist = conflist();
    let chain = conflist["plugins"].as_array().unwrap();
    let network = Network::by_plugins(&node, Plugins::debian(&node), "web", &chain[..2]);
    let mapping = json!({ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" });
    let pod = network.pod_with("pod", &json!({ "portMappings": [mapping] }));
    assert_eq!([pod.v4().to_string(), pod.v6().to_string()], ["10.1.0.2", "fd00:1::2"]);
    node.run(["ip", "link", "show", "dev", pod.host_ifname()]);
    node.ping("10.1.0.2");
    let _server = testnode::HttpServer::start(&pod, 80, "pod");
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let page = testnode::url(outside.node_v4(), 8080);
    assert_eq!(testnode::http_get(&outside, &page).unwrap().text, "pod");
    pod.del();
    assert!(testnode::http_get(&outside, &page).is_err());
    assert!(!node.pings("10.1.0.2"));
}
