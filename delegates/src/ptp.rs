//! ptp: a veth between the container and the host, and a route to each end.
//!
//! <https://www.cni.dev/plugins/current/main/ptp/>
//!
//! The container has its address with the subnet's prefix length, but reaches the subnet by way of the host: the veth is
//! a link to the gateway alone.

mod check;
mod repair;

use std::net::IpAddr;

use chain::{
    Attachment, Call, CniResult, Error, NetworkCall, Plugin, PluginConf, Result,
    result::{Interface, IpConfig},
};
use ipnet::IpNet;
use nft_templates::Element;
use nix::errno::Errno;
use serde::Deserialize;

use crate::{
    interface::{self, Manner, MasqBackend, enable_forwarding, null_is_default, veth},
    net::{Net, Sysctl, addr::NewAddress, link::Link, route::Route, sysctl::Family},
    node::{Node, Undo, owner},
};

/// The plugin.
///
/// Its result has two interfaces: the veth's end on the host, and the container's interface.
pub struct Ptp;

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conf {
    /// What leaves the container's subnets does so under the node's address.
    #[serde(default, deserialize_with = "null_is_default")]
    ip_masq: bool,
    /// "iptables" or "nftables"; it is nftables always.
    #[serde(default, deserialize_with = "null_is_default")]
    ip_masq_backend: MasqBackend,
    /// The MTU of the veth in bytes (0: the kernel's).
    #[serde(default, deserialize_with = "null_is_default")]
    mtu: u32,
}

/// Where the container's interface stands in the result.
const CONTAINER: usize = 1;

/// How the container's interface gets its addresses: there is nobody else on the link whose they could be.
const MANNER: Manner = Manner { detect_duplicates: false, on_link: false, notify: false };

impl Conf {
    fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }
}

impl Plugin<Node> for Ptp {
    fn kind(&self) -> &'static str {
        "ptp"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let conf: Conf = call.conf.decode()?;
        interface::check_mtu(conf.mtu)?;
        require_ipam(call.conf)?;
        let attachment = call.attachment;
        let container = node.container(attachment.netns()?)?;
        veth::refuse_taken(&container, &attachment.ifname)?;

        let mut node = Undo::on(node);
        let mut result = interface::run_ipam(call, &mut node)?.unwrap_or_default();
        for ip in &mut result.ips {
            ip.interface = Some(CONTAINER);
            gateway(ip)?;
        }
        let wanted = veth::Wanted { mac: None, mtu: conf.mtu(), master: None };
        let veth = veth::attach(&mut node, container, attachment, &wanted)?;
        if !call.conf.dns.is_empty() {
            result.dns = call.conf.dns.clone();
        }
        result.interfaces = vec![
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

        let ips = interface::addresses(&result, CONTAINER)?;
        veth.container.write(&inside_sysctls(&veth.inside.name, &ips))?;
        let mut routes = Vec::new();
        for ip in &ips {
            routes.extend(inside_routes(ip, veth.inside.index)?);
        }
        routes.extend(interface::result_routes(&result.routes, veth.inside.index, &ips));
        interface::set_up(&veth.container, &veth.inside, &ips, MANNER, &routes)?;

        let host = node.host()?;
        let outside = veth.await_traffic(&host, &result.ips)?;
        let step = tracing::debug_span!("gateways").entered();
        for ip in &ips {
            set_up_host(&host, &outside, ip)?;
            enable_forwarding(&host, Family::of(ip.address.addr()))?;
        }
        drop(step);

        if ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
            interface::settle(&host, &outside)?;
        }

        conf.ip_masq_backend.note();
        let owner = owner(attachment);
        for element in elements_of(&conf, &result) {
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
        require_ipam(call.conf)?;
        call.runner.ipam_status(call, node)
    }
}

/// Refuses a configuration without addresses, or with a plugin that cannot get any.
fn require_ipam(conf: &PluginConf) -> Result<()> {
    match &conf.ipam {
        None => Err(Error::config("ptp needs ipam: its routes lead to addresses")),
        Some(ipam) if ipam.kind == "dhcp" => Err(Error::config(
            "ptp asks its IPAM plugin before the container has an interface, and dhcp speaks to servers by that: use \
             host-local or static, or bridge or macvlan with dhcp",
        )),
        Some(_) => Ok(()),
    }
}

/// The elements of the ruleset that an attachment has by this plugin.
pub fn elements(conf: &PluginConf, _: &Attachment, result: &CniResult) -> Result<Vec<Element>> {
    Ok(elements_of(&conf.decode()?, result))
}

fn elements_of(conf: &Conf, result: &CniResult) -> Vec<Element> {
    if conf.ip_masq { interface::masquerade(result) } else { Vec::new() }
}

/// The sysctls of the container's interface.
fn inside_sysctls(name: &str, ips: &[&IpConfig]) -> Vec<Sysctl> {
    let mut sysctls = interface::sysctls(name, ips);
    sysctls.push(Sysctl::wanted(Sysctl::conf(Family::V6, name, "accept_dad"), "0"));
    sysctls
}

/// The gateway of an address, which is the host's end.
fn gateway(ip: &IpConfig) -> Result<IpAddr> {
    ip.gateway.ok_or_else(|| {
        Error::config(format!(
            "ptp needs a gateway for each address, and IPAM gave {} without one",
            ip.address
        ))
    })
}

/// The container's routes to an address's gateway, on the link, and to its subnet, by the gateway.
fn inside_routes(ip: &IpConfig, dev: u32) -> Result<Vec<Route>> {
    let gateway = gateway(ip)?;
    let src = Some(ip.address.addr());
    let to_gateway =
        Route { src, scope: Some(Route::SCOPE_LINK), ..Route::new(gateway.into(), dev) };
    let to_subnet = Route { src, via: Some(gateway), ..Route::new(ip.address.trunc(), dev) };
    // A subnet of one address has nobody else in it.
    let alone = ip.address.prefix_len() == ip.address.max_prefix_len();
    Ok(if alone { vec![to_gateway] } else { vec![to_gateway, to_subnet] })
}

/// The host's route to the container.
fn host_route(ip: &IpConfig, dev: u32) -> Route {
    let to = IpNet::from(ip.address.addr());
    Route { scope: Some(Route::SCOPE_HOST), ..Route::new(to, dev) }
}

/// The host's end: the gateway's address, and the route to the container.
fn set_up_host(host: &Net, outside: &Link, ip: &IpConfig) -> Result<()> {
    let address = NewAddress::new(gateway(ip)?.into());
    match host.addr().add(outside.index, &address) {
        Ok(()) => {}
        // Two addresses of one subnet share their gateway.
        Err(error) if error.errno() == Some(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    host.route().add(&host_route(ip, outside.index))?;
    Ok(())
}
