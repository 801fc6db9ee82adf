//! The DHCP client against real servers.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod lan;
mod pod;
mod servers;

use std::{future::ready, time::Duration};

use delegates::dhcp::{Failure, Link, Timing, result, v4};
use lan::Lan;
use pod::PATIENCE;
use serde_json::json;
use testnode::{Node, until};

#[test]
fn a_lease_has_what_the_server_says_of_the_network() {
    let node = Node::new();
    let lan = Lan::new(
        &node,
        &[
            "--dhcp-option=option:router,10.7.0.1,10.7.0.2",
            "--dhcp-option=option:static-route,192.168.9.0,10.7.0.3,10.8.8.8,10.7.0.4",
            "--dhcp-option=option:mtu,1400",
            "--dhcp-option=option:dns-server,10.7.0.1,10.7.0.9",
            "--domain=a.example",
            "--dhcp-option=option:domain-search,a.example,b.example",
        ],
    );
    let lease = lan.pod.acquire(None).unwrap();
    assert_eq!((lease.server.to_string().as_str(), lease.prefix), ("10.7.0.1", 24));
    assert_eq!(lease.server_mac, lan.server_mac());
    assert_eq!(
        (lease.lease_time, lease.renew_after, lease.rebind_after),
        (Some(3600), Some(1800), Some(3150))
    );
    let mtu = 1400;
    let result = serde_json::to_value(result(&lease, Some(5))).unwrap();
    let route = |dst, gw| json!({ "dst": dst, "gw": gw, "mtu": mtu, "priority": 5 });
    assert_eq!(
        result,
        json!({
            "ips": [{ "address": format!("{}/24", lease.address), "gateway": "10.7.0.1" }],
            "routes": [
                route("192.168.9.0/24", "10.7.0.3"),
                route("10.8.8.8/32", "10.7.0.4"),
                route("0.0.0.0/0", "10.7.0.1"),
            ],
            "dns": {
                "nameservers": ["10.7.0.1", "10.7.0.9"],
                "domain": "a.example",
                "search": ["a.example", "b.example"],
            },
        })
    );
    let log = lan.log();
    assert!(log.contains("client provides name: web-0"), "{log}");
}

#[test]
fn classless_routes_stand_for_all_others() {
    let node = Node::new();
    let lan = Lan::new(
        &node,
        &["--dhcp-option=option:classless-static-route,10.9.0.0/16,10.7.0.3,10.8.0.0/24,0.0.0.0"],
    );
    let result = serde_json::to_value(result(&lan.pod.acquire(None).unwrap(), None)).unwrap();
    // What is on the link comes first, since the kernel may reach routers by it.
    assert_eq!(
        result["routes"],
        json!([{ "dst": "10.8.0.0/24", "scope": 253 }, { "dst": "10.9.0.0/16", "gw": "10.7.0.3" }])
    );
    assert_eq!(result["ips"][0]["gateway"], "10.7.0.1");
}

#[test]
fn the_address_that_is_wanted_is_had_and_confirmed_after_a_restart() {
    let node = Node::new();
    let lan = Lan::new(&node, &[]);
    let lease = lan.pod.acquire(Some([10, 7, 0, 57].into())).unwrap();
    assert_eq!(lease.address.to_string(), "10.7.0.57");
    assert_eq!(lan.pod.confirm(&lease).unwrap(), lease);
    // The REQUEST of a restart names no server: dnsmasq gave its word without an OFFER.
    let log = lan.log();
    assert_eq!(log.matches("DHCPOFFER(").count(), 1, "{log}");
    assert_eq!(log.matches("DHCPACK(").count(), 2, "{log}");
}

#[test]
fn a_lease_that_the_server_does_not_have_is_refused() {
    let node = Node::new();
    let lan = Lan::new(&node, &[]);
    let mut lease = lan.pod.acquire(None).unwrap();
    lease.address = [10, 99, 0, 5].into();
    match lan.pod.confirm(&lease) {
        Err(Failure::Refused(why)) => assert_eq!(why, "10.7.0.1: wrong address"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn renewal_goes_to_the_server_alone_and_rebinding_to_all() {
    let node = Node::new();
    let lan = Lan::new(&node, &[]);
    let lease = lan.pod.acquire(None).unwrap();
    lan.server.run(["nft", "reset", "counters"]);
    // Before the container has its address, and with no neighbour known: nothing but the lease is needed.
    assert_eq!(lan.pod.extend(&lease, v4::To::Server).unwrap().address, lease.address);
    assert_eq!([lan.counter("unicast"), lan.counter("broadcast")], [1, 0]);
    assert_eq!(lan.pod.extend(&lease, v4::To::All).unwrap().address, lease.address);
    assert_eq!([lan.counter("unicast"), lan.counter("broadcast")], [1, 1]);
}

#[test]
fn servers_broadcast_their_answers_where_the_client_asks_them_to() {
    let node = Node::new();
    let mut lan = Lan::new(&node, &[]);
    let answers = |lan: &Lan| [lan.counter("answers_to_one"), lan.counter("answers_to_all")];
    lan.pod.acquire(None).unwrap();
    assert_eq!(answers(&lan), [2, 0]);
    lan.pod.client.broadcast = true;
    lan.pod.acquire(None).unwrap();
    assert_eq!(answers(&lan), [2, 2]);
}

#[test]
fn a_lease_is_given_back_also_once_the_container_is_gone() {
    let node = Node::new();
    let mut lan = Lan::new(&node, &[]);
    let lease = lan.pod.acquire(None).unwrap();
    lan.pod.release(&lease);
    let released = |lan: &Lan, times| {
        until("the server has the lease back", PATIENCE, || {
            (lan.log().matches("DHCPRELEASE(eth0)").count() == times).then_some(())
        });
    };
    released(&lan, 1);
    let lease = lan.pod.acquire(None).unwrap();
    lan.pod.delete_container();
    lan.pod.block_on(async {
        let bridge = Link::open("br0").unwrap();
        v4::release(&bridge, &lan.pod.client, &lease).await.unwrap();
    });
    released(&lan, 2);
    assert_eq!(lan.counter("unicast"), 2);
    assert_eq!(lan.leases(), "");
}

#[test]
fn who_hears_nothing_gives_up_in_time_and_who_has_no_interface_at_once() {
    let node = Node::new();
    let mut lan = Lan::new(&node, &[]);
    lan.stop_server();
    let millis = Duration::from_millis;
    let timing = Timing { answer: millis(100), pause: millis(200), all: millis(700) };
    let failed = lan
        .pod
        .run(async |link| v4::acquire(link, &lan.pod.client, timing, None, |_| ready(())).await);
    assert!(matches!(failed, Err(Failure::Silence)), "{failed:?}");
    lan.pod.container().ip("link set eth0 down\n");
    let failed = lan
        .pod
        .run(async |link| v4::acquire(link, &lan.pod.client, timing, None, |_| ready(())).await);
    match failed {
        Err(Failure::Io(error)) => assert_eq!(error.raw_os_error(), Some(100), "{error}"),
        other => panic!("{other:?}"),
    }
    let absent = lan.pod.block_on(async { Link::open("absent").unwrap_err() });
    assert_eq!(absent.raw_os_error(), Some(19), "{absent}");
    let unfit = lan.pod.block_on(async { Link::open("lo").unwrap_err() });
    assert_eq!(unfit.to_string(), "lo is no Ethernet interface: DHCP wants one");
}
