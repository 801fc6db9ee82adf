//! Real container runtimes from Debian's packages, confined to a node.
//!
//! Both run with everything they store on the node's tmpfs, in a PID namespace of their own (their
//! monitors and shims are daemons, and end with it), and without control groups, which are the
//! machine's and would be left behind.

mod containerd;
mod podman;
mod rootfs;
mod sandbox;

pub use containerd::{Containerd, ContainerdTask};
pub use podman::Podman;
pub use rootfs::{PAGE, SERVE};
pub(crate) use rootfs::{oci_runtime, rootfs};
pub(crate) use sandbox::{ControlGroups, Sandbox};
