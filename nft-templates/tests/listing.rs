//! What is installed over netlink is what `nft -f` makes of the same file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nft_templates::{
    Action, Condition, Element, IpFamily, Policy, Resolution, Subject, TEMPLATES, Transaction,
};
use node::{Node, adding, nft, open, owner, port, port_under};

fn spoof_check() -> Element {
    Element::SpoofCheck { port: "veth0".into(), mac: [2, 0, 0, 0, 0, 1] }
}

fn load(node: &Node, name: &str, text: &str) {
    let path = node.fresh_path(name);
    node.write(&path, text);
    nft(node, &["-f", path.to_str().unwrap()]);
}

/// The listing, and the expressions that the kernel has: two lines that read the same could differ there.
fn listings(node: &Node) -> (String, String) {
    let listing = nft(node, &["list", "ruleset"]);
    (listing, nft(node, &["--debug=netlink", "list", "ruleset"]))
}

#[test]
fn the_tables_list_as_nft_itself_would_have_made_them() {
    let by_nft = std::thread::spawn(|| {
        let node = Node::new();
        load(&node, "catena.nft", TEMPLATES[0].1);
        load(&node, "bridge.nft", TEMPLATES[1].1);
        listings(&node)
    });
    let by_us = std::thread::spawn(|| {
        let node = Node::new();
        let elements = [port(8080, "10.1.0.2:80"), spoof_check()];
        let owner = owner("c1");
        let mut ruleset = open(&node);
        let done = ruleset.commit(&adding(&elements, &owner), &mut |_| Resolution::Refuse).unwrap();
        assert!(done.installed);
        let mut transaction = Transaction::new();
        for element in &elements {
            transaction.remove(element, owner.clone());
        }
        ruleset.commit(&transaction, &mut |_| Resolution::Refuse).unwrap();
        listings(&node)
    });
    let (by_nft, by_us) = (by_nft.join().unwrap(), by_us.join().unwrap());
    assert_eq!(by_us.0, by_nft.0);
    assert_eq!(by_us.1, by_nft.1);
    insta::assert_snapshot!("tables", by_us.0);
}

#[test]
fn policies_list_as_nft_itself_would_have_made_them() {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let v4 = IpAddr::from(Ipv4Addr::new(192, 0, 2, 7));
    let v6 = IpAddr::from("2001:db8::7".parse::<Ipv6Addr>().unwrap());
    let excluded = [
        "10.0.0.0/8",
        "10.32.0.0/12",
        "100.64.0.0/10",
        "192.0.2.9/32",
        "172.16.0.0/12",
        "192.168.1.0/25",
        "fd00:10::/44",
        "fd00:20::/64",
        "fc01::1/128",
        "2001:db8::/33",
    ];
    let cases = [
        (
            IpFamily::V4,
            "10.1.0.2",
            Policy { excluded: nets(&excluded), cluster: false, action: Action::Masquerade },
        ),
        (
            IpFamily::V6,
            "fd00::2",
            Policy { excluded: nets(&excluded), cluster: false, action: Action::Masquerade },
        ),
        (
            IpFamily::V4,
            "10.1.0.3",
            Policy { excluded: nets(&excluded[..1]), cluster: false, action: Action::Snat(v4) },
        ),
        (
            IpFamily::V6,
            "fd00::3",
            Policy { excluded: vec![], cluster: false, action: Action::Snat(v6) },
        ),
        (
            IpFamily::V4,
            "10.1.0.4",
            Policy { excluded: nets(&["0.0.0.0/0"]), cluster: false, action: Action::Masquerade },
        ),
    ];
    let texts: Vec<_> = cases.iter().map(|(family, _, policy)| policy.render(*family)).collect();
    let by_nft = std::thread::spawn(move || {
        let node = Node::new();
        load(&node, "catena.nft", TEMPLATES[0].1);
        for text in texts {
            load(&node, "policy.nft", &text);
        }
        listings(&node)
    });
    let by_us = std::thread::spawn(move || {
        let node = Node::new();
        let mut ruleset = open(&node);
        for (_, source, policy) in cases {
            let element = Element::Egress { source: source.parse().unwrap(), policy };
            let transaction = adding(&[element], &owner("c1"));
            ruleset.commit(&transaction, &mut |_| Resolution::Refuse).unwrap();
        }
        nft(&node, &["flush", "map", "inet", "catena", "egress4"]);
        nft(&node, &["flush", "map", "inet", "catena", "egress6"]);
        listings(&node)
    });
    let (by_nft, by_us) = (by_nft.join().unwrap(), by_us.join().unwrap());
    assert_eq!(by_us.0, by_nft.0);
    assert_eq!(by_us.1, by_nft.1);
    let policies = by_us.0.split_once("chain egress_").unwrap().1;
    insta::assert_snapshot!("policies", format!("chain egress_{policies}"));
}

#[test]
fn conditions_list_as_nft_itself_would_have_made_them() {
    let condition = |subject, negated| Condition { subject, negated };
    let net = |net: &str| net.parse().unwrap();
    let interface = |name: &str| Subject::Interface(name.into());
    let v4 = [
        condition(Subject::Source(net("10.0.0.0/8")), false),
        condition(Subject::Destination(net("10.96.0.0/12")), true),
        condition(Subject::Destination(net("192.0.2.7/32")), true),
        condition(interface("eth0"), false),
        condition(interface("cni*"), true),
    ];
    let v6 = [
        condition(Subject::Source(net("fd00::/10")), false),
        condition(Subject::Destination(net("2001:db8::1/128")), true),
        condition(interface("eth0"), true),
    ];
    let of_one_address = |host_ip: &str, to: &str, conditions: &[Condition]| Element::HostPort {
        protocol: nft_templates::Protocol::Udp,
        host_ip: Some(host_ip.parse().unwrap()),
        host_port: 53,
        to: to.parse().unwrap(),
        conditions: conditions.to_vec(),
    };
    let elements = [
        port_under(80, "10.1.0.2:80", &v4),
        port_under(80, "[fd00::2]:80", &v6),
        of_one_address("192.0.2.1", "10.1.0.2:53", &v4[..1]),
        of_one_address("2001:db8::1", "[fd00::2]:53", &v6[..1]),
    ];
    let texts: Vec<_> = elements.iter().map(|element| element.chain().unwrap()).collect();
    let by_nft = std::thread::spawn(move || {
        let node = Node::new();
        load(&node, "catena.nft", TEMPLATES[0].1);
        for text in texts {
            load(&node, "ports.nft", &text);
        }
        listings(&node)
    });
    let by_us = std::thread::spawn(move || {
        let node = Node::new();
        let mut ruleset = open(&node);
        for element in elements {
            let transaction = adding(&[element], &owner("c1"));
            ruleset.commit(&transaction, &mut |_| Resolution::Refuse).unwrap();
        }
        for map in ["conditions", "hostports"] {
            for family in ["4", "6", "4_addr", "6_addr"] {
                nft(&node, &["flush", "map", "inet", "catena", &format!("{map}{family}")]);
            }
        }
        listings(&node)
    });
    let (by_nft, by_us) = (by_nft.join().unwrap(), by_us.join().unwrap());
    assert_eq!(by_us.0, by_nft.0);
    assert_eq!(by_us.1, by_nft.1);
    let chains = by_us.0.split_once("chain ports_").unwrap().1;
    insta::assert_snapshot!("conditions", format!("chain ports_{chains}"));
}
