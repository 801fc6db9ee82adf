use chain::Code;
use serde_json::{Value, json};

use super::*;

fn conf(kind: &str, keys: Value) -> Result<Conf> {
    let mut raw = json!({ "cniVersion": "1.0.0", "name": "web", "type": kind });
    raw.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    Conf::of(kind, &PluginConf::from_object(raw.as_object().unwrap().clone())?)
}

#[test]
fn the_names_differ_in_where_they_look() {
    let ours = conf("catena", json!({})).unwrap();
    assert_eq!(ours.conf_dir, PathBuf::from("/etc/cni/net.d"));
    assert_eq!(
        (ours.bin_dir.as_ref(), ours.autoconfig_dir.as_ref()),
        (None, ours.conf_dir.as_path())
    );
    let elsewhere = conf("catena", json!({ "confDir": "/here" })).unwrap();
    assert_eq!(elsewhere.autoconfig_dir, PathBuf::from("/here"));
    let multus = conf("multus", json!({ "confDir": "" })).unwrap();
    assert_eq!(multus.conf_dir, PathBuf::from("/etc/cni/multus/net.d"));
    assert_eq!(multus.autoconfig_dir, PathBuf::from("/etc/cni/net.d"));
    assert_eq!(multus.bin_dir, Some(PathBuf::from("/opt/cni/bin")));
}

#[test]
fn what_is_absent_null_or_empty_has_multus_defaults() {
    let empty = json!({ "delegates": null, "kubeconfig": "", "clusterNetwork": "", "systemNamespaces": [],
                        "globalNamespaces": "", "multusNamespace": null, "readinessindicatorfile": "", "cniDir": "" });
    for keys in [json!({}), empty] {
        let conf = conf("multus", keys).unwrap();
        assert_eq!(conf.system_namespaces, ["kube-system"]);
        assert_eq!(conf.global_namespaces, ["default"]);
        assert_eq!(conf.multus_namespace, "kube-system");
        assert_eq!(conf.cni_dir, PathBuf::from("/var/lib/cni/multus"));
        assert!(conf.delegates.is_empty() && conf.default_networks.is_empty());
        assert!(!conf.namespace_isolation);
        assert_eq!(
            (conf.kubeconfig, conf.cluster_network, conf.readiness_indicator_file),
            (None, None, None)
        );
        assert_eq!((conf.auxiliary_chain, conf.master_plugin, conf.plugins), (None, None, None));
        assert_eq!(conf.log, logging::Settings::default());
    }
}

/// The example of Multus's docs/configuration.md, and the keys that it does not show.
#[test]
fn a_multus_file_is_read_as_it_stands() {
    let conf = conf(
        "multus",
        json!({
            "cniVersion": "0.3.1",
            "name": "node-cni-network",
            "kubeconfig": "/etc/kubernetes/node-kubeconfig.yaml",
            "confDir": "/etc/cni/multus/net.d",
            "cniDir": "/var/lib/cni/multus",
            "binDir": "/opt/cni/bin",
            "logFile": "/var/log/multus.log",
            "logLevel": "debug",
            "logOptions": { "maxAge": 5, "maxSize": 10, "maxBackups": 5, "compress": false },
            "logToStderr": false,
            "capabilities": { "portMappings": true },
            "namespaceIsolation": true,
            "globalNamespaces": "default, namespace-a,namespace-b",
            "readinessindicatorfile": "/run/ready",
            "clusterNetwork": "/etc/cni/net.d/99-flannel.conf",
            "defaultNetworks": ["sidecarCRD", "/etc/cni/net.d/other.conf"],
            "systemNamespaces": ["kube-system", "admin"],
            "multusNamespace": "tools",
            "delegates": [{ "type": "weave-net", "hairpinMode": true }],
            "retryDeleteOnError": true,
            "auxiliaryCNIChainName": "vendor",
            "multusMasterCNI": "10-calico.conflist",
        }),
    )
    .unwrap();
    assert_eq!(conf.kubeconfig.as_deref(), Some("/etc/kubernetes/node-kubeconfig.yaml"));
    assert_eq!(conf.global_namespaces, ["default", "namespace-a", "namespace-b"]);
    assert_eq!(conf.system_namespaces, ["kube-system", "admin"]);
    assert_eq!(conf.cluster_network.as_deref(), Some("/etc/cni/net.d/99-flannel.conf"));
    assert_eq!(conf.default_networks, ["sidecarCRD", "/etc/cni/net.d/other.conf"]);
    assert_eq!(conf.delegates[0]["type"], "weave-net");
    assert_eq!(conf.multus_namespace, "tools");
    assert_eq!(conf.readiness_indicator_file, Some("/run/ready".into()));
    assert!(conf.namespace_isolation);
    assert_eq!(conf.auxiliary_chain.as_deref(), Some("vendor"));
    assert_eq!(conf.master_plugin.as_deref(), Some("10-calico.conflist"));
    let rotation = conf.log.rotation;
    assert_eq!(
        (rotation.max_size, rotation.compress, conf.log.to_stderr),
        (10, false, Some(false))
    );
}

#[test]
fn case_does_not_matter_in_keys() {
    let keys = json!({ "ClusterNetwork": "a", "readinessIndicatorFile": "/run/ready", "LOGLEVEL": "debug" });
    let conf = conf("multus", keys).unwrap();
    assert_eq!(conf.cluster_network.as_deref(), Some("a"));
    assert_eq!(conf.readiness_indicator_file, Some("/run/ready".into()));
    assert_eq!(conf.log.level.as_deref(), Some("debug"));
}

#[test]
fn a_wrong_type_is_named() {
    for (keys, part) in [
        (json!({ "plugins": {} }), "field plugins"),
        (json!({ "delegates": [1] }), "field delegates[0]"),
        (json!({ "globalNamespaces": ["a"] }), "field globalNamespaces"),
        (json!({ "namespaceIsolation": "yes" }), "field namespaceIsolation"),
    ] {
        let error = conf("multus", keys).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.msg.contains(part), "{part} is missing in {error}");
    }
}

#[test]
fn bin_dir_comes_before_cni_path() {
    let dirs = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    let path = |keys, cni_path: &[&str]| conf("catena", keys).unwrap().path(&dirs(cni_path));
    assert_eq!(path(json!({}), &["/a", "/b"]), dirs(&["/a", "/b"]));
    assert_eq!(path(json!({ "binDir": "/b" }), &["/a", "/b"]), dirs(&["/b", "/a"]));
}
