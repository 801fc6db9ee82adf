//! `ip address`: addresses of devices.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};
use nix::errno::Errno;

use super::{Net, Result, Wanted};

/// The addresses of one namespace's devices.
pub struct Addresses<'a>(pub(super) &'a Net);

/// An address to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// The address with its prefix length.
    pub net: IpNet,
    /// IPv6: whether it is tried for duplicates before it can be used (about a second).
    pub detect_duplicates: bool,
    /// Whether its subnet is reached by the device without a gateway.
    pub on_link: bool,
}

impl NewAddress {
    /// An address that can be used at once, with its subnet on the link.
    pub fn new(net: IpNet) -> Self {
        Self { net, detect_duplicates: false, on_link: true }
    }
}

/// An address as it is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the device.
    pub index: u32,
    /// The address with its prefix length.
    pub net: IpNet,
    /// Whether duplicate address detection has not finished: it cannot be used yet.
    pub tentative: bool,
    /// Whether duplicate address detection found another holder.
    pub dad_failed: bool,
    /// Whether it is valid beyond its link.
    pub global: bool,
}

impl Addresses<'_> {
    /// Adds an address to the device of this index.
    ///
    /// The error's `errno` is EEXIST where the device has it (IPv6: with whatever prefix length).
    pub fn add(&self, index: u32, address: &NewAddress) -> Result<()> {
        self.0.change(vec![self.adding(index, address)])
    }

    /// The same as one of several changes.
    pub(crate) fn adding(&self, index: u32, address: &NewAddress) -> Wanted {
        let net = address.net;
        let mut message = message(index, net);
        if let Some(broadcast) = broadcast(net) {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, net.addr().is_ipv6() && !address.detect_duplicates);
        flags.set(AddressFlags::Noprefixroute, !address.on_link);
        message.attributes.push(AddressAttribute::Flags(flags));
        Wanted {
            message: RouteNetlinkMessage::NewAddress(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
            doing: format!("add address {net} to interface {index} in {}", self.0.place()),
            fine: None,
        }
    }

    /// Removes an address; false where the device does not have it.
    pub fn del(&self, index: u32, net: IpNet) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::DelAddress(message(index, net)), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if matches!(refusal.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV) => {
                Ok(false)
            }
            Err(refusal) => Err(refusal
                .on(format!("remove address {net} from interface {index} in {}", self.0.place()))),
        }
    }

    /// The addresses of the device of this index, both families. The kernel walks this device only.
    pub fn list(&self, index: u32) -> Result<Vec<Address>> {
        let mut addresses = self.list_family(index, false)?;
        addresses.extend(self.list_family(index, true)?);
        Ok(addresses)
    }

    /// The addresses of all devices, of one family.
    pub fn all(&self, v6: bool) -> Result<Vec<Address>> {
        self.list_family(0, v6)
    }

    /// The same of one family. An index of 0 means all devices.
    pub fn list_family(&self, index: u32, v6: bool) -> Result<Vec<Address>> {
        let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.index = index;
        let answers = self.0.dump(RouteNetlinkMessage::GetAddress(message)).map_err(|refusal| {
            refusal.on(format!("list the addresses of interface {index} in {}", self.0.place()))
        })?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                // Without IPv6 in the kernel another family may answer for it.
                RouteNetlinkMessage::NewAddress(message) if message.header.family == family => {
                    Address::from_message(message)
                }
                _ => None,
            })
            .collect())
    }
}

impl Address {
    fn from_message(message: &AddressMessage) -> Option<Self> {
        let mut address = None;
        let mut local = None;
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                // On a point-to-point link IFA_ADDRESS is the other side.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            net: IpNet::new(local.or(address)?, message.header.prefix_len).ok()?,
            tentative: flags.contains(AddressFlags::Tentative),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
            global: message.header.scope == AddressScope::Universe,
        })
    }
}

fn message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.family = family(net.addr());
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    message
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The broadcast address, where the subnet is large enough to have one.
fn broadcast(net: IpNet) -> Option<Ipv4Addr> {
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
        _ => None,
    }
}
