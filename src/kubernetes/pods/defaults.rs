//! A pod's default routes: through the network that it names, and no other.

use std::path::Path;

use chain::{CniResult, Error, Result, result::Route as ResultRoute};
use delegates::{Container, Node, net::route::Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::PodAttachment;
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
        for (_, route) in defaults(&container, &network.ifname, result, is_v6)? {
            routes.del(&route)?;
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

/// The default routes by an attachment that it is not to have, each with its interface.
pub fn unwanted(
    one: &PodAttachment,
    result: &CniResult,
    netns: &Path,
    node: &Node,
) -> Result<Vec<(String, Route)>> {
    let (v4, v6) = one.loses_default;
    let container = node.container(netns)?;
    let mut found = Vec::new();
    for (is_lost, is_v6) in [(v4, false), (v6, true)] {
        if is_lost {
            found.extend(defaults(&container, &one.ifname, result, is_v6)?);
        }
    }
    Ok(found)
}

/// What CHECK says of such routes; `None` where there are none.
pub fn found(unwanted: &[(String, Route)]) -> Option<Error> {
    let by = |(ifname, route): &(String, Route)| match route.via {
        Some(via) => format!("via {via} dev {ifname}"),
        None => format!("dev {ifname}"),
    };
    let routes: Vec<_> = unwanted.iter().map(by).collect();
    (!routes.is_empty()).then(|| {
        Error::internal(format!(
            "the pod has a default route by this network again, which \"default-route\" in its annotation has taken from it: {}",
            routes.join(", ")
        ))
    })
}

/// Takes default routes away.
pub fn remove(unwanted: &[(String, Route)], netns: &Path, node: &Node) -> Result<()> {
    let container = node.container(netns)?;
    let routes = container.net().route();
    for (_, route) in unwanted {
        routes.del(route)?;
    }
    Ok(())
}

/// The default routes of a family by a network's interfaces in the pod.
fn defaults(
    container: &Container,
    ifname: &str,
    result: &CniResult,
    v6: bool,
) -> Result<Vec<(String, Route)>> {
    let mut found = Vec::new();
    for ifname in interfaces(ifname, result) {
        if let Some(link) = container.net().link().get(&ifname)? {
            let routes = container.net().route().list(v6, link.index, None)?;
            let defaults = routes.into_iter().filter(|route| is_default(&route.dst, v6));
            found.extend(defaults.map(|route| (ifname.clone(), route)));
        }
    }
    Ok(found)
}

/// The network's interfaces in the pod.
fn interfaces(ifname: &str, result: &CniResult) -> Vec<String> {
    let own = result.interfaces.iter().filter(|one| !one.sandbox.is_empty());
    let mut names: Vec<_> = own.map(|one| one.name.clone()).collect();
    if !names.iter().any(|name| name == ifname) {
        names.push(ifname.to_owned());
    }
    names
}

fn is_default(dst: &IpNet, v6: bool) -> bool {
    dst.prefix_len() == 0 && dst.addr().is_ipv6() == v6
}

fn default_of(v6: bool) -> IpNet {
    if v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) }
}
