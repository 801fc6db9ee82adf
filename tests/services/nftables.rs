//! kube-proxy's mode nftables, by a stand-in: its rules for some Services, as they are documented (`kube-proxy.nft`).

use std::net::SocketAddr;

use testnode::Node;
use testnode::kubernetes::ApiServer;

use crate::cases::{EMPTY, HOST_PORTS, LOCAL, WEB, assert_ports_apart, assert_served};
use crate::cluster::{CLUSTER, Cluster, Pods, SERVICES, Web};

const RULES: &str = include_str!("kube-proxy.nft");

/// Loads the rules for Services of this pod.
fn serve(node: &Node, web: &Web<'_>) {
    let both = |cidrs: &str| cidrs.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (pods, services) = (both(CLUSTER), both(SERVICES));
    for (family, (name, kind)) in [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")].iter().enumerate() {
        let pod = web.addresses()[family];
        let rules = RULES
            .replace("$IP", name)
            .replace("$TYPE", kind)
            .replace("$PODS", &pods[family])
            .replace("$SERVICES", &services[family])
            .replace("$WEB", &WEB.addresses()[family].to_string())
            .replace("$LOCAL", &LOCAL.addresses()[family].to_string())
            .replace("$EMPTY", &EMPTY.addresses()[family].to_string())
            .replace("$POD", &pod.to_string())
            .replace("$AT", &SocketAddr::new(pod, 80).to_string());
        node.cmd(["nft", "-f", "-"]).stdin(rules).output().success();
    }
}

/// A firewall that drops what it does not know.
const FILTER: &str = "table inet filter {\n chain forward {\n type filter hook forward priority 0; policy drop;\n }\n}\n";

fn services_work(bridge_nf: bool) {
    let node = Node::new();
    node.bridge_nf(bridge_nf);
    node.cmd(["nft", "-f", "-"]).stdin(FILTER).output().success();
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let (_daemon, network) = cluster.daemon(Pods::PointToPoint);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    serve(&node, &web);
    assert_served(&cluster, &web, &client);
    let ports = cluster.web_at(&network, "ports", &HOST_PORTS);
    assert_ports_apart(&cluster, &client, &ports);
}

#[test]
fn services_work_with_bridge_netfilter() {
    services_work(true);
}

#[test]
fn services_work_without_bridge_netfilter() {
    services_work(false);
}
