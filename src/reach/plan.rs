//! What is to be there, from what the nodes are.

use std::{collections::HashSet, net::IpAddr};

use delegates::net::{Mac, neigh::Neighbour};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::taken::{Addresses, Taken};

/// By which ways other nodes' pods are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ways {
    /// By the node itself where it is on the same link, else through the tunnel.
    #[default]
    Auto,
    /// By the node itself: all nodes have to be on one link.
    HostGw,
    /// Through the tunnel.
    Vxlan,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its addresses (`InternalIP`).
    pub addresses: Vec<IpAddr>,
    /// Its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
}

/// What a tunnel is told on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSettings {
    /// Its identifier (VNI).
    pub id: u32,
    /// Its UDP port.
    pub port: u16,
}

/// A route to a node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// By the node's address, on the link of this device.
    Link {
        /// The node's address.
        via: IpAddr,
        /// The device's index.
        dev: u32,
    },
    /// Through the tunnel, by the address that the node's end of it has.
    Tunnel {
        /// That address.
        via: IpAddr,
    },
}

/// This node's end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The address that packets go out from.
    pub local: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses: what the node's own packets to pods have as their source.
    pub addresses: Vec<IpAddr>,
    /// What it knows of the other ends.
    pub neighbours: Vec<Neighbour>,
}

/// What is to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The routes to other nodes' pods.
    pub routes: Vec<(IpNet, Hop)>,
    /// The tunnel, where a route goes through it.
    pub tunnel: Option<Tunnel>,
    /// What keeps a node from being reached, and what to do about it.
    pub problems: Vec<String>,
}

impl Wish {
    /// What node `own` needs to reach the others. `link_to` is the device on whose link an address is.
    pub fn of(
        ways: Ways,
        own: &Peer,
        peers: &[Peer],
        link_to: impl Fn(IpAddr) -> Option<u32>,
    ) -> Self {
        let mut wish = Self::default();
        let mut others: Vec<_> = peers.iter().filter(|peer| peer.name != own.name).collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let addresses = Addresses::of(peers);
        let mut taken = Taken::by_own(own);
        let mut known = HashSet::new();
        for peer in others {
            for net in peer.pod_cidrs.iter().map(IpNet::trunc) {
                if net.prefix_len() == 0 {
                    wish.problems.push(format!(
                        "node {}: its podCIDR {net} is everything: give it a part of the pods' addresses",
                        peer.name
                    ));
                    continue;
                }
                // A route to it would take the way to that node.
                if let Some((ip, of)) = addresses.first_within(&net) {
                    wish.problems.push(format!(
                        "node {}: its podCIDR {net} holds the address {ip} of node {of}: give it another",
                        peer.name
                    ));
                    continue;
                }
                if let Some(by) = taken.overlapping(&net) {
                    wish.problems.push(format!(
                        "node {}: its podCIDR {net} overlaps that of node {by}: give it another",
                        peer.name
                    ));
                    continue;
                }
                match wish.hop(ways, own, peer, net, &link_to, &mut known) {
                    Ok(hop) => {
                        taken.take(net, &peer.name);
                        wish.routes.push((net, hop));
                    }
                    Err(problem) => wish.problems.push(format!("node {}: {problem}", peer.name)),
                }
            }
        }
        wish
    }

    fn hop(
        &mut self,
        ways: Ways,
        own: &Peer,
        peer: &Peer,
        net: IpNet,
        link_to: impl Fn(IpAddr) -> Option<u32>,
        known: &mut HashSet<Neighbour>,
    ) -> Result<Hop, String> {
        let of_family = |ip: &&IpAddr| ip.is_ipv4() == net.addr().is_ipv4();
        if ways != Ways::Vxlan {
            let on_link = peer.addresses.iter().filter(of_family);
            let hop = on_link.copied().find_map(|via| Some(Hop::Link { via, dev: link_to(via)? }));
            match hop {
                Some(hop) => return Ok(hop),
                None if ways == Ways::HostGw => {
                    return Err(format!(
                        "its podCIDR {net} needs an InternalIP of the same family on a link of this node, and it has {}: \
                         use --pod-routes auto or vxlan",
                        listed(&peer.addresses)
                    ));
                }
                None => {}
            }
        }
        let local = own.underlay().ok_or("this node has no InternalIP for the tunnel")?;
        let remote = peer.addresses.iter().find(|ip| ip.is_ipv4() == local.is_ipv4());
        let remote = *remote.ok_or_else(|| {
            format!(
                "the tunnel goes out from {local}, and it has no InternalIP of that family ({})",
                listed(&peer.addresses)
            )
        })?;
        let via = net.network();
        let mac = mac_of(&peer.name);
        let tunnel = self.tunnel.get_or_insert_with(|| Tunnel {
            local,
            mac: mac_of(&own.name),
            addresses: own.pod_cidrs.iter().map(IpNet::network).collect(),
            neighbours: Vec::new(),
        });
        for one in [Neighbour::Address(via, mac), Neighbour::Endpoint(mac, remote)] {
            if known.insert(one) {
                tunnel.neighbours.push(one);
            }
        }
        Ok(Hop::Tunnel { via })
    }
}

impl Peer {
    /// The address that its tunnel goes out from.
    pub fn underlay(&self) -> Option<IpAddr> {
        let v4 = self.addresses.iter().find(|ip| ip.is_ipv4());
        v4.or(self.addresses.first()).copied()
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => "none".to_owned(),
        all => all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The hardware address of a node's end of the tunnel: all nodes know it, and it is the same after a restart.
fn mac_of(node: &str) -> Mac {
    let digest = Sha256::digest(node);
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    // Unicast, locally administered.
    bytes[0] = (bytes[0] & 0xfe) | 0x02;
    Mac(bytes)
}
