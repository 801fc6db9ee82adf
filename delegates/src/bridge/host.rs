//! The host's side: the bridge, and the gateway's address on it.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
};

use chain::{Dirs, Error, Result};
use ipnet::IpNet;
use nix::errno::Errno;

use super::conf::Conf;
use crate::{
    net::{
        Mac, Net, Sysctl,
        addr::NewAddress,
        link::{self, Change, Link},
        sysctl::{self, Family},
    },
    node::{Node, Undo},
};

/// Keeps a bridge that was just found or made from being deleted by the undoing of another ADD, until a port of ours is
/// in it. ADDs do not wait for each other here.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// For using bridges.
    pub(super) fn shared(dirs: &Dirs) -> Result<Self> {
        Self::open(dirs, File::lock_shared)
    }

    /// For deleting one.
    fn exclusive(dirs: &Dirs) -> Result<Self> {
        Self::open(dirs, File::lock)
    }

    fn open(dirs: &Dirs, lock: impl FnOnce(&File) -> std::io::Result<()>) -> Result<Self> {
        let path = dirs.run.join("bridges.lock");
        let opened = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dirs.run)
            .and_then(|()| {
                File::options().write(true).create(true).truncate(false).mode(0o600).open(&path)
            })
            .and_then(|file| lock(&file).map(|()| file));
        match opened {
            Ok(file) => Ok(Self { _file: file }),
            Err(error) => Err(Error::io(format!("cannot lock {}: {error}", path.display()))),
        }
    }
}

/// The bridge, made where it is missing, and up.
pub(super) fn ensure_bridge(node: &mut Undo<'_, '_>, conf: &Conf) -> Result<Link> {
    let host = node.host()?;
    let bridge = match host.link().get(&conf.bridge)? {
        Some(bridge) => bridge,
        None => create_bridge(node, &host, conf)?,
    };
    if bridge.kind != "bridge" {
        return Err(not_a_bridge(&bridge));
    }
    let change = Change {
        up: (!bridge.up).then_some(true),
        promisc: (conf.promisc_mode && !bridge.promisc).then_some(true),
        ..Change::default()
    };
    ignore_advertisements(&host, &bridge)?;
    host.link().set(&bridge.name, &change)?;
    Ok(bridge)
}

/// The node takes no routes from containers (CVE-2020-10749).
///
/// Unless the bridge is the node's own way out: has a port that leads there, and learned its route by a router
/// advertisement. Not to listen any more would take the node off the network.
fn ignore_advertisements(host: &Net, bridge: &Link) -> Result<()> {
    // As an earlier ADD has left it.
    if bridge.accept_ra.is_none_or(|value| value == 0) {
        return Ok(());
    }
    if host.route().learned_by_ra()?.contains(&bridge.index) {
        tracing::warn!(
            bridge = bridge.name,
            "goes on accepting router advertisements, also of containers: the node has a route by one; give containers a \
             bridge of their own"
        );
        return Ok(());
    }
    let accept_ra = Sysctl::conf(Family::V6, &bridge.name, "accept_ra");
    Ok(sysctl::write_host(&[Sysctl::wanted(accept_ra, "0")])?)
}

/// The error for a device of the bridge's name that is something else.
pub(super) fn not_a_bridge(link: &Link) -> Error {
    let kind = match link.kind.as_str() {
        "" => "no bridge",
        kind => kind,
    };
    Error::config(format!(
        "bridge {}: there is an interface of this name, and it is not a bridge ({kind}); choose another name",
        link.name
    ))
}

fn create_bridge(node: &mut Undo<'_, '_>, host: &Net, conf: &Conf) -> Result<Link> {
    let name = &conf.bridge;
    // One that someone deleted comes back with the address that its containers know.
    let mac = node.recorded_mac(name).map_or_else(Mac::random, Ok)?;
    let created = host.link().add(&link::Bridge { name, mac, mtu: conf.mtu() });
    let bridge = match created {
        Ok(bridge) => bridge,
        // Another ADD was faster.
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            return Ok(host.link().require(name)?);
        }
        Err(error) => return Err(error.into()),
    };
    let (undone, index) = (name.clone(), bridge.index);
    node.push(format!("bridge {name}"), move |node| delete_unused(node, &undone, index));
    // As for the host's end of the veth; its address is random, and nobody else's.
    let accept_dad = Sysctl::conf(Family::V6, name, "accept_dad");
    sysctl::write_host(&[Sysctl::wanted(accept_dad, "0")])?;
    Ok(bridge)
}

/// Deletes a bridge that an ADD made and that failed, unless others have begun to use it meanwhile.
fn delete_unused(node: &mut Node, name: &str, index: u32) -> Result<()> {
    let _alone = Lock::exclusive(node.dirs())?;
    let host = node.host()?;
    let same = host.link().get(name)?.is_some_and(|bridge| bridge.index == index);
    if same && host.link().ports(index)?.is_empty() {
        host.link().del(name)?;
    }
    Ok(())
}

/// Gives the bridge a gateway's address.
pub(super) fn ensure_address(host: &Net, bridge: &Link, gateway: IpNet, force: bool) -> Result<()> {
    let addresses = host.addr().list_family(bridge.index, gateway.addr().is_ipv6())?;
    if addresses.iter().any(|address| address.net == gateway) {
        return Ok(());
    }
    let in_the_way = addresses.iter().filter(|address| match (address.net, gateway) {
        (IpNet::V4(_), IpNet::V4(_)) => true,
        (IpNet::V6(other), IpNet::V6(own)) => {
            other.contains(&own.network()) || own.contains(&other.network())
        }
        _ => false,
    });
    for address in in_the_way {
        if !force {
            return Err(Error::config(format!(
                "bridge {} has the address {}, and the network's gateway is {gateway}: set forceAddress to replace \
                 it, or choose another bridge",
                bridge.name, address.net
            )));
        }
        tracing::info!(bridge = bridge.name, address = %address.net, by = %gateway, "replaced");
        host.addr().del(bridge.index, address.net)?;
    }
    if gateway.addr().is_ipv6() {
        sysctl::write_host(&[Sysctl::wanted(
            Sysctl::conf(Family::V6, &bridge.name, "disable_ipv6"),
            "0",
        )])?;
    }
    match host.addr().add(bridge.index, &NewAddress::new(gateway)) {
        Ok(()) => {}
        // Another ADD was faster.
        Err(error) if error.errno() == Some(Errno::EEXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // A bridge takes over the lowest address among its ports' unless it was given its own: neighbours that know the
    // gateway would lose it whenever ports come and go.
    let pinned = Change { mac: bridge.mac, ..Change::default() };
    Ok(host.link().set(&bridge.name, &pinned)?)
}
