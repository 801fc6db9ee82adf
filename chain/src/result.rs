//! The result of ADD, in the shape of the newest version of the specification.

mod convert;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What ADD returns, and what `prevResult` carries (CNI 1.1.0, section 5 "Add Success").
///
/// Unknown keys of a foreign plugin are kept (`extra`), so that a chain loses nothing. Its own serialization is that of
/// version 1.1.0 without `cniVersion`; [`CniResult::to_json`] and [`CniResult::from_json`] speak all versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CniResult {
    /// The interfaces that the attachment made, in the container and on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub interfaces: Vec<Interface>,
    /// The addresses assigned.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ips: Vec<IpConfig>,
    /// The routes made.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub routes: Vec<Route>,
    /// Name resolution.
    #[serde(default, skip_serializing_if = "Dns::is_empty", deserialize_with = "null_is_default")]
    pub dns: Dns,
    /// Keys that the specification does not have.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address (may be empty).
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub mac: String,
    /// Its MTU (since 1.1.0; 0: not given).
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub mtu: u32,
    /// The path of the container's network namespace; empty for an interface on the host.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub sandbox: String,
    /// The socket of an interface that has one, for example vhost-user (since 1.1.0).
    #[serde(
        rename = "socketPath",
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub socket_path: String,
    /// The PCI address of the device (since 1.1.0).
    #[serde(
        rename = "pciID",
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with the prefix length of its subnet.
    pub address: IpNet,
    /// The subnet's default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub gateway: Option<IpAddr>,
    /// The index in `interfaces` of the interface that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route of a result or of an IPAM configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: IpNet,
    /// The next hop; absent: the address family's first gateway in `ips`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Advertised maximal segment size (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope, as in `rtnetlink(7)` (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name resolution of a result or a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub domain: String,
    /// Domains for the look-up of short names.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub options: Vec<String>,
}

impl CniResult {
    /// Whether everything that an earlier result of the chain tells of the container's interface is in this one: its
    /// interfaces, and addresses as theirs.
    pub(crate) fn keeps(&self, earlier: &Self) -> bool {
        let names = |result: &Self| -> Vec<_> {
            let owner = |ip: &IpConfig| ip.interface.and_then(|index| result.interfaces.get(index));
            let addresses = result
                .ips
                .iter()
                .map(|ip| (Some(ip.address), owner(ip).map(|own| own.name.clone())));
            let interfaces = result.interfaces.iter().map(|own| (None, Some(own.name.clone())));
            addresses.chain(interfaces).collect()
        };
        let kept = names(self);
        names(earlier).iter().all(|name| kept.contains(name))
    }
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Go prints an absent list as `null`.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Go prints an absent address as `""`.
fn empty_is_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
