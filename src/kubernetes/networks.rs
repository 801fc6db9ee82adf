//! The networks of a pod: which chains are to be run for it, in order.

use std::net::IpAddr;

use chain::{CniArgs, ConfList};
use serde_json::{Map, Value};

/// A network that a pod is to be attached to.
#[derive(Clone, Debug)]
pub struct Network {
    /// What it is called in the status, events and errors: `namespace/name` of its definition, or its configuration's
    /// name.
    pub name: String,
    /// Whose wish it is.
    pub role: Role,
    /// Its chain.
    pub list: ConfList,
    /// The interface inside the pod.
    pub ifname: String,
    /// The capability arguments of its chain: for the cluster network the runtime's, for others the selection's.
    pub capability_args: Map<String, Value>,
    /// `CNI_ARGS` of its delegates.
    pub args: CniArgs,
    /// The pod's default routes are to go by these gateways through this network.
    pub gateways: Vec<IpAddr>,
    /// Address families (IPv4, IPv6) whose default route this network is not to give, since another one does.
    pub loses_default: (bool, bool),
    /// The device plugin's resource that its definition names.
    pub resource: Option<String>,
    /// The device that it was given.
    pub device_id: Option<String>,
}

/// Whose wish a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The cluster network (or what the pod asked for in its place): the interface that the runtime knows.
    Cluster,
    /// The node's configuration: every pod gets it.
    Default,
    /// The pod's annotation.
    Selected,
}
