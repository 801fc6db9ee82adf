//! The built-in delegates, one module per plugin, and the netlink layer that they share.

mod names;
pub mod net;
mod node;

pub use names::{host_veth, ifb};
pub use net::NetError;
pub use node::{Container, Node};
