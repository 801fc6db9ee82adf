use proptest::prelude::*;
use serde_json::json;

use super::*;

fn element(json: Value) -> Result<Selection> {
    let mut all = parse(&json!([json]).to_string(), "web")?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

#[track_caller]
fn refused(annotation: &str, parts: &[&str]) {
    let error = parse(annotation, "web").unwrap_err();
    assert_eq!(error.code, chain::Code::InvalidConfig, "{error}");
    for part in parts {
        assert!(error.msg.contains(part), "{annotation}: {part:?} is missing in: {error}");
    }
}

#[test]
fn nothing_is_asked_for_by_empty_text_and_an_empty_list() {
    for annotation in ["", "  \n", "[]", " [ ] "] {
        assert_eq!(parse(annotation, "web").unwrap(), []);
    }
}

#[test]
fn the_short_form_has_namespaces_interfaces_and_any_number_of_networks() {
    let all = parse("storage, media@net9 ,other/media.v2@eth1\n,storage", "web").unwrap();
    let seen: Vec<_> = all.iter().map(|one| (one.to_string(), one.interface.as_deref())).collect();
    let expected = [
        ("web/storage", None),
        ("web/media", Some("net9")),
        ("other/media.v2", Some("eth1")),
        ("web/storage", None),
    ];
    assert_eq!(seen, expected.map(|(name, interface)| (name.to_owned(), interface)));
}

#[test]
fn both_forms_mean_the_same() {
    let long = json!([{ "name": "a" }, { "name": "b", "namespace": "ns", "interface": "eth7" }]);
    assert_eq!(parse("a,ns/b@eth7", "web").unwrap(), parse(&long.to_string(), "web").unwrap());
}

#[test]
fn the_json_form_has_every_key_of_the_standard() {
    let selection = element(json!({
        "name": "media",
        "namespace": "tv",
        "interface": "net9",
        "ips": ["10.1.0.5/24", "fd00::5"],
        "mac": "02-AB-22-33-44-55",
        "infiniband-guid": "24:8A:07:03:00:8d:ae:2f",
        "bandwidth": { "ingressRate": 2048, "ingressBurst": 300, "egressRate": 0 },
        "portMappings": [{ "hostPort": 8080, "containerPort": 80 },
                         { "hostPort": 53, "containerPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1" }],
        "deviceID": "0000:03:02.1",
        "cni-args": { "spoofchk": "on" },
        "default-route": ["10.1.0.1", "fd00::1"],
        "org.example.own": true,
    }));
    let expected = Selection {
        namespace: "tv".into(),
        name: "media".into(),
        interface: Some("net9".into()),
        ips: vec!["10.1.0.5/24".into(), "fd00::5".into()],
        mac: Some("02:ab:22:33:44:55".into()),
        infiniband_guid: Some("24:8a:07:03:00:8d:ae:2f".into()),
        bandwidth: json!({ "ingressRate": 2048, "ingressBurst": 300, "egressRate": 0 })
            .as_object()
            .cloned(),
        port_mappings: Some(vec![
            json!({ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }),
            json!({ "hostPort": 53, "containerPort": 53, "hostIP": "192.0.2.1", "protocol": "udp" }),
        ]),
        device_id: Some("0000:03:02.1".into()),
        cni_args: json!({ "spoofchk": "on" }).as_object().cloned(),
        default_route: Some(vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]),
        ipam_claim_reference: None,
    };
    assert_eq!(selection.unwrap(), expected);
    let claim =
        element(json!({ "name": "n", "ipam-claim-reference": "vm123.tenantblue" })).unwrap();
    assert_eq!(claim.ipam_claim_reference.as_deref(), Some("vm123.tenantblue"));
}

#[test]
fn keys_have_any_case_and_null_is_absent() {
    let written = json!({ "Name": "n", "NAMESPACE": "", "interfacerequest": "eth1", "ips": null, "mac": "",
                          "portmappings": [{ "hostport": 1, "CONTAINERPORT": 2, "hostIP": null }],
                          "default-route": [] });
    let expected = Selection {
        namespace: "web".into(),
        name: "n".into(),
        interface: Some("eth1".into()),
        port_mappings: Some(vec![json!({ "hostPort": 1, "containerPort": 2, "protocol": "tcp" })]),
        default_route: Some(vec![]),
        ..Selection::default()
    };
    assert_eq!(element(written).unwrap(), expected);
}

#[test]
fn what_is_wrong_in_the_short_form_is_named() {
    for (annotation, parts) in [
        ("a,,b", ["element 2", "remove the comma"]),
        ("a,", ["element 2", "remove the comma"]),
        (",", ["element 1", "remove the comma"]),
        ("a,b/c/d", ["element 2", "more than one '/'"]),
        ("a@b@c", ["element 1", "more than one '@'"]),
        ("net1@", ["no interface after '@'", "remove the '@'"]),
        ("/net1", ["no namespace before '/'", "remove the '/'"]),
        ("ns/", ["name \"\" is invalid", "lower-case"]),
        ("@eth1", ["name \"\" is invalid", "lower-case"]),
        ("Net1", ["name \"Net1\"", "lower-case"]),
        ("n_1", ["name \"n_1\"", "lower-case"]),
        ("a.b/net", ["namespace \"a.b\"", "no dots"]),
        ("a..b", ["name \"a..b\"", "dots between"]),
        ("net 1", ["name \"net 1\"", "lower-case"]),
        ("net1@sixteen-bytes-xx", ["sixteen-bytes-xx", "longer than 15"]),
        ("net1@a:b", ["\"a:b\"", "':'"]),
        ("net1@..", ["\"..\"", "not a name"]),
        ("a@eth1,b,c@eth1", ["elements 1 (web/a) and 3 (web/c)", "another name"]),
    ] {
        refused(annotation, &parts);
    }
    refused(&format!("{}/n", "a".repeat(64)), &["namespace", "at most 63"]);
    refused(&"A".repeat(1000), &["element 1 of \"AAA", "…"]);
    refused(&["a".repeat(63).as_str(); 4].join("."), &["at most 253"]);
}

#[test]
fn what_is_wrong_in_the_json_form_is_named_with_element_and_key() {
    for (annotation, parts) in [
        (r#"{"name": "a"}"#, ["{\"name\":\"a\"} is not a list", "in brackets"]),
        (r#""a""#, ["not a list", "in brackets"]),
        (r#"[{"name": "a"},]"#, ["line 1 column 16", "no valid JSON"]),
        (r#"["a"]"#, ["element 1", "an object"]),
        (r"[null]", ["element 1", "an object"]),
        (r"[{}]", ["element 1", "has no name"]),
        (r#"[{"name": ""}]"#, ["element 1", "has no name"]),
        (r#"[{"name": "b"}, {"name": 5}]"#, ["element 2: name is 5", "in quotes"]),
        (r#"[{"name": "B"}]"#, ["element 1 (\"B\")", "lower-case"]),
        (r#"[{"name": "b", "namespace": "../x"}]"#, ["namespace \"../x\"", "lower-case"]),
        (r#"[{"name": "b", "ips": "10.1.0.5"}]"#, ["ips is \"10.1.0.5\"", "in brackets"]),
        (r#"[{"name": "b", "ips": [7]}]"#, ["ips[0] is 7", "in quotes"]),
        (r#"[{"name": "b", "ips": ["10.1.0.5", "10.1.0"]}]"#, ["ips[1] \"10.1.0\"", "10.1.0.5/24"]),
        (r#"[{"name": "b", "ips": ["10.1.0.5/33"]}]"#, ["ips[0] \"10.1.0.5/33\"", "is no address"]),
        (r#"[{"name": "b", "ips": ["10.1.0.5", "10.1.0.5/24"]}]"#, ["ips[1]", "given twice"]),
        (r#"[{"name": "b", "ips": ["ff02::1"]}]"#, ["ips[0]", "not the address of one interface"]),
        (r#"[{"name": "b", "mac": "02:11:22:33:44"}]"#, ["02:11:22:33:44", "not six bytes"]),
        (r#"[{"name": "b", "mac": "01:11:22:33:44:55"}]"#, ["mac", "group address"]),
        (r#"[{"name": "b", "mac": "0000.0000.0000"}]"#, ["mac", "all zero"]),
        (r#"[{"name": "b", "mac": "ää:11:22:33:44:55"}]"#, ["mac", "not six bytes"]),
        (
            r#"[{"name": "b", "infiniband-guid": "02:11:22:33:44:55"}]"#,
            ["infiniband-guid", "eight bytes"],
        ),
        (
            r#"[{"name": "b", "bandwidth": {"ingressRate": -1}}]"#,
            ["ingressRate is -1", "bits a second"],
        ),
        (
            r#"[{"name": "b", "bandwidth": {"egressBurst": 5}}]"#,
            ["egressBurst", "without egressRate"],
        ),
        (r#"[{"name": "b", "bandwidth": {"rate": 5}}]"#, ["unknown key \"rate\"", "ingressRate"]),
        (r#"[{"name": "b", "bandwidth": 5}]"#, ["bandwidth is 5", "an object"]),
        (r#"[{"name": "b", "portMappings": {}}]"#, ["portMappings is {}", "in brackets"]),
        (
            r#"[{"name": "b", "portMappings": [{"hostPort": 1}]}]"#,
            ["[0].containerPort is missing", "65535"],
        ),
        (
            r#"[{"name": "b", "portMappings": [{"hostPort": 0, "containerPort": 1}]}]"#,
            ["hostPort is 0", "65535"],
        ),
        (
            r#"[{"name": "b", "portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}]"#,
            ["protocol is \"icmp\"", "tcp, udp or sctp"],
        ),
        (
            r#"[{"name": "b", "portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "here"}]}]"#,
            ["hostIP is \"here\"", "address of the node"],
        ),
        (r#"[{"name": "b", "deviceID": "../../etc"}]"#, ["deviceID", "no '/'"]),
        (r#"[{"name": "b", "cni-args": "x=y"}]"#, ["cni-args is \"x=y\"", "an object"]),
        (
            r#"[{"name": "b", "default-route": ["10.1.0.1/24"]}]"#,
            ["default-route[0]", "without a prefix"],
        ),
        (r#"[{"name": "b", "default-route": ["0.0.0.0"]}]"#, ["default-route[0]", "no gateway"]),
        (
            r#"[{"name": "b", "ips": ["10.1.0.5"], "ipam-claim-reference": "c"}]"#,
            ["ips and ipam-claim-reference", "keep one"],
        ),
        (r#"[{"name": "b", "ipam-claim-reference": "C"}]"#, ["ipam-claim-reference", "lower-case"]),
        (
            r#"[{"name": "b", "interface": "eth1", "interfaceRequest": "eth2"}]"#,
            ["interface is given twice", "keep one"],
        ),
        (
            r#"[{"name": "a", "interface": "eth1"}, {"name": "b", "interface": "eth1"}]"#,
            ["elements 1 (web/a) and 2 (web/b)", "\"eth1\""],
        ),
    ] {
        refused(annotation, &parts);
    }
}

fn pod(annotations: &[(&str, &str)]) -> Pod {
    Pod {
        namespace: "web".into(),
        name: "p".into(),
        uid: "u".into(),
        annotations: annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    }
}

#[test]
fn a_pod_may_ask_for_one_network_in_place_of_the_cluster_network() {
    let asked = |annotation| default_of_pod(&pod(&[(DEFAULT_NETWORK, annotation)]), "kube-system");
    assert_eq!(default_of_pod(&pod(&[]), "kube-system").unwrap(), None);
    assert_eq!(asked("other").unwrap().unwrap().to_string(), "kube-system/other");
    assert_eq!(asked(r#"[{"name": "n", "namespace": "x"}]"#).unwrap().unwrap().to_string(), "x/n");
    for (annotation, part) in [("", "is empty"), ("a,b", "names 2 networks"), ("A", "lower-case")] {
        let error = asked(annotation).unwrap_err();
        assert!(error.msg.contains(part) && error.msg.contains(DEFAULT_NETWORK), "{error}");
    }
}

#[test]
fn an_error_names_the_annotation() {
    assert_eq!(of_pod(&pod(&[])).unwrap(), []);
    assert_eq!(of_pod(&pod(&[(NETWORKS, "a")])).unwrap().len(), 1);
    let error = of_pod(&pod(&[(NETWORKS, "a,")])).unwrap_err();
    assert!(error.msg.starts_with("annotation k8s.v1.cni.cncf.io/networks: element 2"), "{error}");
}

/// JSON of any shape, with the keys that mean something among its keys.
fn anything() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "name",
            "namespace",
            "interface",
            "ips",
            "mac",
            "infiniband-guid",
            "bandwidth",
            "ingressRate",
            "portMappings",
            "hostPort",
            "containerPort",
            "hostIP",
            "protocol",
            "deviceID",
            "cni-args",
            "default-route",
            "ipam-claim-reference",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let text = prop_oneof![
        prop::sample::select(vec!["a", "eth1", "10.1.0.5/24", "02:11:22:33:44:55", "tcp"])
            .prop_map(str::to_owned),
        ".{0,20}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn a_pod_has_an_end_of_networks() {
    let element = |index: usize| format!("net{index}");
    for (count, fits) in [(MOST, true), (MOST + 1, false), (20_000, false)] {
        let names: Vec<_> = (0..count).map(element).collect();
        let json =
            Value::from(names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>());
        for text in [names.join(","), json.to_string()] {
            let parsed = parse(&text, "web");
            assert_eq!(parsed.is_ok(), fits, "{count}");
            if let Err(error) = parsed {
                let expected = format!("asks for {count} networks, and a pod may ask for {MOST}");
                assert!(error.msg.contains(&expected), "{error}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(annotation in ".{0,200}") {
        let _ = parse(&annotation, "web");
    }

    #[test]
    fn no_text_of_the_languages_own_characters_panics(annotation in r#"[a-b0-1@/,.:\[\]{}" -]{0,60}"#) {
        let _ = parse(&annotation, "web");
    }

    #[test]
    fn no_json_panics(json in anything()) {
        let _ = parse(&json.to_string(), "web");
        let _ = parse(&json!([json]).to_string(), "web");
    }

    /// Whatever is let through can be looked up, and be a device's name.
    #[test]
    fn what_is_let_through_is_valid(annotation in r"[a-c0-1@/,.-]{0,24}") {
        for selection in parse(&annotation, "web").unwrap_or_default() {
            prop_assert_eq!(values::name(&selection.name), Ok(selection.name.clone()));
            prop_assert_eq!(values::namespace(&selection.namespace), Ok(selection.namespace.clone()));
            if let Some(interface) = &selection.interface {
                prop_assert_eq!(chain::check_ifname(interface), Ok(()));
            }
        }
    }

    /// The short form is what the JSON form says.
    #[test]
    fn the_short_form_reads_what_is_written(
        elements in prop::collection::vec(
            (prop::option::of("[a-z]{1,8}"), "[a-z]([a-z0-9.]?[a-z0-9]){0,5}", any::<bool>()), 1..6)
    ) {
        let mut short = Vec::new();
        let mut long = Vec::new();
        for (index, (namespace, name, interface)) in elements.iter().enumerate() {
            let interface = interface.then(|| format!("net{index}"));
            let at = interface.as_ref().map_or(String::new(), |interface| format!("@{interface}"));
            let before = namespace.as_ref().map_or(String::new(), |namespace| format!("{namespace}/"));
            short.push(format!("{before}{name}{at}"));
            long.push(json!({ "name": name, "namespace": namespace, "interface": interface }));
        }
        prop_assert_eq!(parse(&short.join(" , "), "web"), parse(&Value::from(long).to_string(), "web"));
    }
}
