//! The annotation `k8s.v1.cni.cncf.io/networks`: which networks a pod asks for, and how.
//!
//! Two forms of one language: names with commas between ([`short`]), and a JSON list of elements ([`json`]). Both check
//! every value, since a request that is misspelt must not become a pod without its network.

mod json;
mod short;
#[cfg(test)]
mod tests;
mod typed;
mod values;

use std::net::IpAddr;

use chain::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cluster::Pod;

/// The pod's annotation that asks for networks beside the cluster network.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The pod's annotation that asks for another network in place of the cluster network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// How many elements an annotation may have. Kubernetes limits its length alone, to 256 KiB, which has room for tens of
/// thousands of interfaces.
pub const MOST: usize = 64;

/// One element of the annotation. The JSON is for records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Selection {
    /// The NetworkAttachmentDefinition's namespace: the pod's own unless it says one.
    pub namespace: String,
    /// The NetworkAttachmentDefinition's name.
    pub name: String,
    /// `interface`: the interface's name inside the pod.
    pub interface: Option<String>,
    /// `ips`: addresses, with or without a prefix length.
    pub ips: Vec<String>,
    /// `mac`: the hardware address, six bytes in hex with colons between them.
    pub mac: Option<String>,
    /// `infiniband-guid`: eight bytes in hex with colons between them.
    pub infiniband_guid: Option<String>,
    /// `bandwidth`, as the capability has it.
    pub bandwidth: Option<Map<String, Value>>,
    /// `portMappings`, as the capability has it.
    pub port_mappings: Option<Vec<Value>>,
    /// `deviceID`, where no resource gives one.
    pub device_id: Option<String>,
    /// `cni-args`: is merged into `args.cni` of the plugins.
    pub cni_args: Option<Map<String, Value>>,
    /// `default-route`: the gateways of the pod's default routes, which go through this network. `Some` and empty: this
    /// network gives no default route.
    pub default_route: Option<Vec<IpAddr>>,
    /// `ipam-claim-reference`: the name of an IPAMClaim.
    pub ipam_claim_reference: Option<String>,
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Reads the annotation's value; `pod_namespace` is where names without a namespace are looked for.
///
/// Empty text and an empty list ask for nothing. As with Multus, a value that has `[`, `{` or `"` in it is JSON.
///
/// Errors (7): the value is in neither form; the message names the element, the key and what to change.
pub fn parse(annotation: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    let text = annotation.trim();
    let selections = if text.is_empty() {
        Vec::new()
    } else if text.contains(['[', '{', '"']) {
        json::parse(text, pod_namespace)?
    } else {
        short::parse(text, pod_namespace)?
    };
    if selections.len() > MOST {
        return Err(Error::config(format!(
            "it asks for {} networks, and a pod may ask for {MOST}: leave some out",
            selections.len()
        )));
    }
    refuse_shared_names(&selections)?;
    Ok(selections)
}

/// The networks that a pod asks for beside the cluster network.
pub fn of_pod(pod: &Pod) -> Result<Vec<Selection>> {
    let annotation = pod.annotations.get(NETWORKS).map_or("", String::as_str);
    parse(annotation, &pod.namespace).map_err(|error| in_annotation(&error, NETWORKS))
}

/// The network that a pod asks for in place of the cluster network; a name without a namespace is looked for in
/// `multus_namespace`.
pub fn default_of_pod(pod: &Pod, multus_namespace: &str) -> Result<Option<Selection>> {
    let Some(annotation) = pod.annotations.get(DEFAULT_NETWORK) else { return Ok(None) };
    let mut selections = parse(annotation, multus_namespace)
        .map_err(|error| in_annotation(&error, DEFAULT_NETWORK))?;
    match (selections.pop(), selections.len()) {
        (Some(selection), 0) => Ok(Some(selection)),
        (None, _) => Err(Error::config(format!(
            "annotation {DEFAULT_NETWORK} is empty: name one network, or remove the annotation"
        ))),
        (Some(_), others) => Err(Error::config(format!(
            "annotation {DEFAULT_NETWORK} names {} networks: a pod has one cluster network; ask for others in {NETWORKS}",
            others + 1
        ))),
    }
}

fn in_annotation(error: &Error, annotation: &str) -> Error {
    error.clone().context(format_args!("annotation {annotation}"))
}

/// Two elements cannot have one interface.
fn refuse_shared_names(selections: &[Selection]) -> Result<()> {
    for (index, selection) in selections.iter().enumerate() {
        let Some(name) = &selection.interface else { continue };
        let same = |other: &Selection| other.interface.as_ref() == Some(name);
        if let Some(first) = selections[..index].iter().position(same) {
            return Err(Error::config(format!(
                "elements {} ({}) and {} ({selection}) both ask for the interface {name:?}: give one of them another name",
                first + 1,
                selections[first],
                index + 1,
            )));
        }
    }
    Ok(())
}
