//! The veth between the container and the host.

use std::rc::Rc;

use chain::{Attachment, Code, Error, Result, record::Records, result::IpConfig};
use nix::errno::Errno;

use super::{await_carrier, settle};
use crate::{
    host_veth,
    net::{
        Mac, Net, NetError, Sysctl,
        link::{Link, Veth, VethPeer},
        sysctl::{self, Family},
    },
    node::{Container, Ends, Node, Undo},
};

/// What is asked of a veth.
pub(crate) struct Wanted {
    /// The container end's hardware address; absent: a random one.
    pub mac: Option<Mac>,
    /// The MTU of both ends; absent: the kernel's.
    pub mtu: Option<u32>,
    /// The bridge that the host end becomes a port of: it stays down then, since how it takes part is told before.
    pub master: Option<u32>,
}

/// The veth of an attachment.
pub(crate) struct Attached {
    /// The container.
    pub container: Rc<Container>,
    /// The container's end, down.
    pub inside: Link,
    /// The name of the host's end.
    pub host_name: String,
    /// The host end's hardware address.
    pub host_mac: Mac,
}

impl Attached {
    /// Waits until what the container sends gets through, and what is sent to it. Returns the host's end.
    ///
    /// That is the one to be waited for: what comes up last, the container's end, has its carrier from the start.
    pub(crate) fn await_traffic(&self, host: &Net, ips: &[IpConfig]) -> Result<Link> {
        let net = self.container.net()?;
        let outside = await_carrier(host, &self.host_name)?;
        if ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
            settle(net, &self.inside)?;
        }
        Ok(outside)
    }
}

/// Refuses a name that is taken in the container.
pub(crate) fn refuse_taken(container: &Container, ifname: &str) -> Result<()> {
    match container.net()?.link().get(ifname)? {
        None => Ok(()),
        Some(_) => Err(taken(container, ifname)),
    }
}

fn taken(container: &Container, ifname: &str) -> Error {
    Error::new(
        Code::InvalidEnvironment,
        format!(
            "interface {ifname} exists already in {}: choose another CNI_IFNAME, or DEL the attachment that has it",
            container.netns().path().display()
        ),
    )
}

/// Creates the veth, and remembers to undo that.
pub(crate) fn attach<'c>(
    node: &mut Undo<'_, 'c>,
    container: Rc<Container>,
    attachment: &'c Attachment,
    wanted: &Wanted,
) -> Result<Attached> {
    let host_name = host_veth(attachment);
    let _step = tracing::debug_span!("veth", interface = host_name).entered();
    let host_mac = Mac::random()?;
    let mac = wanted.mac.map_or_else(Mac::random, Ok)?;
    let host = node.host()?;
    let veth = Veth {
        name: &host_name,
        mac: host_mac,
        mtu: wanted.mtu,
        master: wanted.master,
        up: wanted.master.is_none(),
        peer: VethPeer { name: &attachment.ifname, mac, netns: container.netns() },
    };
    let outside = match host.link().add(&veth) {
        Ok(outside) => outside,
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            refuse_taken(&container, &attachment.ifname)?;
            // Only this attachment's veth has this name: one that is there was left behind.
            tracing::info!(interface = host_name, "removing what an earlier attachment left");
            host.link().del(&host_name)?;
            host.link().add(&veth)?
        }
        Err(error) => {
            if error.errno() == Some(Errno::EINVAL) {
                // A namespace of another type cannot be entered either, which says it better.
                container.net()?;
            }
            return Err(error.into());
        }
    };
    let undone = host_name.clone();
    node.push(format!("interface {host_name}"), move |node| {
        node.forget(&undone);
        node.host()?.link().del(&undone)?;
        Ok(())
    });
    if wanted.master.is_none() {
        sysctl::write_host(&[
            // The host takes no routes from the container.
            Sysctl::wanted(Sysctl::conf(Family::V6, &host_name, "accept_ra"), "0"),
            // Without a link-local address the kernel solicits no neighbour, and nobody else can have it here: tried for
            // duplicates, it would keep IPv6 from the container for a second or two.
            Sysctl::wanted(Sysctl::conf(Family::V6, &host_name, "accept_dad"), "0"),
        ])?;
    }
    let inside = match outside.peer {
        Some(index) => Link {
            index,
            name: attachment.ifname.clone(),
            kind: outside.kind.clone(),
            mac: Some(mac),
            mtu: outside.mtu,
            peer: Some(outside.index),
            ..Link::default()
        },
        None => container.net()?.link().require(&attachment.ifname)?,
    };
    let outside = Link { master: wanted.master, ..outside };
    node.remember(Ends { inside: inside.clone(), outside });
    Ok(Attached { container, inside, host_name, host_mac })
}

/// The host's end of a container's veth, by the index that the container's end knows.
pub(crate) fn host_end(host: &Net, inside: &Link) -> Result<Option<Link>, NetError> {
    match inside.peer {
        Some(index) => host.link().get_index(index),
        None => Ok(None),
    }
}

/// Deletes the container's interface by its name, where there is no record: another implementation made it, and gave
/// the host's end a name that says nothing.
///
/// Unless another attachment has that interface: a runtime calls DEL also after an ADD that was refused since the name was
/// taken.
pub(crate) fn delete_unrecorded(attachment: &Attachment, node: &Node) -> Result<()> {
    let Some(container) = node.container_if_there(attachment.netns.as_deref())? else {
        return Ok(());
    };
    let net = container.net()?;
    if net.link().get(&attachment.ifname)?.is_none_or(|link| link.kind != "veth") {
        return Ok(());
    }
    let records = Records::open(node.dirs());
    for network in records.networks()? {
        if !records.find(&network, &attachment.container_id, &attachment.ifname)?.is_empty() {
            tracing::info!(%attachment, of = network, "the interface is another attachment's, and stays");
            return Ok(());
        }
    }
    net.link().del(&attachment.ifname)?;
    Ok(())
}
