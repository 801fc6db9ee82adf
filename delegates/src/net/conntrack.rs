//! `conntrack -D`: connections that are to be tracked anew.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
    },
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nft_templates::{Element, IpFamily, Protocol};
use nix::errno::Errno;

use super::{Net, NetError, Refusal, Result, socket::Socket, sysctl};

/// The original direction's tuple.
const CTA_TUPLE_ORIG: u16 = 1;
/// `CTA_FILTER` of linux/netfilter/nfnetlink_conntrack.h, since Linux 5.8; older kernels list everything.
const CTA_FILTER: u16 = 25;
/// Which parts of the original direction's tuple the kernel is to compare.
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// Compare the destination address.
const FILTER_IP_DST: u32 = 1 << 1;
/// Compare the transport protocol.
const FILTER_PROTO_NUM: u32 = 1 << 3;
/// Compare the destination port.
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;
/// With more addresses than this on the node all entries of the port are listed once instead of being asked for by each
/// address: a list locks every bucket of the kernel's table (10 ms for its 262,144), a deletion passes over empty ones
/// (a fraction of a millisecond).
const MOST_ADDRESSES: usize = 16;
/// How many entries the namespace has.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
/// What tells an entry from a later one with the same tuple.
const CTA_ID: u16 = 12;
/// The zone that a tuple is looked up in.
const CTA_ZONE: u16 = 18;

/// Connections to a port of the node, whose entries are to be forgotten since the port leads elsewhere by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackFlush {
    /// The address family.
    pub family: IpFamily,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port that was asked for, before any translation.
    pub port: u16,
    /// The address that was asked for; absent: any address of the node, and none that is not: by its port alone this
    /// would cut everyone's DNS.
    pub destination: Option<IpAddr>,
}

impl ConntrackFlush {
    /// What is to be forgotten when a port comes or goes. Without that, datagrams go on to where they went before;
    /// streams end with the container, and begin anew.
    pub fn of(element: &Element) -> Option<Self> {
        match element {
            Element::HostPort { protocol: Protocol::Udp, host_ip, host_port, to, .. } => {
                Some(Self {
                    family: IpFamily::of(to.ip()),
                    protocol: Protocol::Udp,
                    port: *host_port,
                    destination: host_ip.filter(|ip| !ip.is_unspecified()),
                })
            }
            _ => None,
        }
    }
}

/// The connection tracking of one namespace.
pub struct Conntrack {
    socket: Socket<NetfilterMessage>,
}

/// The part of an entry that is looked at.
struct Original {
    destination: IpAddr,
    protocol: u8,
    port: u16,
}

impl Conntrack {
    /// A socket in the caller's namespace.
    pub(crate) fn host() -> Result<Self> {
        let socket = Socket::open(NETLINK_NETFILTER, |_| Ok(())).map_err(NetError::Socket)?;
        Ok(Self { socket })
    }

    /// Deletes the entries. `host` tells which addresses are the node's own, and `spared` which of those that it is asked
    /// about are left out where no address is named.
    ///
    /// A kernel without connection tracking has none.
    pub fn flush(
        &self,
        flush: &ConntrackFlush,
        host: &Net,
        spared: &mut impl FnMut(&[IpAddr]) -> chain::Result<Vec<IpAddr>>,
    ) -> chain::Result<()> {
        if matches!(sysctl::read_host(COUNT).as_deref(), None | Some("0")) {
            return Ok(());
        }
        // The kernel's filter by an IPv6 address deletes what has another one (seen with Linux 6.18).
        if flush.family == IpFamily::V4 {
            let destinations = match flush.destination {
                Some(destination) => Some(vec![destination]),
                None => own_addresses(host, spared)?,
            };
            if let Some(destinations) = destinations
                && self.delete_all(flush, &destinations)?
            {
                return Ok(());
            }
        }
        self.list_and_delete(flush, host, spared)
    }

    /// Deletes the entries of these destinations; false where the kernel cannot do that (before Linux 6.9).
    fn delete_all(&self, flush: &ConntrackFlush, destinations: &[IpAddr]) -> Result<bool> {
        for destination in destinations {
            let request = message(
                family(flush),
                matching(ConntrackMessageType::Delete, flush, Some(*destination)),
            );
            match self.socket.request(request, NLM_F_REQUEST | NLM_F_ACK) {
                Ok(_) => {}
                // It takes the filter for a whole tuple, and that for an incomplete one.
                Err(Refusal {
                    errno: Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT, ..
                }) => {
                    return Ok(false);
                }
                Err(refusal) => return Err(refusal.on("delete tracked connections")),
            }
        }
        Ok(true)
    }

    /// The same with any kernel: lists the entries of the port, and deletes those that are meant.
    fn list_and_delete(
        &self,
        flush: &ConntrackFlush,
        host: &Net,
        spared: &mut impl FnMut(&[IpAddr]) -> chain::Result<Vec<IpAddr>>,
    ) -> chain::Result<()> {
        let family = family(flush);
        let entries = match self
            .socket
            .dump(message(family, matching(ConntrackMessageType::Get, flush, None)))
        {
            Ok(entries) => entries,
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => return Ok(()),
            Err(refusal) => return Err(refusal.on("list tracked connections").into()),
        };
        let mut found = Vec::new();
        for entry in &entries {
            let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &entry.inner
            else {
                continue;
            };
            let Some(original) = Original::of(attributes) else { continue };
            if original.protocol == flush.protocol.number() && original.port == flush.port {
                found.push((original.destination, attributes));
            }
        }
        let meant = match flush.destination {
            Some(destination) => vec![destination],
            None => {
                let mut local = Vec::new();
                for destination in found.iter().map(|(destination, _)| *destination) {
                    if !local.contains(&destination) && host.route().is_local(destination)? {
                        local.push(destination);
                    }
                }
                but(local, spared)?
            }
        };
        for (_, attributes) in found.iter().filter(|(destination, _)| meant.contains(destination)) {
            self.delete(family, attributes)?;
        }
        Ok(())
    }

    /// Deletes one entry; it may be gone already.
    fn delete(
        &self,
        family: NetfilterProtoFamily,
        attributes: &[ConntrackAttribute],
    ) -> Result<()> {
        let key = attributes
            .iter()
            .filter(|attribute| match attribute {
                ConntrackAttribute::CtaTupleOrig(_) => true,
                ConntrackAttribute::Other(other) => matches!(other.kind(), CTA_ID | CTA_ZONE),
                _ => false,
            })
            .cloned()
            .collect();
        let request = message(family, ConntrackMessage::Delete(key));
        match self.socket.request(request, NLM_F_REQUEST | NLM_F_ACK) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.errno == Errno::ENOENT => Ok(()),
            Err(refusal) => Err(refusal.on("delete a tracked connection")),
        }
    }
}

/// The node's IPv4 addresses, but for those that are spared; `None` where they are too many to be asked about one by one.
fn own_addresses(
    host: &Net,
    spared: &mut impl FnMut(&[IpAddr]) -> chain::Result<Vec<IpAddr>>,
) -> chain::Result<Option<Vec<IpAddr>>> {
    let addresses: Vec<_> = host.route().local_addresses()?.into_iter().map(IpAddr::from).collect();
    if addresses.len() > MOST_ADDRESSES { Ok(None) } else { but(addresses, spared).map(Some) }
}

/// Addresses without those that are spared.
fn but(
    mut addresses: Vec<IpAddr>,
    spared: &mut impl FnMut(&[IpAddr]) -> chain::Result<Vec<IpAddr>>,
) -> chain::Result<Vec<IpAddr>> {
    let spared = spared(&addresses)?;
    addresses.retain(|address| !spared.contains(address));
    Ok(addresses)
}

fn message(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

fn family(flush: &ConntrackFlush) -> NetfilterProtoFamily {
    match flush.family {
        IpFamily::V4 => NetfilterProtoFamily::IPv4,
        IpFamily::V6 => NetfilterProtoFamily::IPv6,
    }
}

/// A request about the entries of one port (and destination), so that the kernel leaves all others out.
///
/// In raw attributes, because the crate's own type drops the nested flag of those that it does not know, and the kernel
/// insists on it here.
fn matching(
    message_type: ConntrackMessageType,
    flush: &ConntrackFlush,
    destination: Option<IpAddr>,
) -> ConntrackMessage {
    let mut flags = FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT;
    let mut tuple = vec![Tuple::Proto(vec![
        ProtoTuple::Protocol(flush.protocol.number().into()),
        ProtoTuple::DestinationPort(flush.port),
    ])];
    if let Some(destination) = destination {
        flags |= FILTER_IP_DST;
        tuple.insert(0, Tuple::Ip(vec![IPTuple::DestinationAddress(destination)]));
    }
    let flags = DefaultNla::new(CTA_FILTER_ORIG_FLAGS, flags.to_ne_bytes().to_vec());
    ConntrackMessage::Other {
        message_type: message_type.into(),
        attributes: vec![nested(CTA_TUPLE_ORIG, &tuple.as_slice()), nested(CTA_FILTER, &flags)],
    }
}

fn nested(kind: u16, content: &impl Emitable) -> DefaultNla {
    let mut value = vec![0; content.buffer_len()];
    content.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

impl Original {
    fn of(attributes: &[ConntrackAttribute]) -> Option<Self> {
        let tuples = attributes.iter().find_map(|attribute| match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => Some(tuples),
            _ => None,
        })?;
        let mut destination = None;
        let mut protocol = None;
        let mut port = None;
        for tuple in tuples {
            match tuple {
                Tuple::Ip(parts) => {
                    for part in parts {
                        if let IPTuple::DestinationAddress(ip) = part {
                            destination = Some(*ip);
                        }
                    }
                }
                Tuple::Proto(parts) => {
                    for part in parts {
                        match part {
                            ProtoTuple::Protocol(number) => protocol = Some((*number).into()),
                            ProtoTuple::DestinationPort(number) => port = Some(*number),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Self { destination: destination?, protocol: protocol?, port: port? })
    }
}
