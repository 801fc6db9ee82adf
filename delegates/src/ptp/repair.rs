//! Repair of ptp: by what CHECK compares.

use chain::{Call, Error, Result, result::IpConfig};

use super::{Conf, MANNER, elements_of, gateway, host_route, inside_routes, inside_sysctls};
use crate::{
    interface::{self, enable_forwarding, veth},
    net::{Net, addr::NewAddress, link::Link, sysctl::Family},
    node::Node,
};

/// Both ends of the veth with their addresses and routes, and the elements.
pub(super) fn repair(call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
    let conf: Conf = call.conf.decode()?;
    let attachment = call.attachment;
    let result = call.prev_result.ok_or_else(|| Error::config("there is no result of ADD"))?;
    let container = node.container(attachment.netns()?)?;
    let net = container.net()?;
    if let Some(inside) = net.link().get(&attachment.ifname)?
        && let Some(position) = interface::position(attachment, result)
    {
        let ips = interface::addresses(result, position)?;
        let host = node.host()?;
        let outside = veth::host_end(&host, &inside)?;
        if let Some(outside) = &outside {
            interface::repair_link(&host, outside, result, conf.mtu(), true)?;
        }
        let mtu = interface::mtu_inside(attachment, result, conf.mtu());
        let sysctls = inside_sysctls(&inside.name, &ips);
        interface::repair_inside(&container, &inside, result, &ips, (mtu, &sysctls, MANNER))?;
        for ip in &ips {
            interface::repair_routes(net, &inside_routes(ip, inside.index)?)?;
        }
        let routes = interface::result_routes(&result.routes, inside.index, &ips);
        interface::repair_routes(net, &routes)?;
        if let Some(outside) = &outside {
            repair_host(&host, outside, &ips)?;
        }
    }
    interface::repair_elements_but_later_ones(attachment, elements_of(&conf, result), node)?;
    call.runner.ipam_repair(call, node)
}

fn repair_host(host: &Net, outside: &Link, ips: &[&IpConfig]) -> Result<()> {
    for ip in ips {
        let gateway = NewAddress::new(gateway(ip)?.into());
        interface::repair_addresses(host, outside, &[gateway])?;
        interface::repair_routes(host, &[host_route(ip, outside.index)])?;
        enable_forwarding(host, Family::of(ip.address.addr()))?;
    }
    Ok(())
}
