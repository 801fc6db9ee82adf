//! Services whose pods are on another node.

use std::net::IpAddr;

use testnode::kubernetes::{ADMIN, ApiServer, kube_proxy};
use testnode::{HttpServer, Node};

use crate::cluster::{CLUSTER, assert_closed, fetch};
use crate::machines::{EVERYWHERE, Wires};
use crate::objects::Service;

const WEB: Service<'_> =
    Service { name: "web", number: 10, port: 80, node_port: Some(30080), local: false };
const LOCAL: Service<'_> =
    Service { name: "local", number: 11, port: 80, node_port: Some(30081), local: true };

#[test]
fn a_service_leads_to_a_pod_of_another_node_and_the_pod_sees_who_asks() {
    let node = Node::new();
    let wires = Wires::with(&node, ApiServer::start_beside_kube_proxy(&node, &[EVERYWHERE]));
    let machines = [wires.machine("a", 1, 11), wires.machine("b", 2, 12)];
    machines[0].join(&["10.1.1.0/24", "fd10:0:0:1::/64"]);
    machines[1].join(&["10.1.2.0/24", "fd10:0:0:2::/64"]);
    let _running = ["a", "b"].into_iter().zip(&machines).map(|(name, machine)| {
        let dir = machine.conf_dir();
        let args = ["--pod-network", "--conf-dir", &dir];
        let daemon = machine.daemon(&args);
        let argv = kube_proxy(name, &machine.kubeconfig(ADMIN), "iptables", CLUSTER);
        (daemon, machine.cmd(argv).spawn(node.fresh_path("kube-proxy.log")))
    });
    let _running: Vec<_> = _running.collect();
    let [a, b] = &machines;
    let (client, web) = (a.pod_of_network("client"), b.pod_of_network("web"));
    let _server = HttpServer::start(&web, 80, "web");
    let addresses = |pods: [String; 2]| pods.map(|address| address.parse::<IpAddr>().unwrap());
    let pods = [("b", addresses(b.addresses_of("web")))];
    WEB.create_for(&wires.api.admin(), &pods);
    LOCAL.create_for(&wires.api.admin(), &pods);
    let own = addresses(a.addresses_of("client"));
    let (at_a, at_b, outside) = (
        addresses(["192.168.1.11".into(), "fd01::b".into()]),
        addresses(["192.168.2.12".into(), "fd02::c".into()]),
        addresses(["192.168.2.1".into(), "fd02::1".into()]),
    );
    for family in [0, 1] {
        assert_eq!(fetch(&client, WEB.addresses()[family], 80, "web"), own[family]);
        fetch(&a.netns, WEB.addresses()[family], 80, "web");
        // By either node's port, to the pod of one.
        fetch(&node, at_a[family], 30080, "web");
        fetch(&node, at_b[family], 30080, "web");
        fetch(&client, at_a[family], 30080, "web");
        // Nodes see a pod as its node.
        assert_ne!(fetch(&client, at_b[family], 30080, "web"), own[family]);
        assert_eq!(fetch(&node, at_b[family], 30081, "web"), outside[family]);
        assert_closed(&node, at_a[family], 30081);
    }
}
