//! The annotation `k8s.v1.cni.cncf.io/network-status`: what a pod was attached to.
//!
//! Key for key and line for line what Multus 4.3 writes, but where that is at odds with the pod: a result without interfaces
//! (CNI up to 0.2) has an entry, an address is only at the interface that has it, a single interface has the name that was asked for, and `gateway` names
//! routers only.

use std::net::IpAddr;

use chain::{
    CniResult,
    result::{Dns, Interface, IpConfig},
};
use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

use super::networks::Role;

/// The kernel's main routing table (`RT_TABLE_MAIN`), where routes are unless a result says otherwise.
const MAIN_TABLE: u32 = 254;

/// An interface of a pod, as the annotation has it. The fields' order is Multus's.
#[derive(Serialize)]
struct Entry<'a> {
    /// The network: `namespace/name` of its definition, or its configuration's name.
    name: &'a str,
    /// The interface in the pod.
    interface: &'a str,
    /// Its addresses, without a prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpAddr>,
    /// Its hardware address.
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    /// Its MTU.
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    /// Whether it is the interface that the pod's own address is of.
    #[serde(skip_serializing_if = "is_false")]
    default: bool,
    /// Name resolution that the network offers.
    dns: &'a Dns,
    /// The device behind it, as its device plugin describes it.
    #[serde(rename = "device-info", skip_serializing_if = "Option::is_none")]
    device_info: Option<&'a Value>,
    /// The routers of the pod's default routes by this interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<IpAddr>,
}

/// A network that a pod is attached to.
pub struct Attached<'a> {
    /// What it is called ([`Network::name`](super::networks::Network)).
    pub name: &'a str,
    /// The interface that it was asked to make.
    pub ifname: &'a str,
    /// Whose wish it is.
    pub role: Role,
    /// Its result, as it is in the end.
    pub result: &'a CniResult,
    /// What is known of its device.
    pub device_info: Option<Value>,
}

/// The annotation's value.
pub fn of(attached: &[Attached<'_>]) -> String {
    // A chain of others' plugins made no interface, unless it says so.
    let has_interface =
        |one: &&Attached<'_>| one.role != Role::Auxiliary || !one.result.interfaces.is_empty();
    let attached = attached.iter().filter(has_interface);
    let entries: Vec<_> = attached.flat_map(entries).map(|entry| text(&entry)).collect();
    format!("[{}]", entries.join(","))
}

/// The entries of one network: each of its interfaces in the pod.
fn entries<'a>(network: &'a Attached<'_>) -> Vec<Entry<'a>> {
    let Attached { result, device_info, .. } = network;
    let device_info = device_info.as_ref();
    let entry = |own: Option<&'a Interface>, ips: &[&IpConfig], gateway| Entry {
        name: network.name,
        interface: own.map_or(network.ifname, |own| &own.name),
        ips: ips.iter().map(|ip| ip.address.addr()).collect(),
        mac: own.map_or("", |own| &own.mac),
        mtu: own.map_or(0, |own| own.mtu),
        default: false,
        dns: &result.dns,
        device_info,
        gateway,
    };
    let in_pod: Vec<_> =
        result.interfaces.iter().enumerate().filter(|(_, own)| !own.sandbox.is_empty()).collect();
    // The one that the network was asked to make comes first among equals.
    let main = in_pod.iter().position(|(_, own)| own.name == network.ifname).unwrap_or(0);
    let gateways = gateways(result);
    let mut entries: Vec<_> = if in_pod.is_empty() {
        let ips: Vec<_> = result.ips.iter().collect();
        vec![entry(None, &ips, gateways)]
    } else {
        let addresses: Vec<Vec<_>> = in_pod
            .iter()
            .enumerate()
            .map(|(place, (index, _))| {
                // An index beyond the list says as little as none, and an address is not to be lost over it.
                let known = |of: &usize| *of < result.interfaces.len();
                let has = |ip: &&IpConfig| {
                    ip.interface.filter(known).map_or(place == main, |of| of == *index)
                };
                result.ips.iter().filter(has).collect()
            })
            .collect();
        // A router is behind the interface whose subnet it is in.
        let behind = |gateway: &IpAddr| {
            let reaches = |ips: &Vec<&IpConfig>| {
                ips.iter().any(|ip| ip.gateway == Some(*gateway) || ip.address.contains(gateway))
            };
            addresses.iter().position(reaches).unwrap_or(main)
        };
        in_pod
            .iter()
            .zip(&addresses)
            .enumerate()
            .map(|(place, ((_, own), ips))| {
                let own_gateways =
                    gateways.iter().copied().filter(|gateway| behind(gateway) == place).collect();
                entry(Some(own), ips, own_gateways)
            })
            .collect()
    };
    if let [only] = entries.as_mut_slice() {
        // There is one of this name, or the plugin would have failed; calico has the name of the node's end in its place.
        only.interface = network.ifname;
    }
    entries[main].default = network.role == Role::Cluster;
    entries
}

/// The routers of a result's default routes.
fn gateways(result: &CniResult) -> Vec<IpAddr> {
    let mut gateways = Vec::new();
    for route in &result.routes {
        if route.dst.prefix_len() != 0 || route.table.is_some_and(|table| table != MAIN_TABLE) {
            continue;
        }
        let v4 = route.dst.addr().is_ipv4();
        // Without a router it is by the first of its family (CNI 1.1.0), or there is none, on a point-to-point link.
        let of_family = || {
            result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
        };
        let gateway = route.gw.or_else(of_family).filter(|gateway| !gateway.is_unspecified());
        if let Some(gateway) = gateway.filter(|gateway| !gateways.contains(gateway)) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// JSON as Go indents it by four.
fn text(entry: &Entry<'_>) -> String {
    let mut json = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(b"    "));
    entry.serialize(&mut serializer).expect("an entry is strings, numbers and lists of them");
    String::from_utf8(json).expect("JSON is UTF-8")
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests;
