//! A pod's default routes: through the network that it names, and no other.

use std::path::Path;

use chain::{CniResult, Error, Result, result::Route as ResultRoute};
use delegates::{
    Node,
    net::route::{Route, Routes},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::kubernetes::networks::Network;

/// Whether a network's default routes are not those that its own chain makes.
pub fn is_moved(network: &Network) -> bool {
    network.loses_default.0 || network.loses_default.1 || !network.gateways.is_empty()
}

/// Removes the default routes through the network's interface, and makes those by the gateways that the pod names. The
/// result tells what is so then.
///
/// Errors: the kernel refuses a gateway, since no address of the interface reaches it.
pub fn apply(network: &Network, result: &mut CniResult, netns: &Path, node: &Node) -> Result<()> {
    let container = node.container(netns)?;
    let routes = container.net().route();
    let (v4, v6) = network.loses_default;
    for is_v6 in [false, true] {
        let named = network.gateways.iter().any(|gateway| gateway.is_ipv6() == is_v6);
        if !(if is_v6 { v6 } else { v4 }) && !named {
            continue;
        }
        for ifname in interfaces(network, result) {
            if let Some(link) = container.net().link().get(&ifname)? {
                remove(&routes, is_v6, link.index)?;
            }
        }
        result.routes.retain(|route| !is_default(&route.dst, is_v6));
    }
    if network.gateways.is_empty() {
        return Ok(());
    }
    let link = container.net().link().require(&network.ifname)?;
    for gateway in &network.gateways {
        let dst = default_of(gateway.is_ipv6());
        let route = Route { via: Some(*gateway), ..Route::new(dst, link.index) };
        routes.add(&route).map_err(|error| {
            Error::from(error).context(format_args!(
                "gateway {gateway} in \"default-route\" must be reachable through the network's addresses"
            ))
        })?;
        result.routes.push(ResultRoute {
            dst,
            gw: Some(*gateway),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        });
    }
    Ok(())
}

/// The network's interfaces in the pod.
fn interfaces(network: &Network, result: &CniResult) -> Vec<String> {
    let own = result.interfaces.iter().filter(|one| !one.sandbox.is_empty());
    let mut names: Vec<_> = own.map(|one| one.name.clone()).collect();
    if !names.contains(&network.ifname) {
        names.push(network.ifname.clone());
    }
    names
}

fn remove(routes: &Routes<'_>, v6: bool, dev: u32) -> Result<()> {
    for route in routes.list(v6, dev, None)? {
        if is_default(&route.dst, v6) {
            routes.del(&route)?;
        }
    }
    Ok(())
}

fn is_default(dst: &IpNet, v6: bool) -> bool {
    dst.prefix_len() == 0 && dst.addr().is_ipv6() == v6
}

fn default_of(v6: bool) -> IpNet {
    if v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) }
}
