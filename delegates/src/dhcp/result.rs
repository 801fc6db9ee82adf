//! A lease as a result of IPAM.

use std::net::{IpAddr, Ipv4Addr};

use chain::{
    CniResult,
    result::{Dns, IpConfig, Route},
};
use ipnet::{IpNet, Ipv4Net};
use nix::libc;

use super::Lease;

/// The result that a lease gives, as the reference plugin's: classless routes stand for all others (RFC 3442), and a default
/// route by the first router goes with the old ones. `priority` is the metric of all of them.
///
/// The kernel takes a route only where it reaches the router without one: what is on the link comes first, whatever the order that
/// the server has; an address that is alone in its subnet (mask /32) has its routers made known as on the link; and a route by
/// a router that nothing leads to is left out ([`unreachable`]).
///
/// Unlike the reference's it has the servers and domains of name resolution.
pub fn result(lease: &Lease, priority: Option<u32>) -> CniResult {
    let route = |dst: Ipv4Net, router: Ipv4Addr| Route {
        dst: IpNet::V4(dst.trunc()),
        gw: (!router.is_unspecified()).then_some(IpAddr::V4(router)),
        // Without a router it would get the default one by default.
        scope: router.is_unspecified().then_some(libc::RT_SCOPE_LINK),
        mtu: lease.mtu.map(u32::from),
        priority,
        advmss: None,
        table: None,
    };
    let gateway = lease.routers.first().copied();
    let routes = reachable(lease);
    CniResult {
        ips: Ipv4Net::new(lease.address, lease.prefix)
            .map(|net| IpConfig {
                address: IpNet::V4(net),
                gateway: gateway.map(IpAddr::V4),
                interface: None,
            })
            .into_iter()
            .collect(),
        routes: routes.into_iter().map(|(dst, router)| route(dst, router)).collect(),
        dns: Dns {
            nameservers: lease.dns.iter().map(Ipv4Addr::to_string).collect(),
            domain: lease.domain.clone().unwrap_or_default(),
            search: lease.search.clone(),
            options: Vec::new(),
        },
        ..CniResult::default()
    }
}

/// A destination, and the router to it; 0.0.0.0 where it is on the link.
type Leads = (Ipv4Net, Ipv4Addr);

/// What a server says of routes, in its order.
fn said(lease: &Lease) -> Vec<Leads> {
    let default = lease.routers.first().map(|router| (Ipv4Net::default(), *router));
    match &lease.classless_routes[..] {
        [] => lease.static_routes.iter().copied().chain(default).collect(),
        classless => classless.to_vec(),
    }
}

/// Whether the router of a route can be reached by the lease's own subnet or by what is on the link.
fn is_reached(lease: &Lease, said: &[Leads], router: Ipv4Addr) -> bool {
    let on_link = said.iter().filter(|(_, by)| by.is_unspecified()).map(|(to, _)| *to);
    let own = Ipv4Net::new(lease.address, lease.prefix).ok();
    router != lease.address && own.into_iter().chain(on_link).any(|net| net.contains(&router))
}

/// The routes of a lease that the kernel takes, in an order in which it does.
fn reachable(lease: &Lease) -> Vec<Leads> {
    let said = said(lease);
    let (on_link, mut by_routers): (Vec<_>, Vec<_>) =
        said.iter().copied().partition(|(_, router)| router.is_unspecified());
    let mut first = on_link;
    if lease.prefix == 32 {
        for (_, router) in &by_routers {
            if *router != lease.address && !is_reached(lease, &first, *router) {
                first.push((Ipv4Net::from(*router), Ipv4Addr::UNSPECIFIED));
            }
        }
    }
    by_routers.retain(|(_, router)| is_reached(lease, &first, *router));
    first.extend(by_routers);
    first
}

/// The routes that a server tells of whose routers nothing leads to: the result has none of them.
pub(super) fn unreachable(lease: &Lease) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let reachable = reachable(lease);
    said(lease).into_iter().filter(|route| !reachable.contains(route)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(more: serde_json::Value) -> Lease {
        let mut all = json!({
            "address": "10.7.0.50", "prefix": 24, "server": "10.7.0.1", "server_mac": "02:00:00:00:00:01",
            "lease_time": 3600, "renew_after": 1800, "rebind_after": 3150, "routers": ["10.7.0.1", "10.7.0.2"],
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_first_router_is_gateway_and_default_route_beside_static_routes() {
        let lease = lease(json!({ "static_routes": [["10.0.0.0/8", "10.7.0.3"]], "mtu": 1400 }));
        let result = serde_json::to_value(result(&lease, Some(7))).unwrap();
        assert_eq!(
            result,
            json!({
                "ips": [{ "address": "10.7.0.50/24", "gateway": "10.7.0.1" }],
                "routes": [
                    { "dst": "10.0.0.0/8", "gw": "10.7.0.3", "mtu": 1400, "priority": 7 },
                    { "dst": "0.0.0.0/0", "gw": "10.7.0.1", "mtu": 1400, "priority": 7 },
                ],
            })
        );
    }

    #[test]
    fn classless_routes_stand_alone_and_those_without_a_router_are_on_the_link() {
        let lease = lease(json!({
            "static_routes": [["10.0.0.0/8", "10.7.0.3"]],
            "classless_routes": [["10.9.0.0/16", "10.7.0.3"], ["10.8.0.0/16", "0.0.0.0"]],
            "dns": ["10.7.0.1"], "domain": "a.example", "search": ["b.example"],
        }));
        let result = serde_json::to_value(result(&lease, None)).unwrap();
        assert_eq!(
            result["routes"],
            json!([{ "dst": "10.8.0.0/16", "scope": 253 }, { "dst": "10.9.0.0/16", "gw": "10.7.0.3" }])
        );
        let dns =
            json!({ "nameservers": ["10.7.0.1"], "domain": "a.example", "search": ["b.example"] });
        assert_eq!(result["dns"], dns);
    }

    fn routes(more: serde_json::Value) -> (Vec<String>, Vec<String>) {
        let lease = lease(more);
        let say = |to: IpNet, gw: Option<IpAddr>| match gw {
            Some(gw) => format!("{to} via {gw}"),
            None => format!("{to} on the link"),
        };
        let has =
            result(&lease, None).routes.iter().map(|route| say(route.dst, route.gw)).collect();
        let left_out = unreachable(&lease).into_iter();
        (has, left_out.map(|(to, router)| say(to.into(), Some(router.into()))).collect())
    }

    #[test]
    fn what_is_on_the_link_comes_before_what_needs_it() {
        let (has, left_out) = routes(json!({
            "prefix": 32,
            "classless_routes": [["0.0.0.0/0", "10.1.1.1"], ["10.1.1.1/32", "0.0.0.0"]],
        }));
        assert_eq!(has, ["10.1.1.1/32 on the link", "0.0.0.0/0 via 10.1.1.1"]);
        assert!(left_out.is_empty());
    }

    #[test]
    fn an_address_alone_in_its_subnet_has_its_routers_on_the_link() {
        let more = json!({ "prefix": 32, "static_routes": [["10.0.0.0/8", "10.7.0.1"]] });
        let expected =
            ["10.7.0.1/32 on the link", "10.0.0.0/8 via 10.7.0.1", "0.0.0.0/0 via 10.7.0.1"];
        assert_eq!(routes(more).0, expected);
        let itself = json!({ "prefix": 32, "routers": ["10.7.0.50"] });
        assert_eq!(routes(itself), (vec![], vec!["0.0.0.0/0 via 10.7.0.50".to_owned()]));
    }

    #[test]
    fn a_route_by_a_router_that_nothing_leads_to_is_left_out() {
        let (has, left_out) = routes(json!({
            "classless_routes": [["10.9.0.0/16", "192.0.2.1"], ["0.0.0.0/0", "10.7.0.1"]],
        }));
        assert_eq!(has, ["0.0.0.0/0 via 10.7.0.1"]);
        assert_eq!(left_out, ["10.9.0.0/16 via 192.0.2.1"]);
    }
}
