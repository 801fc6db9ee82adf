//! Reachability: pods of one node reach those of another, without NAT.
//!
//! Each node has its part of the cluster's addresses (`spec.podCIDRs` of its Node). The daemon keeps a route to every other
//! node's part: by the node itself where it is on the same link, else through a VXLAN tunnel. Nothing is agreed upon between
//! nodes: what a tunnel's end needs to know of another, its hardware address included, follows from the Node objects.
//!
//! [`plan`] says what is to be there, [`apply`] makes the kernel's tables so. Both know nothing of the API: routes that were
//! there before the daemon are found by their protocol number and kept, so that a restart is not noticed.

mod apply;
mod lock;
mod mtu;
mod plan;
mod taken;
#[cfg(test)]
mod tests;

pub use self::{
    apply::{Applied, apply, remove},
    lock::alone,
    mtu::mtu_of_pods,
    plan::{Peer, Tunnel, TunnelSettings, Ways, Wish},
};

/// The number that says in the kernel's tables that a route is Catena's (`ip route show proto 202`).
pub const PROTOCOL: u8 = 202;

/// The tunnel's device.
pub const DEVICE: &str = "catena.vxlan";
