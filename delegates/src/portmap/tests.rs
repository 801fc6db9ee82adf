//! From a configuration and a result to elements.

use chain::{CniResult, Result};
use serde_json::{Value, json};

use super::Conf;
use crate::chained::for_tests;

fn of(more: &Value) -> Result<Vec<String>> {
    let (conf, attachment) = for_tests("portmap", more)?;
    let result: CniResult = serde_json::from_value(json!({
        "interfaces": [{ "name": "other0" }, { "name": "eth0", "sandbox": "/run/netns/c1" }, { "name": "eth1", "sandbox": "/run/netns/c1" }],
        "ips": [
            { "address": "10.9.0.2/24", "interface": 2 },
            { "address": "10.1.0.2/24", "interface": 1 },
            { "address": "10.1.0.3/24", "interface": 1 },
            { "address": "fd00::2/64", "interface": 1 },
        ],
    }))
    .unwrap();
    let elements = Conf::of(&conf)?.elements(&attachment, &result);
    // Those of ::1 depend on a sysctl of the machine.
    let texts = elements.iter().map(ToString::to_string);
    Ok(texts.filter(|text| !text.contains("[::1]")).collect())
}

fn ports(mappings: Value) -> Value {
    json!({ "runtimeConfig": { "portMappings": mappings } })
}

#[test]
fn a_port_leads_to_the_first_address_of_each_family_of_the_interface() {
    let elements = of(&ports(json!([{ "hostPort": 8080, "containerPort": 80 }]))).unwrap();
    assert_eq!(
        elements,
        [
            "host port 0.0.0.0:8080/tcp to 10.1.0.2:80",
            "hairpin of 10.1.0.2",
            "host port [::]:8080/tcp to [fd00::2]:80",
            "hairpin of fd00::2",
        ]
    );
    assert!(of(&ports(json!([]))).unwrap().is_empty());
    assert!(of(&json!({})).unwrap().is_empty());
}

#[test]
fn a_host_ip_is_of_its_family_and_an_unspecified_one_is_any() {
    let mapping = |ip: &str| {
        ports(json!([{ "hostPort": 53, "containerPort": 53, "protocol": "UDP", "hostIP": ip }]))
    };
    let v4 = ["host port 192.0.2.1:53/udp to 10.1.0.2:53", "hairpin of 10.1.0.2"];
    assert_eq!(of(&mapping("192.0.2.1")).unwrap(), v4);
    let any4 = ["host port 0.0.0.0:53/udp to 10.1.0.2:53", "hairpin of 10.1.0.2"];
    assert_eq!(of(&mapping("0.0.0.0")).unwrap(), any4);
    let any6 = ["host port [::]:53/udp to [fd00::2]:53", "hairpin of fd00::2"];
    assert_eq!(of(&mapping("::")).unwrap(), any6);
    assert_eq!(of(&mapping("")).unwrap().len(), 4);
    let both = ["0.0.0.0", "::"]
        .map(|ip| json!({ "hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": ip }));
    assert_eq!(of(&ports(json!(both))).unwrap().len(), 4, "as a runtime asks for both families");
    let nulls = json!({ "hostPort": 53, "containerPort": 53, "protocol": null, "hostIP": null });
    assert_eq!(of(&ports(json!([nulls]))).unwrap().len(), 4);
}

#[test]
fn without_snat_there_is_no_hairpin() {
    let mut conf = ports(json!([{ "hostPort": 1, "containerPort": 65535, "protocol": "sctp" }]));
    conf["snat"] = false.into();
    let elements = of(&conf).unwrap();
    assert_eq!(
        elements,
        ["host port 0.0.0.0:1/sctp to 10.1.0.2:65535", "host port [::]:1/sctp to [fd00::2]:65535"]
    );
}

#[test]
fn what_names_the_reference_s_machinery_is_taken_and_what_cannot_be_done_is_refused() {
    let taken = json!({ "backend": "iptables", "markMasqBit": 5, "conditionsV4": [], "conditionsV6": null });
    assert!(of(&taken).unwrap().is_empty());
    for conf in [json!({ "conditionsV4": ["-m", "mark"] }), json!({ "conditionsV6": ["x"] })] {
        assert_eq!(of(&conf).unwrap_err().code.number(), 2);
    }
}

#[test]
fn errors_name_the_mapping() {
    let one = json!({ "hostPort": 80, "containerPort": 80 });
    for (mappings, message) in [
        (json!([{ "hostPort": 0, "containerPort": 80 }]), "hostPort 0 is not a port (1 to 65535)"),
        (json!([{ "hostPort": 80, "containerPort": 65536 }]), "containerPort 65536 is not a port"),
        (json!([{ "hostPort": -1, "containerPort": 80 }]), "hostPort -1 is not a port"),
        (
            json!([{ "hostPort": 80, "containerPort": 80, "protocol": "icmp" }]),
            "protocol \"icmp\" is unknown",
        ),
        (
            json!([{ "hostPort": 80, "containerPort": 80, "hostIP": "here" }]),
            "hostIP \"here\" is not an IP address",
        ),
        (json!([one, one]), "asks twice for tcp port 80"),
        (
            json!([one, { "hostPort": 80, "containerPort": 81, "protocol": "TCP" }]),
            "asks twice for tcp port 80",
        ),
        (
            json!([one, { "hostPort": 80, "containerPort": 81, "hostIP": "::" }]),
            "asks twice for tcp port 80 of ::",
        ),
    ] {
        let error = of(&ports(mappings)).unwrap_err();
        assert!(error.msg.contains(message), "{error}");
    }
}
