//! Each server that the client has to work with: Debian's dnsmasq, Kea and ISC dhcpd.

use delegates::dhcp::{Failure, result, v4::To};
use serde_json::json;
use testnode::{
    Node,
    dhcp::{DhcpServer, Family, Pool, Program},
    until,
};

use crate::pod::{PATIENCE, Pod};

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
