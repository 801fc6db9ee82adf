//! UDP, whose flows outlive the pods they lead to.

use std::net::IpAddr;
use std::thread;

use serde_json::json;
use testnode::{Netns, Pod, UdpClient, UdpServer};

use crate::{LOCALHOST, Setting, both, node_at, port, ports};

in_each_setting! {
    datagrams_are_answered
    a_datagram_client_follows_its_port_to_another_pod
    a_datagram_client_is_not_led_to_the_next_pod_with_the_address
    flows_of_others_are_left_alone
}

fn datagrams_are_answered(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "dns", 1);
    let pod = network.pod_with("pod", &ports([port("udp", 5353, 53)]));
    let (at_pod4, at_pod6) = (pod.v4(), pod.v6());
    let _servers =
        [at_pod4, at_pod6].map(|address| UdpServer::start_at(&pod, (address, 53).into(), "pod"));
    let neighbour = network.pod("neighbour");
    let node_itself: Vec<_> = setting.localhost().chain(node_at(&outside)).collect();
    let clients: [(&Netns, &[IpAddr]); 4] = [
        (&outside, &node_at(&outside)),
        (&node, &node_itself),
        (&neighbour, &node_at(&outside)),
        (&pod, &node_at(&outside)),
    ];
    for (client, addresses) in clients {
        for address in addresses {
            let socket = match address {
                IpAddr::V4(_) => UdpClient::v4(client, 0),
                IpAddr::V6(_) => UdpClient::v6(client, 0),
            };
            assert_eq!(socket.answer((*address, 5353)).text, "pod", "{}", client.name());
        }
    }
}

/// A connection table entry outlives the pod it leads to: without flushing, a client that keeps
/// its port would be sent to the dead pod for as long as it asks.
fn a_datagram_client_follows_its_port_to_another_pod(setting: Setting) {
    for asks_in_between in [false, true] {
        let (node, outside) = setting.node();
        let network = setting.network(&node, "dns", 1);
        let mapping = ports([port("udp", 5353, 53)]);
        let start = |name: &str| {
            let pod = network.pod_with(name, &mapping);
            let addresses = [pod.v4(), pod.v6()];
            (addresses.map(|a| UdpServer::start_at(&pod, (a, 53).into(), name)), pod)
        };
        let clients = [
            (UdpClient::v4(&outside, 4000), outside.node_v4()),
            (UdpClient::v6(&outside, 4006), outside.node_v6()),
            (UdpClient::v4(&node, 4000), LOCALHOST[0]),
        ];
        let (_first_servers, first) = start("first");
        for (client, address) in &clients {
            assert_eq!(client.answer((*address, 5353)).text, "first");
        }
        first.del();
        if asks_in_between {
            // Answered by nobody, but entered into the table as a flow to the node itself.
            thread::scope(|scope| {
                for (client, address) in &clients {
                    scope.spawn(move || client.ask((*address, 5353)).unwrap_err());
                }
            });
        }
        let (_second_servers, _second) = start("second");
        for (client, address) in &clients {
            assert_eq!(client.answer((*address, 5353)).text, "second");
        }
    }
}

/// The port is gone with its pod; the address may soon belong to a pod that nobody outside is to
/// reach.
fn a_datagram_client_is_not_led_to_the_next_pod_with_the_address(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "dns", 1);
    let serve = |pod: &Pod<'_>, text: &str| {
        [pod.v4(), pod.v6()].map(|a| UdpServer::start_at(pod, (a, 53).into(), text))
    };
    let pod = network.pod_with("pod", &ports([port("udp", 5353, 53)]));
    let _servers = serve(&pod, "pod");
    let clients = [
        (UdpClient::v4(&outside, 0), outside.node_v4()),
        (UdpClient::v6(&outside, 0), outside.node_v6()),
    ];
    for (client, address) in &clients {
        assert_eq!(client.answer((*address, 5353)).text, "pod");
    }
    let addresses = [format!("{}/24", pod.v4()), format!("{}/64", pod.v6())];
    pod.del();
    let heir = network.pod_with("heir", &json!({ "ips": addresses }));
    let heirs_servers = serve(&heir, "heir");
    for (client, address) in &clients {
        client.ask((*address, 5353)).unwrap_err();
    }
    assert!(heirs_servers.iter().all(|server| server.peers().is_empty()));
}

/// Flows to other hosts may have the same port: flushing these would cut everyone's DNS.
fn flows_of_others_are_left_alone(setting: Setting) {
    let (node, outside) = setting.node();
    let network = setting.network(&node, "dns", 1);
    let _resolver =
        both(&outside).map(|a| UdpServer::start_at(&outside, (a, 53).into(), "the resolver"));
    let pod = network.pod_with("pod", &ports([port("udp", 53, 53)]));
    let other = network.pod("other");
    for (client, address) in
        [(UdpClient::v4(&other, 0), outside.v4()), (UdpClient::v6(&other, 0), outside.v6())]
    {
        assert_eq!(client.answer((address, 53)).text, "the resolver");
    }
    let flows = || -> Vec<String> {
        let to = both(&outside).map(|address| format!("dst={address} "));
        let families = ["ipv4", "ipv6"].map(|family| {
            node.run(["conntrack", "-L", "-f", family, "-p", "udp", "--dport", "53", "-o", "id"])
        });
        let mut ids: Vec<String> = families
            .iter()
            .flat_map(|listing| listing.lines())
            .filter(|line| to.iter().any(|to| line.contains(to)))
            .filter_map(|line| line.split_once("id=").map(|(_, id)| id.trim().to_owned()))
            .collect();
        ids.sort();
        ids
    };
    let before = flows();
    assert_eq!(before.len(), 2, "{before:?}");
    pod.del();
    network.pod_with("next", &ports([port("udp", 53, 53)]));
    assert_eq!(flows(), before);
}
