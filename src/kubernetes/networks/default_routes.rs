//! By which network a pod's default routes go.

use std::net::IpAddr;

use chain::{Error, Result};

use super::Network;

/// Sets which networks lose their default route: those beside the one that a gateway of the family is named for. A family
/// that nobody names a gateway of stays as it is. `asked`: the `default-route` of each network, in their order; one that is
/// empty gives up both.
///
/// Errors (7): two gateways of one family.
pub(super) fn settle(networks: &mut [Network], asked: &[Option<&[IpAddr]>]) -> Result<()> {
    for v4 in [true, false] {
        let mut named = None;
        for (network, gateways) in networks.iter().zip(asked) {
            for gateway in
                gateways.iter().copied().flatten().filter(|gateway| gateway.is_ipv4() == v4)
            {
                if let Some((other, first)) = named.replace((&network.name, gateway)) {
                    return Err(Error::config(format!(
                        "a pod has one default route for {}, but two gateways are asked for: {first} (network {other}) and \
                         {gateway} (network {}); keep one of them in default-route",
                        if v4 { "IPv4" } else { "IPv6" },
                        network.name
                    )));
                }
            }
        }
        let is_named = named.is_some();
        for (network, gateways) in networks.iter_mut().zip(asked) {
            let own = gateways.unwrap_or_default();
            let keeps = own.iter().any(|gateway| gateway.is_ipv4() == v4);
            let gives_up = gateways.is_some() && own.is_empty();
            let lost = !keeps && (is_named || gives_up);
            let (v4_lost, v6_lost) = &mut network.loses_default;
            *(if v4 { v4_lost } else { v6_lost }) = lost;
        }
    }
    for (network, gateways) in networks.iter_mut().zip(asked) {
        network.gateways = gateways.unwrap_or_default().to_vec();
    }
    Ok(())
}
