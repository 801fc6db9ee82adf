//! Every black-box test is a node of its own.
//!
//! [`Node::new`] moves the calling thread into fresh network and mount namespaces with private
//! state directories; [`Node::container`] makes namespaces for containers in it, and
//! [`Node::neighbour`] and [`Node::uplink`] hosts beside it. Around these there are
//!
//! * servers and clients for real traffic ([`HttpServer`], [`http_get`], [`UdpServer`],
//!   [`UdpClient`], [`Sink`] with [`throughput`]),
//! * the kernel's own listings before and after ([`Snapshot`]), and how many transactions of nf_tables
//!   something takes ([`NftMonitor`]),
//! * three ways to run a chain: [`Plugins`] executes one plugin, [`Runtime`] does what libcni does
//!   with a conflist, [`Catena`] runs the binary under test; and for tests of what comes of it
//!   [`Network`] with its [`Pod`]s,
//! * foreign plugins made of shell ([`Scripts`]), those of other CNI software among them ([`Others`]), and configurations
//!   ([`conf`]),
//! * DHCP servers ([`dhcp`]),
//! * a kubelet's word on the devices of pods ([`PodResources`]), and a device plugin for a real one ([`DevicePlugin`]),
//! * a machine with another kernel, where a test is run again ([`emulated`]),
//! * real container runtimes from Debian's packages ([`runtimes`]), and a real Kubernetes ([`kubernetes`]).
//!
//! Nothing outlives the test, however it ends: the namespaces go with the thread, processes are
//! killed by the kernel when the thread that started them is gone, and all files lie on the node's
//! own tmpfs. Since it is test code, helpers panic, naming the command, its output and its
//! error output; what a test may want to see fail returns a `Result` or an [`Output`].
//!
//! Needs root and Debian's packages listed in `tests/install-packages.sh`.

mod catena;
pub mod conf;
mod device_plugin;
pub mod dhcp;
pub mod emulated;
mod exec;
mod firewalld;
mod killed;
pub mod kubernetes;
mod monitor;
mod mounts;
mod neighbour;
mod netns;
mod network;
mod node;
mod node_daemon;
mod others;
mod pdeathsig;
mod plugins;
mod pod_resources;
mod runtime;
pub mod runtimes;
mod scripts;
mod snapshot;
mod traffic;
mod wait;

pub use catena::Catena;
pub use device_plugin::DevicePlugin;
pub use exec::{Background, Output, Run};
pub use firewalld::firewalld;
pub use monitor::NftMonitor;
pub use neighbour::Neighbour;
pub use netns::{Container, Netns};
pub use network::{Network, Pod, url};
pub use node::{Node, Restart};
pub use node_daemon::NodeDaemon;
pub use others::Others;
pub use plugins::{Call, PLUGINS, PluginOutput, Plugins, links, two_versions};
pub use pod_resources::{PodDevices, PodResources, Says};
pub use runtime::{Attachment, PluginFailure, Runtime};
pub use scripts::Scripts;
pub use snapshot::{Shared, Snapshot, assert_same, await_same};
pub use traffic::{
    Advertiser, HttpAnswer, HttpServer, Measure, Sink, UdpAnswer, UdpClient, UdpServer,
    assert_rate, http_get, throughput,
};
pub use wait::until;
