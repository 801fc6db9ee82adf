//! Host ports take nothing that is not theirs, and open nothing else.

use std::net::SocketAddr;
use std::thread;

use testnode::{HttpServer, Netns, UdpClient, UdpServer, url};

use crate::{LOCALHOST, Setting, assert_page, both, node_at, port, ports, web};

in_each_setting! {
    cve_2020_8558_neighbours_do_not_reach_the_loopback_services_of_the_node
    cve_2025_67499_packets_for_other_hosts_are_not_taken
    cve_2019_9946_rules_of_the_node_go_before_host_ports
}

/// That localhost has the pods' ports needs `route_localnet`, which alone would let everyone on
/// the link reach what listens on the node's 127.0.0.1 (CVE-2020-8558).
fn cve_2020_8558_neighbours_do_not_reach_the_loopback_services_of_the_node(setting: Setting) {
    let (node, outside) = setting.node();
    // As kube-proxy has it.
    node.set_sysctl("ipv4.conf.all.route_localnet", "1");
    let network = setting.network(&node, "dns", 1);
    let pod = network.pod_with("pod", &ports([port("udp", 5353, 53)]));
    let attacker = network.pod("attacker");
    let node_services = LOCALHOST
        .map(|address| UdpServer::start_at(&node, SocketAddr::new(address, 9000), "the node"));
    let pod_service = UdpServer::start(&pod, 53, "pod");
    let seen = || {
        let servers = node_services.iter().chain([&pod_service]);
        servers.map(|server| server.peers().len()).collect::<Vec<_>>()
    };
    // Whether it arrives is what counts; not all could be answered.
    let ask = |hosts: [&Netns; 2], ports: [u16; 2]| {
        thread::scope(|scope| {
            for (host, port) in hosts.into_iter().flat_map(|host| ports.map(|port| (host, port))) {
                scope.spawn(move || UdpClient::v4(host, 0).ask((LOCALHOST[0], port)));
                scope.spawn(move || UdpClient::v6(host, 0).ask((LOCALHOST[1], port)));
            }
        });
    };
    let attackers = [&*outside, &**attacker];
    let gateways = ["10.1.0.1", "fd00:1::1"].map(|address| address.parse().unwrap());
    for (host, via) in attackers.into_iter().zip([node_at(&outside), gateways]) {
        host.ip("addr flush dev lo\nlink set lo down\n");
        for conf in ["all", "eth0"] {
            host.set_sysctl(&format!("ipv4.conf.{conf}.route_localnet"), "1");
        }
        host.ip(&format!(
            "route add 127.0.0.1 via {} dev eth0\nroute add ::1 via {} dev eth0\n",
            via[0], via[1]
        ));
    }
    ask(attackers, [9000, 5353]);
    assert_eq!(seen(), [0, 0, 0]);
    // The attack is a real one: it succeeds as soon as the rules are gone.
    node.run(["nft", "delete", "table", "inet", "catena"]);
    for attacker in attackers {
        assert_eq!(UdpClient::v4(attacker, 0).answer((LOCALHOST[0], 9000)).text, "the node");
    }
}

/// The node forwards for others: their connections to the same port elsewhere are not for its
/// pods (CVE-2025-67499).
fn cve_2025_67499_packets_for_other_hosts_are_not_taken(setting: Setting) {
    let (node, outside) = setting.node();
    let elsewhere = node.neighbour("elsewhere", "198.51.100.2/24", "2001:db8:1::2/64");
    let _elsewhere_server = HttpServer::start(&elsewhere, 8080, "elsewhere");
    let network = setting.network(&node, "web", 1);
    let (pod, _server) = web(&network, "pod");
    let other = network.pod("other");
    let _other_server = HttpServer::start(&other, 8080, "other");
    for address in both(&elsewhere) {
        for from in [&*outside, &*node, &**pod, &**other] {
            assert_page(from, address, 8080, "elsewhere");
        }
    }
    for address in [other.v4(), other.v6()] {
        for from in [&*outside, &*node, &**pod] {
            assert_page(from, address, 8080, "other");
        }
    }
}

/// A port that the node's own rules give to another is not taken over (CVE-2019-9946).
fn cve_2019_9946_rules_of_the_node_go_before_host_ports(setting: Setting) {
    let (node, outside) = setting.node();
    let elsewhere = node.neighbour("elsewhere", "198.51.100.2/24", "2001:db8:1::2/64");
    let _elsewhere_server = HttpServer::start(&elsewhere, 80, "elsewhere");
    let network = setting.network(&node, "web", 1);
    let (_pod, _server) = web(&network, "pod");
    node.cmd(["nft", "-f", "-"])
        .stdin(
            "table ip own {
                chain prerouting {
                    type nat hook prerouting priority dstnat;
                    ip daddr 192.0.2.1 tcp dport 8080 dnat to 198.51.100.2:80
                }
            }",
        )
        .output()
        .success();
    assert_page(&outside, outside.node_v4(), 8080, "elsewhere");
    assert_page(&outside, outside.node_v6(), 8080, "pod");
    let own_port = url(outside.node_v4(), 8080);
    node.run(["nft", "delete", "table", "ip", "own"]);
    assert_eq!(testnode::http_get(&outside, &own_port).unwrap().text, "pod");
}
