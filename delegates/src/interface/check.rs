//! CHECK: what is not as ADD left it.

use std::{fmt::Display, net::IpAddr};

use chain::{
    Error, Result,
    result::{CniResult, IpConfig, Route as ResultRoute},
};
use nft_templates::{Element, Missing, Owner};

use super::{elements::is_later_ones, forwarding::key as forwarding_key, wanted_route};
use crate::{
    net::{
        Net,
        link::Link,
        route::Route,
        sysctl::{self, Family},
    },
    node::{Elements, Node},
    reference::{self, Checked},
};

/// What a CHECK found, all of it: one error names everything that is to be repaired.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Something that is not as it should be; it is told once.
    pub(crate) fn add(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    /// Compares a value.
    pub(crate) fn expect<T: PartialEq + Display>(&mut self, what: &str, wanted: T, found: T) {
        if wanted != found {
            self.add(format!("{what} is {found}, not {wanted}"));
        }
    }

    /// Compares a switch.
    pub(crate) fn expect_on(&mut self, what: &str, wanted: bool, found: bool) {
        let word = |on| if on { "on" } else { "off" };
        self.expect(what, word(wanted), word(found));
    }

    /// A device that must be there.
    pub(crate) fn link(&mut self, net: &Net, name: &str) -> Result<Option<Link>> {
        let link = net.link().get(name)?;
        if link.is_none() {
            self.add(format!("there is no interface {name} in {}", net.place()));
        }
        Ok(link)
    }

    /// The addresses of an interface, and its routes: each by its destination, gateway and whatever else it names.
    pub(crate) fn addresses_and_routes(
        &mut self,
        net: &Net,
        link: &Link,
        ips: &[&IpConfig],
        routes: &[ResultRoute],
    ) -> Result<()> {
        let found = net.addr().list(link.index)?;
        for ip in ips {
            if !found.iter().any(|address| address.net == ip.address) {
                self.add(format!("{} has no address {}", link.name, ip.address));
            }
        }
        for route in routes {
            let wanted = wanted_route(route, link.index, ips);
            self.route(net, link, &wanted)?;
        }
        Ok(())
    }

    /// A route by a device.
    pub(crate) fn route(&mut self, net: &Net, link: &Link, wanted: &Route) -> Result<()> {
        if !has_route(net, wanted)? {
            self.add(format!("there is no route {wanted} by {} in {}", link.name, net.place()));
        }
        Ok(())
    }

    /// Elements of the ruleset.
    pub(crate) fn elements(
        &mut self,
        node: &Node,
        elements: Vec<Element>,
        owner: &Owner,
    ) -> Result<()> {
        self.0.extend(Missing::describe(&missing(node, elements, owner)?));
        Ok(())
    }

    /// Elements of the ruleset, or, where one is missing and there is anything of it, what the reference plugins have in
    /// their place. Whether it is the latter.
    pub(crate) fn elements_or_reference(
        &mut self,
        node: &Node,
        elements: Vec<Element>,
        owner: &Owner,
        reference: &impl Checked,
    ) -> Result<bool> {
        let missing = missing(node, elements, owner)?;
        if missing.is_empty() {
            return Ok(false);
        }
        let of_reference = reference::missing(reference, node.dirs())?;
        let is_reference = of_reference.is_some();
        let own = || Missing::describe(&missing);
        of_reference.unwrap_or_else(own).into_iter().for_each(|one| self.add(one));
        Ok(is_reference)
    }

    /// Elements of the ruleset that an interface plugin made, but for those of later delegates (see [`is_later_ones`]).
    pub(crate) fn elements_or_later_ones(
        &mut self,
        node: &Node,
        elements: Vec<Element>,
        owner: &Owner,
    ) -> Result<()> {
        let mut missing = missing(node, elements, owner)?;
        missing.retain(|missing| !is_later_ones(missing));
        self.0.extend(Missing::describe(&missing));
        Ok(())
    }

    /// An end of the veth: what the result and the configuration say of it.
    pub(crate) fn veth_end(&mut self, result: &CniResult, link: &Link, mtu: Option<u32>) {
        let name = &link.name;
        if link.kind != "veth" {
            self.add(format!("{name} is not a veth"));
        }
        self.in_result(result, name, &link.mac_text());
        if let Some(mtu) = mtu {
            self.expect(&format!("the MTU of {name}"), mtu, link.mtu);
        }
        self.expect_on(&format!("interface {name}"), true, link.up);
    }

    /// Whether the node forwards packets of this address's family.
    pub(crate) fn forwarding(&mut self, ip: IpAddr) {
        let key = forwarding_key(Family::of(ip));
        let on = sysctl::read_host(key).as_deref() == Some("1");
        self.expect_on(&format!("forwarding ({key})"), true, on);
    }

    /// An interface of the result, and its hardware address.
    pub(crate) fn in_result(&mut self, result: &CniResult, name: &str, mac: &str) {
        match result.interfaces.iter().find(|interface| interface.name == name) {
            Some(interface) if !interface.mac.is_empty() => {
                self.expect(
                    &format!("the hardware address of {name}"),
                    interface.mac.to_lowercase().as_str(),
                    mac,
                );
            }
            Some(_) => {}
            None => self.add(format!("the result of ADD names no interface {name}")),
        }
    }

    /// The verdict.
    pub(crate) fn verdict(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::internal(self.0.join("; "))) }
    }
}

fn missing(node: &Node, elements: Vec<Element>, owner: &Owner) -> Result<Vec<Missing>> {
    let wanted: Vec<_> = elements.into_iter().map(|element| (element, owner.clone())).collect();
    Elements::check(node.dirs(), &wanted)
}

/// Whether a route is there.
pub(super) fn has_route(net: &Net, wanted: &Route) -> Result<bool> {
    let found = net.route().list(wanted.dst.addr().is_ipv6(), wanted.dev, wanted.table)?;
    Ok(found.iter().any(|found| is_same(wanted, found)))
}

/// Whether a route of the kernel's is the one that was asked for: what was not asked for may be anything.
fn is_same(wanted: &Route, found: &Route) -> bool {
    let as_asked = |wanted: Option<u32>, found| wanted.is_none() || wanted == found;
    wanted.dst.trunc() == found.dst
        && wanted.via == found.via
        && (wanted.src.is_none() || wanted.src == found.src)
        && (wanted.scope.is_none() || wanted.dst.addr().is_ipv6() || wanted.scope == found.scope)
        && as_asked(wanted.priority, found.priority)
        && as_asked(wanted.mtu, found.mtu)
        && as_asked(wanted.advmss, found.advmss)
}
