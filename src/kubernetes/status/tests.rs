use chain::{CniResult, Version};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{Attached, of};
use crate::kubernetes::networks::Role;

fn attached<'a>(
    name: &'a str,
    ifname: &'a str,
    role: Role,
    result: &'a CniResult,
    device_info: Option<Value>,
) -> Attached<'a> {
    Attached { name, ifname, role, result, device_info }
}

fn result(version: Version, mut object: Value) -> CniResult {
    object["cniVersion"] = version.as_str().into();
    CniResult::from_json(object, version).unwrap()
}

/// The annotation for one network.
fn status(role: Role, ifname: &str, object: Value) -> String {
    of(&[attached("blue/net", ifname, role, &result(Version::V1_1_0, object), None)])
}

/// The annotation for one network, as JSON.
fn entries(role: Role, ifname: &str, object: Value) -> Value {
    serde_json::from_str(&status(role, ifname, object)).unwrap()
}

#[test]
fn a_pod_with_a_cluster_network_and_another() {
    let eth0 = result(
        Version::V1_1_0,
        json!({
            "interfaces": [
                { "name": "cni0", "mac": "0a:00:00:00:00:01" },
                { "name": "veth1", "mac": "0a:00:00:00:00:02" },
                { "name": "eth0", "mac": "0a:00:00:00:00:03", "mtu": 1450, "sandbox": "/run/netns/a" }
            ],
            "ips": [
                { "address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2 },
                { "address": "fd00::5/64", "gateway": "fd00::1", "interface": 2 }
            ],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0", "gw": "fd00::1" }],
            "dns": { "nameservers": ["10.96.0.10"], "search": ["cluster.local"] }
        }),
    );
    let net1 = result(
        Version::V1_1_0,
        json!({
            "interfaces": [{ "name": "net1", "mac": "0a:00:00:00:00:04", "sandbox": "/run/netns/a" }],
            "ips": [{ "address": "192.168.7.9/24", "interface": 0 }]
        }),
    );
    let device =
        json!({ "type": "pci", "version": "1.1.0", "pci": { "pci-address": "0000:01:02.3" } });
    assert_snapshot!(of(&[
        attached("cbr0", "eth0", Role::Cluster, &eth0, None),
        attached("blue/sriov", "net1", Role::Selected, &net1, Some(device)),
    ]));
}

#[test]
fn a_result_without_interfaces() {
    let object = json!({ "ip4": { "ip": "10.1.0.9/16" }, "ip6": { "ip": "fd01::9/64" } });
    assert_snapshot!(of(&[attached(
        "blue/old",
        "net1",
        Role::Selected,
        &result(Version::V0_2_0, object),
        None
    )]));
}

#[test]
fn nothing_attached_is_an_empty_list() {
    assert_eq!(of(&[]), "[]");
}

#[test]
fn each_interface_in_the_pod_has_an_entry_with_its_own_addresses_and_routers() {
    let entries = entries(
        Role::Cluster,
        "eth0",
        json!({
            "interfaces": [
                { "name": "host" },
                { "name": "eth1", "sandbox": "/n", "mac": "0a:00:00:00:00:01" },
                { "name": "eth0", "sandbox": "/n", "mac": "0a:00:00:00:00:02" }
            ],
            "ips": [
                { "address": "10.0.0.7/8", "interface": 0 },
                { "address": "10.2.0.5/16", "interface": 2 },
                { "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1 },
                { "address": "fd02::5/64" }
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "::/0", "gw": "fe80::1" }]
        }),
    );
    assert_eq!(
        entries,
        json!([
            { "name": "blue/net", "interface": "eth1", "ips": ["10.1.0.5"], "mac": "0a:00:00:00:00:01", "dns": {},
              "gateway": ["10.1.0.1"] },
            { "name": "blue/net", "interface": "eth0", "ips": ["10.2.0.5", "fd02::5"], "mac": "0a:00:00:00:00:02",
              "default": true, "dns": {}, "gateway": ["fe80::1"] }
        ])
    );
}

/// As calico's results have it.
#[test]
fn a_single_interface_is_called_as_it_is_in_the_pod() {
    let entries = entries(
        Role::Cluster,
        "eth0",
        json!({
            "interfaces": [{ "name": "cali0c0f2e0d0a4", "mac": "0a:00:00:00:00:01", "sandbox": "/n" }],
            "ips": [{ "address": "192.168.0.2/32" }],
        }),
    );
    assert_eq!(
        entries,
        json!([{ "name": "blue/net", "interface": "eth0", "ips": ["192.168.0.2"], "mac": "0a:00:00:00:00:01",
                 "default": true, "dns": {} }])
    );
}

#[test]
fn only_the_cluster_network_is_the_default() {
    for (role, expected) in
        [(Role::Cluster, json!(true)), (Role::Default, json!(null)), (Role::Selected, json!(null))]
    {
        let object = json!({ "interfaces": [{ "name": "eth0", "sandbox": "/n" }] });
        assert_eq!(entries(role, "eth0", object)[0]["default"], expected, "{role:?}");
    }
}

#[test]
fn routers_are_those_of_default_routes_in_the_main_table() {
    let gateway = |routes: Value| {
        let object = json!({
            "interfaces": [{ "name": "net1", "sandbox": "/n" }],
            "ips": [{ "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0 }],
            "routes": routes
        });
        entries(Role::Selected, "net1", object)[0]["gateway"].clone()
    };
    assert_eq!(gateway(json!([])), json!(null));
    assert_eq!(gateway(json!([{ "dst": "10.9.0.0/16", "gw": "10.1.0.9" }])), json!(null));
    assert_eq!(gateway(json!([{ "dst": "0.0.0.0/0" }])), json!(["10.1.0.1"]));
    assert_eq!(gateway(json!([{ "dst": "0.0.0.0/0", "gw": "10.1.0.2" }])), json!(["10.1.0.2"]));
    assert_eq!(gateway(json!([{ "dst": "0.0.0.0/0", "table": 254 }])), json!(["10.1.0.1"]));
    assert_eq!(gateway(json!([{ "dst": "0.0.0.0/0", "table": 100 }])), json!(null));
    // No router of this family.
    assert_eq!(gateway(json!([{ "dst": "::/0" }])), json!(null));
}

#[test]
fn an_address_at_an_interface_that_is_not_in_the_list_is_the_networks_own() {
    let of = |index: u32| {
        entries(
            Role::Selected,
            "net1",
            json!({
                "interfaces": [
                    { "name": "br0" },
                    { "name": "other", "sandbox": "/n" },
                    { "name": "net1", "sandbox": "/n" },
                ],
                "ips": [{ "address": "10.1.0.5/16", "interface": index }],
            }),
        )
    };
    for (index, other, net1) in [
        (1, json!(["10.1.0.5"]), Value::Null),
        (2, Value::Null, json!(["10.1.0.5"])),
        (3, Value::Null, json!(["10.1.0.5"])),
        // The host's own.
        (0, Value::Null, Value::Null),
    ] {
        assert_eq!((&of(index)[0]["ips"], &of(index)[1]["ips"]), (&other, &net1), "{index}");
    }
}
