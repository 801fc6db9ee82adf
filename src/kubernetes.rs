//! Secondary networks for Kubernetes pods: what Multus does.
//!
//! A pod's networks are its cluster network, the default networks, and those that its annotation asks for. [`selection`] is the
//! annotation's language, and [`networks`] are the chains that [`pods`] runs for it, all or none. What has to be asked or told of the cluster
//! goes through [`Cluster`](cluster::Cluster), so that the plugin by itself and the daemon do the same.
//!
//! Standard: the Kubernetes network custom resource de-facto standard, version 1.3
//! (<https://github.com/k8snetworkplumbingwg/multi-net-spec>).

pub mod client;
pub mod cluster;
pub mod conf;
pub mod definition;
pub mod devices;
pub mod master;
mod multus_scratch;
pub mod networks;
pub mod pods;
mod readiness;
pub mod selection;
pub mod status;
pub mod verbs;
