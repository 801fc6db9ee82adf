//! The built-in delegates, one module per plugin, and the netlink layer that they share.

pub mod bandwidth;
pub mod bridge;
mod chained;
pub mod cluster;
pub mod dhcp;
pub mod firewall;
mod interface;
pub mod ipam;
mod legacy;
pub mod loopback;
mod names;
pub mod net;
mod node;
pub mod portmap;
pub mod ptp;
mod reference;
pub mod snat;
pub mod tuning;

use chain::Plugin;

pub use names::{host_veth, ifb};
pub use net::NetError;
pub use node::{Container, Elements, Node, Undo, owner};

/// The built-in plugins.
pub static BUILTINS: &[&dyn Plugin<Node>] = &[
    &bridge::Bridge,
    &ptp::Ptp,
    &loopback::Loopback,
    &ipam::host_local::HostLocal,
    &ipam::static_::Static,
    &ipam::dhcp::Dhcp,
    &bandwidth::Bandwidth,
    &portmap::Portmap,
    &firewall::Firewall,
    &snat::Snat,
    &tuning::Tuning,
];
