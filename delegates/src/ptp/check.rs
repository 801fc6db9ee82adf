//! CHECK of ptp.

use chain::{Call, Error, Result, result::IpConfig};
use ipnet::IpNet;

use super::{Conf, elements_of, gateway, host_route, inside_routes};
use crate::{
    interface::{self, Findings, veth},
    net::{Net, link::Link},
    node::{Node, owner},
};

/// Whether everything is as ADD left it. All that is not goes into one error.
pub(super) fn check(call: &Call<'_, Node>, node: &Node) -> Result<()> {
    let conf: Conf = call.conf.decode()?;
    let result = call
        .prev_result
        .ok_or_else(|| Error::config("CHECK needs prevResult, the result of ADD"))?;
    let ips = match interface::position(call.attachment, result) {
        Some(position) => interface::addresses(result, position)?,
        None => result.ips.iter().collect(),
    };
    let container = node.container(call.attachment.netns()?)?;
    let net = container.net()?;
    let mut findings = Findings::default();
    if ips.is_empty() {
        findings.add("the result of ADD has no addresses");
    }
    if let Some(inside) = findings.link(net, &call.attachment.ifname)? {
        let mtu = interface::mtu_inside(call.attachment, result, conf.mtu());
        findings.veth_end(result, &inside, mtu);
        findings.addresses_and_routes(net, &inside, &ips, &result.routes)?;
        for ip in &ips {
            for route in inside_routes(ip, inside.index)? {
                findings.route(net, &inside, &route)?;
            }
        }
        let host = node.host()?;
        match veth::host_end(&host, &inside)? {
            Some(outside) => {
                findings.veth_end(result, &outside, conf.mtu());
                check_host(&mut findings, &host, &outside, &ips)?;
            }
            None => findings.add(format!("the other end of {} is not on the host", inside.name)),
        }
    }
    if interface::is_own(call.attachment, result) {
        findings.elements_or_later_ones(
            node,
            elements_of(&conf, result),
            &owner(call.attachment),
        )?;
    } else {
        interface::check_unrecorded(&mut findings, call, node, (conf.ip_masq, false))?;
    }
    findings.verdict()
}

fn check_host(
    findings: &mut Findings,
    host: &Net,
    outside: &Link,
    ips: &[&IpConfig],
) -> Result<()> {
    let found = host.addr().list(outside.index)?;
    for ip in ips {
        let gateway = IpNet::from(gateway(ip)?);
        if !found.iter().any(|address| address.net == gateway) {
            findings.add(format!("{} has no address {gateway}", outside.name));
        }
        findings.route(host, outside, &host_route(ip, outside.index))?;
        findings.forwarding(gateway.addr());
    }
    Ok(())
}
