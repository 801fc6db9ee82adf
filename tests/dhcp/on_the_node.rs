//! DHCP servers on the node itself, beside each server: what a pod has of them goes back, though no frame that a bridge sends comes
//! back to its host.

use serde_json::json;
use testnode::Node;
use testnode::dhcp::{Family, Pool, Program};

use crate::lan::{Lan, address, list, list_with};

/// Its namespace is gone without DEL.
fn a_lease_of_a_server_on_the_node_is_given_back(program: Program) {
    let node = Node::new();
    let lan = Lan::on_the_node(&node, program, Pool::new(Family::V4));
    let daemon = lan.daemon();
    let [one, two] = ["one", "two"].map(|name| node.container(name));
    let [gone, stays] = [&one, &two].map(|pod| address(&lan.catena().add(&list(), pod)));
    // The bridge has another hardware address without the first one, and its first one without both.
    one.delete();
    lan.await_released(&gone);
    daemon.await_log(&format!("{gone} is given back"));
    assert_eq!((lan.server.released(&gone), lan.server.released(&stays)), (1, 0));
    two.ping("10.7.0.1");
    two.delete();
    lan.await_released(&stays);
}

/// The same of IPv6.
fn a_lease_of_ipv6_of_a_server_on_the_node_is_given_back(program: Program) {
    let node = Node::new();
    let lan = Lan::on_the_node(&node, program, Pool::new(Family::V6));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let list = list_with(json!({ "ipFamilies": ["IPv6"] }));
    let address = address(&lan.catena().add(&list, &pod));
    pod.delete();
    // The server has said so.
    daemon.await_log(&format!("{address} is given back"));
    let has_heard = match program {
        Program::Dnsmasq => lan.server.log().contains("release received"),
        _ => lan.server.released(&address) > 0,
    };
    assert!(has_heard, "{}", lan.server.log());
}

#[test]
fn a_lease_of_dnsmasq_on_the_node_is_given_back() {
    a_lease_of_a_server_on_the_node_is_given_back(Program::Dnsmasq);
}

#[test]
fn a_lease_of_kea_on_the_node_is_given_back() {
    a_lease_of_a_server_on_the_node_is_given_back(Program::Kea);
}

#[test]
fn a_lease_of_dhcpd_on_the_node_is_given_back() {
    a_lease_of_a_server_on_the_node_is_given_back(Program::Isc);
}

#[test]
fn a_lease_of_ipv6_of_dnsmasq_on_the_node_is_given_back() {
    a_lease_of_ipv6_of_a_server_on_the_node_is_given_back(Program::Dnsmasq);
}

#[test]
fn a_lease_of_ipv6_of_kea_on_the_node_is_given_back() {
    a_lease_of_ipv6_of_a_server_on_the_node_is_given_back(Program::Kea);
}

#[test]
fn a_lease_of_ipv6_of_dhcpd_on_the_node_is_given_back() {
    a_lease_of_ipv6_of_a_server_on_the_node_is_given_back(Program::Isc);
}

/// The server is behind it: what the pod takes for the server's is the bridge's hardware address.
#[test]
fn a_lease_that_came_by_a_relay_on_the_node_is_given_back() {
    let node = Node::new();
    let lan = Lan::new(&node);
    node.ip("link set cni1 address 02:00:00:00:00:09\nlink set lan nomaster\naddr add 10.8.0.1/24 dev lan\naddr add 10.7.0.1/24 dev cni1\n");
    let host = lan.server.host();
    host.ip("addr add 10.8.0.2/24 dev eth0\naddr del 10.7.0.1/24 dev eth0\n\
         route add 10.7.0.0/24 via 10.8.0.1\n");
    let relay =
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"];
    let relay = node.cmd(relay).args(["--interface=cni1", "--dhcp-relay=10.7.0.1,10.8.0.2"]);
    let _relay =
        relay.args(["--log-facility=-", "--pid-file="]).spawn(node.fresh_path("relay.log"));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    daemon.await_log(&format!("has {address} of 10.8.0.2"));
    pod.delete();
    lan.await_released(&address);
}
