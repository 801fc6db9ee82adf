//! Making the kernel's tables what is to be there.

use std::{collections::HashSet, net::IpAddr};

use chain::{Error, Result};
use delegates::net::{
    Net,
    addr::NewAddress,
    link::{Change, Link, VxlanEndpoint, VxlanTunnel},
    route::Route,
};
use ipnet::IpNet;

use super::{DEVICE, PROTOCOL, Tunnel, TunnelSettings, Wish, mtu::mtu_inside, plan::Hop};

/// What [`apply`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Routes and neighbours that were set.
    pub set: usize,
    /// Those that were removed.
    pub removed: usize,
}

/// Makes routes, tunnel and neighbours what is wished for, and touches nothing that is so already. Routes of others are
/// left alone.
///
/// Goes on over errors, and returns them together.
pub fn apply(net: &Net, wish: &Wish, settings: TunnelSettings) -> Result<Applied> {
    let mut applied = Applied::default();
    let mut errors = Vec::new();
    let device = match &wish.tunnel {
        Some(tunnel) => tunnel_device(net, tunnel, settings).map(Some),
        None => Ok(None),
    };
    let device = device.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let mut old = Vec::new();
    if let (Some(tunnel), Some(device)) = (&wish.tunnel, &device) {
        // What a route needs is there before it, and goes after it.
        let have: HashSet<_> = net.neigh().list(device.index)?.into_iter().collect();
        for neighbour in tunnel.neighbours.iter().filter(|one| !have.contains(one)) {
            match net.neigh().set(device.index, neighbour) {
                Ok(()) => applied.set += 1,
                Err(error) => errors.push(error.into()),
            }
        }
        let known: HashSet<_> = tunnel.neighbours.iter().collect();
        old.extend(have.into_iter().filter(|one| !known.contains(one)));
    }
    routes(net, wish, device.as_ref(), &mut applied, &mut errors)?;
    for (dev, neighbour) in device.iter().flat_map(|link| old.iter().map(|one| (link.index, one))) {
        match net.neigh().del(dev, neighbour) {
            Ok(removed) => applied.removed += usize::from(removed),
            Err(error) => errors.push(error.into()),
        }
    }
    if wish.tunnel.is_none() && net.link().get(DEVICE)?.is_some_and(|link| link.kind == "vxlan") {
        applied.removed += usize::from(net.link().del(DEVICE)?);
    }
    Error::join(errors).map_or(Ok(applied), Err)
}

/// Removes all routes that are kept, and the tunnel.
///
/// Goes on over errors, and returns them together.
pub fn remove(net: &Net) -> Result<()> {
    // Nothing of a tunnel is made.
    apply(net, &Wish::default(), TunnelSettings { id: 0, port: 0 }).map(drop)
}

fn routes(
    net: &Net,
    wish: &Wish,
    device: Option<&Link>,
    applied: &mut Applied,
    errors: &mut Vec<Error>,
) -> Result<()> {
    let source = |dst: &IpNet| {
        let tunnel = wish.tunnel.as_ref()?;
        tunnel.addresses.iter().copied().find(|ip| ip.is_ipv4() == dst.addr().is_ipv4())
    };
    let route = |(dst, hop): &(IpNet, Hop)| match *hop {
        Hop::Link { via, dev } => Some(Route { via: Some(via), ..Route::new(*dst, dev) }),
        Hop::Tunnel { via } => Some(Route {
            via: Some(via),
            onlink: true,
            src: source(dst),
            ..Route::new(*dst, device?.index)
        }),
    };
    let wanted: Vec<_> = wish.routes.iter().filter_map(route).collect();
    let wanted_keys: HashSet<_> = wanted.iter().map(key).collect();
    let can_be: HashSet<_> = wanted.iter().map(|route| route.dst).collect();
    let are_wished: HashSet<_> = wish.routes.iter().map(|(dst, _)| *dst).collect();
    for v6 in [false, true] {
        let have = net.route().kept(v6, PROTOCOL)?;
        let have_keys: HashSet<_> = have.iter().map(key).collect();
        let have_way: HashSet<_> = have.iter().map(|route| route.dst).collect();
        let of_family = |route: &&Route| route.dst.addr().is_ipv6() == v6;
        for route in wanted.iter().filter(of_family) {
            if have_keys.contains(&key(route)) {
                continue;
            }
            match net.route().keep(route, PROTOCOL, have_way.contains(&route.dst)) {
                Ok(()) => applied.set += 1,
                Err(error) => errors.push(error.into()),
            }
        }
        // Those that were replaced are no longer there; of IPv6 a second one may be.
        for route in net.route().kept(v6, PROTOCOL)? {
            if wanted_keys.contains(&key(&route)) {
                continue;
            }
            // A node whose tunnel cannot be made now keeps what it has.
            if are_wished.contains(&route.dst) && !can_be.contains(&route.dst) {
                continue;
            }
            match net.route().drop_kept(&route, PROTOCOL) {
                Ok(removed) => applied.removed += usize::from(removed),
                Err(error) => errors.push(error.into()),
            }
        }
    }
    Ok(())
}

/// What makes two routes the same.
fn key(route: &Route) -> (IpNet, Option<IpAddr>, u32, Option<IpAddr>) {
    (route.dst, route.via, route.dev, route.src)
}

/// This node's end of the tunnel, up, with its addresses. One that differs in what cannot be changed is made anew.
fn tunnel_device(net: &Net, tunnel: &Tunnel, settings: TunnelSettings) -> Result<Link> {
    let endpoint = VxlanEndpoint { id: settings.id, local: tunnel.local, port: settings.port };
    let mtu = mtu_inside(net, tunnel)?;
    let mut found = net.link().get(DEVICE)?;
    if let Some(link) = &found {
        if link.kind != "vxlan" {
            return Err(Error::internal(format!(
                "interface {DEVICE} is there and no vxlan: remove it, the tunnel to other nodes has this name"
            )));
        }
        if link.vxlan != Some(endpoint) || link.mac != Some(tunnel.mac) {
            net.link().del(DEVICE)?;
            found = None;
        }
    }
    let link = match found {
        Some(link) => link,
        None => {
            net.link().add(&VxlanTunnel { name: DEVICE, mac: tunnel.mac, mtu, endpoint })?;
            net.link().require(DEVICE)?
        }
    };
    if link.mtu != mtu || !link.up {
        net.link().set(DEVICE, &Change { mtu: Some(mtu), up: Some(true), ..Change::default() })?;
    }
    let have = net.addr().list(link.index)?;
    for ip in &tunnel.addresses {
        if !have.iter().any(|one| one.net.addr() == *ip) {
            let address = NewAddress { on_link: false, ..NewAddress::new(IpNet::from(*ip)) };
            match net.addr().add(link.index, &address) {
                Err(error) if error.errno() == Some(nix::errno::Errno::EEXIST) => {}
                other => other?,
            }
        }
    }
    for one in have.iter().filter(|one| one.global && !tunnel.addresses.contains(&one.net.addr())) {
        net.addr().del(link.index, one.net)?;
    }
    Ok(link)
}
