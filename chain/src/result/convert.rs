//! A result in the shape of each version of the specification.
//!
//! | versions | shape |
//! |---|---|
//! | 0.1.0, 0.2.0 | one `ip4` and one `ip6`, each with its routes; no interfaces |
//! | 0.3.0 to 0.4.0 | `interfaces`, `ips` with their `version`, `routes`; `dns` always there |
//! | 1.0.0 | `ips` without `version`; `dns` only where it is set |
//! | 1.1.0 | also `mtu`, `socketPath`, `pciID` of interfaces; `mtu`, `advmss`, `priority`, `table`, `scope` of routes |
//!
//! Going up loses nothing. Going down drops what the older version has no place for.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniResult, IpConfig, Route, empty_is_none, null_is_default};
use crate::{Code, Error, Result, Version};

/// `ip4` or `ip6` of versions 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct OldIp {
    ip: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    gateway: Option<std::net::IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    routes: Vec<Route>,
}

impl CniResult {
    /// Reads a result. Its own `cniVersion` says in which shape it is; where it has none, `assumed` does (the version
    /// of the configuration that it answers).
    ///
    /// Errors: 6 where it has not the shape of a result, 1 where its version is unknown.
    pub fn from_json(json: Value, assumed: Version) -> Result<Self> {
        let Value::Object(mut object) = json else {
            return Err(Error::new(Code::Decode, "the result is not a JSON object"));
        };
        let version = match object.shift_remove("cniVersion") {
            None | Some(Value::Null) => assumed,
            Some(Value::String(text)) if text.is_empty() => assumed,
            Some(Value::String(text)) => {
                text.parse::<Version>().map_err(|e| e.context("the result"))?
            }
            Some(other) => {
                return Err(Error::new(
                    Code::Decode,
                    format!("the result's cniVersion is {other}: it must be a string"),
                ));
            }
        };
        let mut old = Vec::new();
        if version <= Version::V0_2_0 {
            for key in ["ip4", "ip6"] {
                if let Some(ip) = object.shift_remove(key).filter(|ip| !ip.is_null()) {
                    old.push(typed::<OldIp>(ip, key)?);
                }
            }
        }
        let mut result: Self = typed(Value::Object(object), "")?;
        for ip in old {
            result.ips.push(IpConfig { address: ip.ip, gateway: ip.gateway, interface: None });
            result.routes.extend(ip.routes);
        }
        Ok(result)
    }

    /// The result in the shape of a version, `cniVersion` in it.
    ///
    /// Errors (6): versions 0.1.0 and 0.2.0 cannot express a result without addresses.
    pub fn to_json(&self, version: Version) -> Result<Value> {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.as_str().into());
        if version <= Version::V0_2_0 {
            self.put_old_ips(&mut object, version)?;
        } else {
            self.put_lists(&mut object, version);
        }
        if version < Version::V1_0_0 || !self.dns.is_empty() {
            object.insert("dns".to_owned(), plain(&self.dns));
        }
        for (key, value) in &self.extra {
            // A key of the specification wins over an unknown one of the same name.
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(Value::Object(object))
    }

    fn put_old_ips(&self, object: &mut Map<String, Value>, version: Version) -> Result<()> {
        for (key, is_v4) in [("ip4", true), ("ip6", false)] {
            let of_family = |net: &IpNet| net.addr().is_ipv4() == is_v4;
            let Some(ip) = self.ips.iter().find(|ip| of_family(&ip.address)) else { continue };
            let routes = self.routes.iter().filter(|route| of_family(&route.dst));
            let ip = OldIp {
                ip: ip.address,
                gateway: ip.gateway,
                routes: routes.map(Route::without_1_1).collect(),
            };
            object.insert(key.to_owned(), plain(&ip));
        }
        if object.contains_key("ip4") || object.contains_key("ip6") {
            return Ok(());
        }
        Err(Error::new(
            Code::Decode,
            format!(
                "a result without addresses cannot be expressed in version {version}; use cniVersion 0.3.0 or newer"
            ),
        ))
    }

    fn put_lists(&self, object: &mut Map<String, Value>, version: Version) {
        let newest = version >= Version::V1_1_0;
        if !self.interfaces.is_empty() {
            let interfaces = self.interfaces.iter().map(|interface| {
                let mut interface = interface.clone();
                if !newest {
                    interface.mtu = 0;
                    interface.socket_path.clear();
                    interface.pci_id.clear();
                }
                plain(&interface)
            });
            object.insert("interfaces".to_owned(), interfaces.collect());
        }
        if !self.ips.is_empty() {
            let ips = self.ips.iter().map(|ip| {
                let Value::Object(rest) = plain(ip) else { unreachable!("a struct is an object") };
                let mut object = Map::new();
                if version < Version::V1_0_0 {
                    let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
                    object.insert("version".to_owned(), family.into());
                }
                object.extend(rest);
                Value::Object(object)
            });
            object.insert("ips".to_owned(), ips.collect());
        }
        if !self.routes.is_empty() {
            let routes = self
                .routes
                .iter()
                .map(|route| if newest { plain(route) } else { plain(&route.without_1_1()) });
            object.insert("routes".to_owned(), routes.collect());
        }
    }
}

impl Route {
    /// The route with only what versions before 1.1.0 have.
    fn without_1_1(&self) -> Self {
        Self {
            dst: self.dst,
            gw: self.gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Types a part of a result; the error names the field's path and what is wrong with it.
fn typed<T: serde::de::DeserializeOwned>(json: Value, at: &str) -> Result<T> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        let field = match (at, path.as_str()) {
            ("", path) => path.to_owned(),
            (at, ".") => at.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        Error::new(Code::Decode, format!("the result's field {field}: {}", error.inner()))
    })
}

fn plain<T: Serialize>(part: &T) -> Value {
    serde_json::to_value(part).expect("the parts of a result have only strings, numbers and lists")
}

#[cfg(test)]
mod tests;
