//! Services in the API, with EndpointSlices as a controller would make them.

use std::net::IpAddr;

use serde_json::{Value, json};
use testnode::kubernetes::Client;

/// The node's name.
pub const NODE: &str = "a";

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// A Service of both families for port 80 of its pods.
#[derive(Clone, Copy, Debug)]
pub struct Service<'s> {
    pub name: &'s str,
    /// The last part of its addresses.
    pub number: u8,
    pub port: u16,
    pub node_port: Option<u16>,
    /// externalTrafficPolicy: only the pods of the node that a client asks.
    pub local: bool,
}

impl Service<'_> {
    /// Its addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        let number = self.number;
        [format!("10.96.0.{number}"), format!("fd00:96::{number:x}")]
            .map(|address| address.parse().unwrap())
    }

    /// Makes it, for pods of [`NODE`] with these addresses.
    #[track_caller]
    pub fn create(&self, api: &Client, pods: &[[IpAddr; 2]]) {
        let pods: Vec<_> = pods.iter().map(|addresses| (NODE, *addresses)).collect();
        self.create_for(api, &pods);
    }

    /// The same for pods of these nodes.
    #[track_caller]
    pub fn create_for(&self, api: &Client, pods: &[(&str, [IpAddr; 2])]) {
        let Self { name, port, .. } = self;
        let addresses = self.addresses();
        let mut port = json!({ "name": "web", "port": port, "targetPort": 80 });
        let mut spec = json!({
            "clusterIP": addresses[0], "clusterIPs": addresses,
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
        });
        if let Some(node_port) = self.node_port {
            port["nodePort"] = json!(node_port);
            spec["type"] = json!("NodePort");
            spec["externalTrafficPolicy"] = json!(if self.local { "Local" } else { "Cluster" });
        }
        spec["ports"] = json!([port]);
        let service = json!({ "metadata": { "name": name }, "spec": spec });
        api.create(SERVICES, &service);
        for (family, kind) in ["IPv4", "IPv6"].into_iter().enumerate() {
            let endpoints: Vec<_> =
                pods.iter().map(|(node, addresses)| endpoint(node, addresses[family])).collect();
            let slice = json!({
                "metadata": {
                    "name": format!("{name}-{}", kind.to_lowercase()),
                    "labels": { "kubernetes.io/service-name": name },
                },
                "addressType": kind,
                "endpoints": endpoints,
                "ports": [{ "name": "web", "port": 80, "protocol": "TCP" }],
            });
            let version = version(api);
            let path =
                format!("/apis/discovery.k8s.io/{version}/namespaces/default/endpointslices");
            api.create(&path, &slice);
        }
    }
}

/// Each version says the node in its own way, and passes over that of the other.
fn endpoint(node: &str, address: IpAddr) -> Value {
    json!({
        "addresses": [address],
        "conditions": { "ready": true },
        "topology": { "kubernetes.io/hostname": node },
        "nodeName": node,
    })
}

/// The version of EndpointSlices that the server has.
fn version(api: &Client) -> &'static str {
    let newer = api.request("GET", "/apis/discovery.k8s.io/v1", None).is_success();
    if newer { "v1" } else { "v1beta1" }
}
