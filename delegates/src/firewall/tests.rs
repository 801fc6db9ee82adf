use chain::{CniResult, Result};
use nft_templates::Element;
use serde_json::{Value, json};

use super::*;
use crate::chained::for_tests;

fn of(conf: &Value, interfaces: &Value) -> Result<Vec<Element>> {
    let (conf, attachment) = for_tests("firewall", conf)?;
    let result = json!({
        "interfaces": interfaces,
        "ips": [{ "address": "10.1.0.2/24" }, { "address": "fd00::2/64" }]
    });
    let result: CniResult = serde_json::from_value(result).unwrap();
    elements(&conf, &attachment, &result)
}

fn on_a_bridge() -> Value {
    json!([{ "name": "cni0" }, { "name": "veth1" }, { "name": "eth0", "sandbox": "/run/netns/c1" }])
}

fn texts(conf: &Value) -> Vec<String> {
    of(conf, &on_a_bridge()).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn each_address_is_forwarded_and_a_policy_is_the_bridges() {
    let open = ["forwarding of 10.1.0.2", "forwarding of fd00::2"];
    for conf in [json!({}), json!({ "ingressPolicy": "open" }), json!({ "ingressPolicy": "" })] {
        assert_eq!(texts(&conf), open);
    }
    assert_eq!(
        texts(&json!({ "ingressPolicy": "same-bridge" })),
        [
            "forwarding of 10.1.0.2",
            "ingress policy of 10.1.0.2",
            "ingress of 10.1.0.2 from bridge cni0",
            "forwarding of fd00::2",
            "ingress policy of fd00::2",
            "ingress of fd00::2 from bridge cni0",
            "closed bridge cni0",
        ]
    );
    let isolated = texts(&json!({ "ingressPolicy": "isolated" }));
    assert!(!isolated.iter().any(|text| text.contains("from bridge")), "{isolated:?}");
    assert!(isolated.contains(&"closed bridge cni0".to_owned()), "{isolated:?}");
}

#[test]
fn fields_of_the_reference_plugin_are_taken() {
    for conf in [
        json!({ "backend": "iptables", "iptablesAdminChainName": "MY-ADMIN" }),
        json!({ "backend": "firewalld", "firewalldZone": "trusted" }),
        json!({ "backend": "nftables" }),
        json!({ "backend": null, "firewalldZone": null, "iptablesAdminChainName": null, "ingressPolicy": null }),
    ] {
        assert_eq!(texts(&conf).len(), 2, "{conf}");
    }
}

#[test]
fn errors_name_the_value() {
    for (conf, interfaces, message) in [
        (json!({ "ingressPolicy": "closed" }), on_a_bridge(), "unknown variant `closed`"),
        (json!({ "ingressPolicy": "isolated" }), json!([]), "put firewall after bridge or ptp"),
        (
            json!({ "iptablesAdminChainName": "a;b" }),
            on_a_bridge(),
            "\"a;b\" is no name for a chain",
        ),
        (json!({ "iptablesAdminChainName": "-X" }), on_a_bridge(), "\"-X\" is no name for a chain"),
        (json!({ "iptablesAdminChainName": "FORWARD" }), on_a_bridge(), "none of iptables' own"),
        (json!({ "iptablesAdminChainName": "A".repeat(29) }), on_a_bridge(), "at most 28 letters"),
    ] {
        let error = of(&conf, &interfaces).unwrap_err();
        assert!(error.msg.contains(message), "{error}");
    }
}
