//! What ports need on the way from the node to the container, besides the ruleset.

use std::net::{IpAddr, Ipv6Addr};

use chain::{Attachment, CniResult, Result};
use ipnet::{IpNet, Ipv6Net};
use nft_templates::Element;

use crate::{
    interface::Findings,
    net::{
        Sysctl,
        link::{Change, Link},
        route::Route,
        sysctl::{self, Family},
    },
    node::Node,
};

/// The metric of the routes to `::1` beside the kernel's own, less the index of their interface: after it, which has 0.
const LOOPBACK_METRIC: u32 = 2048;

/// The node's interface towards the container: a bridge, or the container's own link.
pub(super) struct Path {
    link: Link,
}

impl Path {
    /// The way to an address of the container; `None` where the node has no link to it (macvlan, another node).
    pub fn to(address: IpAddr, node: &Node) -> Result<Option<Self>> {
        let host = node.host()?;
        let Some(link) = host.route().link_to(address)? else { return Ok(None) };
        Ok(node.host_link(link)?.map(|link| Self { link }))
    }

    /// The container's port of the bridge: the one that the result lists, or else the other end of its interface
    /// (weave-net's result lists nothing).
    fn port(
        &self,
        attachment: &Attachment,
        result: &CniResult,
        node: &Node,
    ) -> Result<Option<Link>> {
        if self.link.kind != "bridge" {
            return Ok(None);
        }
        let is_port = |link: &Link| link.master == Some(self.link.index);
        if let Some(made) = node.veth(attachment).filter(|made| is_port(&made.outside)) {
            return Ok(Some(made.outside.clone()));
        }
        let host = node.host()?;
        let here = result.interfaces.iter().filter(|one| one.sandbox.is_empty());
        for interface in here.filter(|one| one.name != self.link.name) {
            if let Some(port) = host.link().get(&interface.name)?.filter(is_port) {
                return Ok(Some(port));
            }
        }
        let container = node.container(attachment.netns()?)?;
        let Some(inside) = container.net()?.link().get(&attachment.ifname)? else {
            return Ok(None);
        };
        Ok(host.link().other_end(&inside, container.netns())?.filter(is_port))
    }

    /// The bridge's element: its ports reach each other's host ports.
    pub fn bridge(&self) -> Option<Element> {
        (self.link.kind == "bridge").then(|| Element::Bridge { ifname: self.link.name.clone() })
    }

    /// Lets packets between localhost and the container pass, and between the container and itself.
    pub fn open(
        &self,
        v6: bool,
        attachment: &Attachment,
        result: &CniResult,
        node: &Node,
    ) -> Result<()> {
        let host = node.host()?;
        if v6 {
            host.route().add(&self.loopback())?;
        } else if !self.link.route_localnet {
            sysctl::write_host(&[Sysctl::required(self.route_localnet(), "1")])?;
        }
        if let Some(port) = self.port(attachment, result, node)?.filter(|port| !is_hairpin(port)) {
            // Where bridge-nf-call-iptables is 1 the packet never leaves the bridge, and would have to go back out of
            // the port that it came in by.
            let hairpin = Change { hairpin: Some(true), ..Change::default() };
            host.link().set(&port.name, &hairpin)?;
        }
        Ok(())
    }

    /// Whether it is still as [`Path::open`] left it.
    pub fn check(
        &self,
        v6: bool,
        attachment: &Attachment,
        result: &CniResult,
        node: &Node,
        findings: &mut Findings,
    ) -> Result<()> {
        if v6 {
            findings.route(&*node.host()?, &self.link, &self.loopback())?;
        }
        self.check_reference(v6, findings);
        if let Some(port) = self.port(attachment, result, node)? {
            findings.expect_on(&format!("hairpin mode of {}", port.name), true, is_hairpin(&port));
        }
        Ok(())
    }

    /// Whether it is as the reference plugin left it.
    pub fn check_reference(&self, v6: bool, findings: &mut Findings) {
        if !v6 {
            let value = if self.link.route_localnet { "1" } else { "0" };
            findings.expect(&format!("sysctl {}", self.route_localnet()), "1", value);
        }
    }

    /// IPv4: 127.0.0.0/8 may be the source of what goes to the container. Neighbours are kept from the node's own
    /// services on localhost by the ruleset (CVE-2020-8558).
    fn route_localnet(&self) -> String {
        Sysctl::conf(Family::V4, &self.link.name, "route_localnet")
    }

    /// IPv6: the kernel looks `::1` up together with the interface that a packet came by (`rt6_need_strict`), so answers
    /// that are translated back to it need a route there. What comes with that address from outside it drops before
    /// (`ip6_rcv_core`).
    fn loopback(&self) -> Route {
        Route {
            table: Some(Route::TABLE_LOCAL),
            // One for each interface: of two routes of one metric the kernel would look at the first only.
            priority: Some(LOOPBACK_METRIC + self.link.index),
            local: true,
            ..Route::new(IpNet::V6(Ipv6Net::from(Ipv6Addr::LOCALHOST)), self.link.index)
        }
    }
}

fn is_hairpin(port: &Link) -> bool {
    port.port.as_ref().is_some_and(|port| port.hairpin)
}
