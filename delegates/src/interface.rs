//! The container's interface: what bridge and ptp have in common.

mod check;
mod conf;
mod elements;
mod forwarding;
mod ipam;
mod repair;
mod result;
mod unrecorded;
pub(crate) mod veth;

use std::time::{Duration, Instant};

use chain::{
    Attachment, Call, CniResult, Error, History, NetworkCall, PluginConf, Result, result::IpConfig,
};
use nft_templates::Element;

use self::unrecorded::{del_unrecorded, gc_unrecorded};
use crate::{
    host_veth,
    net::{
        Net, NetError, Sysctl,
        addr::NewAddress,
        link::{Change, Link},
        route::Route,
        sysctl::Family,
    },
    node::{Container, Elements, Node},
};

pub(crate) use check::Findings;
pub(crate) use conf::{MasqBackend, check_mtu, null_is_default, requested_mac};
pub(crate) use elements::{
    masquerade, remove_elements, repair_elements, repair_elements_but_later_ones,
};
pub(crate) use forwarding::enable_forwarding;
pub(crate) use ipam::run_ipam;
pub(crate) use repair::{
    repair_addresses, repair_inside, repair_link, repair_routes, result_routes,
};
pub(crate) use result::{
    addresses, everywhere, first_of, inside, is_own, mtu_inside, position, route_via, wanted_route,
};
pub(crate) use unrecorded::check_unrecorded;

/// How long IPv6 duplicate address detection may take: as long as with the reference plugins.
const DAD_LIMIT: Duration = Duration::from_secs(5);
/// How long an end of the veth may take to carry packets: as long as with the reference plugin.
const CARRIER_LIMIT: Duration = Duration::from_millis(2550);
/// The first pause of a wait; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(250);
/// The longest pause of a wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// DEL of a veth with its addresses and its elements, whichever plugin made it. Goes on over errors.
pub(crate) fn del(
    call: &Call<'_, Node>,
    node: &mut Node,
    elements: impl FnOnce(&PluginConf, &Attachment, &CniResult) -> Result<Vec<Element>>,
) -> Result<()> {
    remove_elements(call, node, elements);
    node.delete_link(host_veth(call.attachment));
    let unrecorded = match call.history {
        History::Unknown => del_unrecorded(call, node),
        _ => Ok(()),
    };
    let errors = [unrecorded, call.runner.ipam_del(call, node)];
    let errors = errors.into_iter().filter_map(Result::err).collect();
    Error::join(errors).map_or(Ok(()), Err)
}

/// GC of such a plugin's network.
pub(crate) fn gc(call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
    call.runner.ipam_gc(call, node)?;
    gc_unrecorded(call, node)?;
    Elements::collect_policies(node.dirs())
}

/// The sysctls of an interface that is about to get addresses, and is down yet.
pub(crate) fn sysctls(ifname: &str, ips: &[&IpConfig]) -> Vec<Sysctl> {
    let mut sysctls = Vec::new();
    if ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        for name in ["lo", ifname] {
            sysctls.push(Sysctl::required(Sysctl::conf(Family::V6, name, "disable_ipv6"), "0"));
        }
        // Addresses survive a link that goes down and up again, as IPv4's do.
        sysctls.push(Sysctl::wanted(Sysctl::conf(Family::V6, ifname, "keep_addr_on_down"), "1"));
    }
    // Its addresses and routes are those of the result. Any neighbour on the bridge could give it others, also where it is
    // to have IPv4 alone: the kernel listens to router advertisements unless it is told not to (CVE-2020-10749).
    sysctls.push(Sysctl::wanted(Sysctl::conf(Family::V6, ifname, "accept_ra"), "0"));
    sysctls
}

/// How an interface gets its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// IPv6 addresses are tried for duplicates before they are used; otherwise they can be used at once.
    pub detect_duplicates: bool,
    /// Each address's subnet is on the link.
    pub on_link: bool,
    /// Neighbours learn at once of another hardware address that the interface gets (`arp_notify`).
    pub notify: bool,
}

impl Manner {
    fn address(self, ip: &IpConfig) -> NewAddress {
        let Self { detect_duplicates, on_link, .. } = self;
        NewAddress { net: ip.address, detect_duplicates, on_link }
    }
}

/// Gives the container's interface its addresses, sets it up, and adds routes by it. A route that is there already is no error.
///
/// Sysctls are written before this: some act on the addresses that are added here.
pub(crate) fn set_up(
    container: &Container,
    link: &Link,
    ips: &[&IpConfig],
    manner: Manner,
    routes: &[Route],
) -> Result<()> {
    let step = tracing::debug_span!("addresses", count = ips.len(), routes = routes.len());
    let _step = step.entered();
    let net = container.net()?;
    let adding = |ip: &&IpConfig| net.addr().adding(link.index, &manner.address(ip));
    let mut changes: Vec<_> = ips.iter().map(adding).collect();
    // Not announced by that: the bridge carries nothing yet (see `announce`).
    let up = Change { up: Some(true), arp_notify: manner.notify, ..Change::default() };
    changes.extend(net.link().setting(&link.name, &up));
    if manner.detect_duplicates && ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        net.change(std::mem::take(&mut changes))?;
        settle(net, link)?;
    }
    changes.extend(routes.iter().map(|route| net.route().adding(route)));
    Ok(net.change(changes)?)
}

/// Has IPv4 addresses announced (RFC 5227, section 2.3), which others may have had a moment ago: neighbours that know another hardware
/// address for them learn this one, and switches where it is. Where that does not go, they find out by themselves.
///
/// The kernel does so where `arp_notify` is set and an interface gets a hardware address, be it the one it has. It would for a
/// neighbour of its own address that is looked for, too, but three times, and there is one table of neighbours for all namespaces,
/// which many containers at once fill.
pub(crate) fn announce(net: &Net, link: &Link, ips: &[IpConfig]) {
    let same = Change { mac: link.mac, ..Change::default() };
    if ips.iter().any(|ip| ip.address.addr().is_ipv4())
        && let Err(error) = net.link().set(&link.name, &same)
    {
        tracing::warn!("{error}");
    }
}

/// Waits until no address is tentative any more.
///
/// Also an address that is not tried for duplicates answers only when the kernel's worker has got to it.
pub(crate) fn settle(net: &Net, link: &Link) -> Result<()> {
    let _step = tracing::debug_span!("wait for addresses", interface = link.name).entered();
    let mut tentative = String::new();
    let settled = poll(DAD_LIMIT, || {
        let addresses = net.addr().list(link.index)?;
        if let Some(duplicate) = addresses.iter().find(|address| address.dad_failed) {
            return Err(NetError::Duplicate {
                address: duplicate.net.to_string(),
                link: link.name.clone(),
                place: net.place().to_owned(),
            });
        }
        let waiting = addresses.iter().find(|address| address.tentative);
        tentative = waiting.map(|address| address.net.to_string()).unwrap_or_default();
        Ok(waiting.is_none().then_some(()))
    })?;
    settled.ok_or_else(|| {
        let what = format!("address {tentative} on {} in {} is tentative", link.name, net.place());
        NetError::Timeout { what, limit: DAD_LIMIT }.into()
    })
}

/// Waits until an end of the veth carries packets: both ends are up, and the kernel acts on that a moment later.
pub(crate) fn await_carrier(net: &Net, name: &str) -> Result<Link> {
    let _step = tracing::debug_span!("wait for carrier", interface = name).entered();
    let running = poll(CARRIER_LIMIT, || {
        let link = net.link().require(name)?;
        Ok(link.running.then_some(link))
    })?;
    running.ok_or_else(|| {
        let what = format!("interface {name} in {} does not carry packets", net.place());
        NetError::Timeout { what, limit: CARRIER_LIMIT }.into()
    })
}

/// Asks until there is an answer, or the time is over.
fn poll<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, NetError>,
) -> Result<Option<T>, NetError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
