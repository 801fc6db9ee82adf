//! By which network a pod's default routes go.

use std::net::IpAddr;

use chain::{Error, Result};

/// What a network has of the pod's default routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// The gateways of those that go through it.
    pub gateways: Vec<IpAddr>,
    /// Address families (IPv4, IPv6) of which it is not to have one.
    pub loses: (bool, bool),
}

/// Which networks lose their default route: those beside the one that a gateway of the family is named for. A family that
/// nobody names a gateway of stays as it is. `asked`: the name and the `default-route` of each network, in their order; one
/// that is empty gives up both.
///
/// Errors (7): two gateways of one family.
pub fn settle(asked: &[(&str, Option<&[IpAddr]>)]) -> Result<Vec<DefaultRoutes>> {
    let gateways = |own: &Option<&[IpAddr]>| own.unwrap_or_default().to_vec();
    let mut settled: Vec<_> = asked
        .iter()
        .map(|(_, own)| DefaultRoutes { gateways: gateways(own), loses: (false, false) })
        .collect();
    for v4 in [true, false] {
        let mut named = None;
        for (network, own) in asked {
            for gateway in own.iter().copied().flatten().filter(|gateway| gateway.is_ipv4() == v4) {
                if let Some((other, first)) = named.replace((network, gateway)) {
                    return Err(Error::config(format!(
                        "a pod has one default route for {}, but two gateways are asked for: {first} (network {other}) and \
                         {gateway} (network {network}); keep one of them in default-route",
                        if v4 { "IPv4" } else { "IPv6" },
                    )));
                }
            }
        }
        let is_named = named.is_some();
        for (settled, (_, own)) in settled.iter_mut().zip(asked) {
            let keeps = settled.gateways.iter().any(|gateway| gateway.is_ipv4() == v4);
            let gives_up = own.is_some_and(<[_]>::is_empty);
            let lost = !keeps && (is_named || gives_up);
            let (v4_lost, v6_lost) = &mut settled.loses;
            *(if v4 { v4_lost } else { v6_lost }) = lost;
        }
    }
    Ok(settled)
}
