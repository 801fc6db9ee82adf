//! Routes that the kernel lists. It is asked for as few as its filters can tell, and what it passes over is left out here.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
};
use nix::errno::Errno;

use super::{Route, Routes};
use crate::net::{Refusal, Result};

impl Routes<'_> {
    /// The routes of a family by a device and table (absent: main): unicast ones, of the table local the local ones.
    pub fn list(&self, v6: bool, dev: u32, table: Option<u32>) -> Result<Vec<Route>> {
        let table = table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
        let kind = if table == Route::TABLE_LOCAL { RouteType::Local } else { RouteType::Unicast };
        let mut filter = filter(v6, Some(table));
        filter.header.kind = kind;
        filter.attributes.push(RouteAttribute::Oif(dev));
        let routes = self.listed(filter)?;
        let routes = routes.iter().flat_map(Route::from_message);
        Ok(routes.filter(|route| route.dev == dev).collect())
    }

    /// The routes of a family, in the main table, that this routing daemon keeps.
    pub fn kept(&self, v6: bool, protocol: u8) -> Result<Vec<Route>> {
        let protocol = RouteProtocol::from(protocol);
        let mut filter = filter(v6, Some(RouteHeader::RT_TABLE_MAIN.into()));
        filter.header.kind = RouteType::Unicast;
        filter.header.protocol = protocol;
        let routes = self.listed(filter)?;
        let kept = routes.iter().filter(|message| message.header.protocol == protocol);
        Ok(kept.flat_map(Route::from_message).collect())
    }

    /// The indices of the devices by which a route was learned from router advertisements (IPv6).
    pub fn learned_by_ra(&self) -> Result<Vec<u32>> {
        let mut filter = filter(true, None);
        filter.header.protocol = RouteProtocol::Ra;
        let routes = self.listed(filter)?;
        let learned = routes.iter().filter(|message| message.header.protocol == RouteProtocol::Ra);
        Ok(learned.flat_map(Route::from_message).map(|route| route.dev).collect())
    }

    /// The namespace's own IPv4 addresses. The table has them alone; a list of addresses takes as long as there are devices.
    pub fn local_addresses(&self) -> Result<Vec<Ipv4Addr>> {
        let mut filter = filter(false, Some(Route::TABLE_LOCAL));
        filter.header.kind = RouteType::Local;
        let routes = self.listed(filter)?;
        let is_own = |message: &&RouteMessage| {
            message.header.kind == RouteType::Local
                && message.header.destination_prefix_length == 32
        };
        let routes = routes.iter().filter(is_own).flat_map(Route::from_message);
        let mut addresses: Vec<_> = routes
            .filter_map(|route| match route.dst.addr() {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            })
            .collect();
        // One that several devices have is listed for each.
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// The index of the device of the default route, of several that of the best.
    pub fn default_device(&self, v6: bool) -> Result<Option<u32>> {
        let mut filter = filter(v6, Some(RouteHeader::RT_TABLE_MAIN.into()));
        filter.header.kind = RouteType::Unicast;
        let routes = self.listed(filter)?;
        let is_meant = |message: &&RouteMessage| {
            message.header.kind == RouteType::Unicast
                && message.header.table == RouteHeader::RT_TABLE_MAIN
        };
        let routes = routes.iter().filter(is_meant).flat_map(Route::from_message);
        let defaults = routes.filter(|route| route.dst.prefix_len() == 0);
        Ok(defaults.min_by_key(|route| route.priority.unwrap_or(0)).map(|route| route.dev))
    }

    fn listed(&self, filter: RouteMessage) -> Result<Vec<RouteMessage>> {
        match self.0.dump(RouteNetlinkMessage::GetRoute(filter)) {
            Ok(answers) => Ok(answers
                .into_iter()
                .filter_map(|answer| match answer {
                    RouteNetlinkMessage::NewRoute(message) => Some(message),
                    _ => None,
                })
                .collect()),
            // No IPv6, or a table without routes, which does not exist.
            Err(Refusal { errno: Errno::EOPNOTSUPP | Errno::ENOENT, .. }) => Ok(Vec::new()),
            Err(refusal) => Err(refusal.on(format!("list the routes in {}", self.0.place()))),
        }
    }
}

fn filter(v6: bool, table: Option<u32>) -> RouteMessage {
    let mut filter = RouteMessage::default();
    filter.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    filter.attributes.extend(table.map(RouteAttribute::Table));
    filter
}
