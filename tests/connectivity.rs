//! A pod reaches its node, its neighbours and the world, and they reach it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use serde_json::{Value, json};
use testnode::{Neighbour, Netns, Network, Node};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

const V4: &str = "10.1.0.0/24";
const V6: &str = "fd00:1::/64";

fn ipam(subnets: &[&str]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|s| json!([{ "subnet": s }])).collect();
    let routes: Vec<Value> = subnets
        .iter()
        .map(|s| json!({ "dst": if s.contains(':') { "::/0" } else { "0.0.0.0/0" } }))
        .collect();
    json!({ "type": "host-local", "ranges": ranges, "routes": routes })
}

fn bridge(subnets: &[&str]) -> Value {
    json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam(subnets) })
}

fn ptp(subnets: &[&str]) -> Value {
    json!({ "type": "ptp", "ipam": ipam(subnets) })
}

/// A bridge with one more field in its configuration.
fn bridge_with(field: &str, value: impl Into<Value>) -> Value {
    let mut conf = bridge(&[V4]);
    conf[field] = value.into();
    conf
}

fn outside(node: &Node) -> Neighbour {
    node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64")
}

/// The kernel's view of an interface, with all its details.
fn link(netns: &Netns, dev: &str) -> Value {
    netns.json(["ip", "-j", "-d", "link", "show", "dev", dev])[0].clone()
}

/// The addresses of an interface but the link-local ones, as CIDRs.
fn addresses(netns: &Netns, dev: &str) -> Vec<String> {
    let listing = netns.json(["ip", "-j", "addr", "show", "dev", dev]);
    let addresses = listing[0]["addr_info"].as_array().into_iter().flatten();
    addresses
        .filter(|a| a["scope"] == "global")
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect()
}

/// The gateway of the route to `dst`.
fn gateway(netns: &Netns, family: &str, dst: &str) -> Value {
    netns.json(["ip", "-j", family, "route", "show", dst])[0]["gateway"].clone()
}

fn everyone_reaches_everyone(plugin: &Value, subnets: &[&str], bridge_nf: bool) {
    let node = Node::new();
    node.bridge_nf(bridge_nf);
    let outside = outside(&node);
    let network = Network::new(&node, CATENA, "web", std::slice::from_ref(plugin));
    let (a, b) = (network.pod("a"), network.pod("b"));
    for subnet in subnets {
        let (at_a, at_b, at_outside, at_node) = match subnet.contains(':') {
            false => (a.v4(), b.v4(), outside.v4(), outside.node_v4()),
            true => (a.v6(), b.v6(), outside.v6(), outside.node_v6()),
        };
        node.ping(&at_a.to_string());
        outside.ping(&at_a.to_string());
        a.ping(&at_b.to_string());
        b.ping(&at_a.to_string());
        a.ping(&at_node.to_string());
        a.ping(&at_outside.to_string());
    }
}

#[test]
fn pods_on_a_bridge_reach_everyone_by_ipv4() {
    everyone_reaches_everyone(&bridge(&[V4]), &[V4], false);
}

#[test]
fn pods_on_a_bridge_reach_everyone_by_ipv6() {
    everyone_reaches_everyone(&bridge(&[V6]), &[V6], false);
}

#[test]
fn pods_on_a_bridge_reach_everyone_by_both_families() {
    everyone_reaches_everyone(&bridge(&[V4, V6]), &[V4, V6], false);
}

#[test]
fn pods_on_a_bridge_reach_everyone_also_through_bridge_netfilter() {
    everyone_reaches_everyone(&bridge(&[V4, V6]), &[V4, V6], true);
}

#[test]
fn point_to_point_pods_reach_everyone_by_ipv4() {
    everyone_reaches_everyone(&ptp(&[V4]), &[V4], false);
}

#[test]
fn point_to_point_pods_reach_everyone_by_ipv6() {
    everyone_reaches_everyone(&ptp(&[V6]), &[V6], false);
}

#[test]
fn point_to_point_pods_reach_everyone_by_both_families() {
    everyone_reaches_everyone(&ptp(&[V4, V6]), &[V4, V6], false);
}

/// Duplicate address detection would hold it back for a second or two: not only on the pod's own
/// address, but also on the link-local one that the node looks for the pod from.
#[test]
fn an_ipv6_address_works_as_soon_as_add_returns() {
    for plugin in [bridge(&[V6]), ptp(&[V6])] {
        let answers_at_once = || {
            let node = Node::new();
            let outside = outside(&node);
            let network = Network::new(&node, CATENA, "web", std::slice::from_ref(&plugin));
            let (asked, asking) = (network.pod("asked"), network.pod("asking"));
            outside.pings(&asked.v6().to_string()) && asking.pings(&outside.v6().to_string())
        };
        // A busy machine may lose a packet; that would not happen each time.
        assert!((0..3).any(|_| answers_at_once()), "{plugin}");
    }
}

#[test]
fn loopback_lets_a_pod_talk_to_itself_until_del() {
    let node = Node::new();
    let network = Network::new(&node, CATENA, "lo", &[json!({ "type": "loopback" })]);
    let pod = network.pod("pod");
    pod.ping("127.0.0.1");
    pod.ping("::1");
    pod.del();
    assert!(!link(&pod, "lo")["flags"].as_array().unwrap().contains(&json!("UP")));
}

#[test]
fn static_addresses_and_routes_are_set_as_given() {
    let node = Node::new();
    let mut conf = bridge(&[]);
    conf["ipam"] = json!({
        "type": "static",
        "addresses": [
            { "address": "10.1.0.9/24", "gateway": "10.1.0.1" },
            { "address": "fd00:1::9/64", "gateway": "fd00:1::1" }
        ],
        "routes": [{ "dst": "10.9.0.0/16" }, { "dst": "10.8.0.0/16", "gw": "10.1.0.254" },
            { "dst": "fd00:9::/32" }]
    });
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let pod = network.pod("pod");
    assert_eq!(addresses(&pod, "eth0"), ["10.1.0.9/24", "fd00:1::9/64"]);
    assert_eq!(gateway(&pod, "-4", "10.9.0.0/16"), "10.1.0.1");
    assert_eq!(gateway(&pod, "-4", "10.8.0.0/16"), "10.1.0.254");
    assert_eq!(gateway(&pod, "-6", "fd00:9::/32"), "fd00:1::1");
    assert_eq!(gateway(&pod, "-4", "default"), Value::Null);
    node.ping("10.1.0.9");
    node.ping("fd00:1::9");
}

#[test]
fn a_runtime_may_choose_the_addresses_and_the_mac() {
    let node = Node::new();
    let mut conf = bridge(&[V4, V6]);
    conf["capabilities"] = json!({ "ips": true, "mac": true });
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let asked = json!({ "ips": ["10.1.0.77/24", "fd00:1::77/64"], "mac": "02:11:22:33:44:55" });
    let pod = network.pod_with("pod", &asked);
    assert_eq!(addresses(&pod, "eth0"), ["10.1.0.77/24", "fd00:1::77/64"]);
    assert_eq!(link(&pod, "eth0")["address"], "02:11:22:33:44:55");
    node.ping("10.1.0.77");
    node.ping("fd00:1::77");
}

#[test]
fn large_packets_are_bounded_by_the_mtu() {
    for conf in [bridge(&[V4]), ptp(&[V4])] {
        let node = Node::new();
        let mut conf = conf;
        conf["mtu"] = json!(1400);
        let network = Network::new(&node, CATENA, "web", &[conf]);
        let pod = network.pod("pod");
        assert_eq!(link(&pod, "eth0")["mtu"], 1400);
        assert_eq!(link(&node, pod.host_ifname())["mtu"], 1400);
        // 28 bytes are the headers.
        let fits = ["ping", "-n", "-c", "1", "-W", "3", "-M", "do", "-s", "1372", "10.1.0.1"];
        pod.run(fits);
        let too_long = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1373", "10.1.0.1"];
        pod.cmd(too_long).output().failure();
    }
}

#[test]
fn the_bridge_becomes_the_default_gateway_if_so_configured() {
    let node = Node::new();
    let outside = outside(&node);
    let mut conf = bridge(&[V4, V6]);
    conf["isDefaultGateway"] = json!(true);
    conf["ipam"].as_object_mut().unwrap().remove("routes");
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let pod = network.pod("pod");
    assert_eq!(gateway(&pod, "-4", "default"), "10.1.0.1");
    assert_eq!(gateway(&pod, "-6", "default"), "fd00:1::1");
    pod.ping(&outside.v4().to_string());
    pod.ping(&outside.v6().to_string());
}

#[test]
fn without_a_gateway_a_bridge_only_joins_its_pods() {
    let node = Node::new();
    let mut conf = bridge(&[V4]);
    conf["isGateway"] = json!(false);
    conf["ipam"].as_object_mut().unwrap().remove("routes");
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let (a, b) = (network.pod("a"), network.pod("b"));
    a.ping(&b.v4().to_string());
    assert_eq!(addresses(&node, "cni0"), [""; 0]);
    assert_eq!(node.sysctl("ipv4.ip_forward"), "0");
}

#[test]
fn isolated_ports_reach_the_node_but_not_each_other() {
    let node = Node::new();
    node.bridge_nf(false);
    let isolated = Network::new(&node, CATENA, "web", &[bridge_with("portIsolation", true)]);
    let (a, b) = (isolated.pod("a"), isolated.pod("b"));
    let open = Network::new(&node, CATENA, "web", &[bridge(&[V4])]);
    let c = open.pod("c");
    a.ping("10.1.0.1");
    b.ping("10.1.0.1");
    a.ping(&c.v4().to_string());
    assert!(!a.pings(&b.v4().to_string()));
}

#[test]
fn a_pod_that_changes_its_mac_is_not_heard() {
    let node = Node::new();
    let network = Network::new(&node, CATENA, "web", &[bridge_with("macspoofchk", true)]);
    let (pod, other) = (network.pod("pod"), network.pod("other"));
    pod.ping("10.1.0.1");
    let own = link(&pod, "eth0")["address"].as_str().unwrap().to_owned();
    pod.ip("link set eth0 address 02:00:00:00:00:99\n");
    assert!(!pod.pings("10.1.0.1"));
    assert!(!pod.pings(&other.v4().to_string()));
    other.ping("10.1.0.1");
    pod.ip(&format!("link set eth0 address {own}\n"));
    pod.ping("10.1.0.1");
    pod.ping(&other.v4().to_string());
}

#[test]
fn without_macspoofchk_a_pod_may_change_its_mac() {
    let node = Node::new();
    let network = Network::new(&node, CATENA, "web", &[bridge(&[V4])]);
    let pod = network.pod("pod");
    pod.ip("link set eth0 address 02:00:00:00:00:99\n");
    pod.ping("10.1.0.1");
}

#[test]
fn promisc_mode_is_set_on_the_bridge() {
    for on in [false, true] {
        let node = Node::new();
        let network = Network::new(&node, CATENA, "web", &[bridge_with("promiscMode", on)]);
        network.pod("pod");
        assert_eq!(link(&node, "cni0")["promiscuity"], u8::from(on));
    }
}

#[test]
fn hairpin_mode_is_set_on_the_port() {
    for on in [false, true] {
        let node = Node::new();
        let network = Network::new(&node, CATENA, "web", &[bridge_with("hairpinMode", on)]);
        let pod = network.pod("pod");
        let port = link(&node, pod.host_ifname());
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], on);
    }
}

#[test]
fn a_disabled_container_interface_stays_down() {
    let node = Node::new();
    let mut conf = bridge_with("disableContainerInterface", true);
    conf.as_object_mut().unwrap().remove("ipam");
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let pod = network.pod("pod");
    let eth0 = link(&pod, "eth0");
    assert_eq!(eth0["operstate"], "DOWN");
    assert!(!eth0["flags"].as_array().unwrap().contains(&json!("UP")), "{eth0}");
}

#[test]
fn the_resolvers_of_resolv_conf_are_in_the_result() {
    let node = Node::new();
    let file = node.fresh_path("resolv.conf");
    node.write(
        &file,
        "# the resolvers of this network\nnameserver 10.1.0.53\nnameserver fd00:1::53\n\
         domain example.org\nsearch example.org example.net\noptions ndots:2 edns0\n",
    );
    let mut conf = bridge(&[V4]);
    conf["ipam"]["resolvConf"] = json!(file);
    let network = Network::new(&node, CATENA, "web", &[conf]);
    let expected = json!({
        "nameservers": ["10.1.0.53", "fd00:1::53"],
        "domain": "example.org",
        "search": ["example.org", "example.net"],
        "options": ["ndots:2", "edns0"]
    });
    assert_eq!(network.pod("pod").result["dns"], expected);
}
