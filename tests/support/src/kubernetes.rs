//! A real Kubernetes on a node: API server and etcd ([`ApiServer`]), faults between it and its clients ([`Proxy`]), and a
//! kubelet with containerd that run pods ([`WholeNode`]).
//!
//! Everything listens on the node's own loopback, so tests have no ports in common, and keeps its files on
//! the node's tmpfs. `tests/kubernetes/prepare.sh` lays out the binaries; with `KUBEBUILDER_ASSETS` in the
//! environment those of that folder are taken.
//!
//! ```no_run
//! use testnode::{Node, kubernetes::{ApiServer, pods}};
//!
//! let node = Node::new();
//! let api = ApiServer::start(&node);
//! api.namespace("blue");
//! let account = serde_json::json!({ "metadata": { "name": "catena" } });
//! api.admin().create("/api/v1/namespaces/blue/serviceaccounts", &account);
//! let token = api.token("blue", "catena");
//! let kubeconfig = api.kubeconfig(&token);
//! // It has no rights yet.
//! assert_eq!(api.client(&token).request("GET", &pods("blue"), None).status, 403);
//! ```

mod api_server;
mod assets;
mod client;
mod containerd;
mod daemon;
mod etcd;
mod faults;
mod forward;
mod http;
mod image;
mod keys;
mod kube_proxy;
mod kubelet;
mod paths;
mod pod;
mod proxy;
mod whole_node;

pub use api_server::{ADMIN, ApiServer, Rights};
pub use client::{Answer, Client};
pub use faults::{Fault, Seen};
pub use kube_proxy::kube_proxy;
pub use paths::{definitions, events, nodes, pods};
pub use pod::pod;
pub use proxy::Proxy;
pub use whole_node::{NODE_NAME, WholeNode};
