//! What a lease gives the container's interface, changed with it, and put back where it was lost: a link that goes down and up
//! again has its address still, and its routes no more. All that is here blocks.
//!
//! Not all of a lease is the interface's to have: a later plugin of the chain (sbr), or Multus, takes routes away again, and a
//! pod's annotation moves its default route to another network. So what the interface was without when it was first looked at
//! stays away, and so does a default route that the pod's record says is another network's.

use chain::{CniResult, Dirs, Result};
use delegates::{
    Node,
    dhcp::Family,
    ipam::dhcp::interface::{self, change, lacking, put_back},
    net::link::Link,
};
use ipnet::IpNet;

use super::{place::interface_of, record::Record};
use crate::kubernetes::pods::PodRecords;

/// What there was to see.
pub enum Seen {
    /// All is as it should be, or not there yet, or somebody has set the interface down, or made it a port.
    Nothing,
    /// It was looked at for the first time, and is without the routes to these.
    Without(Vec<IpNet>),
    /// This was lost, and is there again.
    PutBack(Vec<String>),
}

/// Gives the interface what `new` says in place of what `old` said.
pub fn configure(
    record: &Record,
    family: Family,
    old: &CniResult,
    new: &CniResult,
    dirs: &Dirs,
) -> Result<()> {
    let node = Node::new();
    // One that is gone ends the lease, not here.
    let Some((container, link)) = interface_of(&node, record)? else { return Ok(()) };
    let mut new = new.clone();
    let known = record.leases.without(family).unwrap_or_default();
    leave_out(&mut new, record, known, dirs)?;
    change(container.net()?, &link.name, old, &new)
}

/// Takes off the interface what it still has of leases that are no more, but for what `new` gives it as well.
pub fn take_off(record: &Record, left: &CniResult, new: &CniResult) -> Result<()> {
    let node = Node::new();
    let Some((container, link)) = interface_of(&node, record)? else { return Ok(()) };
    interface::take_off(container.net()?, &link.name, left, new)
}

/// Looks at what the interface has of a lease, and puts back what it has lost.
pub fn see_to(record: &Record, family: Family, lease: &CniResult, dirs: &Dirs) -> Result<Seen> {
    let node = Node::new();
    // A port of a bridge has given its address to whoever is behind that: a virtual machine.
    let is_to_have = |link: &Link| link.up && link.master.is_none();
    let found = interface_of(&node, record)?.filter(|(_, link)| is_to_have(link));
    let Some((container, link)) = found else { return Ok(Seen::Nothing) };
    let (net, ifname) = (container.net()?, &link.name);
    let mut lacks = lacking(net, ifname, lease)?;
    let Some(known) = record.leases.without(family) else {
        // The address is the plugin's to set.
        let is_there = lacks.ips.is_empty();
        let without = || lacks.routes.iter().map(|route| route.dst).collect();
        return Ok(if is_there { Seen::Without(without()) } else { Seen::Nothing });
    };
    leave_out(&mut lacks, record, known, dirs)?;
    if lacks.ips.is_empty() && lacks.routes.is_empty() {
        return Ok(Seen::Nothing);
    }
    put_back(net, ifname, lease, &lacks)?;
    let addresses = lacks.ips.iter().map(|ip| ip.address.to_string());
    let routes = lacks.routes.iter().map(|route| format!("the route to {}", route.dst));
    Ok(Seen::PutBack(addresses.chain(routes).collect()))
}

/// Leaves out the routes that the interface is not to have.
fn leave_out(lease: &mut CniResult, record: &Record, known: &[IpNet], dirs: &Dirs) -> Result<()> {
    lease.routes.retain(|route| !known.contains(&route.dst));
    for v6 in [false, true] {
        let is_default = |dst: &IpNet| dst.prefix_len() == 0 && dst.addr().is_ipv6() == v6;
        // The pods' records are read only where it matters.
        if lease.routes.iter().any(|route| is_default(&route.dst)) && is_moved(record, v6, dirs)? {
            lease.routes.retain(|route| !is_default(&route.dst));
        }
    }
    Ok(())
}

/// Whether a pod has its default route of a family by another network than this.
fn is_moved(record: &Record, v6: bool, dirs: &Dirs) -> Result<bool> {
    let key = &record.key;
    let pods = PodRecords::open(dirs).list_all()?;
    let pods = pods.iter().filter(|pod| pod.container_id == key.container_id);
    let mut all = pods.flat_map(|pod| &pod.attachments);
    Ok(all.any(|one| {
        (&one.network, &one.ifname) == (&key.network, &key.ifname) && one.put_away.has(v6)
    }))
}
