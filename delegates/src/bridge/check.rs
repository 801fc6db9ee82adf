//! CHECK of bridge.

use chain::{Call, CniResult, Error, Result};

use super::{Conf, elements_of, gateways};
use crate::{
    interface::{self, Findings, veth},
    net::{Net, link::Link},
    node::{Container, Node, owner},
};

/// Whether everything is as ADD left it. All that is not goes into one error.
pub(super) fn check(call: &Call<'_, Node>, node: &Node) -> Result<()> {
    let conf = Conf::of(call.conf)?;
    let result = call
        .prev_result
        .ok_or_else(|| Error::config("CHECK needs prevResult, the result of ADD"))?;
    let host = node.host()?;
    let container = node.container(call.attachment.netns()?)?;
    let mut findings = Findings::default();
    let bridge = check_bridge(&mut findings, &host, &conf, result)?;
    if let Some(inside) = findings.link(container.net()?, &call.attachment.ifname)? {
        check_inside(&mut findings, call, &conf, &container, &inside, result)?;
        check_port(&mut findings, &host, &conf, &inside, bridge.as_ref(), result)?;
    }
    if let Some(bridge) = bridge.filter(|_| call.conf.ipam.is_some()) {
        check_gateways(&mut findings, &host, &conf, &bridge, result)?;
    }
    if interface::is_own(call.attachment, result) {
        let elements = elements_of(&conf, call.attachment, result)?;
        findings.elements_or_later_ones(node, elements, &owner(call.attachment))?;
    } else {
        let made = (conf.ip_masq, conf.mac_spoof_check);
        interface::check_unrecorded(&mut findings, call, node, made)?;
    }
    findings.verdict()
}

fn check_bridge(
    findings: &mut Findings,
    host: &Net,
    conf: &Conf,
    result: &CniResult,
) -> Result<Option<Link>> {
    let Some(bridge) = findings.link(host, &conf.bridge)? else { return Ok(None) };
    if bridge.kind != "bridge" {
        findings.add(format!("{} is not a bridge", bridge.name));
        return Ok(None);
    }
    findings.expect_on(&format!("bridge {}", bridge.name), true, bridge.up);
    if conf.promisc_mode {
        findings.expect_on(&format!("promiscuous mode of {}", bridge.name), true, bridge.promisc);
    }
    findings.in_result(result, &bridge.name, &bridge.mac_text());
    Ok(Some(bridge))
}

fn check_inside(
    findings: &mut Findings,
    call: &Call<'_, Node>,
    conf: &Conf,
    container: &Container,
    inside: &Link,
    result: &CniResult,
) -> Result<()> {
    let name = &inside.name;
    if inside.kind != "veth" {
        findings.add(format!("{name} is not a veth"));
    }
    findings.in_result(result, name, &inside.mac_text());
    if let Some(mtu) = interface::mtu_inside(call.attachment, result, conf.mtu()) {
        findings.expect(&format!("the MTU of {name}"), mtu, inside.mtu);
    }
    findings.expect_on(&format!("interface {name}"), !conf.disable_container_interface, inside.up);
    if call.conf.ipam.is_none() {
        return Ok(());
    }
    let position = interface::position(call.attachment, result);
    let ips = match position {
        Some(position) => interface::addresses(result, position)?,
        None => result.ips.iter().collect(),
    };
    if ips.is_empty() {
        findings.add("the result of ADD has no addresses");
    }
    findings.addresses_and_routes(container.net()?, inside, &ips, &result.routes)
}

fn check_port(
    findings: &mut Findings,
    host: &Net,
    conf: &Conf,
    inside: &Link,
    bridge: Option<&Link>,
    result: &CniResult,
) -> Result<()> {
    let Some(outside) = veth::host_end(host, inside)? else {
        findings.add(format!("the other end of {} is not on the host", inside.name));
        return Ok(());
    };
    let name = &outside.name;
    findings.veth_end(result, &outside, conf.mtu());
    if outside.master.is_none() || outside.master != bridge.map(|bridge| bridge.index) {
        findings.add(format!("{name} is not a port of bridge {}", conf.bridge));
        return Ok(());
    }
    let port = outside.port.unwrap_or_default();
    // Others may switch these on (host ports that the container itself uses, an ingress policy): only their lack is a
    // finding.
    if conf.hairpin_mode {
        findings.expect_on(&format!("hairpin mode of {name}"), true, port.hairpin);
    }
    if conf.port_isolation {
        findings.expect_on(&format!("isolation of {name}"), true, port.isolated);
    }
    Ok(())
}

fn check_gateways(
    findings: &mut Findings,
    host: &Net,
    conf: &Conf,
    bridge: &Link,
    result: &CniResult,
) -> Result<()> {
    let found = host.addr().list(bridge.index)?;
    for gateway in gateways(result, conf) {
        if !found.iter().any(|address| address.net == gateway) {
            findings.add(format!("bridge {} has no address {gateway}", bridge.name));
        }
        findings.forwarding(gateway.addr());
    }
    Ok(())
}
