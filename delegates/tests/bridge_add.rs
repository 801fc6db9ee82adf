//! bridge: ADD and DEL against the kernel's own view.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod common;

use std::time::Duration;

use common::Case;
use serde_json::{Value, json};
use testnode::{Container, Node, Shared, Snapshot, assert_same, until};

fn host_local(subnets: &[&str]) -> Value {
    let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    json!({ "type": "host-local", "ranges": ranges })
}

fn dual(extra: Value) -> Value {
    let mut conf = json!({
        "type": "bridge", "bridge": "br0", "isDefaultGateway": true,
        "ipam": host_local(&["10.1.0.0/24", "fd00:1::/64"]),
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

/// The kernel's view of the node; what lies in files is others' to test.
fn kernel(outer: &Node) -> Snapshot {
    Snapshot::of(outer)
}

/// What stays: the bridge, the rules (but no element of an attachment's) and forwarding.
#[track_caller]
fn assert_only_shared_things_are_left(before: &Snapshot, outer: &Node) {
    let shared = Shared::none()
        .device("br0")
        .whole_table("inet catena")
        .whole_table("bridge catena")
        .forwarding();
    assert_same(before, &kernel(outer), &shared);
    let rules = outer.run(["nft", "list", "ruleset"]);
    assert!(!rules.contains("comment \"net "), "{rules}");
}

fn link(container: &Container, name: &str) -> Value {
    container.json(["ip", "-j", "-d", "addr", "show", name])[0].clone()
}

fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().unwrap().contains(&json!(flag))
}

#[test]
fn a_dual_stack_container_reaches_its_gateway_and_another_and_is_taken_away_without_a_trace() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let before = kernel(&outer);
    let conf = dual(json!({ "mtu": 1400, "ipMasq": true, "macspoofchk": true }));
    let first = Case::new(conf.clone(), &c1);
    let second = Case::new(conf, &c2);
    let result = first.add().unwrap();

    let names: Vec<_> = result.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names[0], "br0");
    assert_eq!(names[2], "eth0");
    assert_eq!(result.interfaces[2].sandbox, c1.path().to_str().unwrap());
    assert_eq!(result.ips.len(), 2);
    assert_eq!(result.ips[0].gateway.unwrap().to_string(), "10.1.0.1");
    assert_eq!(result.ips[0].interface, Some(2));
    let defaults: Vec<_> = result.routes.iter().map(|r| r.dst.to_string()).collect();
    assert_eq!(defaults, ["0.0.0.0/0", "::/0"]);

    let eth0 = link(&c1, "eth0");
    assert_eq!(eth0["address"], result.interfaces[2].mac.as_str());
    assert_eq!(eth0["mtu"], 1400);
    assert_eq!(eth0["operstate"], "UP");
    let port = outer.json(["ip", "-j", "-d", "link", "show", names[1]])[0].clone();
    assert_eq!(port["master"], "br0");
    assert_eq!(port["mtu"], 1400);
    assert_eq!(port["address"], result.interfaces[1].mac.as_str());
    let bridge = outer.json(["ip", "-j", "-d", "addr", "show", "br0"])[0].clone();
    assert_eq!(bridge["address"], result.interfaces[0].mac.as_str());
    assert_eq!(bridge["mtu"], 1400);
    for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
        assert_eq!(outer.sysctl(key), "1", "{key}");
    }
    assert_eq!(outer.sysctl("ipv6.conf.br0.accept_ra"), "0");
    // A port forwards IPv6, and has none itself.
    assert_eq!(outer.run(["ip", "-6", "-o", "addr", "show", "dev", names[1]]), "");
    for (key, value) in [
        ("ipv4.conf.eth0.arp_notify", "1"),
        ("ipv6.conf.eth0.accept_dad", "0"),
        ("ipv6.conf.eth0.keep_addr_on_down", "1"),
    ] {
        assert_eq!(c1.sysctl(key), value, "{key}");
    }

    // At once: nothing is tentative.
    assert!(c1.pings("10.1.0.1"));
    assert!(c1.pings("fd00:1::1"));
    let other = second.add().unwrap();
    assert!(c1.pings(&other.ips[0].address.addr().to_string()));
    assert!(c1.pings(&other.ips[1].address.addr().to_string()));
    first.check().unwrap();
    second.check().unwrap();

    first.del().unwrap();
    first.del().unwrap();
    second.del().unwrap();
    assert_only_shared_things_are_left(&before, &outer);
}

#[test]
fn neighbours_learn_of_an_address_that_another_container_had() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let conf = json!({ "type": "bridge", "bridge": "br0", "ipam": host_local(&["10.1.0.0/24"]) });
    Case::new(conf.clone(), &c1).add().unwrap();
    // As it would be for half a minute and longer.
    let stale = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable"];
    c1.run([&["ip", "neigh", "replace", "10.1.0.3"], &stale[..]].concat());
    let result = Case::new(conf, &c2).add().unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.0.3/24");
    until("the neighbour has the new hardware address", Duration::from_secs(10), || {
        let known = c1.json(["ip", "-j", "neigh", "show", "10.1.0.3"])[0]["lladdr"].clone();
        (known == result.interfaces[2].mac.as_str()).then_some(())
    });
    // All namespaces share one table of neighbours, which is not filled with what announces addresses.
    assert_eq!(c2.run(["ip", "neigh", "show", "10.1.0.3"]), "");
}

#[test]
fn del_after_the_namespace_is_gone_leaves_nothing() {
    let outer = Node::new();
    let before = kernel(&outer);
    let c1 = outer.container("c1");
    let case = Case::new(dual(json!({ "ipMasq": true, "macspoofchk": true })), &c1);
    case.add().unwrap();
    let elements = |set: &str| outer.run(["nft", "list", "map", "inet", "catena", set]);
    assert!(elements("egress4").contains("10.1.0.2 comment \"net c1/eth0\""));
    c1.delete();
    case.del().unwrap();
    assert!(!elements("egress4").contains("10.1.0.2"));
    assert!(!elements("egress6").contains("fd00"));
    case.del().unwrap();
    assert_only_shared_things_are_left(&before, &outer);
}

#[test]
fn del_without_a_namespace_leaves_nothing() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = kernel(&outer);
    let case = Case::new(dual(json!({ "ipMasq": true })), &c1);
    case.add().unwrap();
    case.netns(None).del().unwrap();
    assert_only_shared_things_are_left(&before, &outer);
}

#[test]
fn an_interface_name_that_is_taken_is_refused_before_anything_is_made() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    c1.ip("link add eth0 type bridge\n");
    let before = kernel(&outer);
    let error = Case::new(dual(json!({})), &c1).add().unwrap_err();
    assert!(error.msg.contains("interface eth0 exists already in"), "{error}");
    assert_eq!(error.code.number(), 4);
    assert_same(&before, &kernel(&outer), &Shared::none());
}

#[test]
fn a_bridge_that_is_not_a_bridge_is_refused_and_stays() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    outer.ip("link add br0 type ifb\n");
    let before = kernel(&outer);
    let error = Case::new(dual(json!({})), &c1).add().unwrap_err();
    assert!(error.msg.contains("bridge br0"), "{error}");
    assert!(error.msg.contains("it is not a bridge (ifb)"), "{error}");
    assert_same(&before, &kernel(&outer), &Shared::none());
}

#[test]
fn a_failed_add_leaves_nothing_not_even_the_bridge() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = kernel(&outer);
    let inside = Snapshot::of(&c1);
    for (what, conf) in [
        ("IPAM fails", dual(json!({ "ipam": { "type": "host-local" } }))),
        (
            "the interface cannot be configured",
            dual(json!({ "ipam": { "type": "static", "addresses": [
                { "address": "10.1.0.2/24" }, { "address": "10.1.0.2/24" } ] } })),
        ),
        (
            "a route cannot be added",
            dual(json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.1.0.2/24" }],
                "routes": [{ "dst": "10.7.0.0/16", "gw": "10.8.0.1" }] } })),
        ),
    ] {
        let error = Case::new(conf, &c1).add().unwrap_err();
        assert_same(&before, &kernel(&outer), &Shared::none());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
        println!("{what}: {error}");
    }
}

#[test]
fn a_failed_add_leaves_a_bridge_that_others_use() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    Case::new(dual(json!({})), &c1).add().unwrap();
    let before = kernel(&outer);
    Case::new(dual(json!({ "ipam": { "type": "host-local" } })), &c2).add().unwrap_err();
    assert_same(&before, &kernel(&outer), &Shared::none());
}

#[test]
fn a_differing_address_on_the_bridge_is_an_error_unless_forced() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    outer.ip(
        "link add br0 type bridge\naddr add 10.9.0.1/24 dev br0\naddr add fd00:9::1/64 dev br0\n",
    );
    let error = Case::new(dual(json!({})), &c1).add().unwrap_err();
    assert!(error.msg.contains("bridge br0 has the address 10.9.0.1/24"), "{error}");
    assert!(error.msg.contains("forceAddress"), "{error}");
    Case::new(dual(json!({ "forceAddress": true })), &c1).add().unwrap();
    let listed = outer.run(["ip", "-o", "addr", "show", "br0", "scope", "global"]);
    let mut addresses: Vec<_> =
        listed.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    addresses.sort_unstable();
    // IPv6 networks that do not overlap may be side by side.
    assert_eq!(addresses, ["10.1.0.1/24", "fd00:1::1/64", "fd00:9::1/64"]);
}

#[test]
fn the_ports_options_and_the_mac_are_as_asked_for() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let conf = dual(json!({ "hairpinMode": true, "portIsolation": true }));
    let case = Case::new(conf, &c1).args("MAC=02:11:22:33:44:55;IgnoreUnknown=1;K8S_POD_NAME=x");
    let result = case.add().unwrap();
    assert_eq!(result.interfaces[2].mac, "02:11:22:33:44:55");
    assert_eq!(link(&c1, "eth0")["address"], "02:11:22:33:44:55");
    let port = outer.json(["ip", "-j", "-d", "link", "show", &result.interfaces[1].name]);
    assert_eq!(port[0]["linkinfo"]["info_slave_data"]["hairpin"], true);
    assert_eq!(port[0]["linkinfo"]["info_slave_data"]["isolated"], true);
    case.check().unwrap();

    let c2 = outer.container("c2");
    let promisc = Case::new(dual(json!({ "promiscMode": true, "bridge": "br1", "ipam": {} })), &c2);
    promisc.add().unwrap();
    let bridge = outer.json(["ip", "-j", "-d", "link", "show", "br1"])[0].clone();
    assert!(has_flag(&bridge, "PROMISC"), "{bridge}");
    assert!(has_flag(&link(&c2, "eth0"), "UP"));
    promisc.check().unwrap();

    let unknown = Case::new(dual(json!({})), &outer.container("c3")).args("COLOUR=red");
    let error = unknown.add().unwrap_err();
    assert_eq!(error.code.number(), 4, "{error}");
    assert!(error.msg.contains("COLOUR"), "{error}");
}

#[test]
fn a_container_interface_may_stay_down() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let conf = json!({ "type": "bridge", "bridge": "br0", "disableContainerInterface": true });
    let case = Case::new(conf, &c1);
    let result = case.add().unwrap();
    assert!(result.ips.is_empty());
    assert!(!has_flag(&link(&c1, "eth0"), "UP"));
    case.check().unwrap();
    c1.ip("link set eth0 up\n");
    assert!(case.finding().contains("interface eth0 is on, not off"), "{}", case.finding());
}

#[test]
fn routes_of_ipam_have_all_that_they_ask_for() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let conf = json!({
        "type": "bridge", "bridge": "br0", "isDefaultGateway": true,
        "ipam": { "type": "static",
            "addresses": [{ "address": "10.1.0.2/24", "gateway": "10.1.0.1" }, { "address": "fd00:1::2/64" }],
            "routes": [
                { "dst": "0.0.0.0/0" },
                { "dst": "10.7.0.0/16", "gw": "10.1.0.9", "mtu": 1300, "advmss": 1200, "priority": 77 },
                { "dst": "10.8.0.0/16", "table": 1000 },
                { "dst": "10.1.9.9/32", "scope": 253, "gw": "0.0.0.0" },
            ] } });
    let mut conf = conf;
    // A gateway is not what a link-scope route has.
    conf["ipam"]["routes"].as_array_mut().unwrap().pop();
    let case = Case::new(conf, &c1);
    case.add().unwrap();
    let route =
        |dst: &str| c1.json(["ip", "-j", "-d", "route", "show", dst, "table", "all"])[0].clone();
    assert_eq!(route("default")["gateway"], "10.1.0.1");
    assert_eq!(c1.json(["ip", "-j", "route", "show", "default"]).as_array().unwrap().len(), 1);
    assert_eq!(c1.json(["ip", "-j", "-6", "route", "show", "default"])[0]["gateway"], "fd00:1::1");
    let special = route("10.7.0.0/16");
    assert_eq!(special["gateway"], "10.1.0.9");
    assert_eq!(special["metric"], 77);
    assert_eq!(special["metrics"][0]["mtu"], 1300);
    assert_eq!(special["metrics"][0]["advmss"], 1200);
    assert_eq!(route("10.8.0.0/16")["table"], "1000");
    case.check().unwrap();
}

#[test]
fn with_enabledad_a_duplicate_address_is_found_and_the_add_undone() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let conf = json!({
        "type": "bridge", "bridge": "br0", "isGateway": true, "enabledad": true,
        "ipam": { "type": "static", "addresses": [{ "address": "fd00:1::2/64" }] } });
    let first = Case::new(conf.clone(), &c1);
    first.add().unwrap();
    assert!(c1.pings("fd00:1::1"));
    until("the port's own address is settled", Duration::from_secs(5), || {
        outer.run(["ip", "-o", "addr", "show", "tentative"]).is_empty().then_some(())
    });
    let before = kernel(&outer);
    let error = Case::new(conf, &c2).add().unwrap_err();
    assert!(error.msg.contains("fd00:1::2/64 on eth0"), "{error}");
    assert!(error.msg.contains("duplicate"), "{error}");
    assert_same(&before, &kernel(&outer), &Shared::none());
}

#[test]
fn adds_at_once_share_a_bridge_that_none_has_made_before() {
    let outer = Node::new();
    let containers: Vec<_> = (0..8).map(|i| outer.container(&format!("c{i}"))).collect();
    let cases: Vec<_> =
        containers.iter().map(|c| Case::new(dual(json!({ "ipMasq": true })), c)).collect();
    let failing: Vec<_> = (0..4)
        .map(|i| {
            let container = outer.container(&format!("f{i}"));
            Case::new(dual(json!({ "ipam": { "type": "host-local" } })), &container)
        })
        .collect();
    std::thread::scope(|scope| {
        let adds: Vec<_> = cases.iter().map(|case| scope.spawn(|| case.add())).collect();
        let failures: Vec<_> = failing.iter().map(|case| scope.spawn(|| case.add())).collect();
        for add in adds {
            add.join().unwrap().unwrap();
        }
        for failure in failures {
            failure.join().unwrap().unwrap_err();
        }
    });
    for case in &cases {
        case.check().unwrap();
    }
    std::thread::scope(|scope| {
        let dels: Vec<_> = cases.iter().map(|case| scope.spawn(|| case.del())).collect();
        for del in dels {
            del.join().unwrap().unwrap();
        }
    });
    let ports = outer.json(["bridge", "-j", "link", "show"]);
    assert!(ports.as_array().is_none_or(Vec::is_empty), "{ports}");
}

#[test]
fn del_after_an_add_that_was_refused_leaves_the_other_networks_interface() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let first = Case::new(dual(json!({})), &c1);
    first.add().unwrap();
    let mut second = Case::new(dual(json!({ "bridge": "br1" })), &c1);
    second.rename("other");
    second.add().unwrap_err();
    second.del().unwrap();
    first.check().unwrap();
}

#[test]
fn without_ipam_there_is_an_interface_and_the_configurations_dns() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let conf = json!({ "type": "bridge", "bridge": "br0", "isGateway": true, "dns": { "nameservers": ["10.0.0.9"] } });
    let case = Case::new(conf, &c1);
    let result = case.add().unwrap();
    assert_eq!(result.dns.nameservers, ["10.0.0.9"]);
    assert!(result.ips.is_empty());
    assert!(has_flag(&link(&c1, "eth0"), "UP"));
    case.check().unwrap();
    case.del().unwrap();
}

#[test]
fn what_another_implementation_made_is_deleted_by_the_containers_interface() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    outer.ip(&format!(
        "link add br0 type bridge\nlink add vethdeadbeef type veth peer name eth0 netns {}\n",
        c1.path().display()
    ));
    Case::new(dual(json!({})), &c1).del().unwrap();
    assert!(!c1.try_run(["ip", "link", "show", "eth0"]).is_success());
    assert!(!outer.try_run(["ip", "link", "show", "vethdeadbeef"]).is_success());
}

#[test]
fn ipv6_forwarding_does_not_cost_the_node_its_router_advertisements() {
    let outer = Node::new();
    let _uplink = outer.neighbour("up0", "192.0.2.2/24", "2001:db8::2/64");
    outer.set_sysctl("ipv6.conf.up0.accept_ra", "1");
    outer.ip("route add default via 2001:db8::2 dev up0 proto ra\nlink add other type ifb\n");
    let c1 = outer.container("c1");
    Case::new(dual(json!({})), &c1).add().unwrap();
    assert_eq!(outer.sysctl("ipv6.conf.all.forwarding"), "1");
    assert_eq!(outer.sysctl("ipv6.conf.up0.accept_ra"), "2");
    assert_eq!(outer.sysctl("ipv6.conf.other.accept_ra"), "1");
}

#[test]
fn status_tells_of_a_bridge_that_is_not_one_and_of_ipams() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    Case::new(dual(json!({})), &c1).status().unwrap();
    outer.ip("link add br0 type ifb\n");
    let error = Case::new(dual(json!({})), &c1).status().unwrap_err();
    assert_eq!(error.code.number(), 50, "{error}");
    assert!(error.msg.contains("not a bridge"), "{error}");
}

#[test]
fn the_nodes_own_namespace_is_refused_before_anything_is_done() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = kernel(&outer);
    let own = Case::new(dual(json!({})), &c1).netns(Some(outer.path()));
    let error = own.add().unwrap_err();
    assert_eq!(error.code.number(), 8, "{error}");
    let gone = Case::new(dual(json!({})), &c1).netns(Some("/run/netns/gone".as_ref()));
    let error = gone.add().unwrap_err();
    assert_eq!(error.code.number(), 3, "{error}");
    assert!(error.msg.contains("/run/netns/gone does not exist"), "{error}");
    assert_same(&before, &kernel(&outer), &Shared::none());
}

#[test]
fn an_absurd_mtu_is_refused_before_anything_is_made() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = kernel(&outer);
    let error = Case::new(dual(json!({ "mtu": 70000 })), &c1).add().unwrap_err();
    assert_eq!(error.code.number(), 7, "{error}");
    assert!(error.msg.contains("mtu 70000 is out of range: 68 to 65535"), "{error}");
    assert_same(&before, &kernel(&outer), &Shared::none());
}
