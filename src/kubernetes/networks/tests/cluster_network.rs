//! Which chain the cluster network is, and what every pod gets beside it.

use std::sync::atomic::Ordering;

use chain::Code;
use serde_json::json;

use super::fake::{Fake, list, pairs, single};
use crate::kubernetes::networks::{Role, of_every_pod};

#[test]
fn a_chain_that_stands_in_the_configuration_is_the_cluster_network() {
    let networks = Fake::new().resolve().unwrap();
    assert_eq!(networks.len(), 1);
    assert_eq!((networks[0].list.name.as_str(), networks[0].ifname.as_str()), ("eth", "eth0"));
    assert_eq!(networks[0].role, Role::Cluster);
}

#[test]
fn cluster_network_is_a_definition_then_a_file_by_name() {
    let fake = Fake::new().with_conf(json!({ "clusterNetwork": "net" }));
    fake.refused(Code::InvalidConfig, &["clusterNetwork of network eth", "kube-system/net"]);
    let fake = fake.file("10.conflist", &list("net", json!([{ "type": "from-file" }])));
    let kind = |fake: &Fake| fake.resolve().unwrap()[0].list.plugins[0]["type"].clone();
    assert_eq!((fake.names(), kind(&fake)), (pairs(&[("net", "eth0")]), json!("from-file")));
    let fake = fake.define("kube-system/net", single("defined"));
    assert_eq!(
        (fake.names(), kind(&fake)),
        (pairs(&[("kube-system/net", "eth0")]), json!("defined"))
    );
    let fake =
        fake.define("tools/net", single("tools")).with_key("multusNamespace", json!("tools"));
    assert_eq!((fake.names(), kind(&fake)), (pairs(&[("tools/net", "eth0")]), json!("tools")));
    // Without an API there are the files.
    assert_eq!(fake.without_cluster().unwrap()[0].name, "net");
}

#[test]
fn where_the_api_does_not_answer_no_file_takes_a_definitions_place() {
    let fake = Fake::new()
        .with_conf(json!({ "clusterNetwork": "net" }))
        .file("10.conflist", &list("net", json!([{ "type": "from-file" }])));
    fake.answers.store(false, Ordering::Relaxed);
    fake.refused(Code::TryAgain, &["does not answer"]);
    // A path needs no API.
    let path = fake.path("10.conflist");
    let fake = fake.with_key("clusterNetwork", json!(path));
    assert_eq!(fake.names(), pairs(&[("net", "eth0")]));
}

#[test]
fn cluster_network_is_a_path_of_a_file_or_of_a_folder_whose_first_it_is() {
    let fake = Fake::new()
        .file("sub/20.conflist", &list("second", json!([{ "type": "b" }])))
        .file("sub/10.conf", &json!({ "cniVersion": "0.3.1", "name": "first", "type": "a" }))
        .file("empty/readme.txt", &json!({}));
    for (path, name) in [("sub", "first"), ("sub/20.conflist", "second")] {
        let path = fake.path(path);
        let fake = Fake::new().with_conf(json!({ "clusterNetwork": path }));
        assert_eq!(fake.names(), pairs(&[(name, "eth0")]));
    }
    let empty = Fake::new().with_conf(json!({ "clusterNetwork": fake.path("empty") }));
    empty.refused(Code::InvalidConfig, &["has no .conflist", "put the network there"]);
}

#[test]
fn the_first_delegate_is_the_cluster_network_and_every_pod_gets_the_others() {
    let delegates =
        json!([single("flannel"), list("other", json!([{ "type": "bridge" }])), single("x")]);
    let mut fake = Fake::new().with_conf(json!({ "delegates": delegates }));
    fake.pod.namespace = "kube-system".into();
    let expected = pairs(&[("eth", "eth0"), ("other", "net1"), ("eth", "net2")]);
    assert_eq!(fake.names(), expected);
    assert_eq!(fake.without_cluster().unwrap().len(), 3);
    let roles: Vec<_> = fake.resolve().unwrap().iter().map(|network| network.role).collect();
    assert_eq!(roles, [Role::Cluster, Role::Default, Role::Default]);
    // As with Multus, clusterNetwork comes first, and then they are not used.
    let fake = fake
        .file("10.conflist", &list("net", json!([{ "type": "bridge" }])))
        .with_key("clusterNetwork", json!("net"));
    assert_eq!(fake.names(), pairs(&[("net", "eth0")]));
}

#[test]
fn a_broken_delegate_is_named() {
    for (delegate, code, part) in [
        (
            json!({ "type": "/bin/sh" }),
            Code::InvalidConfig,
            "must be the name of a plugin, not a path",
        ),
        (json!({}), Code::InvalidConfig, "neither \"plugins\""),
        (json!({ "plugins": [] }), Code::InvalidConfig, "no plugins"),
        (json!({ "type": "bridge", "ipam": { "type": "../x" } }), Code::InvalidConfig, "\"../x\""),
        (json!({ "type": "bridge", "ipam": 5 }), Code::Decode, "field ipam"),
    ] {
        let delegates = json!([single("flannel"), delegate]);
        let fake = Fake::new().with_conf(json!({ "delegates": delegates }));
        fake.refused(code, &["delegate 2 of network eth", part]);
    }
}

#[test]
fn two_cluster_networks_are_one_too_many() {
    for (key, value) in [("clusterNetwork", json!("net")), ("delegates", json!([single("x")]))] {
        let fake = Fake::new().with_key(key, value);
        fake.refused(Code::InvalidConfig, &["plugins and", key, "keep one of them"]);
    }
}

#[test]
fn the_nodes_master_is_the_cluster_network_where_none_is_named_and_is_looked_for_each_time() {
    let fake = Fake::new().with_conf(json!({}));
    fake.refused(Code::TryAgain, &["neither plugins", "no network"]);
    let fake = fake.file("20-b.conflist", &list("b", json!([{ "type": "bridge" }])));
    assert_eq!(fake.names(), pairs(&[("b", "eth0")]));
    let fake = fake
        .file("00-catena.conflist", &list("own", json!([{ "type": "catena" }])))
        .file("10-a.conflist", &list("a", json!([{ "type": "bridge" }])));
    assert_eq!(fake.names(), pairs(&[("a", "eth0")]));
    let fake = fake.with_key("masterPlugin", json!("20-b.conflist"));
    assert_eq!(fake.names(), pairs(&[("b", "eth0")]));
    let fake = fake.with_key("masterPlugin", json!("30-c.conflist"));
    fake.refused(Code::Io, &["masterPlugin", "30-c.conflist"]);
}

#[test]
fn default_networks_are_every_pods_but_not_in_system_namespaces() {
    let fake = Fake::new()
        .with_key("defaultNetworks", json!(["sidecar", "file"]))
        .define("kube-system/sidecar", single("bridge"))
        .file("10.conflist", &list("file", json!([{ "type": "bridge" }])))
        .define("web/own", single("bridge"))
        .asks("own");
    let all =
        [("eth", "eth0"), ("kube-system/sidecar", "net1"), ("file", "net2"), ("web/own", "net3")];
    assert_eq!(fake.names(), pairs(&all));
    assert_eq!(fake.resolve().unwrap()[1].role, Role::Default);
    let every = of_every_pod(&fake.read_conf(), Some(&fake)).unwrap();
    assert_eq!(
        every.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(),
        ["eth", "kube-system/sidecar", "file"]
    );
    let mut fake = fake.with_key("systemNamespaces", json!(["kube-system", "web"]));
    assert_eq!(fake.names(), pairs(&[("eth", "eth0"), ("web/own", "net1")]));
    fake.pod.annotations.clear();
    fake.pod.namespace = "shop".into();
    assert_eq!(fake.names().len(), 3);
    let fake = fake.with_key("defaultNetworks", json!(["gone"]));
    fake.refused(
        Code::InvalidConfig,
        &["defaultNetworks of network eth", "\"gone\"", "kube-system/gone"],
    );
}

#[test]
fn a_pod_may_have_another_cluster_network() {
    let fake = Fake::new()
        .define("kube-system/other", single("bridge"))
        .define("web/own", single("bridge"))
        .asks_default("other");
    assert_eq!(fake.names(), pairs(&[("kube-system/other", "eth0")]));
    assert_eq!(fake.resolve().unwrap()[0].role, Role::Cluster);
    // The cluster network is not even looked for.
    let fake = fake.with_conf(json!({ "clusterNetwork": "gone" })).asks_default("web/own");
    assert_eq!(fake.names(), pairs(&[("web/own", "eth0")]));
    for (annotation, part) in
        [("", "is empty"), ("a,b", "2 networks"), ("gone", "no NetworkAttachmentDefinition gone")]
    {
        let fake = Fake::new().asks_default(annotation);
        fake.refused(Code::InvalidConfig, &[part]);
    }
    let fake = Fake::new()
        .define("kube-system/other", single("bridge"))
        .asks_default(r#"[{"name": "other", "interface": "net0"}]"#);
    fake.refused(Code::InvalidConfig, &["\"net0\"", "\"eth0\"", "leave the interface out"]);
}

#[test]
fn a_network_does_not_carry_itself() {
    let carrier = |kind: &str| json!([{ "type": kind, "kubeconfig": "/etc/kubeconfig" }]);
    for kind in ["multus", "multus-shim"] {
        let fake = Fake::new()
            .define("web/own", list("own", carrier(kind)))
            .define("kube-system/own", list("own", carrier(kind)));
        for fake in [
            Fake::new().with_conf(json!({ "plugins": carrier(kind) })),
            Fake::new().with_conf(json!({ "delegates": [{ "type": kind }] })),
            Fake::new().with_conf(json!({ "delegates": [single("bridge"), { "type": kind }] })),
        ] {
            fake.refused(Code::InvalidConfig, &[kind, "again", "in its place"]);
        }
        let fake = fake.asks("own");
        fake.refused(Code::InvalidConfig, &["NetworkAttachmentDefinition web/own", kind, "again"]);
        let fake = fake.asks("").with_key("defaultNetworks", json!(["own"]));
        fake.refused(Code::InvalidConfig, &[kind, "again"]);
    }
    let executed = json!([{ "type": "catena", "exec": true, "plugins": [{ "type": "bridge" }] }]);
    let fake = Fake::new().define("web/own", list("own", executed)).asks("own");
    fake.refused(Code::InvalidConfig, &["catena with \"exec\": true", "again"]);
    // A chain in a chain is none.
    let inner = json!([{ "type": "catena", "plugins": [{ "type": "bridge" }] }]);
    let fake = Fake::new().define("web/own", list("own", inner)).asks("own");
    assert_eq!(fake.names().len(), 2);
}

#[test]
fn others_plugins_run_in_a_chain_beside_the_cluster_network() {
    let fake = Fake::new()
        .define("web/own", single("bridge"))
        .asks("own")
        .file("net.d/10.conflist", &list("net", json!([{ "type": "bridge" }])))
        .file("net.d/vendor/20-b.conf", &json!({ "type": "b" }))
        .file("net.d/vendor/10-a.conf", &json!({ "type": "a", "x": 1 }))
        .file("net.d/vendor/ignored.json", &json!({ "type": "c" }));
    let path = fake.path("net.d/10.conflist");
    let fake = fake.with_conf(json!({ "clusterNetwork": path, "auxiliaryCNIChainName": "vendor" }));
    assert_eq!(fake.names(), pairs(&[("net", "eth0"), ("web/own", "net1"), ("vendor", "net2")]));
    let networks = fake.resolve().unwrap();
    assert_eq!(networks[2].role, Role::Auxiliary);
    assert_eq!(json!(networks[2].list.plugins), json!([{ "type": "a", "x": 1 }, { "type": "b" }]));
    assert_eq!(networks[2].list.cni_version, chain::Version::V1_0_0);
    assert_eq!(of_every_pod(&fake.read_conf(), Some(&fake)).unwrap().len(), 2);
    // Nobody has put anything there.
    let fake = fake.with_key("auxiliaryCNIChainName", json!("other"));
    assert_eq!(fake.names().len(), 2);
    // By name, and the master, the folder is theirs.
    let fake = fake
        .file("10.conflist", &list("net", json!([{ "type": "bridge" }])))
        .file("vendor/10-a.conf", &json!({ "type": "a" }))
        .with_key("auxiliaryCNIChainName", json!("vendor"))
        .with_key("clusterNetwork", json!("net"));
    assert_eq!(fake.names().len(), 3);
    let fake = fake.with_key("clusterNetwork", json!(""));
    assert_eq!(fake.names().len(), 3);
    for (key, value) in [("auxiliaryCNIChainName", "../x"), ("auxiliaryCNIChainName", "a/b")] {
        let fake = Fake::new().with_conf(json!({ "clusterNetwork": path, key: value }));
        fake.refused(Code::InvalidConfig, &["auxiliaryCNIChainName of network eth", "invalid"]);
    }
    let fake = Fake::new().with_key("auxiliaryCNIChainName", json!("vendor"));
    fake.refused(Code::InvalidConfig, &["in no file here", "clusterNetwork"]);
    let fake = fake
        .file("vendor/10-a.conf", &json!({ "type": "multus" }))
        .with_conf(json!({ "clusterNetwork": "net", "auxiliaryCNIChainName": "vendor" }))
        .file("10.conflist", &list("net", json!([{ "type": "bridge" }])));
    fake.refused(Code::InvalidConfig, &["auxiliaryCNIChainName", "multus", "again"]);
}
