//! The CNI specification in types, and the execution of a chain of plugins.
//!
//! This crate knows no concrete delegate, no netlink and no Kubernetes: the built-in delegates are handed in as a
//! [`Registry`], and what they put off to do together on the node as a [`Node`]. Foreign delegates are executables
//! found in `CNI_PATH`.
//!
//! Specification: <https://www.cni.dev/docs/spec/> (versions 0.1.0 to 1.1.0).

mod args;
mod attachment;
mod conf;
mod conflist;
mod dirs;
mod error;
mod executor;
pub mod files;
mod foreign;
mod invocation;
pub mod lock;
mod names;
mod plugin;
pub mod record;
pub mod result;
pub mod runner;
mod verb;
mod version;

pub use args::CniArgs;
pub use attachment::Attachment;
pub use conf::{IpamConf, PluginConf};
pub use conflist::ConfList;
pub use dirs::Dirs;
pub use error::{Code, Error, Result};
pub use executor::{Condition, Executor, Observer, Repaired, Request, Step, StepKind, Undoing};
pub use foreign::Limits;
pub use invocation::{Environment, Stdin};
pub use names::{check_container_id, check_ifname, check_network_name, check_plugin_type};
pub use plugin::{Call, History, NetworkCall, Node, Plugin, Registry, ValidAttachment};
pub use record::{Key, NetnsId, Record, Records};
pub use result::CniResult;
pub use runner::{Delegate, Runner};
pub use verb::Verb;
pub use version::Version;
