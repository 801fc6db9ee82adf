//! The kinds of devices that are created here.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::net::{Mac, Netns};

/// A device to be created.
pub trait NewLink {
    /// The request.
    fn message(&self) -> LinkMessage;

    /// Its name.
    fn name(&self) -> &str;

    /// What a failure failed to do: "create …".
    fn doing(&self) -> String;
}

/// A veth whose other end is in a container's namespace from the start, under its final name.
pub struct Veth<'a> {
    /// The end in this namespace.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// The MTU of both ends; absent: the kernel's.
    pub mtu: Option<u32>,
    /// The bridge it becomes a port of.
    pub master: Option<u32>,
    /// Whether it starts up.
    pub up: bool,
    /// The other end.
    pub peer: VethPeer<'a>,
}

/// The container's end of a veth. It starts down: addresses and sysctls come first.
pub struct VethPeer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// The container.
    pub netns: &'a Netns,
}

impl NewLink for Veth<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn message(&self) -> LinkMessage {
        let mut peer = named(self.peer.name, self.mtu);
        peer.attributes.push(LinkAttribute::Address(self.peer.mac.0.to_vec()));
        peer.attributes.push(in_netns(self.peer.netns.as_fd()));
        let mut message = named(self.name, self.mtu);
        message.attributes.push(LinkAttribute::Address(self.mac.0.to_vec()));
        message.attributes.extend(self.master.map(LinkAttribute::Controller));
        set_up(&mut message, self.up);
        with_kind(message, InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer))))
    }

    fn doing(&self) -> String {
        format!(
            "create veth {} with its other end {} in {}",
            self.name,
            self.peer.name,
            self.peer.netns.path().display()
        )
    }
}

/// A bridge, up from the start.
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address: one that is given does not change with the ports.
    pub mac: Mac,
    /// Its MTU; absent: the kernel's, which then follows the ports'.
    pub mtu: Option<u32>,
}

impl NewLink for Bridge<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn message(&self) -> LinkMessage {
        let mut message = named(self.name, self.mtu);
        message.attributes.push(LinkAttribute::Address(self.mac.0.to_vec()));
        set_up(&mut message, true);
        with_kind(message, InfoKind::Bridge, None)
    }

    fn doing(&self) -> String {
        format!("create bridge {}", self.name)
    }
}

/// An intermediate functional block: where traffic that comes in by another device is queued. It starts down.
pub struct Ifb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MTU.
    pub mtu: Option<u32>,
}

impl NewLink for Ifb<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn message(&self) -> LinkMessage {
        with_kind(named(self.name, self.mtu), InfoKind::Ifb, None)
    }

    fn doing(&self) -> String {
        format!("create ifb {}", self.name)
    }
}

/// A tunnel over UDP to endpoints that its forwarding table names (RFC 7348). It learns none by itself.
pub struct VxlanTunnel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// What tells it from other tunnels between the same endpoints.
    pub endpoint: VxlanEndpoint,
}

/// How a tunnel is found from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanEndpoint {
    /// The network's identifier (VNI).
    pub id: u32,
    /// The address that packets go out from.
    pub local: IpAddr,
    /// The UDP port.
    pub port: u16,
}

impl NewLink for VxlanTunnel<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn message(&self) -> LinkMessage {
        let VxlanEndpoint { id, local, port } = self.endpoint;
        let local = match local {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        };
        let mut message = named(self.name, Some(self.mtu));
        message.attributes.push(LinkAttribute::Address(self.mac.0.to_vec()));
        set_up(&mut message, true);
        let data =
            vec![InfoVxlan::Id(id), local, InfoVxlan::Port(port), InfoVxlan::Learning(false)];
        with_kind(message, InfoKind::Vxlan, Some(InfoData::Vxlan(data)))
    }

    fn doing(&self) -> String {
        let VxlanEndpoint { id, local, port } = self.endpoint;
        format!("create vxlan {} (id {id}, port {port}, local {local})", self.name)
    }
}

fn named(name: &str, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

fn set_up(message: &mut LinkMessage, up: bool) {
    message.header.flags.set(LinkFlags::Up, up);
    message.header.change_mask.set(LinkFlags::Up, up);
}

fn in_netns(netns: BorrowedFd<'_>) -> LinkAttribute {
    LinkAttribute::NetNsFd(netns.as_raw_fd())
}

fn with_kind(mut message: LinkMessage, kind: InfoKind, data: Option<InfoData>) -> LinkMessage {
    let info = std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data)).collect();
    message.attributes.push(LinkAttribute::LinkInfo(info));
    message
}
