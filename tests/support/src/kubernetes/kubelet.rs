//! The kubelet.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::api_server::ApiServer;
use super::assets::Assets;
use super::daemon::Daemon;
use crate::node::Node;
use crate::runtimes::Sandbox;

/// Starts a kubelet that calls its node `name`; `endpoint` is the container runtime's.
pub(super) fn start(
    node: &Node,
    sandbox: &Sandbox,
    assets: &Assets,
    api: &ApiServer<'_>,
    endpoint: &str,
    name: &str,
) -> Daemon {
    let minor = assets.minor("kubelet");
    let config = node.json_file("kubelet.yaml", &configuration(minor, endpoint));
    let flag = |name: &str, value: OsString| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };
    let mut argv = vec![
        assets.binary("kubelet"),
        flag("config", config.into()),
        flag("kubeconfig", api.admin_kubeconfig().into()),
        flag("hostname-override", name.into()),
        // Where Catena finds its pod-resources API.
        flag("root-dir", "/var/lib/kubelet".into()),
    ];
    if minor < 27 {
        argv.push("--container-runtime=remote".into());
        argv.push(flag("container-runtime-endpoint", endpoint.into()));
    }
    if minor < 25 {
        argv.push("--feature-gates=LocalStorageCapacityIsolation=false".into());
    }
    Daemon::start(node, sandbox, "kubelet", argv)
}

/// Everything that would need more of the machine than a test's node has is off: control groups, iptables, the
/// accounting of disks.
fn configuration(minor: u32, endpoint: &str) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        // The machine's disk may be as full as it likes.
        "imageGCHighThresholdPercent": 100,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "maxPods": 300,
        // The node is ready as soon as it says so.
        "nodeStatusUpdateFrequency": "1s",
    });
    if minor >= 25 {
        config["localStorageCapacityIsolation"] = json!(false);
    }
    if minor >= 27 {
        config["containerRuntimeEndpoint"] = json!(endpoint);
    }
    if minor >= 31 {
        config["failCgroupV1"] = json!(false);
    }
    config
}
