//! kube-proxy.

use std::ffi::OsString;
use std::path::Path;

use super::assets::Assets;

/// What has to be of one version: others do not have the kinds of objects in common.
pub(super) const BESIDE_KUBE_PROXY: [&str; 3] = ["etcd", "kube-apiserver", "kube-proxy"];

/// The command line of a kube-proxy for the node of this name, to be run in that node's namespace; `mode` is its
/// `--proxy-mode`, `cluster_cidrs` the pods' addresses, of both families.
///
/// It changes nothing of the node but its rules: the limits of conntrack, which are the machine's, are left alone.
pub fn kube_proxy(
    node_name: &str,
    kubeconfig: &Path,
    mode: &str,
    cluster_cidrs: &str,
) -> Vec<OsString> {
    let assets = Assets::with(&BESIDE_KUBE_PROXY);
    let mut argv = vec![
        assets.binary("kube-proxy"),
        format!("--kubeconfig={}", kubeconfig.display()).into(),
        format!("--hostname-override={node_name}").into(),
        format!("--proxy-mode={mode}").into(),
        format!("--cluster-cidr={cluster_cidrs}").into(),
        "--healthz-bind-address=127.0.0.1:10256".into(),
        "--conntrack-max-per-core=0".into(),
        "--conntrack-tcp-timeout-established=0".into(),
        "--conntrack-tcp-timeout-close-wait=0".into(),
        "--oom-score-adj=0".into(),
        // A change is there at once.
        "--iptables-min-sync-period=0".into(),
        "--ipvs-min-sync-period=0".into(),
    ];
    if assets.minor("kube-proxy") < 21 {
        argv.push("--feature-gates=IPv6DualStack=true".into());
    }
    argv
}
