//! `ip neigh` and `bridge fdb`: which hardware address a neighbour has, and where a tunnel sends frames for it.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use nix::errno::Errno;

use super::{Mac, Net, Result, addr::family};

/// The neighbours of one namespace.
pub struct Neighbours<'a>(pub(super) &'a Net);

/// A permanent entry of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Neighbour {
    /// The address's hardware address (`ip neigh`).
    Address(IpAddr, Mac),
    /// Frames for the hardware address are sent to this tunnel endpoint (`bridge fdb`).
    Endpoint(Mac, IpAddr),
}

impl Neighbour {
    fn message(&self, dev: u32) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = dev;
        message.header.state = NeighbourState::Permanent;
        let (dst, mac) = match *self {
            Self::Address(ip, mac) => {
                message.header.family = family(ip);
                let dst = match ip {
                    IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                    IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
                };
                (dst, mac)
            }
            Self::Endpoint(mac, ip) => {
                message.header.family = AddressFamily::Bridge;
                message.header.flags = NeighbourFlags::Own;
                let dst = match ip {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                (NeighbourAddress::Other(dst), mac)
            }
        };
        message.attributes.push(NeighbourAttribute::Destination(dst));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        message
    }

    fn from_message(message: &NeighbourMessage) -> Option<Self> {
        if message.header.state != NeighbourState::Permanent {
            return None;
        }
        let mut ip = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(dst)) => {
                    ip = Some(IpAddr::from(*dst));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(dst)) => {
                    ip = Some(IpAddr::from(*dst));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Other(dst)) => {
                    ip = <[u8; 4]>::try_from(dst.as_slice())
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(dst.as_slice()).map(IpAddr::from))
                        .ok();
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                }
                _ => {}
            }
        }
        match message.header.family {
            AddressFamily::Bridge => Some(Self::Endpoint(mac?, ip?)),
            _ => Some(Self::Address(ip?, mac?)),
        }
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(ip, mac) => write!(f, "{ip} at {mac}"),
            Self::Endpoint(mac, ip) => write!(f, "{mac} at endpoint {ip}"),
        }
    }
}

impl Neighbours<'_> {
    /// Sets an entry of the device of this index; it replaces one of the same address.
    pub fn set(&self, dev: u32, neighbour: &Neighbour) -> Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(neighbour.message(dev));
        self.0.request(message, NLM_F_CREATE | NLM_F_REPLACE).map(drop).map_err(|refusal| {
            refusal
                .on(format!("set neighbour {neighbour} of interface {dev} in {}", self.0.place()))
        })
    }

    /// Removes an entry; false where there is none such.
    pub fn del(&self, dev: u32, neighbour: &Neighbour) -> Result<bool> {
        let message = RouteNetlinkMessage::DelNeighbour(neighbour.message(dev));
        match self.0.request(message, 0) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ENOENT => Ok(false),
            Err(refusal) => Err(refusal.on(format!(
                "remove neighbour {neighbour} of interface {dev} in {}",
                self.0.place()
            ))),
        }
    }

    /// The permanent entries of the device of this index: addresses of both families, and tunnel endpoints.
    pub fn list(&self, dev: u32) -> Result<Vec<Neighbour>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            if family == AddressFamily::Bridge {
                message.header.ifindex = dev;
            }
            let answers =
                self.0.dump(RouteNetlinkMessage::GetNeighbour(message)).map_err(|refusal| {
                    refusal
                        .on(format!("list the neighbours of interface {dev} in {}", self.0.place()))
                })?;
            all.extend(answers.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message)
                    if message.header.ifindex == dev && message.header.family == family =>
                {
                    Neighbour::from_message(message)
                }
                _ => None,
            }));
        }
        Ok(all)
    }
}
