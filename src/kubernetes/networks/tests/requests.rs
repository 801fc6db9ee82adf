//! What a pod asks of a network, and what its plugins get of it.

use chain::Code;
use serde_json::{Value, json};

use super::fake::{Fake, list};
use crate::kubernetes::networks::Network;

/// The pod asks for `net` with these keys; its chain has these plugins.
fn asked(plugins: Value, mut element: Value) -> Fake {
    element["name"] = json!("net");
    Fake::new().define("web/net", list("net", plugins)).asks_json(&json!([element]))
}

fn resolved(plugins: Value, element: Value) -> Network {
    asked(plugins, element).resolve().unwrap().remove(1)
}

/// What each plugin of the network is told.
fn told(network: &Network, key: &str) -> Vec<Value> {
    let confs = network.list.delegates(&network.capability_args).unwrap();
    confs.iter().map(|conf| conf.raw.get(key).cloned().unwrap_or_default()).collect()
}

#[test]
fn requests_reach_the_plugins_that_declare_them() {
    let ports = json!([{ "hostPort": 80, "containerPort": 80, "protocol": "tcp" }]);
    let bandwidth = json!({ "ingressRate": 8000 });
    for (key, value, capability, expected) in [
        ("ips", json!(["10.1.0.5/24"]), "ips", json!(["10.1.0.5/24"])),
        ("mac", json!("02-11-22-33-44-55"), "mac", json!("02:11:22:33:44:55")),
        (
            "infiniband-guid",
            json!("248a.0703.008d.ae2f"),
            "infinibandGUID",
            json!("24:8a:07:03:00:8d:ae:2f"),
        ),
        ("portMappings", ports.clone(), "portMappings", ports.clone()),
        ("bandwidth", bandwidth.clone(), "bandwidth", bandwidth.clone()),
        ("deviceID", json!("0000:03:02.1"), "deviceID", json!("0000:03:02.1")),
    ] {
        let plugins =
            json!([{ "type": "plain" }, { "type": "able", "capabilities": { capability: true } }]);
        let network = resolved(plugins, json!({ key: value }));
        assert_eq!(told(&network, "runtimeConfig"), [Value::Null, json!({ capability: expected })]);
        for capabilities in [json!({}), json!({ capability: false }), json!({ "other": true })] {
            let plugins = json!([{ "type": "plain", "capabilities": capabilities }]);
            asked(plugins, json!({ key: value })).refused(
                Code::InvalidConfig,
                &[
                    "network web/net",
                    key,
                    "none of its plugins declares",
                    &format!("\"{capability}\": true"),
                    "remove",
                ],
            );
        }
    }
}

#[test]
fn nothing_is_asked_for_by_what_is_empty() {
    let element = json!({ "ips": [], "mac": "", "portMappings": [], "bandwidth": {}, "deviceID": "", "cni-args": null });
    let network = resolved(json!([{ "type": "plain" }]), element);
    assert!(network.capability_args.is_empty());
    assert_eq!(told(&network, "args"), [Value::Null]);
}

#[test]
fn addresses_reach_static_and_host_local_without_a_capability() {
    let ips = json!(["10.1.0.5/24", "fd00::5/64"]);
    for ipam in ["static", "host-local"] {
        let ipam = json!({ "type": ipam });
        let plugins = json!([{ "type": "bridge", "ipam": ipam }, { "type": "tuning" }]);
        let network = resolved(plugins, json!({ "ips": ips, "cni-args": { "x": 1 } }));
        assert_eq!(
            told(&network, "args"),
            [json!({ "cni": { "x": 1, "ips": ips } }), json!({ "cni": { "x": 1 } })]
        );
        assert_eq!((network.capability_args.len(), network.args.get("IP")), (0, None));
        // Where the capability is declared they come that way alone: static would have them twice.
        let able = json!([{ "type": "bridge", "ipam": ipam, "capabilities": { "ips": true } }]);
        let network = resolved(able, json!({ "ips": ips }));
        assert_eq!(told(&network, "runtimeConfig"), [json!({ "ips": ips })]);
        assert_eq!((told(&network, "args"), network.args.get("IP")), (vec![Value::Null], None));
    }
    // Another IPAM plugin may read CNI_ARGS, but is not known to.
    let other = json!({ "type": "able", "ipam": { "type": "calico-ipam" }, "capabilities": { "ips": true } });
    let network = resolved(json!([other]), json!({ "ips": ips }));
    assert_eq!(network.args.get("IP"), Some("10.1.0.5/24,fd00::5/64"));
}

#[test]
fn a_hardware_address_reaches_those_that_read_cni_args() {
    for kind in ["bridge", "macvlan", "sriov", "tuning"] {
        let network = resolved(json!([{ "type": kind }]), json!({ "mac": "02:11:22:33:44:55" }));
        assert_eq!(network.args.get("MAC"), Some("02:11:22:33:44:55"));
    }
}

#[test]
fn cni_args_are_merged_into_every_plugin_and_come_first() {
    let plugins = json!([{ "type": "a", "args": { "cni": { "x": 1, "y": 1 }, "other": 1 } }, { "type": "b", "args": null }]);
    let network = resolved(plugins, json!({ "cni-args": { "y": 2 } }));
    let expected = [json!({ "cni": { "x": 1, "y": 2 }, "other": 1 }), json!({ "cni": { "y": 2 } })];
    assert_eq!(told(&network, "args"), expected);
    for broken in [json!(5), json!({ "cni": [] })] {
        let fake =
            asked(json!([{ "type": "a", "args": broken }]), json!({ "cni-args": { "y": 2 } }));
        fake.refused(Code::Decode, &["network web/net", "must be an object"]);
    }
}

#[test]
fn the_runtimes_arguments_are_the_cluster_networks_alone() {
    let able = json!([{ "type": "able", "capabilities": { "portMappings": true } }]);
    let fake = Fake::new()
        .with_conf(json!({ "plugins": able }))
        .define("web/net", list("net", able))
        .asks("net");
    let ports = json!({ "portMappings": [{ "hostPort": 1, "containerPort": 1 }], "dns": {} });
    let networks = fake
        .resolve_with("K8S_POD_UID=u1;IP=10.1.0.5;MAC=02:11:22:33:44:55;GATEWAY=10.1.0.1", &ports)
        .unwrap();
    assert_eq!(json!(networks[0].capability_args), ports);
    assert_eq!(
        networks[0].args.to_string(),
        "K8S_POD_UID=u1;IP=10.1.0.5;MAC=02:11:22:33:44:55;GATEWAY=10.1.0.1"
    );
    assert!(networks[1].capability_args.is_empty());
    assert_eq!(networks[1].args.to_string(), "K8S_POD_UID=u1;IgnoreUnknown=true");
}

#[test]
fn a_pods_own_ports_stay_on_the_network_that_it_asks_for_in_place_of_the_cluster_network() {
    let able = json!([{ "type": "able", "capabilities": { "portMappings": true, "bandwidth": true, "mac": true } }]);
    let element = json!([{ "name": "net", "mac": "02:11:22:33:44:55", "bandwidth": { "egressRate": 8000 },
                           "portMappings": [{ "hostPort": 2, "containerPort": 2 }] }]);
    let fake =
        Fake::new().define("kube-system/net", list("net", able)).asks_default(element.to_string());
    let runtime = json!({ "portMappings": [{ "hostPort": 1, "containerPort": 1 }], "bandwidth": { "ingressRate": 8000 } });
    let network = fake.resolve_with("A=1", &runtime).unwrap().remove(0);
    let expected = json!({
        "portMappings": [{ "hostPort": 1, "containerPort": 1 },
                         { "hostPort": 2, "containerPort": 2, "protocol": "tcp" }],
        "bandwidth": { "egressRate": 8000 },
        "mac": "02:11:22:33:44:55",
    });
    assert_eq!(json!(network.capability_args), expected);
    assert_eq!(network.args.to_string(), "A=1;MAC=02:11:22:33:44:55");
}

#[test]
fn a_device_is_the_resources_or_the_one_that_is_asked_for() {
    let mut fake = asked(json!([{ "type": "sriov" }]), json!({ "deviceID": "0000:03:02.1" }));
    fake.refused(Code::InvalidConfig, &["deviceID is asked for"]);
    let config = list("net", json!([{ "type": "sriov" }])).to_string();
    fake.define_text("web/net", &config).resource = Some("example.com/vf".into());
    let network = fake.resolve().unwrap().remove(1);
    assert_eq!(network.resource.as_deref(), Some("example.com/vf"));
    assert_eq!(network.device_id.as_deref(), Some("0000:03:02.1"));
}
