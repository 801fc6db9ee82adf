//! What Multus does for pods, done by the plugin against a real API: annotations, definitions and configurations as users of
//! Multus have them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::kubernetes::{Fault, Proxy};
use testnode::{
    Call, HttpServer, Node, NodeDaemon, Plugins, Runtime, Scripts, Snapshot, assert_same, http_get,
    links,
};

use crate::CATENA;
use crate::cluster::{Cluster, NETWORKS, network};

const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// Debian's package of the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// The networks and interfaces of a status.
fn entries(status: &Value) -> Vec<[&str; 2]> {
    let entries = status.as_array().unwrap().iter();
    entries.map(|entry| ["name", "interface"].map(|key| entry[key].as_str().unwrap())).collect()
}

/// A foreign plugin that answers ADD with an interface and an address, and makes nothing.
fn note(scripts: &Scripts<'_>, name: &str) {
    let result = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"192.0.2.9/24","interface":0}]}"#;
    scripts.plugin(name, &format!("[ $CNI_COMMAND != ADD ] || echo '{result}'"));
}

/// The plugin `catena` that looks for foreign plugins among the scripts.
fn runtime<'n>(cluster: &Cluster<'n>, scripts: &Scripts<'_>, keys: Value) -> Runtime<'n> {
    let mut keys = keys;
    keys["binDir"] = json!(scripts.dir());
    cluster.runtime("catena", &keys)
}

fn cni0() -> Value {
    json!([bridge("cni0", &["10.1.0.0/24"])])
}

#[test]
fn what_an_element_asks_for_reaches_its_network_and_no_other() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let scripts = Scripts::new(&node);
    for name in ["main", "asked", "other"] {
        note(&scripts, name);
    }
    let all = ["ips", "mac", "infinibandGUID", "bandwidth", "portMappings", "deviceID"];
    let all: Value = all.into_iter().map(|name| (name.to_owned(), json!(true))).collect();
    let chain = |kind: &str| {
        let plugin = json!({ "type": kind, "capabilities": all, "args": { "cni": { "kept": 1, "both": 1 } } });
        json!({ "cniVersion": "1.0.0", "name": kind, "plugins": [plugin] })
    };
    cluster.define("default", "asked", &chain("asked"));
    cluster.define("default", "other", &chain("other"));
    let runtime = runtime(&cluster, &scripts, json!({ "plugins": chain("main")["plugins"] }));
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    let asked = json!({
        "name": "asked",
        "namespace": "default",
        "interface": "data0",
        "ips": ["192.0.2.7/24", "2001:db8::7"],
        "mac": "02:11:22:33:44:55",
        "infiniband-guid": "c2:11:22:33:44:55:66:77",
        "bandwidth": { "ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4000 },
        "portMappings": ports,
        "deviceID": "0000:03:02.3",
        "cni-args": { "both": 2, "own": [3] },
    });
    let mut pod = cluster.pod("web", &json!([asked, { "name": "other" }]));
    let own_ports = json!([{ "hostPort": 9090, "containerPort": 90, "protocol": "udp" }]);
    pod.attachment = pod.attachment.capability("portMappings", own_ports.clone());
    runtime.add(&pod.attachment).unwrap();

    let conf = scripts.stdin("asked", "ADD");
    let mut config = conf["runtimeConfig"].clone();
    assert_eq!(config["portMappings"][0]["hostPort"], 8080, "{config:#}");
    config["portMappings"] = ports;
    assert_eq!(
        config,
        json!({
            "ips": ["192.0.2.7/24", "2001:db8::7"],
            "mac": "02:11:22:33:44:55",
            "infinibandGUID": "c2:11:22:33:44:55:66:77",
            "bandwidth": asked["bandwidth"],
            "portMappings": config["portMappings"],
            "deviceID": "0000:03:02.3",
        })
    );
    assert_eq!(conf["args"]["cni"], json!({ "kept": 1, "both": 2, "own": [3] }));
    assert_eq!(scripts.env("asked", "ADD", "CNI_IFNAME"), "data0");
    let args = scripts.env("asked", "ADD", "CNI_ARGS");
    for part in ["K8S_POD_NAMESPACE=default", "K8S_POD_NAME=web", "IgnoreUnknown"] {
        assert!(args.contains(part), "{args}");
    }
    // The runtime's own request is the cluster network's.
    let main = scripts.stdin("main", "ADD");
    assert_eq!(main["runtimeConfig"], json!({ "portMappings": own_ports }));
    assert_eq!(scripts.stdin("other", "ADD").get("runtimeConfig"), None);
    assert_eq!(scripts.env("other", "ADD", "CNI_IFNAME"), "net2", "a named one uses up its number");
    assert!(!scripts.env("other", "ADD", "CNI_ARGS").contains("MAC="));

    let status = cluster.status("default", "web").unwrap();
    assert_eq!(
        entries(&status),
        [["pods", "eth0"], ["default/asked", "data0"], ["default/other", "net2"]]
    );
    // DEL gets what ADD got.
    runtime.del(&pod.attachment).unwrap();
    assert_eq!(scripts.stdin("asked", "DEL")["runtimeConfig"], conf["runtimeConfig"]);
    assert_eq!(scripts.stdin("asked", "DEL")["args"], conf["args"]);
    let calls = scripts.calls();
    assert_eq!(calls, ["ADD main", "ADD asked", "ADD other", "DEL other", "DEL asked", "DEL main"]);
}

#[test]
fn addresses_and_hardware_address_that_are_asked_for_are_the_pods() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let chain = json!({
        "cniVersion": "1.0.0",
        "name": "fixed",
        "plugins": [
            { "type": "bridge", "bridge": "st0", "ipam": { "type": "static" }, "capabilities": { "ips": true, "mac": true } },
        ],
    });
    cluster.define("default", "fixed", &chain);
    let networks = json!([
        { "name": "fixed", "ips": ["10.7.0.9/24", "fd00:7::9/64"], "mac": "02:00:00:00:00:07" },
        // No capability is needed: host-local and bridge read CNI_ARGS.
        { "name": "media", "ips": ["10.3.0.99"], "mac": "02:00:00:00:00:08" },
    ]);
    let pod = cluster.pod("web", &networks);
    let runtime = cluster.usual();
    runtime.add(&pod.attachment).unwrap();
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(status[1]["ips"], json!(["10.7.0.9", "fd00:7::9"]));
    assert_eq!(status[1]["mac"], "02:00:00:00:00:07");
    assert_eq!(status[2]["ips"], json!(["10.3.0.99"]));
    assert_eq!(status[2]["mac"], "02:00:00:00:00:08");
    for (ifname, parts) in [
        ("net1", ["10.7.0.9/24", "02:00:00:00:00:07"]),
        ("net2", ["10.3.0.99/24", "02:00:00:00:00:08"]),
    ] {
        let shown = pod.container.run(["ip", "addr", "show", ifname]);
        for part in parts {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    // Outside of the range: named, and nothing stays.
    let refused = cluster.pod("bad", &json!([{ "name": "media", "ips": ["10.99.0.1"] }]));
    let before = node.snapshot();
    let error = runtime.add(&refused.attachment).unwrap_err().output.error_text();
    assert!(error.contains("10.99.0.1") && error.contains("default/media"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn ports_and_rates_that_are_asked_for_are_that_networks() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let chain = [bridge("wb0", &["10.7.0.0/24"]), portmap(), bandwidth()];
    cluster.define("default", "web", &conflist("web", &chain));
    let runtime = cluster.usual();
    let mut element = port_and_rates(8080);
    element["name"] = json!("web");
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!([{ "name": "storage" }, element]));
    runtime.add(&pod.attachment).unwrap();
    let server = HttpServer::start(&pod.container, 80, "page");
    assert_eq!(http_get(&node, "http://127.0.0.1:8080/").unwrap().text, "page");
    let rules = node.run(["nft", "list", "table", "inet", "catena"]);
    assert!(rules.contains("10.7.0.2") && !rules.contains("10.1.0.2 . 80"), "{rules}");
    // One direction on the host's end of net2, the other behind it.
    let shaped = node.run(["tc", "qdisc", "show"]);
    assert_eq!(shaped.matches("tbf").count(), 2, "{shaped}");
    let ports = node.run(["ip", "-br", "link", "show", "master", "wb0"]);
    let port = ports.split(['@', ' ']).next().unwrap();
    assert!(shaped.lines().any(|line| line.contains("tbf") && line.contains(port)), "{shaped}");
    runtime.check(&pod.attachment).unwrap();
    drop(server);
    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("web").device("wb0"));
}

#[test]
fn what_no_plugin_can_do_fails_the_pod() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let before = node.snapshot();
    let rates = json!({ "ingressRate": 1000, "ingressBurst": 2000 });
    let pod = cluster.pod("web", &json!([{ "name": "storage", "bandwidth": rates }]));
    let error = cluster.usual().add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("default/storage") && error.contains("bandwidth"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn a_pod_may_have_another_network_in_the_cluster_networks_place() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let annotations = json!({ DEFAULT_NETWORK: "storage", NETWORKS: "media" });
    let keys =
        json!({ "plugins": cni0(), "multusNamespace": "default", "namespaceIsolation": true });
    let runtime = cluster.runtime("catena", &keys);
    let pod = cluster.pod_with("default", "web", &annotations);
    let result = runtime.add(&pod.attachment).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.2.0.2/24");
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(entries(&status), [["default/storage", "eth0"], ["default/media", "net1"]]);
    assert_eq!((&status[0]["default"], status[1].get("default")), (&json!(true), None));
    runtime.del(&pod.attachment).unwrap();

    for (name, value, part) in [
        ("stolen", "blue/private", "blue"),
        ("empty", "", DEFAULT_NETWORK),
        ("two", "storage,media", DEFAULT_NETWORK),
    ] {
        let pod = cluster.pod_with("default", name, &json!({ DEFAULT_NETWORK: value }));
        let error = runtime.add(&pod.attachment).unwrap_err().output.error_text();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn a_definition_without_a_configuration_is_a_file_of_the_node() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let dir = node.dir("conf");
    let list = json!({ "cniVersion": "1.0.0", "name": "on-node", "plugins": [network("x", "st0", "10.8.0.0/24")] });
    node.write(dir.join("50-any.conflist"), &list.to_string());
    cluster.define("default", "on-node", &Value::Null);
    let runtime = cluster.runtime("catena", &json!({ "plugins": cni0(), "confDir": dir }));
    let pod = cluster.pod("web", &json!("on-node"));
    runtime.add(&pod.attachment).unwrap();
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(
        (&status[1]["name"], &status[1]["ips"]),
        (&json!("default/on-node"), &json!(["10.8.0.2"]))
    );
    runtime.del(&pod.attachment).unwrap();
}

#[test]
fn what_is_not_there_is_told_to_the_pod() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,nowhere"));
    let error = cluster.usual().add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("nowhere in namespace default"), "{error}");
    let events = cluster.events("default", "NoNetworkFound");
    assert!(events[0].contains("nowhere"), "{events:?}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
}

#[test]
fn an_interface_that_is_there_is_not_taken() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage@data0"));
    pod.container.run(["ip", "link", "add", "data0", "type", "ifb"]);
    let inside = Snapshot::of(&pod.container);
    let error = cluster.usual().add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("data0") && error.contains("default/storage"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
}

#[test]
fn a_file_of_the_thin_plugins_generator_works_unchanged() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let master = conflist("kindnet", &[bridge("cni0", &["10.1.0.0/24"]), portmap()]);
    let log = node.fresh_path("multus.log");
    // As Multus's entrypoint writes it; cniConf is read by nobody.
    let keys = json!({
        "capabilities": { "portMappings": true },
        "namespaceIsolation": true,
        "globalNamespaces": "default,blue",
        "logToStderr": false,
        "logLevel": "debug",
        "logFile": log,
        "cniConf": "/host/etc/cni/multus/net.d",
        "delegates": [master],
    });
    let runtime = cluster.runtime("multus", &keys);
    let before = node.snapshot();
    let mut pod = cluster.pod("web", &json!("storage,blue/private"));
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    pod.attachment = pod.attachment.capability("portMappings", ports);
    runtime.status().unwrap();
    runtime.add(&pod.attachment).unwrap();
    let status = cluster.status("default", "web").unwrap();
    let names = [["kindnet", "eth0"], ["default/storage", "net1"], ["blue/private", "net2"]];
    assert_eq!(entries(&status), names);
    assert!(node.run(["nft", "list", "table", "inet", "catena"]).contains("8080"));
    runtime.check(&pod.attachment).unwrap();
    runtime.gc(std::slice::from_ref(&pod.attachment)).unwrap();
    runtime.check(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert!(!fs::read_to_string(&log).unwrap().is_empty());
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("kindnet"));
}

#[test]
fn a_pod_of_thick_multus_gets_its_networks() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let file = node.dir("net.d").join("10-kindnet.conflist");
    node.write(&file, &conflist("kindnet", &[bridge("cni0", &["10.1.0.0/24"])]).to_string());
    // As the ConfigMap of Multus's DaemonSet has it, with isolation.
    let daemon_config = json!({
        "chrootDir": "/hostroot",
        "cniVersion": "0.3.1",
        "logLevel": "verbose",
        "logToStderr": true,
        "cniConfigDir": "/host/etc/cni/net.d",
        "multusAutoconfigDir": "/host/etc/cni/net.d",
        "multusConfigFile": "auto",
        "socketDir": "/host/run/multus/",
        "namespaceIsolation": true,
    });
    let config = node.json_file("daemon-config.json", &daemon_config);
    let run = node.cmd([CATENA, "daemon", "--node-name", "worker", "--kubeconfig"]);
    let run = run.args([&cluster.kubeconfig]).args(["--multus-config"]).args([&config]);
    let daemon = NodeDaemon::begin(&node, run);
    // As Multus's daemon generates it for the shim.
    let shim = json!({
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "plugins": [{ "type": "multus-shim", "clusterNetwork": file, "logToStderr": true }],
    });
    let bin = links(&node, CATENA, &["multus-shim"]);
    let runtime = Runtime::new(Plugins::new(&node, [&bin]), shim);
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage"));
    runtime.add(&pod.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(entries(&status), [["kindnet", "eth0"], ["default/storage", "net1"]]);
    let other = cluster.pod("other", &json!("blue/private"));
    let error = runtime.add(&other.attachment).unwrap_err().output.error_text();
    assert!(error.contains("isolation"), "{error}");
    drop(daemon);
    runtime.del(&pod.attachment).unwrap();
    let shared = cluster.shared().catena("kindnet").catena("multus-cni-network");
    assert_same(&before, &node.snapshot(), &shared.directory("/run/multus"));
}

#[test]
fn a_cluster_network_by_its_path_is_undone_whole_also_without_the_file() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let file = node.dir("net.d").join("10-kindnet.conflist");
    let master = conflist("kindnet", &[bridge("cni0", &["10.1.0.0/24"])]);
    node.write(&file, &master.to_string());
    let runtime = cluster.runtime("multus", &json!({ "clusterNetwork": file }));
    let before = node.snapshot();
    let pod = cluster.pod("web", &Value::Null);
    runtime.add(&pod.attachment).unwrap();
    runtime.check(&pod.attachment).unwrap();
    assert_eq!(entries(&cluster.status("default", "web").unwrap()), [["kindnet", "eth0"]]);
    fs::remove_file(&file).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("kindnet"));
}

#[test]
fn default_networks_are_every_pods_but_not_in_system_namespaces() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let keys = json!({
        "plugins": cni0(), "defaultNetworks": ["storage"], "multusNamespace": "default", "systemNamespaces": ["blue"],
    });
    let runtime = cluster.runtime("catena", &keys);
    let pod = cluster.pod("web", &json!("media"));
    runtime.add(&pod.attachment).unwrap();
    let status = cluster.status("default", "web").unwrap();
    let names = [["pods", "eth0"], ["default/storage", "net1"], ["default/media", "net2"]];
    assert_eq!(entries(&status), names);
    let system = cluster.pod_in("blue", "system", &json!("private"));
    runtime.add(&system.attachment).unwrap();
    let status = cluster.status("blue", "system").unwrap();
    assert_eq!(entries(&status), [["pods", "eth0"], ["blue/private", "net1"]]);
}

#[test]
fn an_empty_default_route_takes_that_networks_own_alone() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let mut routed = network("routed", "st0", "10.8.0.0/24");
    routed["isGateway"] = json!(true);
    routed["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "203.0.113.0/24" }]);
    cluster.define("default", "routed", &routed);
    let pod = cluster.pod("web", &json!([{ "name": "routed", "default-route": [] }]));
    let runtime = cluster.usual();
    runtime.add(&pod.attachment).unwrap();
    let routes = pod.container.run(["ip", "route"]);
    assert!(routes.contains("default via 10.1.0.1 dev eth0"), "{routes}");
    assert!(routes.contains("203.0.113.0/24"), "{routes}");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    runtime.check(&pod.attachment).unwrap();
}

#[test]
fn a_status_that_cannot_be_written_undoes_all() {
    let node = Node::new();
    let mut cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    cluster.kubeconfig = proxy.kubeconfig(&cluster.api.token("kube-system", "catena"));
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,media"));
    let inside = Snapshot::of(&pod.container);
    proxy.always("PATCH", "/status", Fault::Status(403));
    let error = cluster.usual().add(&pod.attachment).unwrap_err().output.error_text();
    assert!(error.contains("default/web") || error.contains("web/status"), "{error}");
    assert_same(&before, &node.snapshot(), &cluster.shared());
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
}

#[test]
fn a_del_that_fails_goes_on_with_the_rest_and_is_done_later() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let scripts = Scripts::new(&node);
    let stuck = node.fresh_path("stuck");
    let dels = format!("if [ $CNI_COMMAND = DEL ]; then [ ! -e {} ]; exit; fi", stuck.display());
    let result = r#"{"cniVersion":"1.0.0","interfaces":[]}"#;
    scripts.plugin("sticky", &format!("{dels}\n[ $CNI_COMMAND != ADD ] || echo '{result}'"));
    let list =
        json!({ "cniVersion": "1.0.0", "name": "sticky", "plugins": [{ "type": "sticky" }] });
    cluster.define("default", "sticky", &list);
    let runtime = runtime(&cluster, &scripts, json!({ "plugins": cni0() }));
    let before = node.snapshot();
    let pod = cluster.pod("web", &json!("storage,sticky,media"));
    let inside = Snapshot::of(&pod.container);
    runtime.add(&pod.attachment).unwrap();
    node.write(&stuck, "");
    for _ in 0..2 {
        let error = runtime.del(&pod.attachment).unwrap_err().output.error_text();
        assert!(error.contains("default/sticky"), "{error}");
        // The others' interfaces are gone all the same.
        assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
    }
    fs::remove_file(&stuck).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert_same(&before, &node.snapshot(), &cluster.shared().catena("sticky"));
}

#[test]
fn every_network_is_asked_for_its_status() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let scripts = Scripts::new(&node);
    let failing = r#"[ $CNI_COMMAND != STATUS ] || { echo '{"cniVersion":"1.1.0","code":50,"msg":"no uplink"}'; exit 1; }"#;
    scripts.plugin("uplink", failing);
    let list =
        json!({ "cniVersion": "1.1.0", "name": "uplink", "plugins": [{ "type": "uplink" }] });
    cluster.define("default", "uplink", &list);
    let keys = |networks: &[&str]| json!({ "plugins": cni0(), "defaultNetworks": networks, "multusNamespace": "default" });
    runtime(&cluster, &scripts, keys(&["storage"])).status().unwrap();
    let failed =
        runtime(&cluster, &scripts, keys(&["storage", "uplink"])).status().unwrap_err().output;
    assert_eq!(failed.error_code(), 50, "{failed}");
    assert!(failed.error_text().contains("no uplink"), "{failed}");
}

#[test]
fn gc_gives_each_network_the_list_of_its_own_attachments() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let scripts = Scripts::new(&node);
    for name in ["first", "second"] {
        note(&scripts, name);
        let list = json!({ "cniVersion": "1.1.0", "name": name, "plugins": [{ "type": name }] });
        cluster.define("default", name, &list);
    }
    let runtime = runtime(&cluster, &scripts, json!({ "plugins": cni0() }));
    let (a, b) =
        (cluster.pod("a", &json!("first")), cluster.pod("b", &json!("first,second@data0")));
    let dead = cluster.pod("dead", &json!("second"));
    for pod in [&a, &b, &dead] {
        runtime.add(&pod.attachment).unwrap();
    }
    scripts.forget();
    runtime.gc(&[a.attachment.clone(), b.attachment.clone()]).unwrap();
    let valid = |name: &str| {
        let conf = scripts.stdin(name, "GC");
        let list = conf["cni.dev/valid-attachments"].as_array().unwrap().clone();
        let mut valid: Vec<_> = list.iter().map(|one| one.to_string()).collect();
        valid.sort();
        valid
    };
    let one = |id: &str, ifname: &str| json!({ "containerID": id, "ifname": ifname }).to_string();
    assert_eq!(valid("first"), [one("id-a", "net1"), one("id-b", "net1")]);
    assert_eq!(valid("second"), [one("id-b", "data0")]);
    assert!(scripts.calls().contains(&"DEL second".to_owned()), "{:?}", scripts.calls());
}

#[test]
fn what_multus_has_attached_is_detached() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let dir = node.dir("multus");
    let mut master = conflist("kindnet", &[bridge("cni0", &["10.1.0.0/24"])]);
    master["cniVersion"] = json!("0.4.0");
    let mut storage = network("storage", "st0", "10.2.0.0/24");
    storage["cniVersion"] = json!("0.4.0");
    let keys = json!({ "delegates": [master], "cniDir": dir });
    let runtime = cluster.runtime("multus", &keys);
    let pod = cluster.pod("web", &json!("storage"));
    let before = node.snapshot();
    let inside = Snapshot::of(&pod.container);

    // What Multus does by the reference plugins, and what it keeps of it.
    let plugins = Plugins::new(&node, [Path::new(REFERENCE)]);
    fs::create_dir(dir.join("results")).unwrap();
    let mut kept = Vec::new();
    for (list, ifname) in [(&master, "eth0"), (&storage, "net1")] {
        let mut conf =
            if list["plugins"].is_array() { list["plugins"][0].clone() } else { list.clone() };
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["name"] = list["name"].clone();
        let attachment = pod.attachment.clone().ifname(ifname);
        let result =
            plugins.call("bridge", &Call::of("ADD", &attachment), &conf.to_string()).result();
        let cached =
            format!("{}-{}-{ifname}", list["name"].as_str().unwrap(), attachment.container_id);
        let cache = json!({ "kind": "cniCacheV1", "ifName": ifname, "result": result });
        node.write(dir.join("results").join(cached), &cache.to_string());
        let bytes = node.cmd(["base64", "-w0"]).stdin(list.to_string()).output().success();
        let requested = if ifname == "eth0" { "" } else { ifname };
        kept.push(json!({ "ifnameRequest": requested, "Bytes": bytes }));
    }
    let scratch = dir.join(&pod.attachment.container_id);
    node.write(&scratch, &json!(kept).to_string());

    cluster.api.stop();
    runtime.del(&pod.attachment).unwrap();
    assert!(!scratch.exists());
    assert_eq!(fs::read_dir(dir.join("results")).unwrap().count(), 0);
    let shared = cluster.shared().catena("kindnet").directory("/var/lib/cni/networks");
    assert_same(&before, &node.snapshot(), &shared);
    assert_same(&inside, &Snapshot::of(&pod.container), &testnode::Shared::none());
    // And a pod of Catena's own after that.
    runtime.del(&pod.attachment).unwrap();
}
