//! A host outside the node.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

use ipnet::IpNet;

use crate::exec::Run;
use crate::netns::Netns;
use crate::wait::until;

/// A host outside the node, joined to it by a veth pair; its end is `eth0`.
#[derive(Debug)]
pub struct Neighbour {
    netns: Netns,
    v4: IpNet,
    v6: IpNet,
}

impl Neighbour {
    /// Lays the cable: the neighbour has the given addresses, the node the first of each subnet.
    pub(crate) fn join(node: &Netns, name: &str, v4: &str, v6: &str) -> Self {
        assert!(name.len() <= 15, "{name}: an interface's name has at most 15 characters");
        let parse = |cidr: &str| -> IpNet {
            cidr.parse().unwrap_or_else(|e| panic!("{cidr}: {e}; wanted an address with a prefix"))
        };
        let neighbour = Self { netns: Netns::add(name), v4: parse(v4), v6: parse(v6) };
        let node4 = IpNet::new(neighbour.node_v4(), neighbour.v4.prefix_len());
        let node6 = IpNet::new(neighbour.node_v6(), neighbour.v6.prefix_len());
        let (Ok(node4), Ok(node6)) = (node4, node6) else {
            panic!("{v4} and {v6}: wanted an IPv4 and an IPv6 subnet");
        };
        Run::new(["ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", name])
            .output()
            .success();
        node.set_sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0");
        neighbour.set_sysctl("ipv6/conf/eth0/accept_dad", "0");
        node.ip(&format!(
            "addr add {node4} dev {name}\naddr add {node6} dev {name}\nlink set {name} up\n"
        ));
        neighbour.ip(&format!(
            "link set lo up\naddr add {} dev eth0\naddr add {} dev eth0\nlink set eth0 up\n",
            neighbour.v4, neighbour.v6
        ));
        await_ready(node, name);
        await_ready(&neighbour, "eth0");
        neighbour
    }

    pub(crate) fn route_through_node(&self) {
        self.ip(&format!(
            "route add default via {}\nroute add default via {}\n",
            self.node_v4(),
            self.node_v6()
        ));
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.v4.addr()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.v6.addr()
    }

    /// The node's IPv4 address on the cable.
    pub fn node_v4(&self) -> IpAddr {
        first_host(&self.v4)
    }

    /// The node's IPv6 address on the cable.
    pub fn node_v6(&self) -> IpAddr {
        first_host(&self.v6)
    }

    /// Gives it one more address (a CIDR, for instance `198.51.100.7/32`), one that the node
    /// reaches through it only where it's the [uplink](crate::Node::uplink).
    pub fn with_address(self, cidr: &str) -> Self {
        // Without duplicate address detection it can be used at once.
        let nodad = if cidr.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {cidr} dev lo {nodad}\n"));
        self
    }
}

/// IPv6 works on an interface once it has seen the carrier, and it's then that the kernel adds the
/// link-local address.
fn await_ready(netns: &Netns, dev: &str) {
    until(&format!("{dev} in {} is ready for IPv6", netns.name()), Duration::from_secs(5), || {
        let addresses = netns.json(["ip", "-j", "-6", "addr", "show", "dev", dev]);
        let mut addresses = addresses[0]["addr_info"].as_array().into_iter().flatten();
        addresses.any(|a| a["scope"] == "link" && a.get("tentative").is_none()).then_some(())
    });
}

fn first_host(net: &IpNet) -> IpAddr {
    match net.network() {
        IpAddr::V4(a) => IpAddr::from((u32::from(a) + 1).to_be_bytes()),
        IpAddr::V6(a) => IpAddr::from((u128::from(a) + 1).to_be_bytes()),
    }
}

impl Deref for Neighbour {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}
