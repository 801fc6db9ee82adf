//! Host ports of pods that the daemon's own network attaches.

use serde_json::json;
use testnode::{HttpServer, Node, http_get, url};

use crate::egress::outside;
use crate::machines::Wires;
use crate::{A, B};

#[test]
fn host_ports_are_reached_from_outside_from_other_nodes_and_from_their_pods() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let outside = outside(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    a.join(&A);
    b.join(&B);
    let _daemons = [&a, &b]
        .map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    a.await_kept(&B);
    b.await_kept(&A);
    let port =
        json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] });
    let web = a.pod_that_asks("web", &port);
    let (near, far) = (a.pod_of_network("near"), b.pod_of_network("far"));
    for (ip, seen) in [
        ("192.168.1.11", ["192.0.2.7", "192.168.2.12", "192.168.2.12"]),
        ("fd01::b", ["2001:db8::7", "fd02::c", "fd02::c"]),
    ] {
        let ip = ip.parse().unwrap();
        let server = HttpServer::start(&web, 80, "web");
        for from in [&*outside, &b.netns, &far, &near, &a.netns] {
            assert_eq!(http_get(from, &url(ip, 8080)).unwrap().text, "web", "{}", from.name());
        }
        let peers: Vec<_> = server.peers().iter().map(|peer| peer.ip().to_string()).collect();
        assert_eq!(peers[..3], seen, "who comes from outside of the node is seen as itself");
    }
}
