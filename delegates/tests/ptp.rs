//! ptp against the kernel's own view.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod common;

use common::Case;
use serde_json::{Value, json};
use testnode::{Container, Node, Shared, Snapshot, assert_same};

fn conf(extra: Value) -> Value {
    let mut conf = json!({
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00:1::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

#[track_caller]
fn assert_only_shared_things_are_left(before: &Snapshot, outer: &Node) {
    let shared = Shared::none().whole_table("inet catena").forwarding();
    assert_same(before, &Snapshot::of(outer), &shared);
    let rules = outer.run(["nft", "list", "ruleset"]);
    assert!(!rules.contains("comment \"net "), "{rules}");
}

fn routes(container: &Container, family: &str) -> Vec<String> {
    let listed = container.run(["ip", family, "route", "show", "dev", "eth0"]);
    let mut routes: Vec<_> = listed
        .lines()
        .filter(|line| !line.starts_with("fe80"))
        .map(|line| line.split(" metric").next().unwrap().trim().to_owned())
        .collect();
    routes.sort();
    routes
}

#[test]
fn containers_reach_the_host_and_each_other_by_way_of_it() {
    let outer = Node::new();
    let (c1, c2) = (outer.container("c1"), outer.container("c2"));
    let before = Snapshot::of(&outer);
    let conf = conf(json!({ "ipMasq": true, "mtu": 1400 }));
    let (first, second) = (Case::new(conf.clone(), &c1), Case::new(conf, &c2));
    let result = first.add().unwrap();
    assert_eq!(result.interfaces.len(), 2);
    assert_eq!(result.interfaces[1].name, "eth0");
    assert_eq!(result.ips[0].interface, Some(1));
    let eth0 = c1.json(["ip", "-j", "addr", "show", "eth0"])[0].clone();
    assert_eq!(eth0["mtu"], 1400);
    assert_eq!(eth0["address"], result.interfaces[1].mac.as_str());
    assert_eq!(eth0["addr_info"][0]["prefixlen"], 24);
    assert_eq!(
        routes(&c1, "-4"),
        [
            "10.1.0.0/24 via 10.1.0.1 src 10.1.0.2",
            "10.1.0.1 scope link src 10.1.0.2",
            "default via 10.1.0.1",
        ]
    );
    assert_eq!(
        routes(&c1, "-6"),
        [
            "default via fd00:1::1",
            "fd00:1::/64 via fd00:1::1 src fd00:1::2",
            "fd00:1::1 src fd00:1::2"
        ]
    );
    let veth = &result.interfaces[0].name;
    assert_eq!(outer.run(["ip", "route", "show", "dev", veth]).trim(), "10.1.0.2 scope host");

    assert!(c1.pings("10.1.0.1"));
    assert!(c1.pings("fd00:1::1"));
    assert!(outer.pings("10.1.0.2"));
    let other = second.add().unwrap();
    assert!(c1.pings(&other.ips[0].address.addr().to_string()));
    assert!(c1.pings(&other.ips[1].address.addr().to_string()), "at once, by IPv6 too");
    first.check().unwrap();
    second.check().unwrap();

    first.del().unwrap();
    first.del().unwrap();
    c2.delete();
    second.del().unwrap();
    assert_only_shared_things_are_left(&before, &outer);
}

#[test]
fn an_address_without_a_gateway_and_a_configuration_without_ipam_are_refused() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = Snapshot::of(&outer);
    let lonely = json!({ "type": "ptp",
        "ipam": { "type": "static", "addresses": [{ "address": "10.1.0.2/24" }] } });
    let error = Case::new(lonely, &c1).add().unwrap_err();
    assert!(error.msg.contains("a gateway for each address"), "{error}");
    let error = Case::new(json!({ "type": "ptp" }), &c1).add().unwrap_err();
    assert!(error.msg.contains("ptp needs ipam"), "{error}");
    assert_same(&before, &Snapshot::of(&outer), &Shared::none());
}

#[test]
fn a_failed_add_leaves_nothing() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let before = Snapshot::of(&outer);
    let inside = Snapshot::of(&c1);
    let conf = json!({ "type": "ptp", "ipam": { "type": "static",
        "addresses": [{ "address": "10.1.0.2/24", "gateway": "10.1.0.1" }],
        "routes": [{ "dst": "10.7.0.0/16", "gw": "10.8.0.1" }] } });
    let error = Case::new(conf, &c1).add().unwrap_err();
    assert!(error.msg.contains("add route 10.7.0.0/16 via 10.8.0.1"), "{error}");
    assert_same(&before, &Snapshot::of(&outer), &Shared::none());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());

    c1.ip("link add eth0 type ifb\n");
    let error = Case::new(self::conf(json!({})), &c1).add().unwrap_err();
    assert!(error.msg.contains("interface eth0 exists already"), "{error}");
    assert_same(&before, &Snapshot::of(&outer), &Shared::none());
}

#[test]
fn addresses_of_one_subnet_share_their_gateway() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let conf = json!({ "type": "ptp", "ipam": { "type": "static", "addresses": [
        { "address": "10.1.0.2/24", "gateway": "10.1.0.1" },
        { "address": "10.1.0.3/24", "gateway": "10.1.0.1" },
        { "address": "10.2.0.3/32", "gateway": "10.2.0.1" } ] } });
    let case = Case::new(conf, &c1);
    case.add().unwrap();
    assert!(outer.pings("10.1.0.2"));
    assert!(outer.pings("10.1.0.3"));
    assert!(outer.pings("10.2.0.3"));
    case.check().unwrap();
}

#[test]
fn check_names_what_is_missing() {
    let outer = Node::new();
    for (break_it, says) in [
        ("c route del 10.1.0.0/24 via 10.1.0.1", "no route 10.1.0.0/24 via 10.1.0.1 by eth0"),
        ("c route del default", "no route 0.0.0.0/0 via 10.1.0.1 by eth0"),
        ("c link set eth0 address 02:00:00:00:00:77", "hardware address of eth0"),
        ("c link set eth0 mtu 1300", "the MTU of eth0 is 1300, not 1400"),
        ("h addr del 10.1.0.1/32 dev VETH", "has no address 10.1.0.1/32"),
        ("h route del ADDRESS dev VETH scope host", "there is no route"),
        ("h link set VETH mtu 1300", "is 1300, not 1400"),
    ] {
        let container = outer.container("c1");
        let case = Case::new(conf(json!({ "mtu": 1400, "ipMasq": true })), &container);
        let result = case.add().unwrap();
        case.check().unwrap();
        let (place, command) = break_it.split_once(' ').unwrap();
        let command = command
            .replace("VETH", &result.interfaces[0].name)
            .replace("ADDRESS", &result.ips[0].address.addr().to_string());
        match place {
            "c" => container.ip(&format!("{command}\n")),
            _ => outer.ip(&format!("{command}\n")),
        }
        let finding = case.finding();
        assert!(finding.contains(says), "{break_it}: {finding}");
        case.del().unwrap();
        container.delete();
    }
}
