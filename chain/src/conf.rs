//! The configuration of one plugin, as it is on stdin.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Code, Error, Result, Version, check_network_name, check_plugin_type,
    result::{Dns, null_is_default},
};

/// A plugin's configuration: what every plugin has, typed; the whole object for what only the plugin itself knows.
#[derive(Clone, Debug)]
pub struct PluginConf {
    /// `cniVersion` (absent: 0.1.0).
    pub cni_version: Version,
    /// `name`: the network.
    pub name: String,
    /// `type`: the plugin.
    pub kind: String,
    /// `exec`: run the executable from `CNI_PATH` even where this type is built in (default false).
    pub exec: bool,
    /// `capabilities` that the plugin declares.
    pub capabilities: BTreeMap<String, bool>,
    /// `ipam`, where it names a type.
    pub ipam: Option<IpamConf>,
    /// `dns`.
    pub dns: Dns,
    /// The whole object without `prevResult` and `capabilities`, with `name`, `cniVersion` and `runtimeConfig` injected
    /// (see [`crate::ConfList::delegates`]).
    pub raw: Map<String, Value>,
}

/// The part of `ipam` that the delegating plugin reads.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IpamConf {
    /// `type`: the IPAM plugin; empty or absent means none.
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    pub kind: String,
    /// `exec`: run the executable from `CNI_PATH` even where this type is built in (default false).
    #[serde(default, deserialize_with = "null_is_default")]
    pub exec: bool,
}

#[derive(Deserialize)]
struct Common {
    #[serde(rename = "cniVersion", default, deserialize_with = "null_is_default")]
    cni_version: String,
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    exec: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    capabilities: BTreeMap<String, bool>,
    #[serde(default)]
    ipam: Option<IpamConf>,
    #[serde(default, deserialize_with = "null_is_default")]
    dns: Dns,
}

impl PluginConf {
    /// Reads a plugin's object (without `prevResult`) and checks what every plugin has.
    ///
    /// Errors: 6 where a field has the wrong type, 7 where a name is invalid, 1 where the version is unknown.
    pub fn from_object(raw: Map<String, Value>) -> Result<Self> {
        let common: Common = decode(&raw, "configuration")?;
        check_network_name(&common.name)?;
        check_plugin_type(&common.kind)?;
        let ipam = common.ipam.filter(|ipam| !ipam.kind.is_empty());
        if let Some(ipam) = &ipam {
            check_plugin_type(&ipam.kind)?;
        }
        Ok(Self {
            cni_version: common.cni_version.parse()?,
            name: common.name,
            kind: common.kind,
            exec: common.exec,
            capabilities: common.capabilities,
            ipam,
            dns: common.dns,
            raw,
        })
    }

    /// The configuration as the plugin itself types it. Unknown fields are passed over, as everywhere in CNI.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.decode_other(&self.raw)
    }

    /// The same of an object that stands for the configuration's own.
    pub fn decode_other<T: DeserializeOwned>(&self, raw: &Map<String, Value>) -> Result<T> {
        decode(raw, &format!("configuration of {}", self.kind))
    }
}

/// Types a JSON object; the error names the field's path and what is wrong with it.
fn decode<T: DeserializeOwned>(raw: &Map<String, Value>, what: &str) -> Result<T> {
    serde_path_to_error::deserialize(raw).map_err(|error| {
        Error::new(Code::Decode, format!("{what}: field {}: {}", error.path(), error.inner()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_as_good_as_absent() {
        let object = json!({
            "cniVersion": null, "name": "net", "type": "bridge", "exec": null, "capabilities": null, "dns": null,
            "ipam": { "type": null, "exec": null },
        });
        let Value::Object(object) = object else { unreachable!("an object is written here") };
        let conf = PluginConf::from_object(object).unwrap();
        assert_eq!(conf.cni_version, Version::V0_1_0);
        assert!(!conf.exec && conf.ipam.is_none() && conf.capabilities.is_empty());
    }
}
