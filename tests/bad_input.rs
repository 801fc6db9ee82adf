//! Bad input gets an error that says what to change, and the node stays as it was.
#![allow(clippy::unwrap_used, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{Catena, Node, PluginOutput, Shared, Snapshot, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// A network with something wrong in it, the error code, and what the message must say.
type Case = (Value, u64, &'static [&'static str]);

/// The chain of a bridge and ports, changed by `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut list = conflist("web", &[bridge("cni0", &DUAL), portmap()]);
    change(&mut list);
    list
}

/// The bridge's configuration with fields replaced.
fn with_bridge(fields: Value) -> Value {
    changed(|list| {
        for (key, value) in fields.as_object().unwrap() {
            list["plugins"][0][key] = value.clone();
        }
    })
}

/// host-local with these sets of ranges.
fn with_ranges(ranges: Value) -> Value {
    with_bridge(json!({ "ipam": { "type": "host-local", "ranges": ranges } }))
}

/// Expects each to be refused with the node and the container as they were.
#[track_caller]
fn refused(cases: &[Case]) {
    let with_none: Vec<_> = cases.iter().map(|case| (case, json!({}))).collect();
    refused_with(&with_none);
}

/// The same with capability arguments.
#[track_caller]
fn refused_with(cases: &[(&Case, Value)]) {
    let node = Node::new();
    let c1 = node.container("c1");
    // The bridge and the table, which stay, are there before.
    let good = changed(|_| ());
    let usual = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
    usual.add(&good, &c1);
    usual.del(&good, &c1);
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    for ((list, code, parts), capabilities) in cases {
        eprintln!("{list} {capabilities}");
        let catena = Catena::new(&node, CATENA).cap_args(capabilities);
        let output = PluginOutput::from(catena.try_add(list, &c1));
        assert_eq!(output.error_code(), *code, "{output}");
        let text = output.error_text();
        for part in *parts {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let version = &output.json.as_ref().unwrap()["cniVersion"];
        assert_eq!(version, "1.1.0", "{output}");
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none().device("lo"));
    }
    usual.add(&good, &c1);
}

#[test]
fn a_network_that_is_no_network_is_refused() {
    refused(&[
        (json!([]), 6, &["not a JSON object"]),
        (
            json!({ "cniVersion": "1.1.0", "plugins": [] }),
            7,
            &["no \"name\"", "must name the network"],
        ),
        (changed(|list| list["plugins"] = json!([])), 7, &["plugins"]),
        (changed(|list| list["plugins"] = json!({})), 6, &["plugins must be a list"]),
        (changed(|list| list["plugins"][1] = json!(7)), 6, &["plugin 2"]),
        (changed(|list| list["plugins"][1] = json!({})), 7, &["plugin 2", "type"]),
        (changed(|list| list["cniVersion"] = json!("9.0.0")), 1, &["9.0.0", "0.4.0, 1.0.0, 1.1.0"]),
        (changed(|list| list["cniVersion"] = json!(1)), 6, &["cniVersion is 1", "string"]),
        (changed(|list| list["disableCheck"] = json!("maybe")), 6, &["disableCheck", "maybe"]),
    ]);
}

#[test]
fn networks_and_plugins_whose_names_could_be_paths_are_refused() {
    let mut cases: Vec<Case> = vec![
        (
            changed(|list| list["plugins"][1]["type"] = json!("../portmap")),
            7,
            &["\"../portmap\"", "not a path"],
        ),
        (
            changed(|list| list["plugins"][1]["type"] = json!("/bin/sh")),
            7,
            &["\"/bin/sh\"", "not a path"],
        ),
        (changed(|list| list["plugins"][1]["type"] = json!("..")), 7, &["\"..\""]),
        (with_bridge(json!({ "ipam": { "type": "../../bin/sh" } })), 7, &["\"../../bin/sh\""]),
        (with_bridge(json!({ "bridge": "../cni0" })), 7, &["bridge", "../cni0"]),
        (with_bridge(json!({ "bridge": "a-name-of-16-byte" })), 7, &["bridge", "15"]),
    ];
    for name in ["../web", "web/../../etc", ".", "-web", "we b", "web\n", "wéb", ""] {
        cases.push((
            changed(|list| list["name"] = json!(name)),
            7,
            &["network name", "letter or digit"],
        ));
    }
    refused(&cases);
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    let range = |start: &str, end: &str| json!([[{ "subnet": "10.1.0.0/24", "rangeStart": start, "rangeEnd": end }]]);
    refused(&[
        (with_ranges(range("10.1.0.90", "10.1.0.10")), 7, &["10.1.0.90", "10.1.0.10"]),
        (with_ranges(range("10.1.0.10", "10.2.0.10")), 7, &["10.2.0.10", "10.1.0.0/24"]),
        (
            with_ranges(json!([[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "10.1.0.128/25" }]])),
            7,
            &["overlap", "10.1.0.128/25"],
        ),
        (
            with_ranges(json!([[{ "subnet": "10.1.0.0/24" }, { "subnet": "10.1.0.0/25" }]])),
            7,
            &["overlap"],
        ),
        (
            with_ranges(json!([[{ "subnet": "10.1.0.0/24" }, { "subnet": "fd00:1::/64" }]])),
            7,
            &["10.1.0.0/24", "fd00:1::/64"],
        ),
        (with_ranges(json!([[{ "subnet": "10.1.0.7/24" }]])), 7, &["host bits", "10.1.0.0/24"]),
        (with_ranges(json!([[{ "subnet": "10.1.0.0/31" }]])), 7, &["10.1.0.0/31"]),
        (with_ranges(json!([[{ "subnet": "10.1.0.0/33" }]])), 6, &["10.1.0.0/33", "10.1.0.0/24"]),
        (with_ranges(json!([])), 7, &["range"]),
        (
            with_bridge(
                json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.1.0.7" }] } }),
            ),
            7,
            &["10.1.0.7", "/"],
        ),
    ]);
}

#[test]
fn ports_that_cannot_be_are_refused() {
    fn with_port(mapping: Value, parts: &'static [&'static str]) -> (Case, Value) {
        ((changed(|_| ()), 7, parts), json!({ "portMappings": [mapping] }))
    }
    let cases: [(Case, Value); 7] = [
        with_port(
            json!({ "hostPort": 65536, "containerPort": 80 }),
            &["hostPort 65536", "1 to 65535"],
        ),
        with_port(json!({ "hostPort": 0, "containerPort": 80 }), &["hostPort 0", "1 to 65535"]),
        with_port(json!({ "hostPort": -1, "containerPort": 80 }), &["hostPort -1", "1 to 65535"]),
        with_port(json!({ "hostPort": 80 }), &["containerPort 0", "1 to 65535"]),
        with_port(
            json!({ "hostPort": 80, "containerPort": 70000 }),
            &["containerPort 70000", "1 to 65535"],
        ),
        with_port(
            json!({ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }),
            &["\"icmp\"", "tcp, udp or sctp"],
        ),
        with_port(
            json!({ "hostPort": 80, "containerPort": 80, "hostIP": "10.1" }),
            &["\"10.1\"", "IP address"],
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(case, args)| (case, args.clone())).collect();
    refused_with(&cases);
}

#[test]
fn rates_that_cannot_be_are_refused() {
    let with_rates = |rates: Value| {
        changed(|list| {
            list["plugins"][1] = rates;
            list["plugins"][1]["type"] = json!("bandwidth");
        })
    };
    refused(&[
        (
            with_rates(json!({ "ingressBurst": 8000 })),
            7,
            &["ingressBurst is 8000", "no ingressRate"],
        ),
        (with_rates(json!({ "egressBurst": 8000 })), 7, &["egressBurst is 8000", "no egressRate"]),
        (with_rates(json!({ "ingressRate": 7, "ingressBurst": 8 })), 7, &["ingressRate is 7"]),
        (with_rates(json!({ "egressRate": -1, "egressBurst": 8 })), 6, &["egressRate", "-1"]),
        (with_rates(json!({ "ingressRate": "1M" })), 6, &["ingressRate", "1M"]),
    ]);
}

#[test]
fn options_that_exclude_each_other_or_are_not_known_are_refused() {
    refused(&[
        (
            with_bridge(json!({ "hairpinMode": true, "promiscMode": true })),
            7,
            &["hairpinMode", "promiscMode"],
        ),
        (
            with_bridge(json!({ "disableContainerInterface": true })),
            7,
            &["disableContainerInterface", "ipam"],
        ),
        (with_bridge(json!({ "mtu": -1 })), 6, &["mtu", "-1"]),
        (with_bridge(json!({ "isGateway": "yes" })), 6, &["isGateway"]),
        (
            changed(|list| list["plugins"][1]["conditionsV4"] = json!(["-m", "mark"])),
            2,
            &["conditionsV4", "\"-m\""],
        ),
        (
            changed(|list| {
                list["plugins"][1] = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0"] })
            }),
            6,
            &["nonMasqueradeCIDRs"],
        ),
        (
            changed(|list| {
                list["plugins"][1] =
                    json!({ "type": "snat", "sourceAddress": ["192.0.2.1", "192.0.2.2"] })
            }),
            7,
            &["192.0.2.2", "one for each family"],
        ),
        (
            changed(|list| drop(list["plugins"].as_array_mut().unwrap().remove(0))),
            7,
            &["portmap", "prevResult"],
        ),
        (
            changed(|list| list["plugins"][1] = json!({ "type": "catena" })),
            11,
            &["plugins", "clusterNetwork"],
        ),
    ]);
}

#[test]
fn a_full_subnet_says_how_many_leases_there_are_and_where() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/30"])]);
    let catena = Catena::new(&node, CATENA);
    catena.add(&list, &c1);
    let (before, inside) = (node.snapshot(), Snapshot::of(&c2));
    let full = PluginOutput::from(catena.try_add(&list, &c2));
    assert_eq!(full.error_code(), 999);
    for part in
        ["10.1.0.0/30", "no free address: 1 leases", "/var/lib/cni/networks/web", "larger range"]
    {
        assert!(full.error_text().contains(part), "{part} is missing in {full}");
    }
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c2), &Shared::none());
    let status = PluginOutput::from(catena.status(&list));
    assert_eq!(status.error_code(), 50, "{status}");
    catena.del(&list, &c1);
    catena.add(&list, &c2);
}

#[test]
fn a_bridge_that_is_no_bridge_and_a_name_that_is_taken_are_left_alone() {
    let node = Node::new();
    let c1 = node.container("c1");
    node.ip("link add cni0 type ifb\nlink set cni0 up\n");
    c1.ip("link add eth0 type ifb\nlink set eth0 up\naddr add 192.0.2.1/24 dev eth0\n");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = Catena::new(&node, CATENA);
    let no_bridge =
        PluginOutput::from(catena.clone().ifname("net1").try_add(&changed(|_| ()), &c1));
    for part in ["cni0", "ifb", "bridge"] {
        assert!(no_bridge.error_text().contains(part), "{part} is missing in {no_bridge}");
    }
    let ptp = conflist("web", &[json!({ "type": "ptp", "ipam": host_local(&DUAL) })]);
    for list in [with_bridge(json!({ "bridge": "cni1" })), ptp] {
        let taken = PluginOutput::from(catena.try_add(&list, &c1));
        assert_eq!(taken.error_code(), 4, "{taken}");
        for part in ["interface eth0 exists already", "/run/netns/c1", "choose another"] {
            assert!(taken.error_text().contains(part), "{part} is missing in {taken}");
        }
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}
