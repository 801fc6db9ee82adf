//! `conntrack -D`: connections that are to be tracked anew.

use std::{net::IpAddr, rc::Rc};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
    },
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nft_templates::{IpFamily, Protocol};
use nix::errno::Errno;
use tokio::runtime::Runtime;

use super::{
    Net, NetError, Result,
    socket::{Opened, Socket},
};

/// The original direction's tuple.
const CTA_TUPLE_ORIG: u16 = 1;
/// `CTA_FILTER` of linux/netfilter/nfnetlink_conntrack.h, since Linux 5.8; older kernels list everything.
const CTA_FILTER: u16 = 25;
/// Which parts of the original direction's tuple the kernel is to compare.
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// Compare the transport protocol.
const FILTER_PROTO_NUM: u32 = 1 << 3;
/// Compare the destination port.
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;
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
    pub(crate) fn host(runtime: &Rc<Runtime>) -> Result<Self> {
        let opened =
            Opened::new(runtime, NETLINK_NETFILTER, |_| Ok(())).map_err(NetError::Socket)?;
        Ok(Self { socket: opened.driven_by(runtime) })
    }

    /// Deletes the entries and returns how many there were. `host` tells which addresses are the node's own.
    ///
    /// A kernel without connection tracking has none.
    pub fn flush(&self, flush: &ConntrackFlush, host: &Net) -> Result<usize> {
        let family = match flush.family {
            IpFamily::V4 => NetfilterProtoFamily::IPv4,
            IpFamily::V6 => NetfilterProtoFamily::IPv6,
        };
        let entries = match self.socket.dump(message(family, list(flush))) {
            Ok(entries) => entries,
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => return Ok(0),
            Err(refusal) => return Err(refusal.on("list tracked connections")),
        };
        let mut deleted = 0;
        for entry in &entries {
            let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &entry.inner
            else {
                continue;
            };
            let Some(original) = Original::of(attributes) else { continue };
            if original.protocol != flush.protocol.number() || original.port != flush.port {
                continue;
            }
            let meant = match flush.destination {
                Some(destination) => destination == original.destination,
                None => host.route().is_local(original.destination)?,
            };
            if meant && self.delete(family, attributes)? {
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Deletes one entry; false where it is gone already.
    fn delete(
        &self,
        family: NetfilterProtoFamily,
        attributes: &[ConntrackAttribute],
    ) -> Result<bool> {
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
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ENOENT => Ok(false),
            Err(refusal) => Err(refusal.on("delete a tracked connection")),
        }
    }
}

fn message(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

/// Asks for the entries of one port, so that the kernel leaves all others out of the list.
///
/// In raw attributes, because the crate's own type drops the nested flag of those that it does not know, and the kernel
/// insists on it here.
fn list(flush: &ConntrackFlush) -> ConntrackMessage {
    let flags = FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT;
    let flags = DefaultNla::new(CTA_FILTER_ORIG_FLAGS, flags.to_ne_bytes().to_vec());
    let port = Tuple::Proto(vec![
        ProtoTuple::Protocol(flush.protocol.number().into()),
        ProtoTuple::DestinationPort(flush.port),
    ]);
    ConntrackMessage::Other {
        message_type: ConntrackMessageType::Get.into(),
        attributes: vec![nested(CTA_TUPLE_ORIG, &port), nested(CTA_FILTER, &flags)],
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
