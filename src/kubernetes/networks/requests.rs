//! What an element of the annotation asks of its network's plugins: capability arguments, `args.cni` and `CNI_ARGS`.
//!
//! A request is served by the plugins that declare its capability. Two are also served without: plugins that read addresses
//! or a hardware address from `args.cni` or `CNI_ARGS`, as Multus's users know them to. What no plugin serves is an error: the
//! pod would run without what it asks for.

use chain::{CniArgs, Code, ConfList, Error, Result};
use serde_json::{Map, Value};

use crate::kubernetes::{definition::Found, selection::Selection};

/// IPAM plugins that read `args.cni.ips`.
const IPAM_WITH_IPS: [&str; 2] = ["host-local", "static"];

/// Plugins that read `MAC` of `CNI_ARGS`.
const WITH_MAC: [&str; 5] = ["bridge", "macvlan", "ovs", "sriov", "tuning"];

/// What the plugins of a network get.
pub(super) struct Requests {
    /// The chain, with `args.cni`.
    pub list: ConfList,
    /// The capability arguments.
    pub capability_args: Map<String, Value>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
}

/// Hands what is asked for to the plugins of the network. `given`: the capability arguments and `CNI_ARGS` that they get
/// in any case.
///
/// Errors (7): something is asked for that no plugin serves. 6: `args` of a plugin is none.
pub(super) fn hand_on(
    found: &Found,
    asked: &Selection,
    mut capability_args: Map<String, Value>,
    mut args: CniArgs,
) -> Result<Requests> {
    let mut list = found.list.clone();
    for plugin in &mut list.plugins {
        merge(plugin, asked.cni_args.as_ref()).map_err(|error| in_network(error, found))?;
    }
    if !asked.ips.is_empty() {
        let ips = Value::from(asked.ips.clone());
        if declares(&list, "ips") {
            capability_args.insert("ips".to_owned(), ips);
        } else {
            serve_ips(&mut list, &ips).map_err(|error| in_network(error, found))?;
        }
        // Other IPAM plugins may read this one only. Of the two known ones, host-local takes no list, and static would
        // have each address twice.
        if !list.plugins.iter().any(|plugin| IPAM_WITH_IPS.contains(&ipam(plugin))) {
            args.set("IP", &asked.ips.join(","));
        }
    }
    if let Some(mac) = &asked.mac {
        let kind = |plugin: &Map<String, Value>| {
            plugin.get("type").and_then(Value::as_str).map(str::to_owned)
        };
        let reads_it =
            list.plugins.iter().filter_map(kind).any(|kind| WITH_MAC.contains(&kind.as_str()));
        if !reads_it {
            require(&list, "mac").map_err(|error| in_network(error, found))?;
        }
        capability_args.insert("mac".to_owned(), mac.clone().into());
        args.set("MAC", mac);
    }
    let others = [
        ("infinibandGUID", asked.infiniband_guid.clone().map(Value::from)),
        (
            "bandwidth",
            asked.bandwidth.clone().filter(|bandwidth| !bandwidth.is_empty()).map(Value::from),
        ),
        (
            "portMappings",
            asked.port_mappings.clone().filter(|ports| !ports.is_empty()).map(Value::from),
        ),
        // A device of the resource takes its place.
        ("deviceID", asked.device_id.clone().filter(|_| found.resource.is_none()).map(Value::from)),
    ];
    for (capability, value) in others {
        let Some(value) = value else { continue };
        require(&list, capability).map_err(|error| in_network(error, found))?;
        match (capability_args.get_mut(capability), value) {
            // The pod's own ports stay.
            (Some(Value::Array(given)), Value::Array(more)) => given.extend(more),
            (_, value) => drop(capability_args.insert(capability.to_owned(), value)),
        }
    }
    Ok(Requests { list, capability_args, args })
}

fn in_network(error: Error, found: &Found) -> Error {
    error.context(format_args!("network {}", found.name))
}

/// `CNI_ARGS` of a network beside the cluster network: without what is the cluster network's alone, and such that plugins
/// pass over the keys that they do not know.
pub(super) fn secondary_args(args: &CniArgs) -> CniArgs {
    let mut secondary = args.clone();
    for key in ["IP", "MAC", "GATEWAY"] {
        secondary.remove(key);
    }
    if !secondary.ignores_unknown() {
        secondary.set("IgnoreUnknown", "true");
    }
    secondary
}

/// Merges `cni-args` into a plugin's `args.cni`. What the pod asks for comes before what stands there.
fn merge(plugin: &mut Map<String, Value>, cni_args: Option<&Map<String, Value>>) -> Result<()> {
    let Some(cni_args) = cni_args else { return Ok(()) };
    let mut object = plugin;
    for key in ["args", "cni"] {
        let entry = object.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = Value::Object(Map::new());
        }
        object = match entry {
            Value::Object(object) => object,
            other => {
                return Err(Error::new(
                    Code::Decode,
                    format!(
                        "cni-args cannot be added, since {key} of a plugin is {other}: it must be an object"
                    ),
                ));
            }
        };
    }
    object.extend(cni_args.clone());
    Ok(())
}

/// Hands addresses to the IPAM plugins that take them without a capability.
fn serve_ips(list: &mut ConfList, ips: &Value) -> Result<()> {
    let ips = Map::from_iter([("ips".to_owned(), ips.clone())]);
    let mut served = false;
    for plugin in &mut list.plugins {
        if IPAM_WITH_IPS.contains(&ipam(plugin)) {
            merge(plugin, Some(&ips))?;
            served = true;
        }
    }
    if served { Ok(()) } else { require(list, "ips") }
}

/// The type of a plugin's IPAM; empty where it has none.
fn ipam(plugin: &Map<String, Value>) -> &str {
    plugin.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a plugin of the chain declares the capability.
fn declares(list: &ConfList, capability: &str) -> bool {
    let declares = |plugin: &Map<String, Value>| {
        plugin.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    };
    list.plugins.iter().any(declares)
}

fn require(list: &ConfList, capability: &str) -> Result<()> {
    if declares(list, capability) {
        return Ok(());
    }
    let key = if capability == "infinibandGUID" { "infiniband-guid" } else { capability };
    Err(Error::config(format!(
        "{key} is asked for, but none of its plugins declares the capability: add \"capabilities\": {{\"{capability}\": \
         true}} to the plugin that is to serve it, or remove {key} from the annotation"
    )))
}
