//! The meta plugin's configuration: Multus's keys, and `plugins`.
//!
//! The names `catena` and `multus` read the same keys; they differ in two defaults only.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use chain::{PluginConf, Result, Version};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::logging;

/// The meta plugin's own name.
pub const CATENA: &str = "catena";

/// Where runtimes find their networks.
pub const NET_DIR: &str = "/etc/cni/net.d";

/// A meta plugin's configuration, the defaults of its name filled in.
#[derive(Clone, Debug, Deserialize)]
pub struct Conf {
    /// `name`: the network.
    pub name: String,
    /// `plugins`: a whole chain, exactly as a conflist has it. Catena's own.
    #[serde(default)]
    pub plugins: Option<Vec<Map<String, Value>>>,
    /// `clusterNetwork`: the cluster network, by name or path.
    #[serde(rename = "clusterNetwork", default)]
    pub cluster_network: Option<String>,
    /// `delegates`: networks as they stand, the first of which is the cluster network. They are not used where
    /// `clusterNetwork` is given.
    #[serde(default)]
    pub delegates: Vec<Map<String, Value>>,
    /// `defaultNetworks`: what every pod gets beside the cluster network, each by name or path.
    #[serde(rename = "defaultNetworks", default)]
    pub default_networks: Vec<String>,
    /// `masterPlugin`, `multusMasterCNI`: the file in `multusAutoconfigDir` that is the cluster network where none is named;
    /// absent: the first there whose plugins do not carry other networks.
    #[serde(rename = "masterPlugin", default)]
    pub master_plugin: Option<String>,
    /// `multusAutoconfigDir`: where the cluster network is looked for where none is named. Default `/etc/cni/net.d`, for
    /// `catena` `confDir`.
    #[serde(rename = "multusAutoconfigDir")]
    pub autoconfig_dir: PathBuf,
    /// `confDir`: where networks are looked for by name. Default `/etc/cni/multus/net.d`, for `catena`
    /// `/etc/cni/net.d`.
    #[serde(rename = "confDir")]
    pub conf_dir: PathBuf,
    /// `cniDir`: where Multus keeps what it has attached (default `/var/lib/cni/multus`). Catena's records are elsewhere.
    #[serde(rename = "cniDir", default = "cni_dir")]
    pub cni_dir: PathBuf,
    /// `binDir`: where plugins are looked for before `CNI_PATH`. Default `/opt/cni/bin`, for `catena` none.
    #[serde(rename = "binDir", default)]
    pub bin_dir: Option<PathBuf>,
    /// `kubeconfig`: how to reach the API server; absent: as a pod does, where this is one.
    #[serde(default)]
    pub kubeconfig: Option<String>,
    /// `namespaceIsolation`: pods take networks of their own namespace and of `globalNamespaces` only (default false).
    #[serde(rename = "namespaceIsolation", default)]
    pub namespace_isolation: bool,
    /// `globalNamespaces`: the namespaces whose networks are everyone's, with commas between (default `default`).
    #[serde(
        rename = "globalNamespaces",
        default = "global_namespaces",
        deserialize_with = "commas"
    )]
    pub global_namespaces: Vec<String>,
    /// `systemNamespaces`: pods in these get no `defaultNetworks` (default, also for an empty list: `kube-system`).
    #[serde(rename = "systemNamespaces", default)]
    pub system_namespaces: Vec<String>,
    /// `multusNamespace`: where `clusterNetwork`, `defaultNetworks` and default-network name definitions (default
    /// `kube-system`).
    #[serde(rename = "multusNamespace", default = "kube_system")]
    pub multus_namespace: String,
    /// `readinessindicatorfile`: the file that says that the cluster network is ready.
    #[serde(rename = "readinessindicatorfile", default)]
    pub readiness_indicator_file: Option<PathBuf>,
    /// `auxiliaryCNIChainName`: a chain of this name beside the cluster network, whose plugins others drop as files into
    /// `<folder of the cluster network>/<name>`.
    #[serde(rename = "auxiliaryCNIChainName", default)]
    pub auxiliary_chain: Option<String>,
    /// `logToStderr`, `logFile`, `logLevel`, `logOptions`.
    #[serde(skip)]
    pub log: logging::Settings,
    /// `cniVersion`.
    #[serde(skip, default = "oldest")]
    pub cni_version: Version,
    /// What an inline chain has of a conflist: `cniVersion`, `name`, `disableCheck`, `disableGC`.
    #[serde(skip)]
    pub list_keys: Map<String, Value>,
}

/// Every key, as it is written. As in Go, its case does not matter.
pub const KEYS: [&str; 22] = [
    "plugins",
    "clusterNetwork",
    "delegates",
    "defaultNetworks",
    "masterPlugin",
    "multusAutoconfigDir",
    "confDir",
    "cniDir",
    "binDir",
    "kubeconfig",
    "namespaceIsolation",
    "globalNamespaces",
    "systemNamespaces",
    "multusNamespace",
    "readinessindicatorfile",
    "retryDeleteOnError",
    "auxiliaryCNIChainName",
    "logToStderr",
    "logFile",
    "logLevel",
    "logOptions",
    "name",
];

/// The keys of the meta plugin's configuration that its inline chain has as a conflist.
const LIST_KEYS: [&str; 4] = ["cniVersion", "name", "disableCheck", "disableGC"];

impl Conf {
    /// Reads the configuration of the meta plugin that runs under the name `kind`.
    ///
    /// Null and empty text are as good as absent.
    ///
    /// Errors (6): a key has the wrong type.
    pub fn of(kind: &str, conf: &PluginConf) -> Result<Self> {
        let mut raw = known_keys(&conf.raw);
        if kind == CATENA {
            let dir = raw.entry("confDir").or_insert_with(|| NET_DIR.into()).clone();
            raw.entry("multusAutoconfigDir").or_insert(dir);
        } else {
            raw.entry("confDir").or_insert_with(|| "/etc/cni/multus/net.d".into());
            raw.entry("multusAutoconfigDir").or_insert_with(|| NET_DIR.into());
            raw.entry("binDir").or_insert_with(|| "/opt/cni/bin".into());
        }
        let said = LIST_KEYS.iter().filter_map(|key| conf.raw.get_key_value(*key));
        let list_keys = said.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut own: Self = conf.decode_other(&raw)?;
        if own.system_namespaces.is_empty() {
            own.system_namespaces.push(kube_system());
        }
        let log = logging::Settings::of(&raw);
        Ok(Self { log, cni_version: conf.cni_version, list_keys, ..own })
    }

    /// Where plugins are looked for: in `binDir`, then in `CNI_PATH`.
    pub fn path(&self, cni_path: &[PathBuf]) -> Vec<PathBuf> {
        let rest = cni_path.iter().filter(|dir| Some(*dir) != self.bin_dir.as_ref());
        self.bin_dir.iter().chain(rest).cloned().collect()
    }
}

/// The keys of a meta plugin's configuration, as they are written here, without those that say nothing.
pub fn known_keys(raw: &Map<String, Value>) -> Map<String, Value> {
    let says = |value: &Value| !value.is_null() && value.as_str() != Some("");
    let known = |key: &str| match KEYS.iter().find(|known| known.eq_ignore_ascii_case(key)) {
        None if key.eq_ignore_ascii_case("multusMasterCNI") => Some("masterPlugin"),
        known => known.copied(),
    };
    let said = raw.iter().filter(|(_, value)| says(value));
    said.filter_map(|(key, value)| Some((known(key)?.to_owned(), value.clone()))).collect()
}

/// What a configuration has that says none.
fn oldest() -> Version {
    Version::V0_1_0
}

fn cni_dir() -> PathBuf {
    "/var/lib/cni/multus".into()
}

fn kube_system() -> String {
    "kube-system".into()
}

fn global_namespaces() -> Vec<String> {
    vec!["default".into()]
}

/// Names with commas between.
fn commas<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
