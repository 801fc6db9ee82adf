//! The container's namespace, visited when there is something to do: a descriptor that was kept open would keep it alive, with all
//! of its devices. All that is here blocks.

use std::{net::IpAddr, path::Path, rc::Rc};

use chain::{Error, NetnsId, Result};
use delegates::{
    Container, Node,
    dhcp::Family,
    net::{
        Sysctl,
        link::{Change, Link},
        sysctl,
    },
};

use super::{record::Record, speaker::Socket};

/// What is to be known of an attachment before it gets a lease.
pub struct Seen {
    pub ifindex: u32,
    pub mac: String,
    pub uplink: Option<String>,
}

/// The namespace at a path.
pub fn namespace(path: &Path) -> Result<NetnsId> {
    NetnsId::of(path).ok_or_else(|| {
        Error::new(
            chain::Code::UnknownContainer,
            format!("there is no network namespace at {}", path.display()),
        )
    })
}

/// Looks at the container's interface, and lets it have IPv6 where that is asked for.
pub fn look(record: &Record, families: &[Family]) -> Result<Seen> {
    let (node, ifname) = (Node::new(), &record.key.ifname);
    let container = enter(&node, record)?;
    let link = container.net()?.link().require(ifname)?;
    if families.contains(&Family::V6) {
        let key = Sysctl::conf(sysctl::Family::V6, ifname, "disable_ipv6");
        container.write(&[Sysctl::required(key, "0")])?;
    }
    let uplink = node.host()?.link().way_out(&link, container.netns())?;
    Ok(Seen { ifindex: link.index, mac: link.mac_text(), uplink: uplink.map(|link| link.name) })
}

/// A socket on the container's interface.
pub struct Opened {
    pub socket: Socket,
    /// Whether the interface was down: it is up now.
    pub was_down: bool,
    /// Whether packets are carried. One that was just set up takes a moment; what is sent before is lost.
    pub carries: bool,
}

/// A socket on the container's interface, which is set up if it is down; `None` where it is gone, or the namespace with it.
pub fn open(record: &Record, family: Family) -> Result<Option<Opened>> {
    let node = Node::new();
    let Some((container, link)) = interface_of(&node, record)? else { return Ok(None) };
    let ifname = &link.name;
    if !link.up {
        container.net()?.link().set(ifname, &Change { up: Some(true), ..Change::default() })?;
    }
    let carries = link.up && is_carried(&node, &container, &link)?;
    let opened = container.netns().enter(|| Socket::open(family, ifname))?;
    let socket = opened
        .map_err(|error| Error::io(format!("{ifname} in {}: {error}", record.netns.display())))?;
    Ok(Some(Opened { socket, was_down: !link.up, carries }))
}

/// Whether the container's interface carries packets; `None` where it is gone.
pub fn carries(record: &Record) -> Result<Option<bool>> {
    let node = Node::new();
    let Some((container, link)) = interface_of(&node, record)? else { return Ok(None) };
    is_carried(&node, &container, &link).map(Some)
}

/// Whether another host has an address of the container's interface, as the kernel has found out (IPv6, where that is asked for).
pub fn is_taken(record: &Record, address: IpAddr) -> Result<bool> {
    let node = Node::new();
    let Some((container, link)) = interface_of(&node, record)? else { return Ok(false) };
    let addresses = container.net()?.addr().list(link.index)?;
    Ok(addresses.iter().any(|found| found.net.addr() == address && found.dad_failed))
}

/// A bridge passes nothing on before it has heard of the other end's carrier, which is a moment later.
fn is_carried(node: &Node, container: &Container, inside: &Link) -> Result<bool> {
    if !inside.running {
        return Ok(false);
    }
    let other = node.host()?.link().other_end(inside, container.netns())?;
    Ok(other.is_none_or(|end| end.running))
}

/// The container and its interface, if they are still those that the record is about. The interface may have another name by now;
/// its number is given to no other.
pub fn interface_of(node: &Node, record: &Record) -> Result<Option<(Rc<Container>, Link)>> {
    if NetnsId::of(&record.netns) != Some(record.netns_id) {
        return Ok(None);
    }
    let container = enter(node, record)?;
    let links = container.net()?.link();
    let mut link = record.ifindex.map_or(Ok(None), |index| links.get_index(index))?;
    if link.is_none() {
        // One that was made anew, or a record of an older version.
        link = links.get(&record.key.ifname)?;
    }
    Ok(link.map(|link| (container, link)))
}

/// Whether there is no interface of a number in the namespace at a path; one that cannot be looked into is not said to have lost it.
pub fn is_gone(netns: &Path, ifindex: u32) -> bool {
    let node = Node::new();
    let link = node
        .container(netns)
        .and_then(|container| Ok(container.net()?.link().get_index(ifindex)?));
    matches!(link, Ok(None))
}

/// The container, if it is still the one that the record is about.
fn enter(node: &Node, record: &Record) -> Result<Rc<Container>> {
    let container = node.container(&record.netns)?;
    let id = container.netns().identity()?;
    if (id.dev, id.ino) != (record.netns_id.dev, record.netns_id.ino) {
        return Err(Error::new(
            chain::Code::UnknownContainer,
            format!("{} is another container's by now", record.netns.display()),
        ));
    }
    Ok(container)
}
