//! What is wished for; that the kernel does so is tested with real nodes (`tests/pod_routes`).

use std::net::IpAddr;

use delegates::net::neigh::Neighbour;
use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};
use testnode::Node;

use super::{
    Applied, TunnelSettings, apply, mtu_of_pods,
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

#[test]
fn the_mtu_is_that_of_a_link_where_the_nodes_address_is_on_the_loopback() {
    let node = node();
    node.ip("link set lo up\naddr add 10.255.0.1/32 dev lo\nlink set eth0 mtu 1400\n\
             route add 10.255.0.2 via 192.168.1.2\n");
    let own = peer("own", &["10.255.0.1"], &["10.1.1.0/24"]);
    let far = peer("far", &["10.255.0.2"], &["10.1.2.0/24"]);
    let host = delegates::Node::new();
    let net = host.host().unwrap();
    let link_to = |ip| net.route().link_to(ip).ok().flatten();
    let mtu = |peers: &[Peer]| {
        let wish = Wish::of(Ways::Auto, &own, peers, link_to);
        apply(&net, &wish, SETTINGS).unwrap();
        mtu_of_pods(&net, &wish, &own).unwrap()
    };
    let both = [own.clone(), far];
    assert_eq!(mtu(&both), 1350);
    let tunnel = node.json(["ip", "-j", "link", "show", "catena.vxlan"]);
    assert_eq!(tunnel[0]["mtu"], 1350);
    let near = [own.clone(), peer("near", &["192.168.1.2"], &["10.1.2.0/24"])];
    assert_eq!(mtu(&near), 1400);
    // Alone, with a way out and without.
    assert_eq!(mtu(std::slice::from_ref(&own)), 1500);
    node.ip("route add default via 192.168.1.2\n");
    assert_eq!(mtu(std::slice::from_ref(&own)), 1400);
}

/// Which parts of the pods' addresses get a route, and the problems of the others: by comparing each with each.
fn by_definition(own: &Peer, peers: &[Peer]) -> (Vec<IpNet>, Vec<String>) {
    let (mut routes, mut problems) = (Vec::new(), Vec::new());
    let mut others: Vec<_> = peers.iter().filter(|peer| peer.name != own.name).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    let mut taken: Vec<_> = own.pod_cidrs.iter().map(|net| (*net, &own.name)).collect();
    for peer in others {
        for net in peer.pod_cidrs.iter().map(IpNet::trunc) {
            let name = &peer.name;
            let all =
                peers.iter().flat_map(|peer| peer.addresses.iter().map(|ip| (*ip, &peer.name)));
            let within = all.filter(|(ip, _)| net.contains(ip)).min();
            let by = taken.iter().find(|(other, _)| other.contains(&net) || net.contains(other));
            match (within, by) {
                _ if net.prefix_len() == 0 => problems.push(format!(
                    "node {name}: its podCIDR {net} is everything: give it a part of the pods' addresses"
                )),
                (Some((ip, of)), _) => problems.push(format!(
                    "node {name}: its podCIDR {net} holds the address {ip} of node {of}: give it another"
                )),
                (None, Some((_, by))) => problems.push(format!(
                    "node {name}: its podCIDR {net} overlaps that of node {by}: give it another"
                )),
                (None, None) => {
                    taken.push((net, name));
                    routes.push(net);
                }
            }
        }
    }
    (routes, problems)
}

/// Networks that are near each other, of both families, with host bits.
fn a_net() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u16>(), 14_u8..=32).prop_map(|(low, prefix)| {
        IpNet::new(IpAddr::from((0x0a00_0000 | u32::from(low)).to_be_bytes()), prefix).unwrap()
    });
    let v6 = (any::<u16>(), 110_u8..=128).prop_map(|(low, prefix)| {
        IpNet::new(IpAddr::from((0xfd10_u128 << 112 | u128::from(low)).to_be_bytes()), prefix)
            .unwrap()
    });
    prop_oneof![20 => v4, 20 => v6, 1 => Just("0.0.0.0/0".parse().unwrap())]
}

/// A node with an address of each family, which may be one of a pod's.
fn a_peer() -> impl Strategy<Value = Peer> {
    let address = prop_oneof![9 => Just(None), 1 => a_net().prop_map(|net| Some(net.addr()))];
    (0_u16..400, address, vec(a_net(), 0..4)).prop_map(|(name, address, pod_cidrs)| {
        let usual = [ip("192.168.1.2"), ip("fd01::2")].into_iter();
        Peer { name: format!("n{name}"), addresses: usual.chain(address).collect(), pod_cidrs }
    })
}

proptest! {
    #[test]
    fn of_many_nodes_those_get_routes_that_the_definition_says(mut peers in vec(a_peer(), 1..300)) {
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        peers.dedup_by(|a, b| a.name == b.name);
        peers.reverse();
        let own = peers[peers.len() / 2].clone();
        let wish = Wish::of(Ways::HostGw, &own, &peers, |_| Some(2));
        let routes: Vec<_> = wish.routes.iter().map(|(net, _)| *net).collect();
        prop_assert_eq!((routes, wish.problems), by_definition(&own, &peers));
    }
}
