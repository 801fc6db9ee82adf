//! How large packets between nodes may be.

use std::{collections::BTreeSet, net::IpAddr};

use chain::{Error, Result};
use delegates::net::{Net, neigh::Neighbour};

use super::{Peer, Tunnel, Wish, plan::Hop};

/// What outer headers take of a packet's size: IP, UDP, VXLAN, Ethernet.
const OVERHEAD_V4: u32 = 20 + 8 + 8 + 14;
const OVERHEAD_V6: u32 = 40 + 8 + 8 + 14;

/// What every link carries: for a node that nothing leads away from.
const ETHERNET: u32 = 1500;

/// The largest packet that reaches all other nodes in one piece.
///
/// Errors (999): the node has no address, or no interface has it.
pub fn mtu_of_pods(net: &Net, wish: &Wish, own: &Peer) -> Result<u32> {
    match (&wish.tunnel, own.underlay()) {
        (Some(tunnel), _) => mtu_inside(net, tunnel),
        (None, Some(local)) => {
            let others = wish.routes.iter().filter_map(|(_, hop)| match hop {
                Hop::Link { via, .. } => Some(*via),
                Hop::Tunnel { .. } => None,
            });
            mtu_outside(net, local, others)
        }
        (None, None) => Err(Error::internal(format!("node {} has no InternalIP yet", own.name))),
    }
}

/// The largest packet that fits into the tunnel.
pub fn mtu_inside(net: &Net, tunnel: &Tunnel) -> Result<u32> {
    let others = tunnel.neighbours.iter().filter_map(|one| match one {
        Neighbour::Endpoint(_, ip) => Some(*ip),
        Neighbour::Address(..) => None,
    });
    let overhead = if tunnel.local.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    Ok(mtu_outside(net, tunnel.local, others)?.saturating_sub(overhead))
}

/// The largest packet on the link of one of the node's addresses. No packet to others goes by the loopback: of an address there
/// (which BGP tells of on all links) it is that of the ways to these nodes, or of the default route.
fn mtu_outside(net: &Net, local: IpAddr, others: impl Iterator<Item = IpAddr>) -> Result<u32> {
    let all = net.addr().all(local.is_ipv6())?;
    let address = all.iter().find(|address| address.net.addr() == local).ok_or_else(|| {
        Error::internal(format!(
            "no interface has this node's address {local}: see the Node's InternalIP"
        ))
    })?;
    let link = net.link().get_index(address.index)?;
    let link =
        link.ok_or_else(|| Error::internal(format!("the interface of {local} has just gone")))?;
    if !link.loopback {
        return Ok(link.mtu);
    }
    let mut ways = BTreeSet::new();
    for ip in others {
        ways.extend(net.route().device_to(ip)?);
    }
    if ways.is_empty() {
        ways.extend(net.route().default_device(local.is_ipv6())?);
    }
    let mut smallest = None;
    for index in ways {
        let link = net.link().get_index(index)?.filter(|link| !link.loopback);
        smallest = smallest.into_iter().chain(link.map(|link| link.mtu)).min();
    }
    Ok(smallest.unwrap_or(ETHERNET))
}
