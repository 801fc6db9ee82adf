//! Ports of one address of the node (`hostIP`).

use testnode::HttpServer;

use crate::{LOCALHOST, Setting, assert_page, assert_refused, at, node_at, port, ports};

in_each_setting! {
    a_host_ip_restricts_the_port_to_this_address
    a_host_ip_goes_before_any_address
}

fn a_host_ip_restricts_the_port_to_this_address(setting: Setting) {
    let (node, outside) = setting.node();
    node.ip("addr add 192.0.2.10/24 dev outside\naddr add 2001:db8::10/64 dev outside nodad\n");
    let network = setting.network(&node, "web", 1);
    let mappings = ["192.0.2.10", "2001:db8::10"].map(|ip| at(ip, port("tcp", 8080, 80)));
    let pod = network.pod_with("pod", &ports(mappings));
    let _server = HttpServer::start(&pod, 80, "pod");
    for host_ip in ["192.0.2.10", "2001:db8::10"] {
        let host_ip = host_ip.parse().unwrap();
        assert_page(&outside, host_ip, 8080, "pod");
        assert_page(&node, host_ip, 8080, "pod");
        assert_page(&pod, host_ip, 8080, "pod");
    }
    for other in node_at(&outside) {
        assert_refused(&outside, other, 8080);
    }
    for other in LOCALHOST.into_iter().chain(node_at(&outside)) {
        assert_refused(&node, other, 8080);
    }
}

fn a_host_ip_goes_before_any_address(setting: Setting) {
    for host_ip_first in [true, false] {
        let (node, outside) = setting.node();
        let network = setting.network(&node, "web", 1);
        let restricted = || {
            let mappings = node_at(&outside).map(|ip| at(ip, port("tcp", 8080, 80)));
            network.pod_with("restricted", &ports(mappings))
        };
        let open = || network.pod_with("open", &ports([port("tcp", 8080, 80)]));
        let (restricted, open) = if host_ip_first {
            let restricted = restricted();
            (restricted, open())
        } else {
            let open = open();
            (restricted(), open)
        };
        let _servers = [(&restricted, "restricted"), (&open, "open")]
            .map(|(p, t)| HttpServer::start(p, 80, t));
        for address in node_at(&outside) {
            assert_page(&outside, address, 8080, "restricted");
        }
        for address in setting.localhost() {
            assert_page(&node, address, 8080, "open");
        }
        restricted.del();
        for address in node_at(&outside) {
            assert_page(&outside, address, 8080, "open");
        }
    }
}
