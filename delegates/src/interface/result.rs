//! What a result says about the container's interface.

use std::net::IpAddr;

use chain::{
    Attachment, CniResult, Error, Result,
    result::{Interface, IpConfig, Route as ResultRoute},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;

use crate::{host_veth, net::route::Route};

/// Where the container's interface stands in a result.
pub(crate) fn position(attachment: &Attachment, result: &CniResult) -> Option<usize> {
    result
        .interfaces
        .iter()
        .position(|interface| interface.name == attachment.ifname && !interface.sandbox.is_empty())
}

/// The container's interface in a result.
pub(crate) fn inside<'r>(attachment: &Attachment, result: &'r CniResult) -> Option<&'r Interface> {
    position(attachment, result).and_then(|position| result.interfaces.get(position))
}

/// The MTU of the container's interface: a later plugin of the chain (tuning) that gave it another one says so in the
/// result.
pub(crate) fn mtu_inside(
    attachment: &Attachment,
    result: &CniResult,
    configured: Option<u32>,
) -> Option<u32> {
    inside(attachment, result).map(|inside| inside.mtu).filter(|mtu| *mtu != 0).or(configured)
}

/// Whether the result is of an ADD of ours: the name of the host's end says so. What another implementation made has its
/// rules elsewhere.
pub(crate) fn is_own(attachment: &Attachment, result: &CniResult) -> bool {
    let host_name = host_veth(attachment);
    result.interfaces.iter().any(|interface| interface.name == host_name)
}

/// The addresses of a result that are meant for the interface at `position` of its list.
///
/// As with the reference plugins an address without an index is passed over; one with an index that is not the
/// container's interface is an error.
pub(crate) fn addresses(result: &CniResult, position: usize) -> Result<Vec<&IpConfig>> {
    let mut own = Vec::new();
    for ip in &result.ips {
        match ip.interface {
            None => {}
            Some(index) if index == position => own.push(ip),
            Some(index) => {
                return Err(Error::config(format!(
                    "address {} is for interface {index} of the result, and the container's is {position}",
                    ip.address
                )));
            }
        }
    }
    Ok(own)
}

/// A route of a result as it is asked of the kernel: its gateway defaults to the family's first, unless its scope says that
/// its destinations are on the link.
pub(crate) fn wanted_route(route: &ResultRoute, index: u32, ips: &[&IpConfig]) -> Route {
    let same_family = |gateway: &IpAddr| gateway.is_ipv4() == route.dst.addr().is_ipv4();
    let on_link = route.scope.is_some_and(|scope| scope >= libc::RT_SCOPE_LINK);
    let default = || ips.iter().filter(|_| !on_link).filter_map(|ip| ip.gateway).find(same_family);
    Route {
        via: route.gw.or_else(default),
        scope: route.scope,
        table: route.table,
        priority: route.priority,
        mtu: route.mtu,
        advmss: route.advmss,
        ..Route::new(route.dst, index)
    }
}

/// A route of a result.
pub(crate) fn route_via(dst: IpNet, gateway: IpAddr) -> ResultRoute {
    ResultRoute {
        dst,
        gw: Some(gateway),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

/// The first address of a network: what a gateway is where none is given; `None` where it has no other than its own.
pub(crate) fn first_of(net: IpNet) -> Option<IpAddr> {
    let first = match net.network() {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| IpAddr::V6(ip.into())),
    };
    // An address that is alone on its subnet has none: that would be the next one's, whoever has it.
    first.filter(|first| net.contains(first))
}

/// `0.0.0.0/0` or `::/0`.
pub(crate) fn everywhere(v6: bool) -> IpNet {
    if v6 { Ipv6Net::default().into() } else { Ipv4Net::default().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str, gateway: Option<&str>, interface: Option<usize>) -> IpConfig {
        IpConfig {
            address: address.parse().unwrap(),
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            interface,
        }
    }

    fn route(dst: &str, gw: Option<&str>) -> ResultRoute {
        ResultRoute {
            dst: dst.parse().unwrap(),
            gw: gw.map(|gw| gw.parse().unwrap()),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }

    #[test]
    fn an_address_without_an_interface_is_passed_over_and_a_wrong_one_is_an_error() {
        let mut result = CniResult {
            ips: vec![ip("10.1.0.2/24", None, None), ip("10.1.0.3/24", None, Some(2))],
            ..CniResult::default()
        };
        let own = addresses(&result, 2).unwrap();
        assert_eq!(own.len(), 1);
        result.ips[0].interface = Some(0);
        assert!(addresses(&result, 2).unwrap_err().msg.contains("10.1.0.2/24"));
    }

    #[test]
    fn a_routes_gateway_defaults_to_the_familys_first() {
        let ips = [
            ip("10.1.0.2/24", None, Some(2)),
            ip("fd00::2/64", Some("fd00::1"), Some(2)),
            ip("10.2.0.2/24", Some("10.2.0.1"), Some(2)),
            ip("10.3.0.2/24", Some("10.3.0.1"), Some(2)),
        ];
        let ips: Vec<_> = ips.iter().collect();
        let via = |dst, gw| wanted_route(&route(dst, gw), 7, &ips).via.map(|ip| ip.to_string());
        assert_eq!(via("0.0.0.0/0", None).as_deref(), Some("10.2.0.1"));
        assert_eq!(via("::/0", None).as_deref(), Some("fd00::1"));
        assert_eq!(via("10.9.0.0/16", Some("10.1.0.9")).as_deref(), Some("10.1.0.9"));
        assert_eq!(wanted_route(&route("10.9.0.0/16", None), 7, &[]).via, None);
        let on_link = ResultRoute { scope: Some(253), ..route("10.9.0.0/16", None) };
        assert_eq!(wanted_route(&on_link, 7, &ips).via, None);
    }

    #[test]
    fn the_first_address_of_a_network() {
        for (net, first) in [("10.1.0.7/24", "10.1.0.1"), ("fd00:1::9/64", "fd00:1::1")] {
            assert_eq!(first_of(net.parse().unwrap()).unwrap().to_string(), first);
        }
        for alone in ["10.1.0.7/32", "fd00:1::9/128"] {
            assert_eq!(first_of(alone.parse().unwrap()), None);
        }
        assert_eq!(everywhere(false).to_string(), "0.0.0.0/0");
        assert_eq!(everywhere(true).to_string(), "::/0");
    }
}
