//! A page fetched from everywhere.

use testnode::{HttpServer, http_get, url};

use crate::{LOCALHOST, Setting, assert_page, assert_refused, both, node_at, port, ports, web};

in_each_setting! {
    a_page_is_served_to_hosts_outside
    a_page_is_served_to_the_node_itself
    a_page_is_served_to_pods_of_the_network
    a_page_is_served_to_the_pod_itself
    a_page_is_served_to_pods_of_other_networks
    pods_have_ports_of_their_own
}

fn a_page_is_served_to_hosts_outside(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "web", 1);
    let (pod, _server) = web(&network, "pod");
    for (node_at, outside_at) in node_at(&outside).into_iter().zip(both(&outside)) {
        let answer = http_get(&outside, &url(node_at, 8080)).unwrap();
        assert_eq!(answer.text, "pod");
        assert_eq!(answer.from.ip(), outside_at, "the client's address is kept");
    }
    pod.del();
    for node_at in node_at(&outside) {
        assert_refused(&outside, node_at, 8080);
    }
}

fn a_page_is_served_to_the_node_itself(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "web", 1);
    let (pod, _server) = web(&network, "pod");
    for address in setting.localhost().chain(node_at(&outside)) {
        assert_page(&node, address, 8080, "pod");
    }
    for address in LOCALHOST.into_iter().filter(|a| !setting.localhost().any(|open| open == *a)) {
        assert_refused(&node, address, 8080);
    }
    pod.del();
    for address in LOCALHOST.into_iter().chain(node_at(&outside)) {
        assert_refused(&node, address, 8080);
    }
}

fn a_page_is_served_to_pods_of_the_network(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "web", 1);
    let (_pod, _server) = web(&network, "pod");
    let client = network.pod("client");
    for address in node_at(&outside) {
        assert_page(&client, address, 8080, "pod");
    }
    if setting.plugin == "bridge" {
        for gateway in ["10.1.0.1", "fd00:1::1"] {
            assert_page(&client, gateway.parse().unwrap(), 8080, "pod");
        }
    }
}

fn a_page_is_served_to_the_pod_itself(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "web", 1);
    let (pod, _server) = web(&network, "pod");
    for address in node_at(&outside) {
        assert_page(&pod, address, 8080, "pod");
    }
}

fn a_page_is_served_to_pods_of_other_networks(setting: Setting) {
    let (node, outside) = setting.node();
    let (network, other) = (setting.network(&node, "web", 1), setting.network(&node, "db", 2));
    let (_pod, _server) = web(&network, "pod");
    let client = other.pod("client");
    for address in node_at(&outside) {
        assert_page(&client, address, 8080, "pod");
    }
}

fn pods_have_ports_of_their_own(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "web", 1);
    let first = network.pod_with("first", &ports([port("tcp", 8081, 80), port("tcp", 8443, 443)]));
    let second = network.pod_with("second", &ports([port("tcp", 8082, 80)]));
    let _servers = [
        HttpServer::start(&first, 80, "first"),
        HttpServer::start(&first, 443, "first, secure"),
        HttpServer::start(&second, 80, "second"),
    ];
    for address in node_at(&outside) {
        assert_page(&outside, address, 8081, "first");
        assert_page(&outside, address, 8443, "first, secure");
        assert_page(&outside, address, 8082, "second");
    }
    for address in setting.localhost() {
        assert_page(&node, address, 8081, "first");
        assert_page(&node, address, 8082, "second");
    }
    first.del();
    for address in node_at(&outside) {
        assert_refused(&outside, address, 8081);
        assert_page(&outside, address, 8082, "second");
    }
    for address in setting.localhost() {
        assert_refused(&node, address, 8081);
        assert_page(&node, address, 8082, "second");
    }
}
