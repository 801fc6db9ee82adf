//! The container's namespace, visited when there is something to do: a descriptor that was kept open would keep it alive, with all
//! of its devices. All that is here blocks.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use chain::{CniResult, Error, NetnsId, Result};
use delegates::{
    Container, Node,
    dhcp::Family,
    ipam::dhcp::interface,
    net::{Sysctl, link::Change, sysctl},
};

use super::{record::Record, speaker::Socket};

/// How long an interface that was just set up may take to carry packets.
const CARRIER_LIMIT: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(2);

/// What is to be known of an attachment before it gets a lease.
pub struct Seen {
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
    let link = container.net().link().require(ifname)?;
    if families.contains(&Family::V6) {
        let key = Sysctl::conf(sysctl::Family::V6, ifname, "disable_ipv6");
        container.write(&[Sysctl::required(key, "0")])?;
    }
    let uplink = node.host()?.link().way_out(&link, container.netns())?;
    Ok(Seen { mac: link.mac_text(), uplink: uplink.map(|link| link.name) })
}

/// A socket on the container's interface, which is set up if it is down; `None` where it is gone, or the namespace with it.
pub fn socket(record: &Record, family: Family) -> Result<Option<Socket>> {
    let (node, ifname) = (Node::new(), &record.key.ifname);
    if NetnsId::of(&record.netns) != Some(record.netns_id) {
        return Ok(None);
    }
    let container = enter(&node, record)?;
    let Some(link) = container.net().link().get(ifname)? else { return Ok(None) };
    if !link.up {
        container.net().link().set(ifname, &Change { up: Some(true), ..Change::default() })?;
    }
    let host = node.host()?;
    await_carrier(|| {
        let inside = container.net().link().require(ifname)?;
        // A bridge passes nothing on before it has heard of the other end's carrier, which is a moment later.
        let other = host.link().other_end(&inside, container.netns())?;
        Ok(inside.running && other.is_none_or(|end| end.running))
    })?;
    let opened = container.netns().enter(|| Socket::open(family, ifname))?;
    let failed = |error| Error::io(format!("{ifname} in {}: {error}", record.netns.display()));
    opened.map(Some).map_err(failed)
}

/// Waits until packets are carried. Where that takes long they are sent all the same: what is lost is sent again.
fn await_carrier(is_there: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + CARRIER_LIMIT;
    while !is_there()? && Instant::now() < deadline {
        sleep(PAUSE);
    }
    Ok(())
}

/// Gives the interface what `new` says in place of what `old` said.
pub fn configure(record: &Record, old: &CniResult, new: &CniResult) -> Result<()> {
    let node = Node::new();
    let container = enter(&node, record)?;
    interface::change(container.net(), &record.key.ifname, old, new)
}

/// The container, if it is still the one that the record is about.
fn enter(node: &Node, record: &Record) -> Result<std::rc::Rc<Container>> {
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
