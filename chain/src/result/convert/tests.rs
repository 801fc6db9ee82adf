use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::result::{Dns, Interface};

/// The result of the specification's example, with everything that 1.1.0 has.
fn newest() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "cni0", "mac": "00:11:22:33:44:55", "mtu": 1450 },
            { "name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": "/var/run/netns/blue",
              "socketPath": "/run/vhost.sock", "pciID": "0000:00:1f.6" }
        ],
        "ips": [
            { "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1 },
            { "address": "10.1.0.6/16", "interface": 1 },
            { "address": "fd00::5/64", "gateway": "fd00::1", "interface": 1 }
        ],
        "routes": [
            { "dst": "0.0.0.0/0" },
            { "dst": "192.168.0.0/16", "gw": "10.1.0.9", "mtu": 1400, "advmss": 1360,
              "priority": 100, "table": 7, "scope": 0 },
            { "dst": "::/0", "gw": "fd00::1" }
        ],
        "dns": { "nameservers": ["10.1.0.1"], "domain": "example.net", "search": ["a"], "options": ["b"] },
        "x-vendor": { "kept": [1, null] }
    })
}

fn convert(json: Value, version: Version) -> Value {
    CniResult::from_json(json, Version::LATEST).unwrap().to_json(version).unwrap()
}

#[test]
fn the_newest_version_is_passed_on_as_it_is() {
    // As text: also in the same order.
    assert_eq!(convert(newest(), Version::V1_1_0).to_string(), newest().to_string());
}

#[test]
fn version_1_0_has_no_fields_of_1_1() {
    let mut expected = newest();
    expected["cniVersion"] = "1.0.0".into();
    for (list, keys) in [
        ("interfaces", &["mtu", "socketPath", "pciID"][..]),
        ("routes", &["mtu", "advmss", "priority", "table", "scope"]),
    ] {
        for element in expected[list].as_array_mut().unwrap() {
            let element = element.as_object_mut().unwrap();
            element.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    assert_eq!(convert(newest(), Version::V1_0_0), expected);
}

#[test]
fn versions_0_3_and_0_4_have_the_family_of_each_address() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let result = convert(newest(), version);
        assert_eq!(result["cniVersion"], version.as_str());
        assert_eq!(
            result["ips"].to_string(),
            json!([
                { "version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1 },
                { "version": "4", "address": "10.1.0.6/16", "interface": 1 },
                { "version": "6", "address": "fd00::5/64", "gateway": "fd00::1", "interface": 1 }
            ])
            .to_string()
        );
    }
    let empty = CniResult::default();
    assert_eq!(
        empty.to_json(Version::V0_4_0).unwrap(),
        json!({ "cniVersion": "0.4.0", "dns": {} }),
        "dns is always there"
    );
    assert_eq!(empty.to_json(Version::V1_0_0).unwrap(), json!({ "cniVersion": "1.0.0" }));
}

#[test]
fn versions_0_1_and_0_2_have_one_address_of_each_family() {
    let expected = json!({
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.1.0.5/16",
            "gateway": "10.1.0.1",
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "192.168.0.0/16", "gw": "10.1.0.9" }]
        },
        "ip6": { "ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{ "dst": "::/0", "gw": "fd00::1" }] },
        "dns": { "nameservers": ["10.1.0.1"], "domain": "example.net", "search": ["a"], "options": ["b"] },
        "x-vendor": { "kept": [1, null] }
    });
    assert_eq!(convert(newest(), Version::V0_2_0).to_string(), expected.to_string());
    let up = convert(expected, Version::V0_4_0);
    assert_eq!(
        up["ips"][1],
        json!({ "version": "6", "address": "fd00::5/64", "gateway": "fd00::1" })
    );
    assert_eq!(up["routes"].as_array().unwrap().len(), 3);

    let error = CniResult::default().to_json(Version::V0_1_0).unwrap_err();
    assert_eq!(error.code, Code::Decode);
}

#[test]
fn what_go_prints_for_nothing_is_nothing() {
    let result = json!({
        "cniVersion": "", "interfaces": null, "routes": null, "dns": { "nameservers": null, "domain": null },
        "ips": [{ "address": "10.1.0.2/24", "gateway": "", "interface": null, "version": "4" }]
    });
    let result = CniResult::from_json(result, Version::V0_4_0).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.0.2/24", "host bits are kept");
    assert_eq!(result.ips[0].gateway, None);
    assert!(result.dns.is_empty() && result.interfaces.is_empty() && result.extra.is_empty());

    let old = json!({ "ip4": { "ip": "10.1.0.2/24", "routes": null }, "ip6": null });
    assert_eq!(CniResult::from_json(old, Version::V0_1_0).unwrap().ips.len(), 1);
}

#[test]
fn what_is_no_result_is_refused_by_field() {
    for (json, expected) in [
        (json!([]), "not a JSON object"),
        (json!({ "cniVersion": 1 }), "cniVersion is 1"),
        (json!({ "cniVersion": "3.0.0" }), "the result: cniVersion \"3.0.0\" is not supported"),
        (json!({ "ips": [{ "address": "10.1.0.2" }] }), "field ips[0].address"),
        (json!({ "routes": [{ "dst": "0/0" }] }), "field routes[0].dst"),
        (json!({ "cniVersion": "0.2.0", "ip4": { "ip": 4 } }), "field ip4.ip"),
    ] {
        let error = CniResult::from_json(json, Version::LATEST).unwrap_err();
        assert!(error.msg.contains(expected), "{error}");
    }
}

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len).unwrap()),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len).unwrap()),
    ]
}

fn ip() -> impl Strategy<Value = IpConfig> {
    (net(), proptest::option::of(any::<[u8; 4]>()), proptest::option::of(0..4_usize)).prop_map(
        |(address, gateway, interface)| IpConfig {
            address,
            gateway: gateway.map(Into::into),
            interface,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let number = || proptest::option::of(any::<u32>());
    (
        net(),
        proptest::option::of(any::<[u8; 16]>()),
        number(),
        number(),
        number(),
        any::<Option<u8>>(),
    )
        .prop_map(|(dst, gw, mtu, priority, table, scope)| Route {
            dst,
            gw: gw.map(Into::into),
            mtu,
            advmss: mtu,
            priority,
            table,
            scope,
        })
}

fn interface() -> impl Strategy<Value = Interface> {
    ("[a-z0-9]{1,15}", "[0-9a-f:]{0,17}", any::<u16>(), "(/[a-z]{1,9}){0,3}").prop_map(
        |(name, mac, mtu, path)| Interface {
            name,
            mac,
            mtu: mtu.into(),
            sandbox: path.clone(),
            pci_id: path.clone(),
            socket_path: path,
        },
    )
}

fn result() -> impl Strategy<Value = CniResult> {
    let list = proptest::collection::vec("[a-z.0-9]{1,9}", 0..3);
    (
        proptest::collection::vec(interface(), 0..4),
        proptest::collection::vec(ip(), 0..4),
        proptest::collection::vec(route(), 0..4),
        list,
        "[a-z.]{0,9}",
    )
        .prop_map(|(interfaces, ips, routes, nameservers, domain)| CniResult {
            interfaces,
            ips,
            routes,
            dns: Dns { search: nameservers.clone(), nameservers, domain, options: Vec::new() },
            extra: Map::new(),
        })
}

/// What a version has a place for.
fn reduced(result: &CniResult, version: Version) -> CniResult {
    let mut result = result.clone();
    if version < Version::V1_1_0 {
        for interface in &mut result.interfaces {
            *interface = Interface {
                name: interface.name.clone(),
                mac: interface.mac.clone(),
                sandbox: interface.sandbox.clone(),
                ..Default::default()
            };
        }
        result.routes = result.routes.iter().map(Route::without_1_1).collect();
    }
    result
}

proptest! {
    #[test]
    fn no_version_from_0_3_loses_what_it_has_a_place_for(result in result()) {
        for version in Version::ALL.into_iter().filter(|version| *version >= Version::V0_3_0) {
            let json = result.to_json(version).unwrap();
            let read = CniResult::from_json(json.clone(), Version::LATEST).unwrap();
            prop_assert_eq!(&read, &reduced(&result, version));
            prop_assert_eq!(read.to_json(version).unwrap(), json);
        }
    }

    #[test]
    fn going_down_to_0_2_and_up_again_is_stable(result in result()) {
        let Ok(down) = result.to_json(Version::V0_2_0) else {
            prop_assert!(result.ips.is_empty());
            return Ok(());
        };
        for version in Version::ALL {
            let up = CniResult::from_json(down.clone(), Version::LATEST).unwrap().to_json(version).unwrap();
            let again = CniResult::from_json(up, Version::LATEST).unwrap();
            prop_assert_eq!(again.to_json(Version::V0_2_0).unwrap(), down.clone());
        }
    }

    #[test]
    fn any_json_is_a_result_or_an_error(text in "\\PC*") {
        if let Ok(json) = serde_json::from_str::<Value>(&text) {
            let _ = CniResult::from_json(json, Version::LATEST);
        }
    }
}
