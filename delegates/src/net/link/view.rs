//! What the kernel says about a device.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, Emitable, NlasIterator, ParseableParametrized};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoBridgePort, InfoData, InfoPortData, InfoVxlan,
    LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage, State,
};
use nix::libc;

use super::VxlanEndpoint;
use crate::net::Mac;

/// What is read of an answer. The kernel says ten times as much of each device, and an ADD asks for some.
const READ: [u16; 10] = [
    libc::IFLA_IFNAME,
    libc::IFLA_ADDRESS,
    libc::IFLA_MTU,
    libc::IFLA_TXQLEN,
    libc::IFLA_MASTER,
    libc::IFLA_LINK,
    libc::IFLA_LINK_NETNSID,
    libc::IFLA_OPERSTATE,
    libc::IFLA_LINKINFO,
    libc::IFLA_AF_SPEC,
];

/// Reads a message about a device, without the attributes that a [`Link`] has no use for.
pub(in crate::net) fn read(payload: &[u8]) -> Result<LinkMessage, DecodeError> {
    let mut message = LinkMessage::default();
    message.header = LinkHeader::parse(payload)?;
    let attributes = payload.get(message.header.buffer_len()..).unwrap_or_default();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if READ.contains(&attribute.kind()) {
            let family = message.header.interface_family;
            message.attributes.push(LinkAttribute::parse_with_param(&attribute, family)?);
        }
    }
    Ok(message)
}

/// A device as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind ("veth", "bridge"); empty for hardware and the loopback.
    pub kind: String,
    /// Its hardware address, where it is Ethernet's (the loopback's is all zero).
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it was set up.
    pub up: bool,
    /// Whether it can carry packets now: up, its carrier too, and the kernel has acted on that. Devices that have no
    /// carrier (the loopback, ifb) never say so.
    pub running: bool,
    /// Whether it was set promiscuous.
    pub promisc: bool,
    /// Whether it was set to take all multicast.
    pub allmulti: bool,
    /// How many packets its queue holds.
    pub tx_queue_len: u32,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// The index of the device it is a port of.
    pub master: Option<u32>,
    /// The index of its other end, in whatever namespace that is (veth).
    pub peer: Option<u32>,
    /// The number that this namespace has for the one of its other end; `None` where both ends are in this one.
    pub peer_netns: Option<i32>,
    /// As a bridge's port.
    pub port: Option<Port>,
    /// The sysctl `net.ipv4.conf.NAME.route_localnet`: whether 127.0.0.0/8 can be on the other side.
    pub route_localnet: bool,
    /// The sysctl `net.ipv6.conf.NAME.accept_ra`; `None` where there is no IPv6.
    pub accept_ra: Option<i32>,
    /// As a vxlan with one address that its packets go out from.
    pub vxlan: Option<VxlanEndpoint>,
}

/// What a bridge knows of its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Whether a frame may leave by the port it came in by.
    pub hairpin: bool,
    /// Whether it talks to ports that are not isolated only.
    pub isolated: bool,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            promisc: flags.contains(LinkFlags::Promisc),
            allmulti: flags.contains(LinkFlags::Allmulti),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::TxQueueLen(length) => link.tx_queue_len = *length,
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = Some(*id),
                LinkAttribute::OperState(state) => link.running = *state == State::Up,
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.read(info)),
                LinkAttribute::AfSpecUnspec(specs) => {
                    specs.iter().for_each(|spec| link.read_sysctls(spec));
                }
                _ => {}
            }
        }
        link
    }

    fn read(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = kind.to_string(),
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
                self.port = Some(Port {
                    hairpin: data.contains(&InfoBridgePort::HairpinMode(true)),
                    isolated: data.contains(&InfoBridgePort::Isolated(true)),
                });
            }
            LinkInfo::Data(InfoData::Vxlan(data)) => self.vxlan = vxlan(data),
            _ => {}
        }
    }

    /// The kernel tells its sysctls with the device, which is cheaper than looking for them: with each namespace that somebody has
    /// looked into, paths below `/proc/sys/net` take longer.
    fn read_sysctls(&mut self, spec: &AfSpecUnspec) {
        match spec {
            AfSpecUnspec::Inet(all) => {
                let on = |one: &AfSpecInet| matches!(one, AfSpecInet::DevConf(conf) if conf.route_localnet != 0);
                self.route_localnet = all.iter().any(on);
            }
            AfSpecUnspec::Inet6(all) => {
                self.accept_ra = all.iter().find_map(|one| match one {
                    AfSpecInet6::DevConf(conf) => Some(conf.accept_ra),
                    _ => None,
                });
            }
            _ => {}
        }
    }

    /// The hardware address as a result has it; empty where there is none.
    pub fn mac_text(&self) -> String {
        self.mac.map(|mac| mac.to_string()).unwrap_or_default()
    }
}

fn vxlan(data: &[InfoVxlan]) -> Option<VxlanEndpoint> {
    let (mut id, mut local, mut port) = (None, None, None);
    for attribute in data {
        match attribute {
            InfoVxlan::Id(value) => id = Some(*value),
            InfoVxlan::Local(ip) => local = Some(IpAddr::from(*ip)),
            InfoVxlan::Local6(ip) => local = Some(IpAddr::from(*ip)),
            InfoVxlan::Port(value) => port = Some(*value),
            _ => {}
        }
    }
    Some(VxlanEndpoint { id: id?, local: local?, port: port? })
}
