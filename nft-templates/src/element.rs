//! The elements of the ruleset's sets and maps, in types.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{conditions::Condition, policy::Policy};

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol; the kernel needs its connection tracking for it.
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA's protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `0.0.0.0` or `::`.
    pub(crate) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What an attachment asks of the ruleset: one element of its sets or maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// A port of the node that leads to a pod.
    HostPort {
        /// Transport protocol.
        protocol: Protocol,
        /// The node's address to listen on; `None` or an unspecified one is every address of the family
        /// of `to`.
        host_ip: Option<IpAddr>,
        /// Port on the node, not 0.
        host_port: u16,
        /// The pod's address and port.
        to: SocketAddr,
        /// What has to hold for the connections that it takes: all of it.
        conditions: Vec<Condition>,
    },
    /// A pod that may reach itself through its own host ports: what it sends itself is masqueraded.
    Hairpin {
        /// The pod's address.
        address: IpAddr,
    },
    /// A bridge on which what was DNATed from port to port is masqueraded, so that the answers come
    /// back through the node also where `bridge-nf-call-iptables` is 0. Shared by all pods on it.
    Bridge {
        /// The bridge's name.
        ifname: String,
    },
    /// A pod whose packets leave the node under another source address.
    Egress {
        /// The pod's address.
        source: IpAddr,
        /// To where, and as what.
        policy: Policy,
    },
    /// A pod that sees an address of the node as the source of all that comes to it by a port.
    Masqueraded {
        /// The pod's address.
        address: IpAddr,
    },
    /// A pod whose packets the forward chains of others are to let through.
    Forwarded {
        /// The pod's address.
        address: IpAddr,
    },
    /// A bridge that is kept apart from the others of the kind: what comes from it does not reach their pods. Shared
    /// by the pods with a [`Self::Closed`] on it, and goes with the last of them.
    ClosedBridge {
        /// The bridge's name.
        ifname: String,
    },
    /// A pod that takes nothing from such bridges, not even its own.
    Closed {
        /// The pod's address.
        address: IpAddr,
        /// The name of its bridge.
        bridge: String,
    },
    /// The exception to [`Self::Closed`]: the pod takes what comes from its own bridge.
    Neighbours {
        /// The pod's address.
        address: IpAddr,
        /// The name of its bridge.
        bridge: String,
    },
    /// A bridge port that may send from one MAC address only.
    SpoofCheck {
        /// The bridge port's name on the node.
        port: String,
        /// The pod's MAC address.
        mac: [u8; 6],
    },
}

impl Element {
    /// The chain that it leads to, if it leads to one, as nft text: a table with this one chain.
    pub fn chain(&self) -> Option<String> {
        crate::stored::chain(self).map(|(_, text)| text)
    }

    /// The element without its value: what identifies it within the ruleset.
    pub fn key(&self) -> Key {
        match self {
            Self::HostPort { protocol, host_ip, host_port, to, .. } => Key::HostPort {
                protocol: *protocol,
                host_ip: host_ip
                    .filter(|ip| !ip.is_unspecified())
                    .unwrap_or_else(|| IpFamily::of(to.ip()).unspecified()),
                host_port: *host_port,
            },
            Self::Hairpin { address } => Key::Hairpin { address: *address },
            Self::Bridge { ifname } => Key::Bridge { ifname: ifname.clone() },
            Self::Egress { source, .. } => Key::Egress { source: *source },
            Self::Masqueraded { address } => Key::Masqueraded { address: *address },
            Self::Forwarded { address } => Key::Forwarded { address: *address },
            Self::ClosedBridge { ifname } => Key::ClosedBridge { ifname: ifname.clone() },
            Self::Closed { address, bridge } => {
                Key::Closed { address: *address, bridge: bridge.clone() }
            }
            Self::Neighbours { address, bridge } => {
                Key::Neighbours { address: *address, bridge: bridge.clone() }
            }
            Self::SpoofCheck { port, mac } => Key::SpoofCheck { port: port.clone(), mac: *mac },
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPort { to, .. } => write!(f, "{} to {to}", self.key()),
            _ => self.key().fmt(f),
        }
    }
}

/// What identifies an element, without the value that it maps to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// See [`Element::HostPort`].
    HostPort {
        /// Transport protocol.
        protocol: Protocol,
        /// The node's address; `0.0.0.0` or `::` where it is every address of that family.
        host_ip: IpAddr,
        /// Port on the node.
        host_port: u16,
    },
    /// See [`Element::Hairpin`].
    Hairpin {
        /// The pod's address.
        address: IpAddr,
    },
    /// See [`Element::Bridge`].
    Bridge {
        /// The bridge's name.
        ifname: String,
    },
    /// See [`Element::Egress`].
    Egress {
        /// The pod's address.
        source: IpAddr,
    },
    /// See [`Element::Masqueraded`].
    Masqueraded {
        /// The pod's address.
        address: IpAddr,
    },
    /// See [`Element::Forwarded`].
    Forwarded {
        /// The pod's address.
        address: IpAddr,
    },
    /// See [`Element::ClosedBridge`].
    ClosedBridge {
        /// The bridge's name.
        ifname: String,
    },
    /// See [`Element::Closed`].
    Closed {
        /// The pod's address.
        address: IpAddr,
        /// The name of its bridge.
        bridge: String,
    },
    /// See [`Element::Neighbours`].
    Neighbours {
        /// The pod's address.
        address: IpAddr,
        /// The name of its bridge.
        bridge: String,
    },
    /// See [`Element::SpoofCheck`].
    SpoofCheck {
        /// The bridge port's name on the node.
        port: String,
        /// The pod's MAC address.
        mac: [u8; 6],
    },
}

impl Key {
    /// Whether the element belongs to no single attachment: many ask for it. A closed bridge goes with the last of them,
    /// the pair of a bridge by garbage collection.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::ClosedBridge { .. })
    }
}

impl From<Element> for Key {
    fn from(element: Element) -> Self {
        element.key()
    }
}

impl From<&Element> for Key {
    fn from(element: &Element) -> Self {
        element.key()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPort { protocol, host_ip, host_port } => {
                let host = SocketAddr::new(*host_ip, *host_port);
                write!(f, "host port {host}/{protocol}")
            }
            Self::Hairpin { address } => write!(f, "hairpin of {address}"),
            Self::Bridge { ifname } => write!(f, "bridge {ifname}"),
            Self::Egress { source } => write!(f, "egress of {source}"),
            Self::Masqueraded { address } => write!(f, "masquerade of ports of {address}"),
            Self::Forwarded { address } => write!(f, "forwarding of {address}"),
            Self::ClosedBridge { ifname } => write!(f, "closed bridge {ifname}"),
            Self::Closed { address, .. } => write!(f, "ingress policy of {address}"),
            Self::Neighbours { address, bridge } => {
                write!(f, "ingress of {address} from bridge {bridge}")
            }
            Self::SpoofCheck { port, mac } => {
                let [a, b, c, d, e, g] = mac;
                write!(f, "MAC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} of port {port}")
            }
        }
    }
}
