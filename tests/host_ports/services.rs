//! Services, which somebody else's rules lead to pods: also to pods on the client's own bridge.

use std::net::IpAddr;

use testnode::{Netns, Node, Pod};

use crate::{Setting, assert_page, web};

in_each_setting! {
    a_service_answers_pods_of_its_own_network
}

const SERVICES: [&str; 2] = ["10.96.0.1", "fd00:96::1"];

/// As kube-proxy has it: an address that is nobody's, and that is translated.
fn serve(node: &Node, pod: &Pod<'_>) -> [IpAddr; 2] {
    let mut rules = String::new();
    for (family, service, to) in [
        ("ip", SERVICES[0], format!("{}:80", pod.v4())),
        ("ip6", SERVICES[1], format!("[{}]:80", pod.v6())),
    ] {
        for hook in ["prerouting", "output"] {
            rules += &format!(
                "table {family} kube-proxy {{
                    chain {hook} {{
                        type nat hook {hook} priority -100
                        {family} daddr {service} tcp dport 80 dnat to {to}
                    }}
                }}\n"
            );
        }
    }
    node.cmd(["nft", "-f", "-"]).stdin(rules).output().success();
    SERVICES.map(|service| service.parse().unwrap())
}

/// The answer of a pod on the client's bridge goes straight to the client, past the node, where bridged packets do not pass
/// the IP hooks.
fn a_service_answers_pods_of_its_own_network(setting: Setting) {
    let (node, outside) = setting.node();
    let (network, other) = (setting.network(&node, "web", 1), setting.network(&node, "db", 2));
    let (pod, _server) = web(&network, "pod");
    let (client, stranger) = (network.pod("client"), other.pod("stranger"));
    let from: [&Netns; 4] = [&client, &stranger, &outside, &node];
    // The node has routes for what leaves it first.
    node.ip("route add 10.96.0.0/12 dev lo\nroute add fd00:96::/108 dev lo\n");
    for service in serve(&node, &pod) {
        for client in from {
            assert_page(client, service, 80, "pod");
        }
    }
}
