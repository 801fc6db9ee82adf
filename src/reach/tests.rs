//! What is wished for; that the kernel does so is tested with real nodes (`tests/pod_routes`).

use std::net::IpAddr;

use delegates::net::neigh::Neighbour;
use ipnet::IpNet;

use testnode::Node;

use super::{
    Applied, TunnelSettings, apply,
    plan::{Hop, Peer, Ways, Wish},
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Peer {
    Peer {
        name: name.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: pod_cidrs.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// 192.168.1.0/24 and fd01::/64 are on the link of device 2.
fn link_to(ip: IpAddr) -> Option<u32> {
    let links: [IpNet; 2] = ["192.168.1.0/24".parse().unwrap(), "fd01::/64".parse().unwrap()];
    links.iter().any(|net| net.contains(&ip)).then_some(2)
}

fn wish_of(ways: Ways, own: &Peer, others: &[Peer]) -> Wish {
    let mut peers = others.to_vec();
    peers.push(own.clone());
    Wish::of(ways, own, &peers, link_to)
}

fn own() -> Peer {
    peer("own", &["192.168.1.1", "fd01::1"], &["10.1.1.0/24", "fd10:0:0:1::/64"])
}

#[test]
fn each_family_goes_by_the_address_of_its_own() {
    let near = peer("near", &["fd01::2", "192.168.1.2"], &["10.1.2.0/24", "fd10:0:0:2::/64"]);
    let wish = wish_of(Ways::Auto, &own(), &[near]);
    let hops: Vec<_> = wish.routes.iter().map(|(_, hop)| *hop).collect();
    let link = |via| Hop::Link { via: ip(via), dev: 2 };
    assert_eq!(hops, [link("192.168.1.2"), link("fd01::2")]);
    assert_eq!((wish.tunnel, wish.problems), (None, vec![]));
}

#[test]
fn what_is_not_on_a_link_goes_through_the_tunnel_between_addresses_of_one_family() {
    let far = peer("far", &["192.168.2.2"], &["10.1.2.0/24", "fd10:0:0:2::/64"]);
    let wish = wish_of(Ways::Auto, &own(), std::slice::from_ref(&far));
    let hops: Vec<_> = wish.routes.iter().map(|(_, hop)| *hop).collect();
    let tunnel = |via| Hop::Tunnel { via: ip(via) };
    assert_eq!(hops, [tunnel("10.1.2.0"), tunnel("fd10:0:0:2::")]);
    let made = wish.tunnel.unwrap();
    assert_eq!(made.local, ip("192.168.1.1"));
    assert_eq!(made.addresses, [ip("10.1.1.0"), ip("fd10:0:0:1::")]);
    // The far node makes its own end with the very address that this one expects there.
    let own_of_far = Wish::of(Ways::Auto, &far, &[own()], |_| None).tunnel.unwrap();
    let expected = [
        Neighbour::Address(ip("10.1.2.0"), own_of_far.mac),
        Neighbour::Endpoint(own_of_far.mac, ip("192.168.2.2")),
        Neighbour::Address(ip("fd10:0:0:2::"), own_of_far.mac),
    ];
    assert_eq!(made.neighbours, expected);
    assert_eq!(own_of_far.mac.0[0] & 3, 2, "unicast, locally administered");
}

#[test]
fn what_cannot_be_reached_is_a_problem_and_no_hindrance_to_others() {
    let peers = [
        peer("mute", &[], &["10.1.2.0/24"]),
        peer("same", &["192.168.1.9"], &["10.1.1.128/25"]),
        peer("near", &["192.168.1.2"], &["10.1.3.0/24"]),
    ];
    let wish = wish_of(Ways::Auto, &own(), &peers);
    assert_eq!(wish.routes.len(), 1);
    assert_eq!(
        wish.problems,
        [
            "node mute: the tunnel goes out from 192.168.1.1, and it has no InternalIP of that family (none)",
            "node same: its podCIDR 10.1.1.128/25 overlaps that of node own: give it another",
        ]
    );
    let far = [peer("far", &["192.168.2.2"], &["10.1.2.0/24"])];
    let wish = wish_of(Ways::HostGw, &own(), &far);
    assert!(wish.problems[0].ends_with("use --pod-routes auto or vxlan"), "{:?}", wish.problems);
    assert!(wish.routes.is_empty() && wish.tunnel.is_none());
}

#[test]
fn with_vxlan_near_nodes_are_reached_through_the_tunnel_too() {
    let near = peer("near", &["192.168.1.2"], &["10.1.2.0/24"]);
    let wish = wish_of(Ways::Vxlan, &own(), &[near]);
    assert_eq!(wish.routes[0].1, Hop::Tunnel { via: ip("10.1.2.0") });
}

/// A node with the link that [`link_to`] knows.
fn node() -> Node {
    let node = Node::new();
    node.ip("link add eth0 type bridge\nlink set eth0 up\naddr add 192.168.1.1/24 dev eth0\n\
         addr add fd01::1/64 dev eth0 nodad\n");
    node
}

const SETTINGS: TunnelSettings = TunnelSettings { id: 3239, port: 4789 };

#[test]
fn a_second_round_changes_nothing() {
    let _node = node();
    let far = peer("far", &["192.168.2.2", "fd02::2"], &["10.1.2.0/24", "fd10:0:0:2::/64"]);
    let near = peer("near", &["192.168.1.2", "fd01::2"], &["10.1.3.0/24", "fd10:0:0:3::/64"]);
    let host = delegates::Node::new();
    let net = host.host().unwrap();
    let link_to = |ip| net.route().link_to(ip).ok().flatten();
    let wish = Wish::of(Ways::Auto, &own(), &[own(), far, near], link_to);
    assert_eq!(wish.routes.len(), 4, "{:?}", wish.problems);
    assert_ne!(apply(&net, &wish, SETTINGS), Ok(Applied::default()));
    assert_eq!(apply(&net, &wish, SETTINGS), Ok(Applied::default()));
}

#[test]
fn a_route_of_anothers_stays_and_the_others_are_set() {
    let node = node();
    node.ip("route add 10.1.2.0/24 via 192.168.1.77\n");
    let peers = [
        own(),
        peer("taken", &["192.168.1.2"], &["10.1.2.0/24"]),
        peer("free", &["192.168.1.3"], &["10.1.3.0/24"]),
    ];
    let host = delegates::Node::new();
    let net = host.host().unwrap();
    let link_to = |ip| net.route().link_to(ip).ok().flatten();
    let set =
        |peers: &[Peer]| apply(&net, &Wish::of(Ways::HostGw, &own(), peers, link_to), SETTINGS);
    let error = set(&peers).unwrap_err();
    assert!(error.msg.contains("set route 10.1.2.0/24 via 192.168.1.2"), "{error}");
    let routes = node.run(["ip", "route"]);
    assert!(routes.contains("10.1.2.0/24 via 192.168.1.77"), "{routes}");
    assert!(routes.contains("10.1.3.0/24 via 192.168.1.3"), "{routes}");
    // One of its own changes its way.
    let moved = [own(), peer("free", &["192.168.1.4"], &["10.1.3.0/24"])];
    assert_eq!(set(&moved).unwrap().set, 1);
    assert!(node.run(["ip", "route"]).contains("10.1.3.0/24 via 192.168.1.4"));
}

#[test]
fn a_part_of_the_addresses_that_holds_a_node_or_everything_is_refused() {
    let peers = [
        peer("all", &["192.168.1.8"], &["0.0.0.0/0", "::/0"]),
        peer("link", &["192.168.1.9"], &["192.168.1.0/24"]),
    ];
    let wish = wish_of(Ways::Auto, &own(), &peers);
    assert!(wish.routes.is_empty());
    assert_eq!(
        wish.problems,
        [
            "node all: its podCIDR 0.0.0.0/0 is everything: give it a part of the pods' addresses",
            "node all: its podCIDR ::/0 is everything: give it a part of the pods' addresses",
            "node link: its podCIDR 192.168.1.0/24 holds the address 192.168.1.1 of node own: give it another",
        ]
    );
}
