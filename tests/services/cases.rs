//! What has to hold whoever translates the addresses of Services.

use std::net::IpAddr;

use testnode::Netns;

use crate::cluster::{Cluster, Web, assert_refused, fetch};
use crate::objects::Service;

pub const WEB: Service<'_> =
    Service { name: "web", number: 10, port: 80, node_port: Some(30080), local: false };
pub const LOCAL: Service<'_> =
    Service { name: "local", number: 11, port: 80, node_port: Some(30081), local: true };
/// Nobody serves it.
pub const EMPTY: Service<'_> =
    Service { name: "empty", number: 12, port: 8080, node_port: None, local: false };

/// Pods, the node and a host outside reach the pod behind [`WEB`] and [`LOCAL`] wherever it is.
pub fn assert_served(cluster: &Cluster<'_>, web: &Web<'_>, client: &Web<'_>) {
    let Cluster { node, outside, .. } = cluster;
    for family in [0, 1] {
        let service = WEB.addresses()[family];
        // Between pods nobody translates the client's address.
        let seen = fetch(&client.pod, service, WEB.port, "web");
        assert_eq!(seen, client.addresses()[family]);
        // To itself: the answer has to come back through the node.
        let seen = fetch(&web.pod, service, WEB.port, "web");
        assert_ne!(seen, web.addresses()[family]);
        fetch(node, service, WEB.port, "web");

        let node_at = cluster.addresses()[family];
        fetch(&client.pod, node_at, 30080, "web");
        fetch(&web.pod, node_at, 30080, "web");
        fetch(node, node_at, 30080, "web");
        let seen = fetch(outside, node_at, 30080, "web");
        assert_ne!(seen, outside_at(cluster)[family], "kube-proxy masquerades it");
        let seen = fetch(outside, node_at, 30081, "web");
        assert_eq!(seen, outside_at(cluster)[family], "externalTrafficPolicy: Local");
    }
}

fn outside_at(cluster: &Cluster<'_>) -> [IpAddr; 2] {
    [cluster.outside.v4(), cluster.outside.v6()]
}

/// Host ports that have the numbers of Services and NodePorts.
pub const HOST_PORTS: [u16; 3] = [80, 8080, 30080];

/// The host ports are the node's own, and nothing of a Service's; one that is a NodePort, too, is that one's.
pub fn assert_ports_apart(cluster: &Cluster<'_>, client: &Web<'_>, ports: &Web<'_>) {
    assert_ports_beside(cluster, client, ports, "web");
}

/// The same where a port that is both is `both`'s.
pub fn assert_ports_beside(cluster: &Cluster<'_>, client: &Web<'_>, ports: &Web<'_>, both: &str) {
    let Cluster { node, outside, .. } = cluster;
    let ports = ports.pod.name();
    for family in [0, 1] {
        let node_at = cluster.addresses()[family];
        // At once, and not after some time.
        assert_refused(&client.pod, EMPTY.addresses()[family], 8080);
        assert_refused(node, EMPTY.addresses()[family], 8080);
        let from: [&Netns; 3] = [&client.pod, node, outside];
        for from in from {
            fetch(from, WEB.addresses()[family], 80, "web");
            fetch(from, node_at, 30080, both);
            fetch(from, node_at, 80, ports);
            fetch(from, node_at, 8080, ports);
        }
    }
}
