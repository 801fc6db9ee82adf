//! A pod's default routes: through the network that it names, and no other.

use std::{net::IpAddr, path::Path};

use chain::{Attachment, CniResult, Error, Result, result::Route as ResultRoute};
use delegates::{Container, Node, net::route::Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{PodAttachment, PodRecord, Pods};
use crate::kubernetes::networks::{self, DefaultRoutes, Role};

/// The default routes that an attachment's chain made and it does not have now: another network has them, or other gateways
/// are named. They come back when that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PutAway {
    /// Of which families (IPv4, IPv6) that is so.
    families: (bool, bool),
    /// Those of the kernel, each with its interface.
    kernel: Vec<(String, ResultRoute)>,
    /// Those of the result.
    result: Vec<ResultRoute>,
}

impl PutAway {
    /// Whether the attachment has what its chain made.
    pub fn is_empty(&self) -> bool {
        self.families == (false, false)
    }

    /// Whether those of a family are among them.
    pub fn has(&self, v6: bool) -> bool {
        if v6 { self.families.1 } else { self.families.0 }
    }

    fn set(&mut self, v6: bool, away: bool) {
        *(if v6 { &mut self.families.1 } else { &mut self.families.0 }) = away;
    }
}

impl DefaultRoutes {
    fn gateway(&self, v6: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == v6)
    }

    /// Whether a family's routes are not those that the chain makes.
    fn moves(&self, v6: bool) -> bool {
        self.gateway(v6).is_some() || if v6 { self.loses.1 } else { self.loses.0 }
    }
}

impl Pods<'_> {
    /// Has a pod's default routes go where it wants them, and records the results as they are then. `wanted` and `results`
    /// are of the record's attachments, in their order. It may be repeated at any time.
    pub(super) fn move_defaults(
        &self,
        record: &mut PodRecord,
        wanted: &[DefaultRoutes],
        results: &mut [CniResult],
        netns: &Path,
        node: &mut Node,
    ) -> Result<()> {
        let is_touched = |(one, wanted): (&PodAttachment, &DefaultRoutes)| {
            !one.put_away.is_empty() || wanted.moves(false) || wanted.moves(true)
        };
        let touched: Vec<_> = record.attachments.iter().zip(wanted).map(is_touched).collect();
        if !touched.contains(&true) {
            return Ok(());
        }
        let container = node.container(netns)?;
        for ((one, wanted), result) in record.attachments.iter_mut().zip(wanted).zip(&*results) {
            one.loses_default = wanted.loses;
            put_away(one, wanted, result, &container)?;
        }
        // What is taken away is on record before.
        self.records.write(record)?;
        // Those that lose theirs first: the kernel would have two for a moment otherwise, and refuse neither.
        for loses in [true, false] {
            for (index, wanted) in wanted.iter().enumerate() {
                if !touched[index] || (wanted.loses != (false, false)) != loses {
                    continue;
                }
                let (one, result) = (&mut record.attachments[index], &mut results[index]);
                let moved = apply(one, wanted, result, &container);
                let one = &record.attachments[index];
                moved.and_then(|()| self.amend(record, one, result)).map_err(|error| {
                    error.context(format_args!(
                        "default route of network {} ({})",
                        one.name, one.ifname
                    ))
                })?;
            }
        }
        self.records.write(record)
    }

    /// The same for a running pod, by the elements that it was attached by. A record of an older version does not have them:
    /// its routes stay.
    pub(super) fn settle_defaults(
        &self,
        record: &mut PodRecord,
        netns: &Path,
        node: &mut Node,
    ) -> Result<()> {
        let all = &record.attachments;
        if all.iter().any(|one| one.role == Role::Selected && one.asked.is_none()) {
            return Ok(());
        }
        let asked: Vec<_> = all
            .iter()
            .map(|one| {
                (
                    one.name.as_str(),
                    one.asked.as_ref().and_then(|asked| asked.default_route.as_deref()),
                )
            })
            .collect();
        let wanted = networks::settle_default_routes(&asked)?;
        let results = all.iter().map(|one| self.result_of(record, one));
        let mut results = results.collect::<Result<Vec<_>>>()?;
        self.move_defaults(record, &wanted, &mut results, netns, node)
    }

    /// CHECK and repair go by the recorded result.
    fn amend(&self, pod: &PodRecord, one: &PodAttachment, result: &CniResult) -> Result<()> {
        self.with_executor_of(pod, one.role, |executor| {
            let attachment = Attachment {
                network: one.network.clone(),
                ifname: one.ifname.clone(),
                ..pod.attachment(None)?
            };
            executor.amend(&attachment, result)
        })
    }
}

/// Notes the routes that are about to be taken away from an attachment, where its chain made them.
fn put_away(
    one: &mut PodAttachment,
    wanted: &DefaultRoutes,
    result: &CniResult,
    container: &Container,
) -> Result<()> {
    for v6 in [false, true] {
        if !wanted.moves(v6) || one.put_away.has(v6) {
            continue;
        }
        for (ifname, route) in defaults(container, &one.ifname, result, v6)? {
            let Route { dst, via: gw, mtu, advmss, priority, table, scope, .. } = route;
            let route = ResultRoute { dst, gw, mtu, advmss, priority, table, scope };
            one.put_away.kernel.push((ifname, route));
        }
        let own = result.routes.iter().filter(|route| is_default(&route.dst, v6));
        one.put_away.result.extend(own.cloned());
        one.put_away.set(v6, true);
    }
    Ok(())
}

/// Has the default routes by an attachment be those that are wanted, and its result tell that.
///
/// Errors: the kernel refuses a gateway, since no address of the interface reaches it.
fn apply(
    one: &mut PodAttachment,
    wanted: &DefaultRoutes,
    result: &mut CniResult,
    container: &Container,
) -> Result<()> {
    let routes = container.net()?.route();
    for v6 in [false, true] {
        if !one.put_away.has(v6) {
            continue;
        }
        let gateway = wanted.gateway(v6);
        let present = defaults(container, &one.ifname, result, v6)?;
        result.routes.retain(|route| !is_default(&route.dst, v6));
        let is_there = gateway.is_some()
            && matches!(&present[..], [(ifname, route)] if *ifname == one.ifname && route.via == gateway);
        if !is_there {
            for (_, route) in &present {
                routes.del(route)?;
            }
        }
        if let Some(gateway) = gateway {
            let link = container.net()?.link().require(&one.ifname)?;
            let dst = default_of(v6);
            let route = Route { via: Some(gateway), ..Route::new(dst, link.index) };
            let added = if is_there { Ok(false) } else { routes.add(&route) };
            added.map_err(|error| {
                Error::from(error).context(format_args!(
                    "gateway {gateway} in \"default-route\" must be reachable through the network's addresses"
                ))
            })?;
            result.routes.push(ResultRoute {
                dst,
                gw: Some(gateway),
                mtu: None,
                advmss: None,
                priority: None,
                table: None,
                scope: None,
            });
        } else if !wanted.moves(v6) {
            for (ifname, own) in
                one.put_away.kernel.iter().filter(|(_, own)| is_default(&own.dst, v6))
            {
                // An interface that somebody has removed has no routes.
                let Some(link) = container.net()?.link().get(ifname)? else { continue };
                let ResultRoute { dst, gw, mtu, advmss, priority, table, scope } = *own;
                let route = Route {
                    via: gw,
                    mtu,
                    advmss,
                    priority,
                    table,
                    scope,
                    ..Route::new(dst, link.index)
                };
                routes.add(&route)?;
            }
            let own = one.put_away.result.iter().filter(|own| is_default(&own.dst, v6));
            result.routes.extend(own.cloned());
            one.put_away.kernel.retain(|(_, own)| !is_default(&own.dst, v6));
            one.put_away.result.retain(|own| !is_default(&own.dst, v6));
            one.put_away.set(v6, false);
        }
    }
    Ok(())
}

/// The default routes by an attachment that it is not to have, each with its interface.
pub fn unwanted(
    one: &PodAttachment,
    result: &CniResult,
    netns: &Path,
    node: &Node,
) -> Result<Vec<(String, Route)>> {
    let (v4, v6) = one.loses_default;
    let container = node.container(netns)?;
    let mut found = Vec::new();
    for (is_lost, is_v6) in [(v4, false), (v6, true)] {
        if is_lost {
            found.extend(defaults(&container, &one.ifname, result, is_v6)?);
        }
    }
    Ok(found)
}

/// What CHECK says of such routes; `None` where there are none.
pub fn found(unwanted: &[(String, Route)]) -> Option<Error> {
    let by = |(ifname, route): &(String, Route)| match route.via {
        Some(via) => format!("via {via} dev {ifname}"),
        None => format!("dev {ifname}"),
    };
    let routes: Vec<_> = unwanted.iter().map(by).collect();
    (!routes.is_empty()).then(|| {
        Error::internal(format!(
            "the pod has a default route by this network again, which \"default-route\" in its annotation has taken from it: {}",
            routes.join(", ")
        ))
    })
}

/// Takes default routes away.
pub fn remove(unwanted: &[(String, Route)], netns: &Path, node: &Node) -> Result<()> {
    let container = node.container(netns)?;
    let routes = container.net()?.route();
    for (_, route) in unwanted {
        routes.del(route)?;
    }
    Ok(())
}

/// The default routes of a family by a network's interfaces in the pod.
fn defaults(
    container: &Container,
    ifname: &str,
    result: &CniResult,
    v6: bool,
) -> Result<Vec<(String, Route)>> {
    let mut found = Vec::new();
    for ifname in interfaces(ifname, result) {
        if let Some(link) = container.net()?.link().get(&ifname)? {
            let routes = container.net()?.route().list(v6, link.index, None)?;
            let defaults = routes.into_iter().filter(|route| is_default(&route.dst, v6));
            found.extend(defaults.map(|route| (ifname.clone(), route)));
        }
    }
    Ok(found)
}

/// The network's interfaces in the pod.
fn interfaces(ifname: &str, result: &CniResult) -> Vec<String> {
    let own = result.interfaces.iter().filter(|one| !one.sandbox.is_empty());
    let mut names: Vec<_> = own.map(|one| one.name.clone()).collect();
    if !names.iter().any(|name| name == ifname) {
        names.push(ifname.to_owned());
    }
    names
}

fn is_default(dst: &IpNet, v6: bool) -> bool {
    dst.prefix_len() == 0 && dst.addr().is_ipv6() == v6
}

fn default_of(v6: bool) -> IpNet {
    if v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) }
}
