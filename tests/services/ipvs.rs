//! kube-proxy's mode ipvs, on an emulated machine: it wants a kernel with IPVS.

use std::mem::ManuallyDrop;
use std::path::Path;

use serde_json::{Value, json};
use testnode::kubernetes::{ADMIN, ApiServer};
use testnode::{Node, emulated};

use crate::cases::{EMPTY, HOST_PORTS, LOCAL, WEB, assert_ports_beside, assert_served};
use crate::cluster::{Cluster, Pods};

#[test]
fn services_work_and_no_host_port_takes_their_addresses() {
    let Some(kubeconfig) = emulated::given() else {
        let node = Node::new();
        let api = ApiServer::start_beside_kube_proxy(&node, &[]);
        let from_there = api.kubeconfig_at((emulated::NODES_LOOPBACK, 6443).into(), ADMIN);
        let own_name = "ipvs::services_work_and_no_host_port_takes_their_addresses";
        return emulated::run_again(&node, own_name, &from_there);
    };
    let mut kubeconfig: Value =
        serde_json::from_slice(&std::fs::read(kubeconfig).unwrap()).unwrap();
    let authority = &mut kubeconfig["clusters"][0]["cluster"]["certificate-authority"];
    *authority = json!(emulated::path_of(Path::new(authority.as_str().unwrap())));
    // There is no way back from it: outside of it is the root of a machine that ends with this test.
    let node = ManuallyDrop::new(Node::new());
    emulated::join(&node);
    let modules = ["br_netfilter", "dummy", "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"];
    node.run(["busybox", "modprobe", "-a"].iter().chain(&modules));

    let cluster = Cluster::join(&node, node.json_file("kubeconfig", &kubeconfig));
    let _proxy = cluster.kube_proxy("ipvs");
    let (_daemon, network) = cluster.daemon(Pods::PointToPoint);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    cluster.serve(&WEB, &[&web]);
    cluster.serve(&LOCAL, &[&web]);
    for bridge_nf in [true, false] {
        node.bridge_nf(bridge_nf);
        assert_served(&cluster, &web, &client);
    }
    let ports = cluster.web_at(&network, "ports", &HOST_PORTS);
    cluster.serve(&EMPTY, &[]);
    // IPVS comes after all translation, and so after host ports.
    assert_ports_beside(&cluster, &client, &ports, "ports");
}
