//! kube-proxy's mode iptables.

use testnode::Node;
use testnode::kubernetes::ApiServer;

use crate::cases::{EMPTY, HOST_PORTS, LOCAL, WEB, assert_ports_apart, assert_served};
use crate::cluster::{Cluster, Pods, assert_closed, fetch};

const MODE: &str = "iptables";

fn services_work(pods: Pods, bridge_nf: bool) {
    let node = Node::new();
    node.bridge_nf(bridge_nf);
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let _proxy = cluster.kube_proxy(MODE);
    let (_daemon, network) = cluster.daemon(pods);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    cluster.serve(&WEB, &[&web]);
    cluster.serve(&LOCAL, &[&web]);
    assert_served(&cluster, &web, &client);
    drop_what_is_forwarded(&node);
    assert_served(&cluster, &web, &client);
}

/// As Docker has it.
fn drop_what_is_forwarded(node: &Node) {
    for tool in ["iptables", "ip6tables"] {
        node.run([tool, "--policy", "FORWARD", "DROP"]);
    }
}

#[test]
fn services_work_with_bridge_netfilter() {
    services_work(Pods::PointToPoint, true);
}

#[test]
fn services_work_without_bridge_netfilter() {
    services_work(Pods::PointToPoint, false);
}

#[test]
fn services_work_on_a_bridge_with_bridge_netfilter() {
    services_work(Pods::OnABridge, true);
}

/// Why the pods' network is none.
#[test]
fn services_work_on_a_bridge_without_bridge_netfilter_where_a_pod_has_a_port() {
    let node = Node::new();
    node.bridge_nf(false);
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let _proxy = cluster.kube_proxy(MODE);
    let (_daemon, network) = cluster.daemon(Pods::OnABridge);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    cluster.serve(&WEB, &[&web]);
    for service in WEB.addresses() {
        fetch(&node, service, 80, "web");
        assert_closed(&client.pod, service, 80);
    }
    let _ports = cluster.web_at(&network, "ports", &[8080]);
    for (family, service) in WEB.addresses().into_iter().enumerate() {
        assert_ne!(fetch(&client.pod, service, 80, "web"), client.addresses()[family]);
    }
}

#[test]
fn host_ports_and_services_of_one_number_do_not_hide_each_other() {
    let node = Node::new();
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let _proxy = cluster.kube_proxy(MODE);
    let (_daemon, network) = cluster.daemon(Pods::PointToPoint);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    let ports = cluster.web_at(&network, "ports", &HOST_PORTS);
    for address in cluster.addresses() {
        fetch(&cluster.outside, address, 30080, "ports");
    }
    cluster.serve(&WEB, &[&web]);
    cluster.serve(&EMPTY, &[]);
    assert_ports_apart(&cluster, &client, &ports);

    // The other way around: the Services are there before.
    ports.pod.del();
    drop(ports);
    let ports = cluster.web_at(&network, "ports-again", &HOST_PORTS);
    assert_ports_apart(&cluster, &client, &ports);
}

#[test]
fn kube_proxy_comes_and_goes_and_takes_nothing_of_catenas() {
    let node = Node::new();
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let mut proxy = cluster.kube_proxy(MODE);
    let (_daemon, network) = cluster.daemon(Pods::PointToPoint);
    let (web, client) = (cluster.web(&network, "web"), cluster.web(&network, "client"));
    let _ports = cluster.web_at(&network, "ports", &HOST_PORTS);
    cluster.serve(&WEB, &[&web]);
    cluster.serve(&LOCAL, &[&web]);
    drop_what_is_forwarded(&node);
    assert_served(&cluster, &web, &client);
    let rules = || node.run(["nft", "list", "table", "inet", "catena"]);
    let before = rules();

    proxy.kill();
    cluster.clean_up_after_kube_proxy();
    assert_eq!(rules(), before);
    for address in cluster.addresses() {
        // Nobody else wants it now.
        fetch(&cluster.outside, address, 30080, "ports");
    }
    let mut proxy = cluster.kube_proxy(MODE);
    assert_served(&cluster, &web, &client);

    proxy.kill();
    for tool in ["iptables", "ip6tables"] {
        node.run([tool, "--table", "nat", "--flush"]);
    }
    let _proxy = cluster.kube_proxy(MODE);
    assert_served(&cluster, &web, &client);
    assert_eq!(rules(), before);
}

/// Turns the pings of a pod into answers that nobody asked for, and counts those that come to another.
const ANSWERS: &str = "table ip answers {
    chain output {
        type filter hook output priority 0
        icmp type echo-request icmp type set echo-reply
    }
    chain input {
        type filter hook input priority 0
        icmp type echo-reply counter
    }
}
";

/// Or a late answer of a Service would come to its client under the pod's address, and end the connection.
#[test]
fn what_belongs_to_no_connection_is_left_to_kube_proxy_which_drops_it() {
    let node = Node::new();
    let api = ApiServer::start_beside_kube_proxy(&node, &[]);
    let cluster = Cluster::join(&node, api.admin_kubeconfig());
    let mut proxy = cluster.kube_proxy(MODE);
    let (_daemon, network) = cluster.daemon(Pods::PointToPoint);
    let [from, to] = ["from", "to"].map(|name| network.pod(name));
    for pod in [&from, &to] {
        pod.cmd(["nft", "-f", "-"]).stdin(ANSWERS).output().success();
    }
    let come = || {
        let _ = from.try_run(["ping", "-c", "3", "-i", "0.2", "-W", "1", &to.v4().to_string()]);
        !to.run(["nft", "list", "chain", "ip", "answers", "input"]).contains("packets 0")
    };
    assert!(!come());
    proxy.kill();
    cluster.clean_up_after_kube_proxy();
    assert!(come());
}
