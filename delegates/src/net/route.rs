//! `ip route`: routes.

mod listed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
        RouteProtocol, RouteType,
    },
};
use nix::errno::Errno;

use super::{Net, Refusal, Result, Wanted, addr::family};

/// Who made a route that has no other maker: an administrator, or a plugin for good.
const BOOT: RouteProtocol = RouteProtocol::Boot;

/// The routes of one namespace.
pub struct Routes<'a>(pub(super) &'a Net);

/// A unicast or local route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub dst: IpNet,
    /// The next hop; absent: on the link itself.
    pub via: Option<IpAddr>,
    /// The index of the device.
    pub dev: u32,
    /// The address packets of our own go out with.
    pub src: Option<IpAddr>,
    /// The scope as in rtnetlink(7) (0 everywhere, 253 link, 254 host); absent: by the next hop.
    pub scope: Option<u8>,
    /// The routing table; absent: main.
    pub table: Option<u32>,
    /// The metric.
    pub priority: Option<u32>,
    /// The path MTU.
    pub mtu: Option<u32>,
    /// The maximal segment size to advertise.
    pub advmss: Option<u32>,
    /// Whether the destination is one of the namespace's own addresses.
    pub local: bool,
    /// Whether the next hop is on the link although no route says so.
    pub onlink: bool,
}

impl Route {
    /// The scope of destinations on the link.
    pub const SCOPE_LINK: u8 = 253;
    /// The scope of the host itself.
    pub const SCOPE_HOST: u8 = 254;
    /// The table of the namespace's own addresses (`RT_TABLE_LOCAL` of linux/rtnetlink.h).
    pub const TABLE_LOCAL: u32 = 255;

    /// A route by a device.
    pub fn new(dst: IpNet, dev: u32) -> Self {
        Self {
            dst,
            dev,
            via: None,
            src: None,
            scope: None,
            table: None,
            priority: None,
            mtu: None,
            advmss: None,
            local: false,
            onlink: false,
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        if let Some(table) = self.table {
            write!(f, " table {table}")?;
        }
        Ok(())
    }
}

impl Routes<'_> {
    /// Adds a route; false where the very same is there already.
    ///
    /// A route to the same destination by another next hop is no hindrance: a second attachment may bring a default
    /// route of its own. The new one comes first (IPv4), or both become one multipath route (IPv6).
    pub fn add(&self, route: &Route) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::NewRoute(route.message(BOOT)), NLM_F_CREATE) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::EEXIST => Ok(false),
            Err(refusal) => Err(refusal.on(format!("add route {route} in {}", self.0.place()))),
        }
    }

    /// Adding a route as one of several changes.
    pub(crate) fn adding(&self, route: &Route) -> Wanted {
        Wanted {
            message: RouteNetlinkMessage::NewRoute(route.message(BOOT)),
            flags: NLM_F_CREATE,
            doing: format!("add route {route} in {}", self.0.place()),
            fine: Some(Errno::EEXIST),
        }
    }

    /// Removes a route; false where there is none such.
    pub fn del(&self, route: &Route) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::DelRoute(route.message(BOOT)), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ESRCH => Ok(false),
            Err(refusal) => Err(refusal.on(format!("remove route {route} in {}", self.0.place()))),
        }
    }

    /// Sets a route that this routing daemon (`protocol`, as in rtnetlink(7)) keeps. With `replaces` it takes the place of one
    /// that the daemon has to the same destination, and there is no moment without; otherwise one that somebody else has there
    /// is refused.
    pub fn keep(&self, route: &Route, protocol: u8, replaces: bool) -> Result<()> {
        let message = route.message(protocol.into());
        let how = if replaces { NLM_F_REPLACE } else { NLM_F_EXCL };
        self.0
            .request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | how)
            .map(drop)
            .map_err(|refusal| refusal.on(format!("set route {route} in {}", self.0.place())))
    }

    /// Removes a route that this routing daemon keeps; false where there is none such.
    pub fn drop_kept(&self, route: &Route, protocol: u8) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::DelRoute(route.message(protocol.into())), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ESRCH => Ok(false),
            Err(refusal) => Err(refusal.on(format!("remove route {route} in {}", self.0.place()))),
        }
    }

    /// Whether an address is one of the namespace's own.
    pub fn is_local(&self, ip: IpAddr) -> Result<bool> {
        Ok(self.to(ip)?.is_some_and(|route| route.local))
    }

    /// The index of the device on whose link an address is; `None` where it is further away, or nowhere.
    pub fn link_to(&self, ip: IpAddr) -> Result<Option<u32>> {
        let route = self.to(ip)?;
        Ok(route.filter(|route| !route.local && route.via.is_none()).map(|route| route.dev))
    }

    /// The index of the device by which packets to an address go; `None` where no way leads there, or it is the namespace's own.
    pub fn device_to(&self, ip: IpAddr) -> Result<Option<u32>> {
        Ok(self.to(ip)?.filter(|route| !route.local).map(|route| route.dev))
    }

    /// The route that a packet to an address takes.
    fn to(&self, ip: IpAddr) -> Result<Option<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ip);
        message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(ip.into()));
        match self.0.get(RouteNetlinkMessage::GetRoute(message)) {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Route::from_message(message).pop(),
                _ => None,
            })),
            Err(Refusal { errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH, .. }) => Ok(None),
            Err(refusal) => {
                Err(refusal.on(format!("look up the route to {ip} in {}", self.0.place())))
            }
        }
    }
}

impl Route {
    fn message(&self, protocol: RouteProtocol) -> RouteMessage {
        let mut message = RouteMessage::default();
        let table = self.table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
        message.header = RouteHeader {
            address_family: family(self.dst.addr()),
            destination_prefix_length: self.dst.prefix_len(),
            table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol,
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            scope: self.scope.unwrap_or_else(|| self.default_scope()).into(),
            kind: if self.local { RouteType::Local } else { RouteType::Unicast },
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Destination(self.dst.network().into()));
        attributes.push(RouteAttribute::Oif(self.dev));
        attributes.push(RouteAttribute::Table(table));
        attributes.extend(self.via.map(|via| RouteAttribute::Gateway(via.into())));
        attributes.extend(self.src.map(|src| RouteAttribute::PrefSource(src.into())));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        let metrics: Vec<_> =
            [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)]
                .into_iter()
                .flatten()
                .collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    fn default_scope(&self) -> u8 {
        if self.dst.addr().is_ipv4() && self.via.is_none() { Self::SCOPE_LINK } else { 0 }
    }

    /// The routes of a message: one, or one per next hop.
    fn from_message(message: &RouteMessage) -> Vec<Self> {
        let unspecified: IpAddr = match message.header.address_family {
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let prefix_len = message.header.destination_prefix_length;
        let Ok(nowhere) = IpNet::new(unspecified, prefix_len) else { return Vec::new() };
        let mut route = Self {
            scope: Some(message.header.scope.into()),
            table: Some(message.header.table.into()),
            local: message.header.kind == RouteType::Local,
            onlink: message.header.flags.contains(RouteFlags::Onlink),
            ..Self::new(nowhere, 0)
        };
        let mut hops = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(dst) => {
                    if let Some(dst) = ip(dst).and_then(|dst| IpNet::new(dst, prefix_len).ok()) {
                        route.dst = dst;
                    }
                }
                RouteAttribute::Oif(dev) => route.dev = *dev,
                RouteAttribute::Gateway(via) => route.via = ip(via),
                RouteAttribute::PrefSource(src) => route.src = ip(src),
                RouteAttribute::Table(table) => route.table = Some(*table),
                RouteAttribute::Priority(priority) => route.priority = Some(*priority),
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        match metric {
                            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                            RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
                            _ => {}
                        }
                    }
                }
                RouteAttribute::MultiPath(next_hops) => hops.extend(next_hops),
                _ => {}
            }
        }
        if hops.is_empty() {
            return vec![route];
        }
        hops.iter()
            .map(|hop| Self {
                dev: hop.interface_index,
                via: hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(via) => ip(via),
                    _ => None,
                }),
                ..route
            })
            .collect()
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
