//! The IPAM plugins: they hand out addresses and touch no interface.

pub mod dhcp;
pub mod host_local;
mod requested;
pub mod static_;
