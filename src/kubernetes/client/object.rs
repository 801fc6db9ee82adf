//! Objects of the API as far as they are read, whatever their kind.

use kube::core::{ApiResource, GroupVersionKind, Object};
use serde::{Deserialize, Serialize};

/// An object of any kind, with what is read of it. It is one type, because all that kube makes of each type which is watched
/// takes a tenth of a megabyte.
pub type AnyObject = Object<Option<Spec>, Status>;

/// What is read of specs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Spec {
    /// Of a NetworkAttachmentDefinition: a CNI configuration as text.
    pub config: Option<String>,
    /// Of a Node: its part of the pods' addresses, where it has one.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// The same, of each family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

/// What is read of the status.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// Of a Node: where it is reached.
    pub addresses: Vec<Address>,
    /// Of Nodes and pods.
    pub conditions: Vec<Condition>,
}

/// An address of a Node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Address {
    /// `InternalIP` or another.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address or name.
    pub address: String,
}

/// A condition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Condition {
    /// What it says something of.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// The resource `pods`.
pub fn pods() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"))
}

/// The resource `nodes`.
pub fn nodes() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"))
}

/// The resource `network-attachment-definitions`, which needs no discovery since the standard names it.
pub fn definitions() -> ApiResource {
    let kind = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    ApiResource::from_gvk_with_plural(&kind, "network-attachment-definitions")
}
