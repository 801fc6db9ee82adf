//! Catena behind each of the others' files: a second network by the node's own files, and the files as that software writes
//! them. (With the API server: tests/kubernetes/beside.rs.)

use serde_json::{Value, json};
use testnode::{HttpServer, Node, Others, Runtime, Shared, Snapshot, assert_same, http_get, url};

use crate::documented;
use crate::ways::{Bench, Way};

/// A pod has its `eth0` from this network, and `net1` from Catena's.
fn gives_both(heading: &str, name: &str, start: fn(&Others<'_>)) {
    let node = Node::new();
    let others = Others::new(&node);
    start(&others);
    let list = documented::network(heading, name);
    let [settings, storage] = documented::section("A second network").try_into().unwrap();
    let file = settings["defaultNetworks"][0].as_str().unwrap();
    node.write(file, &storage.to_string());
    let shared = shared().catena("storage").device("storage0");
    let mut bench = Bench::new(&others, &node, list, Way::Meta, shared);
    bench.settings = settings;
    bench.lives(|container, result| {
        let addresses = container.json(["ip", "-j", "-4", "addr"]);
        let of = |ifname: &str| -> Value {
            let links = addresses.as_array().unwrap().iter();
            let mut links = links.filter(|link| link["ifname"] == ifname);
            links.next().unwrap_or_else(|| panic!("{addresses:#}"))["addr_info"][0]["local"].clone()
        };
        let first = result["ips"].as_array().unwrap().iter().find_map(|ip| {
            ip["address"].as_str()?.split_once('/').map(|(address, _)| address.to_owned())
        });
        assert_eq!(of("eth0"), first.unwrap(), "the pod's address is the cluster network's");
        assert_eq!(of("net1"), "10.60.0.2");
    });
}

#[test]
fn calico_gives_eth0_and_catena_net1() {
    gives_both("calico", "k8s-pod-network", |others| others.start_calico());
}

#[test]
fn cilium_gives_eth0_and_catena_net1() {
    gives_both("Cilium", "cilium", |others| others.start_cilium());
}

#[test]
fn a_chain_before_cilium_gives_eth0_and_catena_net1() {
    gives_both("Cilium", "behind-cilium", |others| others.start_cilium());
}

#[test]
fn flannel_gives_eth0_and_catena_net1() {
    gives_both("flannel", "cbr0", |others| others.start_flannel(false));
}

#[test]
fn weave_net_gives_eth0_and_catena_net1() {
    gives_both("weave-net", "weave", |others| others.start_weave());
}

/// What outlives the pods of any of them.
fn shared() -> Shared {
    let shared = Shared::none()
        .device("cni0")
        .device("weave")
        .directory("/var/lib/cni/flannel")
        .file("/var/lib/cni/calico*")
        .file("/var/lib/cni/weave*")
        .file("/var/lib/cni/cilium/leases*");
    ["calico/k8s-pod-network", "weave/weave", "cilium/leases/cilium"]
        .iter()
        .fold(shared, |shared, dir| shared.directory(&format!("/var/lib/cni/{dir}")))
}

/// A plugin of the reference's types, as these files have it.
fn reference_portmap() -> Value {
    json!({ "type": "portmap", "snat": true, "capabilities": { "portMappings": true } })
}

#[test]
fn the_file_that_the_software_writes_itself_serves_behind_catena() {
    let calico = json!({
        "type": "calico", "log_level": "info", "datastore_type": "kubernetes", "nodename": "worker", "mtu": 0,
        "ipam": { "type": "calico-ipam" }, "policy": { "type": "k8s" },
        "kubernetes": { "kubeconfig": "/etc/cni/net.d/calico-kubeconfig" }
    });
    let cilium = json!({ "type": "cilium-cni", "enable-debug": false, "log-file": "/var/run/cilium/cilium-cni.log" });
    let flannel =
        json!({ "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } });
    let weave = json!({ "name": "weave", "type": "weave-net", "hairpinMode": true });
    let starts: [fn(&Others<'_>); 4] = [
        |others| others.start_calico(),
        |others| others.start_cilium(),
        |others| others.start_flannel(true),
        |others| others.start_weave(),
    ];
    let files = [
        ("0.3.1", "k8s-pod-network", vec![calico, reference_portmap()]),
        ("0.3.1", "cilium", vec![cilium]),
        ("0.3.1", "cbr0", vec![flannel, reference_portmap()]),
        ("0.3.0", "weave", vec![weave, reference_portmap()]),
    ];
    for (start, (version, name, plugins)) in starts.into_iter().zip(files) {
        println!("{name}");
        let node = Node::new();
        let others = Others::new(&node);
        start(&others);
        let maps = plugins.len() > 1;
        let list = json!({ "cniVersion": version, "name": name, "plugins": plugins });
        let bench = Bench::new(&others, &node, list, Way::Meta, shared());
        let runtime = bench.runtime();
        let c1 = node.container("c1");
        let before = node.snapshot();
        let attachment = bench.attachment(&c1);
        let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{name}: {e}"));
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
        let _server = HttpServer::start(&c1, 80, "page");
        let direct = url(address.parse().unwrap(), 80);
        let mapped = url(bench.uplink.node_v4(), 8080);
        assert_eq!(http_get(&node, &direct).unwrap().text, "page", "{name}");
        assert_eq!(http_get(&bench.uplink, &mapped).is_ok(), maps, "{name}");
        for verb in
            [Runtime::check, |runtime: &Runtime<'_>, one: &_| runtime.gc(std::slice::from_ref(one))]
        {
            verb(&runtime, &attachment).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_same(&before, &node.snapshot(), &bench.shared);
    }
}

/// What the runtime has to do after Catena is taken away again: its folder has the other software's file alone.
#[test]
fn the_other_softwares_file_is_not_touched() {
    let node = Node::new();
    let others = Others::new(&node);
    others.start_calico();
    let list = documented::network("calico", "k8s-pod-network");
    let bench = Bench::new(&others, &node, list.clone(), Way::Meta, Shared::none());
    let before = Snapshot::of(&node);
    bench.runtime();
    let file = "/etc/cni/net.d/10-k8s-pod-network.conflist";
    assert_eq!(std::fs::read_to_string(file).unwrap(), list.to_string());
    assert_same(&before, &Snapshot::of(&node), &Shared::none());
}
