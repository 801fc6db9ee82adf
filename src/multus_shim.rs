//! Thick Multus's configuration, for nodes that are switched to Catena as they are.
//!
//! Its shim's configuration says little but where the cluster network's file is, as its daemon's pod sees it. What else there is
//! to say stands in the daemon's `daemon-config.json`, whose keys count for every call, before those of the call.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use chain::{Code, Error, Result, Verb};
use serde_json::{Map, Value};

use crate::{kubernetes::conf::KEYS, plugin::Invocation};

/// The shim's type.
pub const KIND: &str = "multus-shim";

/// Where Multus has its daemon's configuration.
pub const DAEMON_CONFIG: &str = "/etc/cni/net.d/multus.d/daemon-config.json";

/// Where Multus's pods have the host's files.
const HOST: &str = "/host";

/// The keys whose values are paths.
const PATHS: [&str; 8] = [
    "clusterNetwork",
    "multusAutoconfigDir",
    "confDir",
    "cniDir",
    "binDir",
    "kubeconfig",
    "readinessindicatorfile",
    "logFile",
];

/// Multus's `daemon-config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonConfig(Map<String, Value>);

/// A call of the shim with its daemon's configuration laid over it, where the node has that; any other call as it is.
///
/// Errors: the daemon's configuration cannot be read.
pub fn complete(mut invocation: Invocation) -> Result<Invocation> {
    if invocation.kind == KIND {
        let config = DaemonConfig::read(Path::new(DAEMON_CONFIG));
        let config = match (config, invocation.verb) {
            // DEL goes by the records.
            (Err(error), Verb::Del) => {
                tracing::warn!(%error, "DEL goes on without it");
                None
            }
            (config, _) => config?,
        };
        invocation.stdin = config.unwrap_or_default().lay_over(invocation.stdin);
    }
    Ok(invocation)
}

impl DaemonConfig {
    /// Reads the file; `None` where there is none.
    ///
    /// Errors: 5 where it cannot be read, 6 where it is no JSON object.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("{}: {error}", path.display()))),
        };
        let object = serde_json::from_slice(&text)
            .map_err(|error| Error::new(Code::Decode, format!("{}: {error}", path.display())))?;
        Ok(Some(Self(object)))
    }

    /// `socketDir`: where the socket for Multus's shim is (default `/run/multus`).
    pub fn socket_dir(&self) -> PathBuf {
        let dir = self.0.get("socketDir").and_then(Value::as_str).filter(|dir| !dir.is_empty());
        on_host(dir.unwrap_or("/run/multus")).into()
    }

    /// `metricsPort`: where metrics are served, on all addresses.
    pub fn metrics_port(&self) -> Option<u16> {
        self.0.get("metricsPort")?.as_u64()?.try_into().ok().filter(|port| *port > 0)
    }

    /// A call's configuration with the keys of this one laid over it. What is no JSON object stays as it is: the call tells
    /// what is wrong with it.
    pub fn lay_over(&self, stdin: Vec<u8>) -> Vec<u8> {
        let Ok(mut conf) = serde_json::from_slice::<Map<String, Value>>(&stdin) else {
            return stdin;
        };
        let known = |key: &str| {
            let is = |known: &&str| known.eq_ignore_ascii_case(key);
            key.eq_ignore_ascii_case("multusMasterCNI")
                || KEYS.iter().any(|known| is(known) && !["name", "plugins"].contains(known))
        };
        for (key, value) in self.0.iter().filter(|(key, _)| known(key)) {
            conf.retain(|own, _| !own.eq_ignore_ascii_case(key));
            conf.insert(key.clone(), value.clone());
        }
        for (key, value) in &mut conf {
            let is_path = PATHS.iter().any(|path| path.eq_ignore_ascii_case(key));
            if let Some(path) = value.as_str().filter(|_| is_path) {
                *value = on_host(path).into();
            }
        }
        serde_json::to_vec(&conf).unwrap_or(stdin)
    }
}

/// A path of Multus's pod as it is on the host.
fn on_host(path: &str) -> &str {
    match path.strip_prefix(HOST) {
        Some(rest) if rest.starts_with('/') && !Path::new(path).exists() => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(json: Value) -> DaemonConfig {
        DaemonConfig(json.as_object().unwrap().clone())
    }

    #[test]
    fn its_keys_count_before_the_calls_but_for_who_is_called() {
        let daemon = config(json!({
            "chrootDir": "/hostroot", "cniVersion": "0.3.1", "name": "other", "NamespaceIsolation": true,
            "globalNamespaces": "a,b", "socketDir": "/host/run/multus/", "metricsPort": 9091,
        }));
        let stdin = json!({
            "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus-shim",
            "namespaceIsolation": false, "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist",
        });
        let conf: Value =
            serde_json::from_slice(&daemon.lay_over(stdin.to_string().into_bytes())).unwrap();
        assert_eq!(
            conf,
            json!({
                "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus-shim",
                "clusterNetwork": "/etc/cni/net.d/10-flannel.conflist",
                "NamespaceIsolation": true, "globalNamespaces": "a,b",
            })
        );
        assert_eq!(daemon.socket_dir(), Path::new("/run/multus/"));
        assert_eq!(daemon.metrics_port(), Some(9091));
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for stdin in ["", "[]", "{"] {
            let stdin = stdin.as_bytes().to_vec();
            assert_eq!(config(json!({})).lay_over(stdin.clone()), stdin);
        }
        assert_eq!(config(json!({ "metricsPort": 70000 })).metrics_port(), None);
        assert_eq!(config(json!({})).socket_dir(), Path::new("/run/multus"));
    }
}
