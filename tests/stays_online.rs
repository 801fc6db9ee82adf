//! A node that learns its routes by router advertisement keeps them when containers make a router of it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bridge, host_local};
use testnode::{Background, Netns, Network, Node, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// Another network behind the router.
const REMOTE: &str = "2001:db8:ffff::1";

fn with_bridge() -> Value {
    let mut bridge = bridge("cni0", &DUAL);
    bridge["ipMasq"] = json!(true);
    bridge
}

fn with_ptp() -> Value {
    json!({ "type": "ptp", "ipMasq": true, "ipam": host_local(&DUAL) })
}

/// A router beside the node, with an address of another network. The node's end of the cable is `uplink`.
fn router(node: &Node, uplink: &str) -> Netns {
    // A container is a namespace, and nothing more.
    let name = format!("router-{uplink}");
    let path = node.container(&name).path().to_owned();
    node.ip(&format!("link add {uplink} type veth peer eth0 netns {name}\nlink set {uplink} up\n"));
    let router = Netns::at(&name, path);
    router.set_sysctl("ipv6.conf.all.forwarding", "1");
    router.ip(&format!("link set lo up\nlink set eth0 up\naddr add {REMOTE}/128 dev lo nodad\n"));
    router
}

/// radvd on a router: it is the default router for so many seconds, of the prefix `2001:db8:<subnet>::/64`.
fn advertise(node: &Node, router: &Netns, subnet: u8, lifetime: u32) -> Background {
    let conf = node.fresh_path("radvd.conf");
    node.write(
        &conf,
        &format!(
            "interface eth0 {{
                 AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime {lifetime};
                 prefix 2001:db8:{subnet}::/64 {{ AdvValidLifetime {lifetime}; AdvPreferredLifetime {lifetime}; }};
             }};"
        ),
    );
    router.ip(&format!("addr replace 2001:db8:{subnet}::1/64 dev eth0 nodad\n"));
    let (conf, pid) = (conf.display().to_string(), node.fresh_path("radvd.pid"));
    let pid = pid.display().to_string();
    let radvd = ["radvd", "-n", "-m", "stderr", "-C", &conf, "-p", &pid];
    router.cmd(radvd).spawn(node.fresh_path("radvd.log"))
}

/// How long the default route by this device that was learned from a router is good for, in seconds.
fn learned_route(node: &Node, uplink: &str) -> Option<u64> {
    let routes =
        node.json(["ip", "-6", "-j", "route", "show", "default", "dev", uplink, "proto", "ra"]);
    routes.as_array()?.first()?["expires"].as_u64()
}

/// How long the address of the router's subnet is valid, in seconds.
fn learned_address(node: &Node, uplink: &str) -> Option<u64> {
    let addresses = node.json(["ip", "-6", "-j", "addr", "show", "dev", uplink, "scope", "global"]);
    let found = addresses[0]["addr_info"].as_array()?.iter().find(|one| one["dynamic"] == true);
    found?["valid_life_time"].as_u64()
}

/// Waits for a router's advertisement with a lifetime of more than this.
#[track_caller]
fn await_learned(node: &Node, uplink: &str, more_than: u64) {
    until(&format!("{uplink} has learned from its router"), Duration::from_secs(30), || {
        let learned = learned_route(node, uplink)? > more_than;
        (learned && learned_address(node, uplink)? > more_than).then_some(())
    });
}

#[test]
fn the_route_and_address_by_router_advertisement_stay_and_are_refreshed() {
    for chain in [with_bridge(), with_ptp()] {
        let node = Node::new();
        let router = router(&node, "up0");
        let mut radvd = advertise(&node, &router, 5, 600);
        await_learned(&node, "up0", 0);
        assert_eq!(node.sysctl("ipv6.conf.up0.accept_ra"), "1");

        let network = Network::new(&node, CATENA, "web", &[chain]);
        let pod = network.pod("pod");
        assert!(learned_route(&node, "up0").is_some(), "{}", node.run(["ip", "-6", "route"]));
        assert!(learned_address(&node, "up0").is_some());
        assert_eq!(node.sysctl("ipv6.conf.all.forwarding"), "1");
        assert_eq!(node.sysctl("ipv6.conf.up0.accept_ra"), "2");
        node.ping(REMOTE);
        pod.ping(REMOTE);
        // With a longer lifetime: it is a later advertisement that is heard.
        radvd.kill();
        let _radvd = advertise(&node, &router, 5, 1800);
        await_learned(&node, "up0", 600);
        pod.ping(REMOTE);
    }
}

#[test]
fn each_uplink_goes_on_as_its_administrator_has_it() {
    let node = Node::new();
    let uplinks = ["up0", "up1", "closed", "always"];
    let _radvd: Vec<_> = uplinks
        .iter()
        .zip(5..)
        .map(|(uplink, subnet)| advertise(&node, &router(&node, uplink), subnet, 600))
        .collect();
    node.set_sysctl("ipv6.conf.closed.accept_ra", "0");
    node.set_sysctl("ipv6.conf.always.accept_ra", "2");
    for uplink in ["up0", "up1", "always"] {
        await_learned(&node, uplink, 0);
    }
    let network = Network::new(&node, CATENA, "web", &[with_bridge()]);
    let _pod = network.pod("pod");
    let accept_ra = |uplink: &str| node.sysctl(&format!("ipv6.conf.{uplink}.accept_ra"));
    for uplink in ["up0", "up1", "always"] {
        assert_eq!(accept_ra(uplink), "2", "{uplink}");
        assert!(learned_route(&node, uplink).is_some(), "{uplink}");
    }
    assert_eq!(accept_ra("closed"), "0");
    assert_eq!(learned_route(&node, "closed"), None);
}

#[test]
fn an_uplink_that_comes_up_later_learns_its_route_then() {
    let node = Node::new();
    let router = router(&node, "cable");
    // A device that stands on hardware, and one that leads to somebody's container.
    node.ip("link add up0 link cable type macvlan\nlink add other type veth peer name peer\n");
    let network = Network::new(&node, CATENA, "web", &[with_bridge()]);
    let _pod = network.pod("pod");
    assert_eq!(node.sysctl("ipv6.conf.up0.accept_ra"), "2");
    assert_eq!(node.sysctl("ipv6.conf.other.accept_ra"), "1");
    let _radvd = advertise(&node, &router, 5, 600);
    node.ip("link set up0 up\n");
    await_learned(&node, "up0", 0);
}

/// As with the reference plugins: a default that listens would hold for everybody's bridges and veths.
#[test]
fn the_default_for_interfaces_that_are_plugged_in_later_is_the_administrators() {
    let node = Node::new();
    let network = Network::new(&node, CATENA, "web", &[with_bridge()]);
    let _pod = network.pod("pod");
    assert_eq!(node.sysctl("ipv6.conf.default.accept_ra"), "1");
    let quiet = router(&node, "up0");
    let _radvd = advertise(&node, &quiet, 5, 600);
    node.set_sysctl("ipv6.conf.default.accept_ra", "2");
    let listening = router(&node, "up1");
    let _another = advertise(&node, &listening, 6, 600);
    await_learned(&node, "up1", 0);
    assert_eq!(learned_route(&node, "up0"), None);
}
