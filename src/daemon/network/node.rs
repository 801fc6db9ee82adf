//! Node objects: what is read of them, and the condition that is theirs.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, Request};
use serde_json::json;
use tokio::time::timeout;

use super::super::cached::Cached;
use crate::{kubernetes::client::object::AnyObject, reach::Peer};

/// How long the API may take for a patch.
const LIMIT: Duration = Duration::from_secs(10);

/// The condition that keeps pods from a node until its network serves: cloud providers set it on new Nodes.
const UNAVAILABLE: &str = "NetworkUnavailable";

/// What is known of all nodes, in the order of their names. It is the same as long as nothing has changed that matters here.
pub fn peers(nodes: &[Arc<AnyObject>]) -> Vec<Peer> {
    let mut peers: Vec<_> = nodes.iter().map(|node| peer(node)).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

/// What other nodes need to know of it.
fn peer(node: &AnyObject) -> Peer {
    let spec = node.spec.as_ref();
    let cidrs = match spec.map_or(&[][..], |spec| &spec.pod_cidrs) {
        [] => spec.map_or(&[][..], |spec| spec.pod_cidr.as_slice()),
        all => all,
    };
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    Peer {
        name: node.metadata.name.clone().unwrap_or_default(),
        addresses: addresses
            .filter(|address| address.kind == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect(),
        pod_cidrs: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
    }
}

/// What the Node says of its network.
#[derive(Default)]
pub struct Availability {
    /// What it was told last that keeps the network from serving.
    told: Option<String>,
}

impl Availability {
    /// Has the Node's condition say what keeps its network from serving (`None`: it serves). Where nobody has set the condition
    /// there is nothing to clear.
    pub async fn tell(&mut self, cluster: &Cached, node: &AnyObject, hindered: Option<&str>) {
        let conditions = node.status.iter().flat_map(|status| &status.conditions);
        let mut present = conditions.filter(|one| one.kind == UNAVAILABLE).map(|one| &one.status);
        let is_said = match (present.next().map(String::as_str), hindered) {
            (None | Some("False"), None) => true,
            (Some("True"), Some(text)) => self.told.as_deref() == Some(text),
            _ => false,
        };
        if is_said {
            return;
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match patch(cluster, name, hindered).await {
            Ok(()) => {
                tracing::info!(unavailable = hindered, "the Node's condition {UNAVAILABLE} is set");
                self.told = hindered.map(str::to_owned);
            }
            Err(error) => tracing::warn!("the Node's condition {UNAVAILABLE}: {error}"),
        }
    }
}

async fn patch(cluster: &Cached, name: &str, hindered: Option<&str>) -> Result<(), String> {
    let now = Timestamp::now().to_string();
    let (status, reason, message) = match hindered {
        None => ("False", "CatenaServes", "The pods' network is there."),
        Some(text) => ("True", "ForwardDropped", text),
    };
    let patch = Patch::Strategic(json!({ "status": { "conditions": [{
        "type": UNAVAILABLE,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }] } }));
    let mut request = Request::new("/api/v1/nodes")
        .patch_subresource("status", name, &PatchParams::default(), &patch)
        .map_err(|error| error.to_string())?;
    // The answer would have the whole Node otherwise.
    let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    request.headers_mut().insert("accept", metadata.parse().expect("it is ASCII"));
    match timeout(LIMIT, cluster.api().client().request::<AnyObject>(request)).await {
        Ok(done) => done.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("the API does not answer".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use serde_json::Value;

    use super::*;

    fn peers_of(objects: &[Value]) -> Vec<Peer> {
        let read = |object: &Value| Arc::new(serde_json::from_value(object.clone()).unwrap());
        peers(&objects.iter().map(read).collect::<Vec<_>>())
    }

    #[test]
    fn what_kubelets_write_again_and_again_changes_nothing() {
        let a = json!({
            "metadata": { "name": "a", "resourceVersion": "1" },
            "spec": { "podCIDR": "10.1.1.0/24", "podCIDRs": ["10.1.1.0/24"] },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "192.168.1.11" }],
                "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }],
            },
        });
        let b = json!({ "metadata": { "name": "b" } });
        let before = peers_of(&[a.clone(), b.clone()]);
        let mut beating = a.clone();
        beating["metadata"]["resourceVersion"] = json!("2");
        beating["metadata"]["annotations"] = json!({ "seen": "now" });
        beating["spec"]["taints"] = json!([{ "key": "disk", "effect": "NoSchedule" }]);
        beating["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-01-01T00:05:00Z");
        beating["status"]["conditions"][0]["status"] = json!("False");
        beating["status"]["images"] = json!([{ "names": ["web"] }]);
        // A watch lists them in no order.
        assert_eq!(peers_of(&[b.clone(), beating]), before);
        let mut moved = a;
        moved["status"]["addresses"][0]["address"] = json!("192.168.1.12");
        assert_ne!(peers_of(&[moved, b]), before);
    }
}
