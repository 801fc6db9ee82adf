//! bridge: a veth between the container and a bridge on the host.
//!
//! <https://www.cni.dev/plugins/current/main/bridge/>

mod check;
mod conf;
mod host;
mod repair;

use chain::{
    Attachment, Call, CniResult, Code, Error, NetworkCall, Plugin, PluginConf, Result,
    result::{Interface, IpConfig},
};
use ipnet::IpNet;
use nft_templates::Element;

use crate::{
    host_veth,
    interface::{self, Manner, enable_forwarding, requested_mac, veth},
    net::{
        Sysctl,
        link::{Change, Link},
        sysctl::Family,
    },
    node::{Container, Node, Undo, owner},
};

use conf::Conf;

/// The plugin.
///
/// Its result has three interfaces: the bridge, the veth's end on the host, the container's interface.
pub struct Bridge;

/// Where the container's interface stands in the result.
const CONTAINER: usize = 2;

impl Plugin<Node> for Bridge {
    fn kind(&self) -> &'static str {
        "bridge"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let conf = Conf::of(call.conf)?;
        let attachment = call.attachment;
        // IP and GATEWAY are for the IPAM plugin.
        attachment.args.refuse_unknown(&["MAC", "IP", "GATEWAY"])?;
        let mac = requested_mac(call.conf, attachment)?;
        let container = node.container(attachment.netns()?)?;

        let mut node = Undo::on(node);
        let (bridge, veth) = {
            let step = tracing::debug_span!("bridge device", interface = conf.bridge).entered();
            let _in_use = host::Lock::shared(node.dirs())?;
            let bridge = host::ensure_bridge(&mut node, &conf)?;
            drop(step);
            let wanted = veth::Wanted { mac, mtu: conf.mtu(), master: Some(bridge.index) };
            let veth = veth::attach(&mut node, container, attachment, &wanted)?;
            // A bridge that was not given an address of its own takes one from its ports.
            let bridge = node.host()?.link().require(&bridge.name)?;
            node.remember_bridge(bridge.clone());
            (bridge, veth)
        };
        let port = Change {
            hairpin: conf.hairpin_mode.then_some(true),
            isolated: conf.port_isolation.then_some(true),
            ..Change::default()
        };
        node.host()?.link().set_up_without_ipv6(&veth.host_name, &port)?;

        let with_addresses = call.conf.ipam.is_some();
        if with_addresses {
            // Before IPAM: where it is dhcp, the interface is up from there on.
            veth.container.write(&inside_sysctls(&conf, &veth.inside.name, &[]))?;
        }
        let mut result = interface::run_ipam(call, &mut node)?.unwrap_or_default();
        if !call.conf.dns.is_empty() {
            result.dns = call.conf.dns.clone();
        }
        result.interfaces = vec![
            Interface { name: bridge.name.clone(), mac: bridge.mac_text(), ..Interface::default() },
            Interface {
                name: veth.host_name.clone(),
                mac: veth.host_mac.to_string(),
                ..Interface::default()
            },
            Interface {
                name: attachment.ifname.clone(),
                mac: veth.inside.mac_text(),
                sandbox: attachment.netns()?.display().to_string(),
                ..Interface::default()
            },
        ];
        complete(&mut result, &conf);
        if with_addresses {
            configure(&veth.container, &veth.inside, &conf, &result)?;
            let host = node.host()?;
            let _step = tracing::debug_span!("gateways").entered();
            for gateway in gateways(&result, &conf) {
                host::ensure_address(&host, &bridge, gateway, conf.force_address)?;
                enable_forwarding(&host, Family::of(gateway.addr()))?;
            }
        } else if !conf.disable_container_interface {
            let up = Change { up: Some(true), ..Change::default() };
            veth.container.net()?.link().set(&veth.inside.name, &up)?;
        }
        if !conf.disable_container_interface {
            veth.await_traffic(&*node.host()?, &result.ips)?;
            interface::announce(veth.container.net()?, &veth.inside, &result.ips);
        }
        conf.ip_masq_backend.note();
        let owner = owner(attachment);
        for element in elements_of(&conf, attachment, &result)? {
            node.elements().add(element, &owner);
        }
        node.keep();
        Ok(result)
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        interface::del(call, node, elements)
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        check::check(call, node)?;
        call.runner.ipam_check(call, node)
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        repair::repair(call, node)
    }

    fn gc(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        interface::gc(call, node)
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        let conf = Conf::of(call.conf)?;
        match node.host()?.link().get(&conf.bridge)? {
            Some(link) if link.kind != "bridge" => {
                return Err(Error { code: Code::NotAvailable, ..host::not_a_bridge(&link) });
            }
            _ => {}
        }
        call.runner.ipam_status(call, node)
    }
}

/// The elements of the ruleset that an attachment has by this plugin.
pub fn elements(
    conf: &PluginConf,
    attachment: &Attachment,
    result: &CniResult,
) -> Result<Vec<Element>> {
    elements_of(&Conf::of(conf)?, attachment, result)
}

fn elements_of(conf: &Conf, attachment: &Attachment, result: &CniResult) -> Result<Vec<Element>> {
    let mut elements = Vec::new();
    if conf.ip_masq {
        elements.extend(interface::masquerade(result));
    }
    if conf.mac_spoof_check
        && let Some(inside) = interface::inside(attachment, result)
    {
        let mac: crate::net::Mac = inside.mac.parse()?;
        elements.push(Element::SpoofCheck { port: host_veth(attachment), mac: mac.0 });
    }
    Ok(elements)
}

/// Completes IPAM's result: whose the addresses are, gateways and default routes.
fn complete(result: &mut CniResult, conf: &Conf) {
    for ip in &mut result.ips {
        ip.interface = Some(CONTAINER);
        if !conf.is_gateway {
            continue;
        }
        if ip.gateway.is_none() {
            ip.gateway = interface::first_of(ip.address);
        }
        let Some(gateway) = ip.gateway else { continue };
        let default = interface::everywhere(gateway.is_ipv6());
        // A default route of IPAM's without a gateway gets this one anyway.
        if conf.is_default_gateway && !result.routes.iter().any(|route| route.dst == default) {
            result.routes.push(interface::route_via(default, gateway));
        }
    }
}

/// The gateways' addresses, which the bridge gets.
fn gateways(result: &CniResult, conf: &Conf) -> Vec<IpNet> {
    let of_bridge = result.ips.iter().filter(|_| conf.is_gateway);
    of_bridge.filter_map(|ip| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok()).collect()
}

/// How the container's interface gets its addresses.
fn manner(conf: &Conf) -> Manner {
    Manner { detect_duplicates: conf.enable_dad, on_link: true, notify: true }
}

/// The sysctls of the container's interface.
fn inside_sysctls(conf: &Conf, name: &str, ips: &[&IpConfig]) -> Vec<Sysctl> {
    let mut sysctls = interface::sysctls(name, ips);
    let accept_dad = Sysctl::conf(Family::V6, name, "accept_dad");
    if conf.enable_dad {
        // A bridge may send a probe back to where it came from: not a duplicate.
        let enhanced = Sysctl::conf(Family::V6, name, "enhanced_dad");
        sysctls.extend([Sysctl::wanted(enhanced, "1"), Sysctl::wanted(accept_dad, "1")]);
    } else {
        sysctls.push(Sysctl::wanted(accept_dad, "0"));
    }
    sysctls
}

/// Sets up the container's interface as the result says.
fn configure(container: &Container, inside: &Link, conf: &Conf, result: &CniResult) -> Result<()> {
    let ips = interface::addresses(result, CONTAINER)?;
    // All others have been written before IPAM.
    if ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        container.write(&inside_sysctls(conf, &inside.name, &ips))?;
    }
    let routes = interface::result_routes(&result.routes, inside.index, &ips);
    interface::set_up(container, inside, &ips, manner(conf), &routes)
}
