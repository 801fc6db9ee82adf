//! What the ruleset does to real connections.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::net::SocketAddr;

use nft_templates::{Action, Element, Policy, Resolution, Ruleset};
use node::{Node, adding, egress, hairpin, nft, open, owner, port};
use testnode::{Container, HttpServer, Neighbour, Netns, UdpClient, UdpServer, http_get};

/// A node with two pods on the bridge br0, one on a link of its own, and a host outside.
struct Net {
    node: Node,
    outside: Neighbour,
    pods: [Container; 3],
    ruleset: Ruleset,
}

const BRIDGED: [&str; 2] = ["10.1.0.2", "10.1.0.3"];
const BRIDGED6: [&str; 2] = ["fd00:1::2", "fd00:1::3"];

fn net() -> Net {
    let node = Node::new();
    node.set_sysctl("ipv4.ip_forward", "1");
    node.set_sysctl("ipv6.conf.all.forwarding", "1");
    let outside = node.uplink("outside", "192.0.2.2/24", "2001:db8::2/64");
    let pods = ["a", "b", "c"].map(|name| node.container(name));
    node.ip("link add br0 type bridge\naddr add 10.1.0.1/24 dev br0\n\
             addr add fd00:1::1/64 dev br0 nodad\nlink set br0 up\n");
    for (pod, (v4, v6)) in pods.iter().zip(BRIDGED.iter().zip(BRIDGED6)) {
        let name = pod.name();
        // Where bridged packets pass the IP hooks, a pod reaches itself only through such a port.
        node.ip(&format!(
            "link add v{name} type veth peer name eth0 netns {name}\n\
             link set v{name} master br0 up\n\
             link set v{name} type bridge_slave hairpin on\n"
        ));
        pod.ip(&format!(
            "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via 10.1.0.1\nroute add default via fd00:1::1\n"
        ));
    }
    node.ip("link add vc type veth peer name eth0 netns c\nlink set vc up\n\
             addr add 10.2.0.1/32 dev vc\nroute add 10.2.0.2 dev vc\n\
             addr add fd00:2::1/128 dev vc nodad\nroute add fd00:2::2 dev vc\n\
             route add local ::1 dev vc metric 2048 table local\n\
             route add local ::1 dev br0 metric 2049 table local\n");
    pods[2].ip("addr add 10.2.0.2/32 dev eth0\naddr add fd00:2::2/128 dev eth0 nodad\n\
                link set eth0 up\nroute add 10.2.0.1 dev eth0\nroute add fd00:2::1 dev eth0\n\
                route add default via 10.2.0.1\nroute add default via fd00:2::1\n");
    for link in ["br0", "vc"] {
        node.set_sysctl(&format!("ipv4.conf.{link}.route_localnet"), "1");
    }
    let ruleset = open(&node);
    Net { node, outside, pods, ruleset }
}

impl Net {
    fn add(&mut self, id: &str, elements: &[Element]) {
        let transaction = adding(elements, &owner(id));
        self.ruleset.commit(&transaction, &mut |_| Resolution::Refuse).unwrap();
    }

    /// Ports 8001 to 8003 of the node lead to port 80 of the pods, UDP likewise to port 53.
    fn publish(&mut self) {
        let addresses =
            [[BRIDGED[0], BRIDGED[1], "10.2.0.2"], [BRIDGED6[0], BRIDGED6[1], "fd00:2::2"]];
        for addresses in addresses {
            for (number, address) in (8001..).zip(addresses) {
                let address: std::net::IpAddr = address.parse().unwrap();
                let udp = Element::HostPort {
                    protocol: nft_templates::Protocol::Udp,
                    host_ip: None,
                    host_port: number,
                    to: SocketAddr::new(address, 53),
                    conditions: vec![],
                };
                let tcp = port(number, &SocketAddr::new(address, 80).to_string());
                self.add(&format!("pod{number}"), &[tcp, udp, hairpin(&address.to_string())]);
            }
        }
        self.add("bridge", &[Element::Bridge { ifname: "br0".into() }]);
    }

    /// The node's port on ::1 leads to the pod's ports, too.
    fn publish_on_localhost6(&mut self, host_port: u16, pod: &str) {
        use nft_templates::Protocol::{Tcp, Udp};
        let elements = [(Tcp, 80), (Udp, 53)].map(|(protocol, port)| Element::HostPort {
            protocol,
            host_ip: Some("::1".parse().unwrap()),
            host_port,
            to: SocketAddr::new(pod.parse().unwrap(), port),
            conditions: vec![],
        });
        self.add("localhost6", &elements);
    }
}

/// Fetches from a TCP server and asks a UDP one behind the same host address.
fn reaches(from: &Netns, to: &str, text: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let got = http_get(from, &format!("http://{to}/")).unwrap_or_else(|e| panic!("{to}: {e}"));
    assert_eq!(got.text, text, "TCP {to}");
    let client = if to.is_ipv4() { UdpClient::v4(from, 0) } else { UdpClient::v6(from, 0) };
    let got = client.ask(to).unwrap_or_else(|e| panic!("UDP {to}: {e}"));
    assert_eq!(got.text, text, "UDP {to}");
}

fn is_refused(from: &Netns, to: &str) {
    assert!(http_get(from, &format!("http://{to}/")).is_err(), "{to} answers");
}

#[test]
fn host_ports_answer_from_everywhere() {
    for bridge_nf in [false, true] {
        let mut net = net();
        net.node.bridge_nf(bridge_nf);
        net.publish();
        let _servers: Vec<_> = net
            .pods
            .iter()
            .map(|pod| {
                (HttpServer::start(pod, 80, pod.name()), UdpServer::start(pod, 53, pod.name()))
            })
            .collect();
        // ::1 answers where it is named only, and refuses at once elsewhere.
        is_refused(&net.node, "[::1]:8003");
        net.publish_on_localhost6(8003, "fd00:2::2");
        // On a bridge br_netfilter would take the answer for one that stays there.
        if !bridge_nf {
            net.publish_on_localhost6(8001, BRIDGED6[0]);
            reaches(&net.node, "[::1]:8001", "a");
        }
        let [a, b, c] = &net.pods;
        for (from, to, text) in [
            // from outside
            (&net.outside as &Netns, "192.0.2.1:8001", "a"),
            (&net.outside, "192.0.2.1:8003", "c"),
            (&net.outside, "[2001:db8::1]:8001", "a"),
            (&net.outside, "[2001:db8::1]:8003", "c"),
            // from the node
            (&net.node, "127.0.0.1:8001", "a"),
            (&net.node, "127.0.0.1:8003", "c"),
            (&net.node, "[::1]:8003", "c"),
            (&net.node, "192.0.2.1:8001", "a"),
            (&net.node, "[2001:db8::1]:8001", "a"),
            // from the pod itself
            (a, "10.1.0.1:8001", "a"),
            (a, "192.0.2.1:8001", "a"),
            (a, "[fd00:1::1]:8001", "a"),
            (c, "10.2.0.1:8003", "c"),
            (c, "[2001:db8::1]:8003", "c"),
            // from its neighbour on the bridge
            (a, "10.1.0.1:8002", "b"),
            (a, "192.0.2.1:8002", "b"),
            (a, "[fd00:1::1]:8002", "b"),
            (b, "[2001:db8::1]:8001", "a"),
            // from a pod of another network
            (a, "192.0.2.1:8003", "c"),
            (c, "[2001:db8::1]:8002", "b"),
        ] {
            eprintln!("bridge-nf {bridge_nf}: {to} from {}", from.name());
            reaches(from, to, text);
        }
    }
}

#[test]
fn only_the_nodes_own_addresses_are_taken() {
    let mut net = net();
    net.publish();
    let pod = &net.pods[0];
    let _in_pod = HttpServer::start(pod, 80, "pod");
    // A host port of the same number elsewhere, which the node only forwards to.
    let elsewhere = HttpServer::start(&net.outside, 8001, "elsewhere");
    net.add("masquerade", &[egress(BRIDGED[1], &["10.1.0.0/24"])]);
    let got = http_get(&net.pods[1], "http://192.0.2.2:8001/").unwrap();
    assert_eq!(got.text, "elsewhere");
    assert_eq!(elsewhere.peers()[0].ip(), net.outside.node_v4());
}

#[test]
fn an_address_of_the_node_is_more_specific_than_all() {
    let mut net = net();
    net.publish();
    let _a = HttpServer::start(&net.pods[0], 80, "a");
    let _c = HttpServer::start(&net.pods[2], 80, "c");
    for (host_ip, to) in [("192.0.2.1", "10.2.0.2:80"), ("2001:db8::1", "[fd00:2::2]:80")] {
        let specific = Element::HostPort {
            protocol: nft_templates::Protocol::Tcp,
            host_ip: Some(host_ip.parse().unwrap()),
            host_port: 8001,
            to: to.parse().unwrap(),
            conditions: vec![],
        };
        net.add("specific", &[specific]);
    }
    for (to, text) in [
        ("192.0.2.1:8001", "c"),
        ("10.1.0.1:8001", "a"),
        ("[2001:db8::1]:8001", "c"),
        ("[fd00:1::1]:8001", "a"),
    ] {
        let url = format!("http://{to}/");
        assert_eq!(http_get(&net.node, &url).unwrap().text, text, "{to}");
    }
}

#[test]
fn rules_of_others_at_the_usual_priority_come_first() {
    let mut net = net();
    let _a = HttpServer::start(&net.pods[0], 80, "a");
    let _c = HttpServer::start(&net.pods[2], 80, "c");
    // Registered before ours: of two at one priority, the last one registered would win.
    let rules = net.node.fresh_path("others.nft");
    net.node.write(
        &rules,
        "table ip others {
            chain pre { type nat hook prerouting priority dstnat; tcp dport 8001 dnat to 10.2.0.2:80; }
            chain out { type nat hook output priority -100; tcp dport 8001 dnat to 10.2.0.2:80; }
        }",
    );
    nft(&net.node, &["-f", rules.to_str().unwrap()]);
    net.publish();
    for from in [&net.node as &Netns, &net.outside] {
        assert_eq!(http_get(from, "http://192.0.2.1:8001/").unwrap().text, "c");
    }
}

#[test]
fn neighbours_do_not_reach_the_nodes_loopback_cve_2020_8558() {
    let mut net = net();
    for bridge_nf in [false, true] {
        net.node.bridge_nf(bridge_nf);
        let _v4 = HttpServer::start_at(&net.node, "127.0.0.1:7777".parse().unwrap(), "secret");
        let _v6 = HttpServer::start_at(&net.node, "[::1]:7777".parse().unwrap(), "secret");
        for (pod, gateways) in
            [(&net.pods[0], ["10.1.0.1", "fd00:1::1"]), (&net.pods[2], ["10.2.0.1", "fd00:2::1"])]
        {
            // The pod's own loopback gives way to a route to the node's.
            pod.try_run(["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"]);
            pod.try_run([
                "ip",
                "route",
                "del",
                "local",
                "127.0.0.0/8",
                "dev",
                "lo",
                "table",
                "local",
            ]);
            pod.try_run([
                "ip",
                "route",
                "del",
                "local",
                "127.0.0.1",
                "dev",
                "lo",
                "table",
                "local",
            ]);
            pod.set_sysctl("ipv4.conf.eth0.route_localnet", "1");
            pod.try_run(["ip", "route", "add", "127.0.0.1", "via", gateways[0]]);
            pod.try_run([
                "ip", "-6", "route", "del", "local", "::1", "dev", "lo", "table", "local",
            ]);
            pod.try_run(["ip", "-6", "route", "add", "::1", "via", gateways[1]]);
        }
        if !bridge_nf {
            // It is the ruleset that keeps them out.
            assert_eq!(http_get(&net.pods[0], "http://127.0.0.1:7777/").unwrap().text, "secret");
            net.publish();
        }
        std::thread::scope(|scope| {
            for pod in [&net.pods[0], &net.pods[2]] {
                for to in ["127.0.0.1:7777", "[::1]:7777"] {
                    scope.spawn(move || is_refused(pod, to));
                }
            }
        });
        assert_eq!(http_get(&net.node, "http://127.0.0.1:7777/").unwrap().text, "secret");
    }
}

#[test]
fn what_leaves_the_cluster_leaves_as_its_policy_says() {
    for bridge_nf in [false, true] {
        let mut net = net();
        net.node.bridge_nf(bridge_nf);
        net.node
            .ip("addr add 192.0.2.77/24 dev outside\naddr add 2001:db8::77/64 dev outside nodad preferred_lft 0\n");
        let snat = |source: &str, excluded: &str, to: &str| Element::Egress {
            source: source.parse().unwrap(),
            policy: Policy {
                excluded: vec![excluded.parse().unwrap()],
                cluster: false,
                action: Action::Snat(to.parse().unwrap()),
            },
        };
        net.add("a", &[egress(BRIDGED[0], &["10.0.0.0/8"]), egress(BRIDGED6[0], &["fd00::/8"])]);
        net.add(
            "b",
            &[
                snat(BRIDGED[1], "10.1.0.0/24", "192.0.2.77"),
                snat(BRIDGED6[1], "fd00:1::/64", "2001:db8::77"),
            ],
        );
        let outside = HttpServer::start(&net.outside, 80, "outside");
        let b = HttpServer::start(&net.pods[1], 80, "b");
        let c = HttpServer::start(&net.pods[2], 80, "c");
        let seen = |from: &Netns, to: &str, by: &HttpServer| {
            http_get(from, &format!("http://{to}/")).unwrap_or_else(|e| panic!("{to}: {e}"));
            by.peers().last().unwrap().ip().to_string()
        };
        let [pod_a, pod_b, _] = &net.pods;
        assert_eq!(seen(pod_a, "192.0.2.2", &outside), "192.0.2.1");
        assert_eq!(seen(pod_a, "[2001:db8::2]", &outside), "2001:db8::1");
        assert_eq!(seen(pod_b, "192.0.2.2", &outside), "192.0.2.77");
        assert_eq!(seen(pod_b, "[2001:db8::2]", &outside), "2001:db8::77");
        // The network's own subnets and the policy's exceptions, each by its own list.
        assert_eq!(seen(pod_a, "10.1.0.3", &b), "10.1.0.2");
        assert_eq!(seen(pod_a, "[fd00:1::3]", &b), "fd00:1::2");
        assert_eq!(seen(pod_a, "10.2.0.2", &c), "10.1.0.2");
        assert_eq!(seen(pod_b, "10.2.0.2", &c), "192.0.2.77");
    }
}

#[test]
fn a_checked_port_sends_from_its_own_mac_address_only() {
    let mut net = net();
    let [a, b, _] = &net.pods;
    let link = a.json(["ip", "-j", "link", "show", "eth0"]);
    let address = link[0]["address"].as_str().unwrap().to_owned();
    let octets: Vec<u8> =
        address.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    a.ping("10.1.0.3");
    let check = Element::SpoofCheck { port: "va".into(), mac: octets.try_into().unwrap() };
    net.ruleset.commit(&adding(&[check], &owner("a")), &mut |_| Resolution::Refuse).unwrap();
    a.ping("10.1.0.3");
    a.ip("link set eth0 address 02:00:00:00:00:66\n");
    assert!(!a.pings("10.1.0.3"));
    assert!(!a.pings("10.1.0.1"));
    b.ping("10.1.0.1");
    a.ip(&format!("link set eth0 address {address}\n"));
    a.ping("10.1.0.3");
}
