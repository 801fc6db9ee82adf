//! CVE-2020-10749: router advertisements of a container, or of a host outside, change nothing on the node nor in other
//! containers.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bridge, host_local};
use testnode::{Advertiser, Container, Netns, Network, Node, Pod, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// What the rogue router advertises.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
const V4: [&str; 1] = ["10.1.0.0/24"];
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn on_a_bridge<'n>(node: &'n Node, subnets: &[&str]) -> Network<'n> {
    Network::new(node, CATENA, "web", &[bridge("cni0", subnets)])
}

/// Whether a namespace has an address or a route of the rogue router's.
fn is_taken_in(netns: &Netns) -> bool {
    let addresses = netns.run(["ip", "-6", "addr"]);
    let routes = netns.run(["ip", "-6", "route", "show", "table", "all"]);
    let rogue = |listing: &str| listing.contains("2001:db8:bad:") || listing.contains("proto ra");
    rogue(&addresses) || rogue(&routes)
}

#[track_caller]
fn await_taken_in(netns: &Netns) {
    until(&format!("{} believes the router", netns.name()), Duration::from_secs(10), || {
        is_taken_in(netns).then_some(())
    });
}

/// A container of nobody's on the bridge, with the kernel's defaults: it shows that the advertisements arrive.
fn gullible(node: &Node, name: &str) -> Container {
    let container = node.container(name);
    node.ip(&format!(
        "link add {name} type veth peer name eth0 netns {name}\nlink set {name} master cni0\nlink set {name} up\n"
    ));
    container.ip("link set eth0 up\n");
    container
}

#[track_caller]
fn assert_untouched(node: &Node, pods: &[&Pod<'_>]) {
    for netns in pods.iter().map(|pod| &****pod).chain([&**node]) {
        let listing = netns.run(["ip", "-6", "route"]);
        assert!(!is_taken_in(netns), "{} is taken in: {listing}", netns.name());
    }
}

#[test]
fn cve_2020_10749_rogue_router_advertisements_do_not_enter_pods_by_way_of_the_bridge() {
    for subnets in [&V4[..], &DUAL] {
        let node = Node::new();
        let network = on_a_bridge(&node, subnets);
        let (rogue, victim) = (network.pod("rogue"), network.pod("victim"));
        let control = gullible(&node, "control");
        let _router = Advertiser::start(&rogue, "eth0", PREFIX);
        await_taken_in(&control);
        // Also those that come while it advertises: there is no moment at which they listen.
        let later = ["first", "second", "third"].map(|name| network.pod(name));
        let another = gullible(&node, "another");
        await_taken_in(&another);
        assert_untouched(&node, &[&victim, &later[0], &later[1], &later[2]]);
        // The attack is a real one: it succeeds as soon as they listen.
        victim.set_sysctl("ipv6.conf.eth0.accept_ra", "1");
        await_taken_in(&victim);
        node.set_sysctl("ipv6.conf.cni0.accept_ra", "2");
        await_taken_in(&node);
    }
}

#[test]
fn cve_2020_10749_rogue_router_advertisements_do_not_enter_the_node_by_way_of_a_point_to_point_link()
 {
    for subnets in [&V4[..], &DUAL] {
        let node = Node::new();
        let ptp = json!({ "type": "ptp", "ipam": host_local(subnets) });
        let network = Network::new(&node, CATENA, "web", &[ptp]);
        let rogue = network.pod("rogue");
        let _router = Advertiser::start(&rogue, "eth0", PREFIX);
        let victim = network.pod("victim");
        let host_end = rogue.host_ifname();
        assert_untouched(&node, &[&victim]);
        // A link of nobody's hears it as often.
        node.set_sysctl(&format!("ipv6/conf/{host_end}/accept_ra"), "2");
        await_taken_in(&node);
        assert_untouched_pod(&victim);
    }
}

#[track_caller]
fn assert_untouched_pod(pod: &Pod<'_>) {
    assert!(!is_taken_in(pod), "{}", pod.run(["ip", "-6", "route"]));
}

#[test]
fn cve_2020_10749_rogue_router_advertisements_of_a_host_outside_do_not_enter_by_way_of_the_bridge()
{
    for subnets in [&V4[..], &DUAL] {
        let node = Node::new();
        let network = on_a_bridge(&node, subnets);
        let victim = network.pod("victim");
        // An interface of the node's becomes a port of the bridge.
        let outside = gullible(&node, "outside");
        let control = gullible(&node, "control");
        let _router = Advertiser::start(&outside, "eth0", PREFIX);
        await_taken_in(&control);
        let later = network.pod("later");
        assert_untouched(&node, &[&victim, &later]);
    }
}

/// Whoever brings no addresses along leaves them to others: a container that is only plugged in listens as before.
#[test]
fn a_container_without_ipam_may_still_listen_to_its_router() {
    let node = Node::new();
    let plain: Value = json!({ "type": "bridge", "bridge": "cni0" });
    let network = Network::new(&node, CATENA, "plain", &[plain]);
    let (router, pod) = (network.pod("router"), network.pod("pod"));
    let _router = Advertiser::start(&router, "eth0", PREFIX);
    await_taken_in(&pod);
    assert!(!is_taken_in(&node));
}

/// A bridge that the node itself has its route by goes on listening.
#[test]
fn a_bridge_that_is_the_nodes_way_out_stays_it() {
    let node = Node::new();
    node.ip("link add cni0 type bridge\nlink set cni0 up\n");
    let router = gullible(&node, "router");
    let _router = Advertiser::start(&router, "eth0", PREFIX);
    await_taken_in(&node);
    let network = on_a_bridge(&node, &DUAL);
    let pod = network.pod("pod");
    assert_untouched_pod(&pod);
    let default = || node.run(["ip", "-6", "route", "show", "default", "proto", "ra"]);
    assert!(!default().is_empty());
    // And it is kept up.
    node.run(["ip", "-6", "route", "flush", "proto", "ra"]);
    until("the route comes back", Duration::from_secs(10), || {
        (!default().is_empty()).then_some(())
    });
}
