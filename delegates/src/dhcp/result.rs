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
    let default = gateway.map(|router| (Ipv4Net::default(), router));
    let routes = match &lease.classless_routes[..] {
        [] => lease.static_routes.iter().copied().chain(default).collect(),
        classless => classless.to_vec(),
    };
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
            json!([{ "dst": "10.9.0.0/16", "gw": "10.7.0.3" }, { "dst": "10.8.0.0/16", "scope": 253 }])
        );
        let dns =
            json!({ "nameservers": ["10.7.0.1"], "domain": "a.example", "search": ["b.example"] });
        assert_eq!(result["dns"], dns);
    }
}
