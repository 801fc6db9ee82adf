//! Each server that the client has to work with: Debian's dnsmasq, Kea and ISC dhcpd.

use std::future::ready;

use delegates::dhcp::{Failure, Timing, result, v4::To, v6};
use serde_json::json;
use testnode::{
    Node,
    dhcp::{DhcpServer, Family, Pool, Program},
    until,
};

use crate::pod::{PATIENCE, Pod, extension};

/// A lease from its beginning to its end.
fn serves(program: Program) {
    let node = Node::new();
    let server = DhcpServer::start(&node, program, Pool::new(Family::V4));
    let mut pod = Pod::new(&node, "cni1");
    let lease = pod.acquire(Some([10, 7, 0, 54].into())).unwrap();
    let address = lease.address.to_string();
    assert_eq!(address, "10.7.0.54");
    let times = (lease.lease_time, lease.renew_after, lease.rebind_after);
    assert_eq!(times, (Some(3600), Some(1800), Some(3150)));
    let route = |dst, gw| json!({ "dst": dst, "gw": gw, "mtu": 1400 });
    assert_eq!(
        serde_json::to_value(result(&lease, None)).unwrap(),
        json!({
            "ips": [{ "address": "10.7.0.54/24", "gateway": "10.7.0.1" }],
            "routes": [route("10.9.0.0/16", "10.7.0.3"), route("0.0.0.0/0", "10.7.0.1")],
            "dns": { "nameservers": ["10.7.0.2"], "domain": "example.org" },
        })
    );
    assert_eq!(server.granted(&address), 1, "{}", server.log());
    // Some servers say then how much time is left, and others begin anew.
    let same = |other: delegates::dhcp::Lease| {
        assert_eq!(
            (other.address, &other.classless_routes),
            (lease.address, &lease.classless_routes)
        );
    };
    same(pod.confirm(&lease).unwrap());
    // dhcpd asks the network who has an address that it answers to.
    pod.container().ip(&format!("addr add {address}/24 dev eth0\n"));
    same(pod.extend(&lease, To::Server).unwrap());
    same(pod.extend(&lease, To::All).unwrap());
    // Of another container, that has the same hardware address, it is nobody's.
    let own = std::mem::replace(&mut pod.client.client_id, b"\0other".to_vec());
    let refused = pod.confirm(&lease);
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}\n{}", server.log());
    pod.client.client_id = own;
    pod.release(&lease);
    until("it is given back", PATIENCE, || (server.released(&address) == 1).then_some(()));
    pod.client.broadcast = true;
    assert_ne!(pod.acquire(None).unwrap().lease_time, None);
}

/// The same of IPv6.
fn serves_v6(program: Program) {
    let node = Node::new();
    let server = DhcpServer::start(&node, program, Pool::new(Family::V6));
    // Without one of its own a bridge has the address of some interface on it, and another one when that goes.
    node.ip("link set cni1 address 02:00:00:00:00:09\n");
    let mut pod = Pod::new(&node, "cni1");
    let client = v6::Client::new(&pod.client.client_id);
    let timing = Timing { all: PATIENCE, ..Timing::default() };
    let wanted = "fd07::57".parse().ok();
    // The interface has been up for a moment: its address is still being asked for.
    let lease = pod
        .run_v6(async |link| v6::acquire(link, &client, timing, wanted, |_| ready(())).await)
        .unwrap();
    let address = lease.address.to_string();
    assert_eq!(address, "fd07::57");
    let times = (lease.preferred_time, lease.lease_time, lease.renew_after, lease.rebind_after);
    assert_eq!(times, (Some(3600), Some(3600), Some(1800), Some(3150)));
    assert_eq!(
        serde_json::to_value(v6::result(&lease)).unwrap(),
        json!({
            "ips": [{ "address": format!("{address}/128") }],
            "dns": { "nameservers": ["fd07::2"], "search": ["example.org"] },
        })
    );
    let granted = server.granted(&address);
    let same = |other: v6::Lease| {
        assert_eq!((other.address, other.server), (lease.address, lease.server.clone()))
    };
    same(pod.run_v6(async |link| v6::confirm(link, &client, &lease, timing).await).unwrap());
    for to in [To::Server, To::All] {
        let extended =
            pod.run_v6(async |link| v6::extend(link, &client, &lease, extension(to)).await);
        same(extended.unwrap());
    }
    assert_eq!(server.granted(&address), granted + 3, "{}", server.log());
    let other = v6::Client::new(b"\0other");
    let refused = pod.run_v6(async |link| v6::confirm(link, &other, &lease, timing).await);
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    pod.delete_container();
    pod.block_on(async {
        let bridge = v6::Link::new(v6::Socket::open("cni1").unwrap()).await.unwrap();
        v6::release(&bridge, &client, &lease, false, timing).await.unwrap();
    });
    until("it is given back", PATIENCE, || match program {
        // It does not say of which address.
        Program::Dnsmasq => server.log().contains("release received").then_some(()),
        _ => (server.released(&address) == 1).then_some(()),
    });
}

#[test]
fn dnsmasq_serves_ipv6() {
    serves_v6(Program::Dnsmasq);
}

#[test]
fn kea_serves_ipv6() {
    serves_v6(Program::Kea);
}

#[test]
fn dhcpd_serves_ipv6() {
    serves_v6(Program::Isc);
}

#[test]
fn dnsmasq_serves() {
    serves(Program::Dnsmasq);
}

#[test]
fn kea_serves() {
    serves(Program::Kea);
}

#[test]
fn dhcpd_serves() {
    serves(Program::Isc);
}
