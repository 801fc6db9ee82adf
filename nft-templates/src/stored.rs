//! Elements as the kernel stores them: which set, which bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    conditions::{self, Subject},
    element::{Element, IpFamily, Key, Protocol},
    error::Error,
    owner::Owner,
    policy::{Action, Policy},
};

/// The table's name, in both families.
pub(crate) const TABLE: &str = "catena";

/// Longest name of an interface (IFNAMSIZ without the NUL).
const IFNAME_MAX: usize = 15;

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
    /// `inet`
    Inet,
    /// `bridge`
    Bridge,
}

impl Family {
    /// Those of the two tables that are ours: `inet catena` and `bridge catena`.
    pub(crate) const OURS: [Self; 2] = [Self::Inet, Self::Bridge];
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

/// What a map's element leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    /// Nothing: the element of a set.
    Nothing,
    /// Bytes.
    Bytes(Vec<u8>),
    /// `goto CHAIN`
    Goto(String),
    /// Nothing either: the first address past a range.
    End,
}

/// Where an element is: its set and the bytes of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) family: Family,
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
}

/// An element of a set or map, with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) value: Value,
    pub(crate) owner: Owner,
}

/// The sets and maps that hold elements of pods, per table.
pub(crate) fn sets(family: Family) -> &'static [&'static str] {
    match family {
        Family::Inet => &[
            "hostports4_addr",
            "hostports4",
            "hostports6_addr",
            "hostports6",
            "conditions4_addr",
            "conditions4",
            "conditions6_addr",
            "conditions6",
            "masqueraded4",
            "masqueraded6",
            "hairpin4",
            "hairpin6",
            "bridges",
            "egress4",
            "egress6",
            "forwarded4",
            "forwarded6",
            "closed_bridges",
            "closed4",
            "closed6",
            "closers4",
            "closers6",
            "neighbours4",
            "neighbours6",
        ],
        Family::Bridge => &["macspoofchk", "macs"],
        Family::Ip | Family::Ip6 => &[],
    }
}

/// The places of a key. Most have one. A port's second one is that of its conditions, an ingress policy's that of its bridge.
pub(crate) fn places(key: &Key) -> Vec<Place> {
    let inet = |set: &'static str, key: Vec<u8>| Place { family: Family::Inet, set, key };
    let bridge = |set: &'static str, key: Vec<u8>| Place { family: Family::Bridge, set, key };
    let of = |address: &IpAddr, v4: &'static str, v6: &'static str| match address {
        IpAddr::V4(_) => v4,
        IpAddr::V6(_) => v6,
    };
    match key {
        Key::HostPort { protocol, host_ip, host_port } => {
            let mut bytes = Vec::new();
            if !host_ip.is_unspecified() {
                bytes.extend(octets(*host_ip));
            }
            // Each part of a concatenation starts at a multiple of four bytes.
            bytes.extend([protocol.number(), 0, 0, 0]);
            bytes.extend(padded_port(*host_port));
            let (ports, conditions) = port_maps(*host_ip);
            vec![inet(ports, bytes.clone()), inet(conditions, bytes)]
        }
        Key::Hairpin { address } => {
            vec![inet(of(address, "hairpin4", "hairpin6"), octets(*address).repeat(2))]
        }
        Key::Bridge { ifname } => vec![inet("bridges", padded_ifname(ifname).repeat(2))],
        Key::Egress { source } => vec![inet(of(source, "egress4", "egress6"), octets(*source))],
        Key::Masqueraded { address } => {
            vec![inet(of(address, "masqueraded4", "masqueraded6"), octets(*address))]
        }
        Key::Forwarded { address } => {
            vec![inet(of(address, "forwarded4", "forwarded6"), octets(*address))]
        }
        Key::ClosedBridge { ifname } => vec![inet("closed_bridges", padded_ifname(ifname))],
        Key::Closed { address, bridge } => {
            let pair = [octets(*address), padded_ifname(bridge)].concat();
            vec![
                inet(of(address, "closed4", "closed6"), octets(*address)),
                inet(of(address, "closers4", "closers6"), pair),
            ]
        }
        Key::Neighbours { address, bridge } => {
            let pair = [octets(*address), padded_ifname(bridge)].concat();
            vec![inet(of(address, "neighbours4", "neighbours6"), pair)]
        }
        Key::SpoofCheck { port, mac } => {
            let name = padded_ifname(port);
            let pair = [&name[..], mac, &[0, 0]].concat();
            vec![bridge("macspoofchk", name), bridge("macs", pair)]
        }
    }
}

/// The maps that a port is in: where it leads, and under which conditions.
fn port_maps(host_ip: IpAddr) -> (&'static str, &'static str) {
    match (host_ip, host_ip.is_unspecified()) {
        (IpAddr::V4(_), true) => ("hostports4", "conditions4"),
        (IpAddr::V4(_), false) => ("hostports4_addr", "conditions4_addr"),
        (IpAddr::V6(_), true) => ("hostports6", "conditions6"),
        (IpAddr::V6(_), false) => ("hostports6_addr", "conditions6_addr"),
    }
}

/// The chain that an element leads to, if it leads to one: its name and text.
pub(crate) fn chain(element: &Element) -> Option<(String, String)> {
    match element {
        Element::Egress { source, policy } => Some(policy.named(IpFamily::of(*source))),
        Element::HostPort { conditions, to, .. } if !conditions.is_empty() => {
            let Key::HostPort { host_ip, .. } = element.key() else { return None };
            let (map, _) = port_maps(host_ip);
            Some(conditions::chain(conditions, IpFamily::of(to.ip()), map))
        }
        _ => None,
    }
}

/// The name of the chain that an element leads to.
fn chain_name(element: &Element) -> Option<String> {
    match element {
        Element::Egress { source, policy } => Some(policy.chain(IpFamily::of(*source))),
        _ => chain(element).map(|(name, _)| name),
    }
}

/// The entries that make up an element. Checks that the element can exist.
pub(crate) fn entries(element: &Element, owner: &Owner) -> Result<Vec<Entry>, Error> {
    let invalid =
        |why: &str| Err(Error::Invalid { element: Box::new(element.clone()), why: why.to_owned() });
    match element {
        Element::HostPort { host_ip, host_port, to, conditions, .. } => {
            if *host_port == 0 || to.port() == 0 {
                return invalid("port 0 cannot be mapped: use 1 to 65535");
            }
            if to.ip().is_unspecified() {
                return invalid("a port can only lead to the address of a pod");
            }
            if host_ip.is_some_and(|ip| IpFamily::of(ip) != IpFamily::of(to.ip())) {
                return invalid("the host's address and the pod's are of different families");
            }
            let family = IpFamily::of(to.ip());
            if let Some(other) = conditions.iter().find(|condition| !condition.is_of(family)) {
                return invalid(&format!("\"{other}\" is of the other family"));
            }
            if let Some(name) = conditions.iter().find_map(|condition| match &condition.subject {
                Subject::Interface(name) if !is_ifname(name) || name.contains('"') => Some(name),
                _ => None,
            }) {
                return invalid(&format!("{name:?} is not a name of an interface"));
            }
        }
        Element::Bridge { ifname }
        | Element::ClosedBridge { ifname }
        | Element::Closed { bridge: ifname, .. }
        | Element::Neighbours { bridge: ifname, .. }
        | Element::SpoofCheck { port: ifname, .. }
            if !is_ifname(ifname) =>
        {
            return invalid("not a name of an interface: 1 to 15 bytes without \"/\" and spaces");
        }
        Element::Egress { source, policy: Policy { action: Action::Snat(to), .. } }
            if IpFamily::of(*to) != IpFamily::of(*source) =>
        {
            return invalid(&format!("cannot leave as {to}, which is of the other family"));
        }
        _ => {}
    }
    let goto = chain_name(element).map(Value::Goto);
    let value = match element {
        Element::HostPort { to, .. } => {
            Value::Bytes([octets(to.ip()), padded_port(to.port()).to_vec()].concat())
        }
        _ => goto.clone().unwrap_or(Value::Nothing),
    };
    let key = element.key();
    let owner = match key {
        Key::Bridge { .. } => Owner::shared(),
        _ => owner.clone(),
    };
    let entry = |place: Place| {
        let value = match (element, place.set) {
            (Element::HostPort { .. }, set) if set.starts_with("conditions") => goto.clone()?,
            _ => value.clone(),
        };
        Some(Entry { place, value, owner: owner.clone() })
    };
    Ok(places(&key).into_iter().filter_map(entry).collect())
}

/// What an element in the kernel stands for. `None` for one that says nothing by itself (a port that is
/// spoof-checked is named with its MAC address in another set, a pod with an ingress policy with its bridge, and conditions
/// are a port's) or that nobody could have made.
pub(crate) fn key(place: &Place) -> Option<Key> {
    let bytes = &place.key[..];
    Some(match place.set {
        "hostports4" => host_port(Ipv4Addr::UNSPECIFIED.into(), bytes)?,
        "hostports6" => host_port(Ipv6Addr::UNSPECIFIED.into(), bytes)?,
        "hostports4_addr" => host_port(address(bytes.get(..4)?)?, bytes.get(4..)?)?,
        "hostports6_addr" => host_port(address(bytes.get(..16)?)?, bytes.get(16..)?)?,
        "hairpin4" => Key::Hairpin { address: address(bytes.get(..4)?)? },
        "hairpin6" => Key::Hairpin { address: address(bytes.get(..16)?)? },
        "bridges" => Key::Bridge { ifname: ifname(bytes.get(..16)?)? },
        "egress4" | "egress6" => Key::Egress { source: address(bytes)? },
        "masqueraded4" | "masqueraded6" => Key::Masqueraded { address: address(bytes)? },
        "forwarded4" | "forwarded6" => Key::Forwarded { address: address(bytes)? },
        "closed_bridges" => Key::ClosedBridge { ifname: ifname(bytes.get(..16)?)? },
        "closers4" | "closers6" => {
            let (address, bridge) = on_bridge(bytes)?;
            Key::Closed { address, bridge }
        }
        "neighbours4" | "neighbours6" => {
            let (address, bridge) = on_bridge(bytes)?;
            Key::Neighbours { address, bridge }
        }
        "macs" => Key::SpoofCheck {
            port: ifname(bytes.get(..16)?)?,
            mac: bytes.get(16..22)?.try_into().ok()?,
        },
        _ => return None,
    })
}

/// An address and the name of an interface.
fn on_bridge(bytes: &[u8]) -> Option<(IpAddr, String)> {
    let (ip, bridge) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
    Some((address(ip)?, ifname(bridge)?))
}

/// The pod's end of a host port, from the value in the kernel.
pub(crate) fn target(value: &Value) -> Option<SocketAddr> {
    let Value::Bytes(bytes) = value else { return None };
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(SocketAddr::new(address(ip)?, u16::from_be_bytes([port[0], port[1]])))
}

fn host_port(host_ip: IpAddr, rest: &[u8]) -> Option<Key> {
    let [protocol, _, _, _, high, low, _, _] = *rest else { return None };
    let protocol = Protocol::from_number(protocol)?;
    Some(Key::HostPort { protocol, host_ip, host_port: u16::from_be_bytes([high, low]) })
}

/// The address of these bytes, by their number.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

fn ifname(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

pub(crate) fn padded_ifname(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAME_MAX + 1, 0);
    bytes
}

fn is_ifname(name: &str) -> bool {
    (1..=IFNAME_MAX).contains(&name.len())
        && !name.bytes().any(|b| b == b'/' || b == 0 || b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        let address = any::<IpAddr>();
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
        let name = "[a-z0-9.@_-]{1,15}";
        prop_oneof![
            (protocol, any::<IpAddr>(), 1..=u16::MAX).prop_map(|(protocol, host_ip, host_port)| {
                Key::HostPort { protocol, host_ip, host_port }
            }),
            address.prop_map(|address| Key::Hairpin { address }),
            any::<IpAddr>().prop_map(|source| Key::Egress { source }),
            any::<IpAddr>().prop_map(|address| Key::Masqueraded { address }),
            name.prop_map(|ifname| Key::Bridge { ifname }),
            any::<IpAddr>().prop_map(|address| Key::Forwarded { address }),
            name.prop_map(|ifname| Key::ClosedBridge { ifname }),
            (any::<IpAddr>(), name).prop_map(|(address, bridge)| Key::Closed { address, bridge }),
            (any::<IpAddr>(), name)
                .prop_map(|(address, bridge)| Key::Neighbours { address, bridge }),
            (name, any::<[u8; 6]>()).prop_map(|(port, mac)| Key::SpoofCheck { port, mac }),
        ]
    }

    proptest! {
        #[test]
        fn a_key_reads_back_from_its_place(is in keys()) {
            let read: Vec<_> = places(&is).iter().filter_map(key).collect();
            prop_assert_eq!(read, vec![is]);
        }

        #[test]
        fn different_keys_are_at_different_places(a in keys(), b in keys()) {
            prop_assume!(a != b);
            prop_assert_ne!(places(&a).pop(), places(&b).pop());
        }

        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for family in Family::OURS {
                for set in sets(family) {
                    let _ = key(&Place { family, set, key: bytes.clone() });
                }
            }
            let _ = target(&Value::Bytes(bytes));
        }

        #[test]
        fn a_port_leads_where_it_was_told(to in any::<SocketAddr>()) {
            let to = SocketAddr::new(to.ip(), to.port().max(1));
            let element = Element::HostPort {
                protocol: Protocol::Tcp, host_ip: None, host_port: 80, to, conditions: vec![],
            };
            if !to.ip().is_unspecified() {
                let entries = entries(&element, &Owner::new("web", "id", "eth0")).unwrap();
                prop_assert_eq!(target(&entries[0].value), Some(SocketAddr::new(to.ip(), to.port())));
            }
        }
    }
}
