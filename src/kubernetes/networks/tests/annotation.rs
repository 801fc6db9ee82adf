//! The networks that a pod's annotation asks for: definitions, isolation, interfaces, default routes.

use std::sync::atomic::Ordering;

use chain::{Code, Version};
use serde_json::{Value, json};

use super::fake::{Fake, list, pairs, single};
use crate::kubernetes::networks::{Network, Role};

fn three() -> Fake {
    Fake::new()
        .define("web/a", single("bridge"))
        .define("web/b", single("bridge"))
        .define("shop/c", single("bridge"))
}

#[test]
fn networks_come_in_their_order_with_interfaces_numbered_in_the_whole_list() {
    let fake = three().asks("a,b@eth7,shop/c,a");
    let all = [
        ("eth", "eth0"),
        ("web/a", "net1"),
        ("web/b", "eth7"),
        ("shop/c", "net3"),
        ("web/a", "net4"),
    ];
    assert_eq!(fake.names(), pairs(&all));
    assert!(fake.resolve().unwrap()[1..].iter().all(|network| network.role == Role::Selected));
    assert!(fake.events().is_empty());
}

#[test]
fn a_definition_holds_a_plugin_or_a_chain_and_gives_its_name_to_what_has_none() {
    let chain = list("", json!([{ "type": "bridge" }, { "type": "tuning" }]));
    let single_and_list =
        json!({ "cniVersion": "1.0.0", "type": "catena", "plugins": [{ "type": "bridge" }] });
    let fake = Fake::new()
        .define("web/one", single("macvlan"))
        .define("web/chain", chain)
        .define(
            "web/named",
            json!({ "cniVersion": "0.3.1", "name": "other", "type": "bridge", "exec": true }),
        )
        .define("web/carried", single_and_list)
        .asks("one,chain,named,carried");
    let networks = fake.resolve().unwrap();
    let seen: Vec<_> = networks[1..]
        .iter()
        .map(|n| (n.list.name.as_str(), n.list.plugins.len(), n.list.cni_version))
        .collect();
    let (v1, v0) = (Version::V1_0_0, Version::V0_3_1);
    assert_eq!(seen, [("one", 1, v1), ("chain", 2, v1), ("other", 1, v0), ("carried", 1, v1)]);
    assert_eq!(networks[3].list.plugins[0]["exec"], json!(true));
    assert_eq!(networks[4].list.plugins[0]["type"], "catena");
    assert_eq!(networks[3].name, "web/named");
}

#[test]
fn a_definition_without_a_configuration_names_a_file() {
    let fake = Fake::new()
        .define("web/media", Value::Null)
        .asks("media")
        .file("10.conf", &json!({ "cniVersion": "1.0.0", "name": "media", "type": "single" }))
        .file("20.conflist", &list("media", json!([{ "type": "bridge" }])));
    // Lists come first, as the standard says.
    let networks = fake.resolve().unwrap();
    assert_eq!(
        (networks[1].name.as_str(), &networks[1].list.plugins[0]["type"]),
        ("web/media", &json!("bridge"))
    );
    let fake = Fake::new().define("web/none", Value::Null).asks("none");
    fake.refused(
        Code::InvalidConfig,
        &["NetworkAttachmentDefinition web/none", "has no config", "no network \"none\""],
    );
}

#[test]
fn what_is_wrong_in_a_definition_is_named() {
    let mut fake = Fake::new().asks("bad");
    for (config, code, part) in [
        ("{", Code::Decode, "not valid JSON"),
        ("[]", Code::Decode, "not a JSON object"),
        ("{}", Code::InvalidConfig, "neither \"plugins\""),
        (r#"{"plugins": []}"#, Code::InvalidConfig, "no plugins"),
        (r#"{"plugins": [{}]}"#, Code::InvalidConfig, "plugin 1 of the chain has no type"),
        (r#"{"plugins": 5}"#, Code::Decode, "plugins must be a list"),
        (r#"{"type": "/bin/sh"}"#, Code::InvalidConfig, "must be the name of a plugin, not a path"),
        (
            r#"{"type": "bridge", "ipam": {"type": "../../bin/sh"}}"#,
            Code::InvalidConfig,
            "not a path",
        ),
        (r#"{"type": 5}"#, Code::Decode, "type is 5"),
        (r#"{"name": "../x", "type": "bridge"}"#, Code::InvalidConfig, "network name \"../x\""),
        (r#"{"name": 5, "type": "bridge"}"#, Code::Decode, "name"),
        (r#"{"cniVersion": "7", "type": "bridge"}"#, Code::IncompatibleVersion, "7"),
        (r#"{"type": "bridge", "capabilities": {"ips": 1}}"#, Code::Decode, "capabilities"),
        (r#"{"type": "bridge", "runtimeConfig": 1}"#, Code::Decode, "runtimeConfig"),
    ] {
        fake.define_text("web/bad", config);
        fake.refused(code, &["NetworkAttachmentDefinition web/bad", part]);
    }
}

#[test]
fn a_definition_that_is_not_there_is_told_to_the_pod() {
    let fake = three().asks("a,nope");
    fake.refused(
        Code::InvalidConfig,
        &["no NetworkAttachmentDefinition nope in namespace web", "create it"],
    );
    let events = fake.events();
    assert_eq!((events.len(), events[0].reason, events[0].warning), (1, "NoNetworkFound", true));
    assert!(events[0].message.contains("nope in namespace web"), "{events:?}");
    let fake = three().asks("a");
    fake.answers.store(false, Ordering::Relaxed);
    fake.refused(Code::TryAgain, &["does not answer"]);
    assert!(fake.events().is_empty());
}

#[test]
fn a_broken_annotation_attaches_nothing() {
    three()
        .asks("a,,b")
        .refused(Code::InvalidConfig, &["annotation k8s.v1.cni.cncf.io/networks", "element 2"]);
}

#[test]
fn isolation_holds_for_each_way_in() {
    let isolated = |fake: Fake| fake.with_key("namespaceIsolation", json!(true));
    let parts = [
        "namespace isolation enabled",
        "pod is in namespace web",
        "target namespace shop",
        "globalNamespaces",
    ];
    isolated(three().asks("a,shop/c")).refused(Code::InvalidConfig, &parts);
    isolated(three().asks_default("shop/c")).refused(Code::InvalidConfig, &parts);
    assert_eq!(isolated(three().asks("a,b").asks_default("web/a")).names().len(), 3);
    let global = isolated(three().asks("a,shop/c").asks_default("shop/c"))
        .with_key("globalNamespaces", json!("x, shop"));
    assert_eq!(global.names().len(), 3);
    assert_eq!(three().asks("shop/c").names().len(), 2);
    // The default's namespace is everyone's; another list takes its place.
    let default = || isolated(Fake::new().define("default/d", single("bridge")).asks("default/d"));
    assert_eq!(default().names().len(), 2);
    default()
        .with_key("globalNamespaces", json!("shop"))
        .refused(Code::InvalidConfig, &["namespace default"]);
    // What the administrator names is not asked.
    let fake = isolated(Fake::new().define("kube-system/d", single("bridge")));
    assert_eq!(fake.with_key("defaultNetworks", json!(["d"])).names().len(), 2);
}

#[test]
fn one_interface_is_not_two_networks() {
    for (annotation, parts) in [
        (
            "a@eth0",
            vec!["web/a asks for the interface \"eth0\"", "cluster network's", "choose another"],
        ),
        ("a,b@net1", vec!["web/b asks for the interface \"net1\"", "web/a has it", "number 1"]),
        ("a@net2,b", vec!["web/b is number 2", "\"net2\"", "web/a asks for it"]),
        ("a@x,b@x", vec!["elements 1", "\"x\""]),
    ] {
        three().asks(annotation).refused(Code::InvalidConfig, &parts);
    }
    assert_eq!(three().asks("a@net1,b@net2").names().len(), 3);
}

fn routes(networks: &[Network]) -> Vec<(usize, (bool, bool))> {
    networks.iter().map(|n| (n.default_routes.gateways.len(), n.default_routes.loses)).collect()
}

#[test]
fn a_default_route_that_is_asked_for_takes_all_others_of_its_family() {
    let asks = |elements: Value| three().asks_json(&elements).resolve().unwrap();
    let none = asks(json!([{ "name": "a" }]));
    assert_eq!(routes(&none), [(0, (false, false)), (0, (false, false))]);
    let v4 = asks(json!([{ "name": "a" }, { "name": "b", "default-route": ["10.1.0.1"] }]));
    assert_eq!(routes(&v4), [(0, (true, false)), (0, (true, false)), (1, (false, false))]);
    let both =
        asks(json!([{ "name": "a" }, { "name": "b", "default-route": ["10.1.0.1", "fd00::1"] }]));
    assert_eq!(routes(&both), [(0, (true, true)), (0, (true, true)), (2, (false, false))]);
    let split = asks(
        json!([{ "name": "a", "default-route": ["fd00::1"] }, { "name": "b", "default-route": ["10.1.0.1"] }]),
    );
    assert_eq!(routes(&split), [(0, (true, true)), (1, (true, false)), (1, (false, true))]);
    // An empty list gives up the network's own, and nobody else's.
    let given_up = asks(json!([{ "name": "a", "default-route": [] }, { "name": "b" }]));
    assert_eq!(routes(&given_up), [(0, (false, false)), (0, (true, true)), (0, (false, false))]);
}

#[test]
fn two_default_routes_of_a_family_are_refused() {
    for elements in [
        json!([{ "name": "a", "default-route": ["10.1.0.1"] }, { "name": "b", "default-route": ["10.2.0.1"] }]),
        json!([{ "name": "a", "default-route": ["10.1.0.1", "10.2.0.1"] }]),
        json!([{ "name": "a", "default-route": ["10.1.0.1"] }, { "name": "b", "default-route": ["10.1.0.1"] }]),
    ] {
        three()
            .asks_json(&elements)
            .refused(Code::InvalidConfig, &["one default route for IPv4", "10.1.0.1", "keep one"]);
    }
    let v6 = json!([{ "name": "a", "default-route": ["fd00::1", "fd00::2"] }]);
    three().asks_json(&v6).refused(Code::InvalidConfig, &["one default route for IPv6", "fd00::2"]);
}

#[test]
fn a_pod_that_asks_where_no_cluster_is_known_is_told() {
    let fake = three().asks("a");
    let attachment = chain::Attachment {
        network: "eth".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
        netns: None,
        args: chain::CniArgs::default(),
    };
    let resolved = super::super::resolve(
        &fake.read_conf(),
        Some(&fake.pod),
        None,
        &attachment,
        &Default::default(),
    );
    assert!(resolved.unwrap_err().msg.contains("set kubeconfig"));
}

#[test]
fn a_definition_is_asked_for_once_however_many_elements_name_it() {
    let fake = three().asks("a,a@eth7,shop/c,web/a");
    assert_eq!(fake.resolve().unwrap().len(), 5);
    assert_eq!(fake.asked(), ["web/a", "shop/c"]);
}
