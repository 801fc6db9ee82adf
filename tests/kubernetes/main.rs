//! Catena beside a real Kubernetes. `tests/kubernetes/prepare.sh` lays out what it is made of.
#![allow(clippy::unwrap_used, reason = "test code")]

mod bad_input;
mod beside;
mod cluster;
mod daemon;
mod default_routes;
mod deployed;
mod devices_on_a_node;
mod environment;
mod faults;
mod hotplug;
mod manifests;
mod multus;
mod nested;
mod pods_on_a_node;
mod secondary;
mod whole_network;
mod whole_node;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
