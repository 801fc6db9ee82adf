//! Services lead to pods of the network that `catena daemon --pod-network` writes: by the real kube-proxy, in its modes.
#![allow(clippy::unwrap_used, reason = "test code")]

mod cases;
mod cluster;
mod iptables;
mod ipvs;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../pod_routes/machines.rs"]
mod machines;
mod nftables;
mod nodes;
mod objects;

use std::time::Duration;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// How long a test waits for what has to come. Where the machine is emulated a program may take a minute to start.
const PATIENCE: Duration = Duration::from_secs(90);
