//! The annotation `k8s.v1.cni.cncf.io/networks`: which networks a pod asks for, and how.

use std::net::IpAddr;

use serde_json::{Map, Value};

/// One element of the annotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The NetworkAttachmentDefinition's namespace: the pod's own unless it says one.
    pub namespace: String,
    /// The NetworkAttachmentDefinition's name.
    pub name: String,
    /// `interface`: the interface's name inside the pod.
    pub interface: Option<String>,
    /// `ips`: addresses, with or without a prefix length.
    pub ips: Vec<String>,
    /// `mac`: the hardware address.
    pub mac: Option<String>,
    /// `infiniband-guid`.
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
