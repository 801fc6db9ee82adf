//! A second network beside each of the others', by the node's own files. (With the API server: tests/kubernetes/beside.rs.)

use serde_json::Value;
use testnode::{Node, Others, Shared, Snapshot, assert_same};

use crate::documented;
use crate::ways::{Bench, Way};

/// The network, and its software's start.
type Software = (&'static str, &'static str, fn(&Others<'_>));

const ALL: [Software; 5] = [
    ("calico", "k8s-pod-network", |others| others.start_calico()),
    ("Cilium", "cilium", |others| others.start_cilium()),
    ("Cilium", "behind-cilium", |others| others.start_cilium()),
    ("flannel", "cbr0", |others| others.start_flannel(false)),
    ("weave-net", "weave", |others| others.start_weave()),
];

#[test]
fn each_of_them_gives_eth0_and_catena_net1() {
    for (heading, name, start) in ALL {
        println!("{name}");
        let node = Node::new();
        let others = Others::new(&node);
        start(&others);
        let list = documented::network(heading, name);
        let [settings, storage] = documented::section("A second network").try_into().unwrap();
        let file = settings["defaultNetworks"][0].as_str().unwrap();
        node.write(file, &storage.to_string());
        let shared = Shared::none()
            .catena("storage")
            .device("storage0")
            .device("cni0")
            .device("weave")
            .directory("/var/lib/cni/flannel")
            .file("/var/lib/cni/calico*")
            .file("/var/lib/cni/weave*")
            .file("/var/lib/cni/cilium/leases*")
            .directory("/var/lib/cni/cilium/leases/cilium")
            .directory("/var/lib/cni/calico/k8s-pod-network")
            .directory("/var/lib/cni/weave/weave");
        let mut bench = Bench::new(&others, &node, list, Way::Meta, shared);
        bench.settings = settings;
        bench.lives(|container, result| {
            let addresses = container.json(["ip", "-j", "-4", "addr"]);
            let of = |ifname: &str| -> Value {
                let links = addresses.as_array().unwrap().iter();
                let mut links = links.filter(|link| link["ifname"] == ifname);
                links.next().unwrap_or_else(|| panic!("{addresses:#}"))["addr_info"][0]["local"]
                    .clone()
            };
            let first = result["ips"].as_array().unwrap().iter().find_map(|ip| {
                ip["address"].as_str()?.split_once('/').map(|(address, _)| address.to_owned())
            });
            assert_eq!(of("eth0"), first.unwrap(), "the pod's address is the cluster network's");
            assert_eq!(of("net1"), "10.60.0.2");
        });
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
