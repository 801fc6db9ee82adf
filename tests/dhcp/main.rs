//! Addresses from DHCP servers: by Catena's daemon and by the reference plugins', with Catena's plugin and with the reference's.
#![allow(clippy::unwrap_used, reason = "test code")]

mod carrier;
mod changed;
mod each;
mod ends;
mod hostile;
mod in_the_node_daemon;
mod kept;
mod killed;
mod lan;
mod lost;
mod on_the_node;
mod protocol;
mod reference;
mod restarts;
mod served;
mod suppressed;
mod v6;
mod whole;

use std::time::Duration;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Of Debian's containernetworking-plugins.
const REFERENCE: &str = "/usr/lib/cni/dhcp";
const SOCKET: &str = "/run/cni/dhcp.sock";
const PATIENCE: Duration = Duration::from_secs(30);
