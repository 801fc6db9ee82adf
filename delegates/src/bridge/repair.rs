//! Repair of bridge: by what CHECK compares.

use chain::{Call, CniResult, Error, Result};

use super::{Conf, elements_of, gateways, host, inside_sysctls, manner};
use crate::{
    interface::{self, veth},
    net::{
        Net,
        addr::NewAddress,
        link::{Change, Link},
        sysctl::Family,
    },
    node::{Container, Node, Undo},
};

/// The bridge with its address, the container's port of it, the container's interface, and the elements of both.
pub(super) fn repair(call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
    let conf = Conf::of(call.conf)?;
    let result = call.prev_result.ok_or_else(|| Error::config("there is no result of ADD"))?;
    let host = node.host()?;
    let container = node.container(call.attachment.netns()?)?;
    let inside = container.net()?.link().get(&call.attachment.ifname)?;

    let bridge = {
        let _in_use = host::Lock::shared(node.dirs())?;
        let mut undo = Undo::on(node);
        let bridge = host::ensure_bridge(&mut undo, &conf)?;
        if let Some(inside) = &inside {
            repair_port(&host, &conf, &bridge, inside, result)?;
        }
        undo.keep();
        bridge
    };
    interface::repair_link(&host, &bridge, result, None, true)?;
    if call.conf.ipam.is_some() {
        for gateway in gateways(result, &conf) {
            interface::repair_addresses(&host, &bridge, &[NewAddress::new(gateway)])?;
            interface::enable_forwarding(&host, Family::of(gateway.addr()))?;
        }
    }
    if let Some(inside) = &inside {
        repair_inside(call, &conf, &container, inside, result)?;
    }
    let elements = elements_of(&conf, call.attachment, result)?;
    interface::repair_elements_but_later_ones(call.attachment, elements, node)?;
    call.runner.ipam_repair(call, node)
}

fn repair_port(
    host: &Net,
    conf: &Conf,
    bridge: &Link,
    inside: &Link,
    result: &CniResult,
) -> Result<()> {
    let Some(outside) = veth::host_end(host, inside)? else { return Ok(()) };
    interface::repair_link(host, &outside, result, conf.mtu(), true)?;
    let is_port = outside.master == Some(bridge.index);
    let port = outside.port.filter(|_| is_port).unwrap_or_default();
    let change = Change {
        master: (!is_port).then_some(bridge.index),
        hairpin: (conf.hairpin_mode && !port.hairpin).then_some(true),
        isolated: (conf.port_isolation && !port.isolated).then_some(true),
        ..Change::default()
    };
    Ok(host.link().set(&outside.name, &change)?)
}

fn repair_inside(
    call: &Call<'_, Node>,
    conf: &Conf,
    container: &Container,
    inside: &Link,
    result: &CniResult,
) -> Result<()> {
    let mtu = interface::mtu_inside(call.attachment, result, conf.mtu());
    let Some(position) = interface::position(call.attachment, result) else { return Ok(()) };
    if call.conf.ipam.is_none() {
        let up = !conf.disable_container_interface;
        return interface::repair_link(container.net()?, inside, result, mtu, up);
    }
    let ips = interface::addresses(result, position)?;
    let sysctls = inside_sysctls(conf, &inside.name, &ips);
    let how = (mtu, sysctls.as_slice(), manner(conf));
    interface::repair_inside(container, inside, result, &ips, how)?;
    let routes = interface::result_routes(&result.routes, inside.index, &ips);
    interface::repair_routes(container.net()?, &routes)
}
