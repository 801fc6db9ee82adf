//! The plugins of other CNI software.

use std::path::Path;

use crate::node::Node;
use crate::scripts::Scripts;

/// All versions of the CNI specification.
const ALL: &str = "0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0";

/// Stand-ins for the plugins of calico, Cilium, flannel and weave-net, for use in `CNI_PATH`: they make the links, addresses
/// and routes that those make, return what those return, know the verbs and versions that those know, and fail in their
/// words. What needs more than the node (the cluster's datastore, the software's daemons, programs in BPF) is left out, or is a
/// folder below `/var/lib/cni`.
#[derive(Debug)]
pub struct Others<'n> {
    node: &'n Node,
    scripts: Scripts<'n>,
}

impl<'n> Others<'n> {
    /// The plugins on a node where none of the daemons runs.
    pub fn new(node: &'n Node) -> Self {
        let scripts = Scripts::new(node);
        let skel = include_str!("others/skel.sh");
        let until_1_0_0 = &ALL[..ALL.len() - " 1.1.0".len()];
        for (name, supported, internal, body) in [
            ("calico", until_1_0_0, 999, include_str!("others/calico.sh")),
            ("calico-ipam", until_1_0_0, 999, include_str!("others/calico-ipam.sh")),
            ("cilium-cni", ALL, 999, include_str!("others/cilium-cni.sh")),
            ("flannel", ALL, 999, include_str!("others/flannel.sh")),
            ("weave-net", "0.1.0 0.2.0 0.3.0", 100, include_str!("others/weave-net.sh")),
        ] {
            let known = format!("supported='{supported}'\ninternal={internal}\n");
            scripts.plugin(name, &format!("{known}{skel}\n{body}"));
        }
        // Each of the daemons sees to it.
        node.set_sysctl("ipv4.ip_forward", "1");
        node.set_sysctl("ipv6.conf.all.forwarding", "1");
        Self { node, scripts }
    }

    /// Where the plugins are.
    pub fn dir(&self) -> &Path {
        self.scripts.dir()
    }

    /// The calls so far, for instance `ADD calico`, in their order.
    pub fn calls(&self) -> Vec<String> {
        self.scripts.calls()
    }

    /// calico/node runs.
    pub fn start_calico(&self) {
        self.node.write("/var/lib/calico/nodename", "worker");
    }

    /// The agent runs, and has the node's router address, 10.0.0.1.
    pub fn start_cilium(&self) {
        self.node.write("/run/cilium/cilium.sock", "");
        self.device("cilium_host", "veth peer cilium_net", "10.0.0.1/32");
        self.node.set_sysctl("ipv6.conf.cilium_net.disable_ipv6", "1");
        self.node.ip("link set cilium_net up\n");
    }

    /// The agent has ended.
    pub fn stop_cilium(&self) {
        self.node.run(["rm", "/run/cilium/cilium.sock"]);
    }

    /// flanneld runs: the node's pods are in 10.244.1.0/24 and fd00:244:0:1::/64. It masquerades, or leaves that to others.
    pub fn start_flannel(&self, masquerades: bool) {
        self.node.write(
            "/run/flannel/subnet.env",
            &format!(
                "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:244::/48\n\
                 FLANNEL_IPV6_SUBNET=fd00:244:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ={masquerades}\n"
            ),
        );
    }

    /// Weave runs, and its bridge is exposed to the node.
    pub fn start_weave(&self) {
        self.device("weave", "bridge", "10.32.0.1/12");
    }

    /// A device of a daemon. It has no IPv6: the addresses that the kernel makes up come when they come.
    fn device(&self, name: &str, kind: &str, address: &str) {
        self.node.ip(&format!("link add {name} type {kind}\n"));
        self.node.set_sysctl(&format!("ipv6.conf.{name}.disable_ipv6"), "1");
        self.node.ip(&format!("addr add {address} dev {name}\nlink set {name} up\n"));
    }
}
