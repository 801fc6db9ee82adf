//! Ports that are taken under conditions only, and what a container sees of its clients.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use testnode::{HttpServer, Node, http_get, url};

use crate::{LOCALHOST, Setting, assert_page, assert_refused, at, both, node_at, port, ports, web};

in_each_setting! {
    a_port_is_taken_only_where_its_conditions_hold
    a_port_whose_conditions_do_not_hold_is_left_to_others
    conditions_are_gone_with_their_port
    with_masq_all_the_node_is_the_client_of_every_connection
    a_services_address_on_kube_ipvs0_keeps_its_ports
}

/// One condition of each kind, in either language: what it is, and from which of the two hosts outside, and from the node
/// itself, the port is taken.
fn kinds() -> Vec<(Value, [bool; 3])> {
    vec![
        (
            json!({ "conditionsV4": ["-s", "192.0.2.0/24"], "conditionsV6": ["-s", "2001:db8::/64"] }),
            [true, false, true],
        ),
        (
            json!({ "conditionsV4": ["ip saddr != 192.0.2.2"], "conditionsV6": ["ip6", "saddr", "!=", "2001:db8::2"] }),
            [false, true, true],
        ),
        (
            json!({ "conditionsV4": ["-i", "outside"], "conditionsV6": ["iifname outside"] }),
            [true, false, false],
        ),
        (
            json!({ "conditionsV4": ["!", "-i", "out+"], "conditionsV6": ["meta iifname != \"out*\""] }),
            [false, true, true],
        ),
        (
            json!({ "conditionsV4": ["!", "-d", "192.0.2.0/24"], "conditionsV6": ["!", "-d", "2001:db8::/64"] }),
            [false, true, false],
        ),
        (
            json!({ "conditionsV4": ["-d", "192.0.2.1", "-s", "192.0.2.2/32"], "conditionsV6": ["ip6 daddr 2001:db8::1 ip6 saddr 2001:db8::2"] }),
            [true, false, false],
        ),
    ]
}

fn a_port_is_taken_only_where_its_conditions_hold(setting: Setting) {
    for (conditions, taken) in kinds() {
        eprintln!("{conditions}");
        let (node, outside) = setting.node();
        let elsewhere = node.neighbour("elsewhere", "198.51.100.2/24", "2001:db8:1::2/64");
        let network = setting.network_with(&node, "web", 1, &conditions);
        let (_pod, _server) = web(&network, "pod");
        let clients = [
            (&*outside, node_at(&outside)),
            (&*elsewhere, node_at(&elsewhere)),
            (&*node, node_at(&outside)),
        ];
        for ((client, addresses), taken) in clients.into_iter().zip(taken) {
            for address in addresses {
                if taken {
                    assert_page(client, address, 8080, "pod");
                } else {
                    assert_refused(client, address, 8080);
                }
            }
        }
    }
}

/// A port of one address whose conditions do not hold is one of all addresses, where it is published as that.
fn a_port_whose_conditions_do_not_hold_is_left_to_others(setting: Setting) {
    let (node, outside) = setting.node();
    let conditions = json!({ "conditionsV4": ["-i", "none"], "conditionsV6": ["-i", "none"] });
    let (strict, lax) =
        (setting.network_with(&node, "strict", 1, &conditions), setting.network(&node, "lax", 2));
    let mappings = node_at(&outside).map(|ip| at(ip, port("tcp", 8080, 80)));
    let restricted = strict.pod_with("restricted", &ports(mappings));
    let _restricted_server = HttpServer::start(&restricted, 80, "restricted");
    let own = HttpServer::start(&node, 8080, "the node's own");
    for address in node_at(&outside) {
        assert_page(&outside, address, 8080, "the node's own");
    }
    drop(own);
    let (_open, _open_server) = web(&lax, "open");
    for address in node_at(&outside) {
        assert_page(&outside, address, 8080, "open");
    }
}

fn conditions_are_gone_with_their_port(setting: Setting) {
    let (node, outside) = setting.node();
    let conditions = json!({ "conditionsV4": ["-i", "none"], "conditionsV6": ["-i", "none"] });
    let network = setting.network_with(&node, "strict", 1, &conditions);
    let (first, _first_server) = web(&network, "first");
    let listing = || node.run(["nft", "list", "table", "inet", "catena"]);
    assert!(listing().contains("goto ports_"));
    first.del();
    assert!(!listing().contains("ports_"), "{}", listing());
    let lax = setting.network(&node, "lax", 2);
    let (_second, _second_server) = web(&lax, "second");
    for address in node_at(&outside) {
        assert_page(&outside, address, 8080, "second");
    }
}

fn with_masq_all_the_node_is_the_client_of_every_connection(setting: Setting) {
    for (fields, is_outside) in
        [(json!({ "masqAll": true }), false), (json!({ "masqAll": true, "snat": false }), true)]
    {
        let (node, outside) = setting.node();
        let network = setting.network_with(&node, "web", 1, &fields);
        let (pod, _server) = web(&network, "pod");
        for (node_at, outside_at) in node_at(&outside).into_iter().zip(both(&outside)) {
            let answer = http_get(&outside, &url(node_at, 8080)).unwrap();
            assert_eq!(answer.text, "pod");
            assert_eq!(answer.from.ip() == outside_at, is_outside, "{fields}: {answer:?}");
        }
        // What comes to the pod's own address is as it was.
        let answer = http_get(&outside, &url(pod.v4(), 80)).unwrap();
        assert_eq!(answer.from.ip(), outside.v4());
        pod.del();
        let left = node.run(["nft", "list", "set", "inet", "catena", "masqueraded4"]);
        assert!(!left.contains("elements"), "{left}");
    }
}

/// The node's interface with the addresses of Services, as kube-proxy's IPVS mode has it: each is a local address.
fn kube_ipvs0(node: &Node) -> [IpAddr; 2] {
    // kube-proxy's is of the kind dummy; a bridge without ports is as silent.
    node.ip("link add kube-ipvs0 type bridge\naddr add 10.96.0.1/32 dev kube-ipvs0\n\
         addr add fd00:96::1/128 dev kube-ipvs0 nodad\n");
    ["10.96.0.1", "fd00:96::1"].map(|address| address.parse().unwrap())
}

fn a_services_address_on_kube_ipvs0_keeps_its_ports(setting: Setting) {
    let (node, outside) = setting.node();
    let services = kube_ipvs0(&node);
    let _api = services.map(|address| {
        HttpServer::start_at(&node, SocketAddr::new(address, 8080), "the API server")
    });
    let excluded = json!({ "excludedCIDRs": ["10.96.0.0/12", "fd00:96::/108"] });
    let network = setting.network_with(&node, "web", 1, &excluded);
    let (pod, _server) = web(&network, "pod");
    let client = network.pod("client");
    for client in [&*outside, &*node, &**pod, &**client] {
        for service in services {
            assert_page(client, service, 8080, "the API server");
        }
        for address in node_at(&outside) {
            assert_page(client, address, 8080, "pod");
        }
    }
    for address in setting.localhost() {
        assert_page(&node, address, 8080, "pod");
    }
    // Without the field it is as with the reference: every local address is the node's.
    pod.del();
    let network = setting.network(&node, "taking", 2);
    let (_pod, _server) = web(&network, "taking");
    for service in services {
        assert_page(&outside, service, 8080, "taking");
    }
    assert_page(&node, LOCALHOST[0], 8080, "taking");
}
