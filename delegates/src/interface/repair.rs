//! Putting back what CHECK finds missing of an interface. What is as it should be is not touched, and what others have added
//! stays.

use chain::{
    CniResult, Result,
    result::{IpConfig, Route as ResultRoute},
};

use super::{Manner, await_carrier, check::has_route, settle, wanted_route};
use crate::net::{
    Net, Sysctl,
    addr::NewAddress,
    link::{Change, Link},
    route::Route,
};
use crate::node::Container;

/// What a device of the attachment is given back: whether it is up, its MTU where one is asked for, and the hardware address
/// that the result has.
pub(crate) fn repair_link(
    net: &Net,
    link: &Link,
    result: &CniResult,
    mtu: Option<u32>,
    up: bool,
) -> Result<()> {
    let known = result.interfaces.iter().find(|interface| interface.name == link.name);
    let mac = known.and_then(|interface| interface.mac.parse().ok());
    let change = Change {
        up: (link.up != up).then_some(up),
        mtu: mtu.filter(|mtu| *mtu != link.mtu),
        mac: mac.filter(|mac| link.mac != Some(*mac)),
        ..Change::default()
    };
    Ok(net.link().set(&link.name, &change)?)
}

/// Gives a device the addresses that it has lost. One that has another prefix length by now is replaced.
pub(crate) fn repair_addresses(net: &Net, link: &Link, wanted: &[NewAddress]) -> Result<()> {
    let found = net.addr().list(link.index)?;
    for address in wanted {
        if found.iter().any(|found| found.net == address.net) {
            continue;
        }
        for edited in found.iter().filter(|found| found.net.addr() == address.net.addr()) {
            net.addr().del(link.index, edited.net)?;
        }
        net.addr().add(link.index, address)?;
    }
    Ok(())
}

/// Adds the routes that are not there. One that differs in what does not tell it from others is replaced: IPv6 routes
/// outlive their source address, and go on without one.
pub(crate) fn repair_routes(net: &Net, wanted: &[Route]) -> Result<()> {
    for route in wanted {
        if !has_route(net, route)? && !net.route().add(route)? {
            net.route().del(&Route { src: None, mtu: None, advmss: None, ..*route })?;
            net.route().add(route)?;
        }
    }
    Ok(())
}

/// The container's interface: its sysctls, hardware address, MTU and addresses, and that it is up and carries packets, which
/// takes the other end. Routes come after it.
pub(crate) fn repair_inside(
    container: &Container,
    inside: &Link,
    result: &CniResult,
    ips: &[&IpConfig],
    (mtu, sysctls, manner): (Option<u32>, &[Sysctl], Manner),
) -> Result<()> {
    let net = container.net()?;
    container.write(sysctls)?;
    repair_link(net, inside, result, mtu, true)?;
    let notify = Change { arp_notify: manner.notify, ..Change::default() };
    net.link().set(&inside.name, &notify)?;
    let addresses: Vec<_> = ips.iter().map(|ip| manner.address(ip)).collect();
    repair_addresses(net, inside, &addresses)?;
    await_carrier(net, &inside.name)?;
    settle(net, inside)
}

/// The routes of a result by the container's interface.
pub(crate) fn result_routes(routes: &[ResultRoute], index: u32, ips: &[&IpConfig]) -> Vec<Route> {
    routes.iter().map(|route| wanted_route(route, index, ips)).collect()
}
