//! The container's interface: what bridge and ptp have in common.

mod check;
mod common;
mod conf;
mod forwarding;
pub(crate) mod veth;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use chain::{
    CniResult, Error, Result,
    result::{IpConfig, Route as ResultRoute},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    net::{
        Net, NetError, Sysctl,
        addr::NewAddress,
        link::{Change, Link},
        route::Route,
        sysctl::Family,
    },
    node::Container,
};

pub(crate) use check::Findings;
pub(crate) use common::{
    delete_inside, inside, masquerade, position, remove_elements, route_via, run_ipam,
};
pub(crate) use conf::{MasqBackend, null_is_default, requested_mac};
pub(crate) use forwarding::enable_forwarding;

/// How long IPv6 duplicate address detection may take: as long as with the reference plugins.
const DAD_LIMIT: Duration = Duration::from_secs(5);
/// How long an end of the veth may take to carry packets: as long as with the reference plugin.
const CARRIER_LIMIT: Duration = Duration::from_millis(2550);
/// The first pause of a wait; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(250);
/// The longest pause of a wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

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

/// The sysctls of an interface that is about to get addresses.
pub(crate) fn sysctls(ifname: &str, ips: &[&IpConfig]) -> Vec<Sysctl> {
    let mut sysctls = Vec::new();
    if ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        for name in ["lo", ifname] {
            sysctls.push(Sysctl::required(Sysctl::conf(Family::V6, name, "disable_ipv6"), "0"));
        }
        // Addresses survive a link that goes down and up again, as IPv4's do.
        sysctls.push(Sysctl::wanted(Sysctl::conf(Family::V6, ifname, "keep_addr_on_down"), "1"));
    }
    sysctls
}

/// How an interface gets its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// IPv6 addresses are tried for duplicates before they are used; otherwise they can be used at once.
    pub detect_duplicates: bool,
    /// Each address's subnet is on the link.
    pub on_link: bool,
}

/// Gives the container's interface its addresses, and sets it up.
///
/// Sysctls are written before this: some act on the addresses that are added here. Routes come after it.
pub(crate) fn set_up(
    container: &Container,
    link: &Link,
    ips: &[&IpConfig],
    manner: Manner,
) -> Result<()> {
    let net = container.net();
    let Manner { detect_duplicates, on_link } = manner;
    for ip in ips {
        let address = NewAddress { net: ip.address, detect_duplicates, on_link };
        net.addr().add(link.index, &address)?;
    }
    net.link().set(&link.name, &Change { up: Some(true), ..Change::default() })?;
    if detect_duplicates && ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        settle(net, link)?;
    }
    Ok(())
}

/// Adds the routes of a result to the container's interface. What is there already is no error.
pub(crate) fn add_routes(
    net: &Net,
    index: u32,
    ips: &[&IpConfig],
    routes: &[ResultRoute],
) -> Result<()> {
    for route in routes {
        net.route().add(&wanted_route(route, index, ips))?;
    }
    Ok(())
}

/// A route of a result as it is asked of the kernel: its gateway defaults to the family's first.
pub(crate) fn wanted_route(route: &ResultRoute, index: u32, ips: &[&IpConfig]) -> Route {
    let same_family = |gateway: &IpAddr| gateway.is_ipv4() == route.dst.addr().is_ipv4();
    let default = || ips.iter().filter_map(|ip| ip.gateway).find(same_family);
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

/// Waits until no address is tentative any more.
///
/// Also an address that is not tried for duplicates answers only when the kernel's worker has got to it.
pub(crate) fn settle(net: &Net, link: &Link) -> Result<()> {
    let mut tentative = String::new();
    let settled = poll(DAD_LIMIT, || {
        let addresses = net.addr().list(link.index)?;
        if let Some(duplicate) = addresses.iter().find(|address| address.dad_failed) {
            return Err(NetError::Duplicate {
                address: duplicate.net.to_string(),
                link: link.name.clone(),
                place: net.place().to_owned(),
            });
        }
        let waiting = addresses.iter().find(|address| address.tentative);
        tentative = waiting.map(|address| address.net.to_string()).unwrap_or_default();
        Ok(waiting.is_none().then_some(()))
    })?;
    settled.ok_or_else(|| {
        let what = format!("address {tentative} on {} in {} is tentative", link.name, net.place());
        NetError::Timeout { what, limit: DAD_LIMIT }.into()
    })
}

/// Waits until an end of the veth carries packets: both ends are up, and the kernel acts on that a moment later.
pub(crate) fn await_carrier(net: &Net, name: &str) -> Result<Link> {
    let running = poll(CARRIER_LIMIT, || {
        let link = net.link().require(name)?;
        Ok(link.running.then_some(link))
    })?;
    running.ok_or_else(|| {
        let what = format!("interface {name} in {} does not carry packets", net.place());
        NetError::Timeout { what, limit: CARRIER_LIMIT }.into()
    })
}

/// Asks until there is an answer, or the time is over.
fn poll<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, NetError>,
) -> Result<Option<T>, NetError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// The first address of a network: what a gateway is where none is given.
pub(crate) fn first_of(net: IpNet) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| IpAddr::V6(ip.into())),
    }
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
    }

    #[test]
    fn the_first_address_of_a_network() {
        for (net, first) in [("10.1.0.7/24", "10.1.0.1"), ("fd00:1::9/64", "fd00:1::1")] {
            assert_eq!(first_of(net.parse().unwrap()).unwrap().to_string(), first);
        }
        assert_eq!(everywhere(false).to_string(), "0.0.0.0/0");
        assert_eq!(everywhere(true).to_string(), "::/0");
    }
}
