//! What a lease gives an interface that has its addresses already: whoever keeps the lease changes them with it.

use std::slice::from_ref;

use chain::{
    CniResult, Error, Result,
    result::{IpConfig, Route as ResultRoute},
};
use nix::errno::Errno;

use crate::{
    interface::wanted_route,
    net::{Net, NetError, addr::NewAddress, route::Route},
};

/// Gives the interface the addresses and routes of `new` in place of those of `old`; what both have is left alone. Goes on over
/// errors: what does not go is not to keep the rest from coming.
pub fn change(net: &Net, ifname: &str, old: &CniResult, new: &CniResult) -> Result<()> {
    let index = net.link().require(ifname)?.index;
    let (had, has) = (routes(old, index), routes(new, index));
    let moved = old.ips.iter().any(|ip| lacks(new, ip)) || new.ips.iter().any(|ip| lacks(old, ip));
    // An address that was there before others of its subnet takes these with it, so it goes first.
    let mut errors = remove(net, index, old, new);
    for ip in new.ips.iter().filter(|ip| lacks(old, ip)) {
        errors.extend(add(net, index, ip).err());
    }
    // The kernel removes what an address that goes was needed for, so what stays is set as well.
    for route in has.iter().filter(|route| moved || !had.contains(route)) {
        errors.extend(net.route().add(route).err());
    }
    all(errors)
}

/// Takes the addresses and routes of `old` off the interface, but for those of `new`. What is not there any more is fine.
pub fn take_off(net: &Net, ifname: &str, old: &CniResult, new: &CniResult) -> Result<()> {
    let index = net.link().require(ifname)?.index;
    all(remove(net, index, old, new))
}

fn remove(net: &Net, index: u32, old: &CniResult, new: &CniResult) -> Vec<NetError> {
    let (had, has) = (routes(old, index), routes(new, index));
    let mut errors = Vec::new();
    // Routes by a gateway that is not to be reached any more have to go before new ones: they may be to the same places.
    for route in had.iter().filter(|route| !has.contains(route)) {
        errors.extend(net.route().del(route).err());
    }
    for ip in old.ips.iter().filter(|ip| lacks(new, ip)) {
        errors.extend(net.addr().del(index, ip.address).err());
    }
    errors
}

fn lacks(of: &CniResult, ip: &IpConfig) -> bool {
    !of.ips.iter().any(|one| one.address == ip.address)
}

/// What of a lease the interface has not: addresses, and routes by their destination, gateway and metric.
pub fn lacking(net: &Net, ifname: &str, lease: &CniResult) -> Result<CniResult> {
    let index = net.link().require(ifname)?.index;
    let ips: Vec<_> = lease.ips.iter().collect();
    let addresses = net.addr().list(index)?;
    let mut routes = Vec::new();
    for v6 in [false, true] {
        let of = |route: &&ResultRoute| route.dst.addr().is_ipv6() == v6;
        if lease.routes.iter().any(|route| of(&route)) {
            let found = net.route().list(v6, index, None)?;
            let has = |wanted: Route| {
                found.iter().any(|found| {
                    (wanted.dst.trunc(), wanted.via) == (found.dst, found.via)
                        && wanted.priority.is_none_or(|priority| found.priority == Some(priority))
                })
            };
            let wanted = lease.routes.iter().filter(of);
            routes.extend(wanted.filter(|one| !has(wanted_route(one, index, &ips))).cloned());
        }
    }
    let has = |ip: &&IpConfig| addresses.iter().any(|found| found.net == ip.address);
    let ips = lease.ips.iter().filter(|ip| !has(ip)).cloned().collect();
    Ok(CniResult { ips, routes, ..CniResult::default() })
}

/// Gives the interface back what it [lacks](lacking) of a lease. Goes on over errors, as [`change`] does.
pub fn put_back(net: &Net, ifname: &str, lease: &CniResult, lacks: &CniResult) -> Result<()> {
    let index = net.link().require(ifname)?.index;
    let mut errors = Vec::new();
    for ip in &lacks.ips {
        errors.extend(add(net, index, ip).err());
    }
    // The gateways are those of the whole lease.
    let lost = CniResult { ips: lease.ips.clone(), ..lacks.clone() };
    for route in routes(&lost, index) {
        errors.extend(net.route().add(&route).err());
    }
    all(errors)
}

fn all(errors: Vec<NetError>) -> Result<()> {
    Error::join(errors.into_iter().map(Error::from).collect()).map_or(Ok(()), Err)
}

fn add(net: &Net, index: u32, ip: &IpConfig) -> std::result::Result<(), NetError> {
    match net.addr().add(index, &NewAddress::new(ip.address)) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
        done => done,
    }
}

/// The routes of a result, those on the link first: others lead by gateways that these lead to.
fn routes(result: &CniResult, index: u32) -> Vec<Route> {
    let ips: Vec<_> = result.ips.iter().flat_map(from_ref).collect();
    let mut routes: Vec<_> =
        result.routes.iter().map(|route| wanted_route(route, index, &ips)).collect();
    routes.sort_by_key(|route| route.via.is_some());
    routes
}
