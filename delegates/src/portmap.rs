//! portmap: ports of the node that lead into the container.
//!
//! Each mapping is an element of the node's ruleset (`nft-templates/catena.nft`), and what the container needs to reach
//! its own ports is one more. The rules themselves are the same for all.
//!
//! <https://www.cni.dev/plugins/current/meta/portmap/>

mod conditions;
mod conf;
mod path;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

use chain::{Attachment, Call, CniResult, History, NetworkCall, Plugin, PluginConf, Result};
use ipnet::IpNet;
use nft_templates::Element;

use crate::{
    chained::{own_ips, prev_result},
    interface::{self, Findings},
    net::conntrack::ConntrackFlush,
    node::{Elements, Node, owner},
    reference::{self, Addresses, Ports, StalePorts, Wanted},
};

use conf::Conf;
use path::Path;

/// The plugin. Its result is the one it was given.
pub struct Portmap;

impl Plugin<Node> for Portmap {
    fn kind(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let elements = conf.elements(call.attachment, result);
        if elements.is_empty() {
            // A network without addresses may stand beside the one that the ports are meant for: no reason to keep the
            // container from starting.
            if let Some(mapping) = conf.mappings.first() {
                tracing::warn!(
                    attachment = %call.attachment, %mapping,
                    "not mapped: the container has no address of its family on this network"
                );
            }
            return Ok(result.clone());
        }
        let owner = owner(call.attachment);
        let bridges = open_paths(&conf, call.attachment, result, node)?;
        forget_connections(&elements, node);
        for element in bridges.into_iter().chain(elements) {
            node.elements().add(element, &owner);
        }
        Ok(result.clone())
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        // What the path needed belongs to the interface, and goes with it.
        if let (Ok(conf), Some(result)) = (Conf::of(call.conf), call.prev_result) {
            forget_connections(&conf.elements(call.attachment, result), node);
        }
        interface::remove_elements(call, node, |conf, attachment, result| {
            let conf = Conf::of(conf)?;
            let mut elements = conf.elements(attachment, result);
            // Whether ADD made these depends on a sysctl that may have changed.
            elements.extend(conf.localhost6(attachment, result));
            Ok(elements)
        });
        if call.history == History::Unknown {
            let ports = Ports { addresses: Addresses::of(call, node), wanted: Vec::new() };
            reference::remove(&ports, node.dirs())?;
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let mut elements = conf.elements(call.attachment, result);
        if elements.is_empty() {
            return Ok(());
        }
        let mut findings = Findings::default();
        let mut paths = Vec::new();
        for ip in targets(call.attachment, result).filter(|_| conf.snat) {
            // ADD had nothing to open either.
            let Some(path) = Path::to(ip.addr(), node)? else { continue };
            elements.extend(path.bridge());
            paths.push((path, ip.addr().is_ipv6()));
        }
        let reference = Ports {
            addresses: Addresses::of(call, node),
            wanted: elements.iter().filter_map(wanted_of_reference).collect(),
        };
        let owner = owner(call.attachment);
        let made_by_reference =
            findings.elements_or_reference(node, elements, &owner, &reference)?;
        for (path, v6) in paths {
            match made_by_reference {
                false => path.check(v6, call.attachment, result, node, &mut findings)?,
                true => path.check_reference(v6, &mut findings),
            }
        }
        findings.verdict()
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let mut elements = conf.elements(call.attachment, result);
        if elements.is_empty() {
            return Ok(());
        }
        elements.extend(open_paths(&conf, call.attachment, result, node)?);
        let missing = interface::repair_elements(call.attachment, elements, node)?;
        forget_connections(&missing, node);
        Ok(())
    }

    fn gc(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        let stale = StalePorts { network: &call.conf.name, valid: call.valid };
        reference::remove(&stale, node.dirs())?;
        Elements::collect_bridges(node)
    }
}

/// The elements of the ruleset that an attachment has by this plugin, with those that its ports need on this node.
pub fn elements(
    conf: &PluginConf,
    attachment: &Attachment,
    result: &CniResult,
    node: &Node,
) -> Result<Vec<Element>> {
    let conf = Conf::of(conf)?;
    let mut elements = conf.elements(attachment, result);
    if elements.is_empty() {
        return Ok(elements);
    }
    for ip in targets(attachment, result).filter(|_| conf.snat) {
        // The bridge may be gone as well: whoever puts that back adds what it needs.
        let path = Path::to(ip.addr(), node)?;
        elements.extend(path.and_then(|path| path.bridge()));
    }
    Ok(elements)
}

/// A port as the reference plugin would have it: it has none of its own for `::1`.
fn wanted_of_reference(element: &Element) -> Option<Wanted> {
    match element {
        Element::HostPort { host_ip, host_port, to, .. }
            if *host_ip != Some(Ipv6Addr::LOCALHOST.into()) =>
        {
            Some(Wanted { host_port: *host_port, to: *to })
        }
        _ => None,
    }
}

/// Where ports lead: the container's first address of each family.
fn targets(attachment: &Attachment, result: &CniResult) -> impl Iterator<Item = IpNet> {
    [false, true].into_iter().filter_map(move |v6| {
        own_ips(attachment, result).map(|ip| ip.address).find(|ip| ip.addr().is_ipv6() == v6)
    })
}

/// Has tracked connections to these ports forgotten, once the elements are in place or away.
fn forget_connections(elements: &[Element], node: &mut Node) {
    for flush in elements.iter().filter_map(ConntrackFlush::of) {
        node.flush_conntrack(flush);
    }
}

/// Lets packets of the node itself, and of the container's own, get to its ports. Returns the elements that this takes.
fn open_paths(
    conf: &Conf,
    attachment: &Attachment,
    result: &CniResult,
    node: &Node,
) -> Result<Vec<Element>> {
    let mut elements = Vec::new();
    for ip in targets(attachment, result).filter(|_| conf.snat) {
        // A bridge without the node's own address has no way there.
        let Some(path) = Path::to(ip.addr(), node)? else { continue };
        path.open(ip.addr().is_ipv6(), attachment, result, node)?;
        elements.extend(path.bridge());
    }
    Ok(elements)
}
