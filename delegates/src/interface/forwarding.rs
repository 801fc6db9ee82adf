//! Turning the node into a router, without cutting it off.

use chain::Result;

use crate::net::{
    Net, Sysctl,
    link::Link,
    sysctl::{self, Family},
};

/// Makes the node forward packets of a family, as containers behind it need.
///
/// For IPv6 the kernel then stops listening to router advertisements where `accept_ra` is 1, and drops the default
/// routes that it has learned by them at once: before that, uplinks get `accept_ra` 2.
pub(crate) fn enable_forwarding(host: &Net, family: Family) -> Result<()> {
    let key = key(family);
    if sysctl::read_host(key).as_deref() == Some("1") {
        return Ok(());
    }
    if family == Family::V6 {
        keep_listening(host)?;
    }
    Ok(sysctl::write_host(&[Sysctl::required(key, "1")])?)
}

/// The sysctl that turns a node into a router.
pub(super) fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// Kinds of devices by which a node is on a network of others'; hardware has no kind. Those that lead to containers and
/// virtual machines (veth, tun) are left as they are: on a router the kernel listens to none of them, which is as well.
const UPLINKS: [&str; 5] = ["bond", "team", "vlan", "macvlan", "ipvlan"];

/// Lets uplinks go on listening to router advertisements: devices that have learned a route by them, and those that may
/// yet do so when they come up. What an administrator has set (0, 2) stays.
///
/// The default for devices that are plugged in later is not touched: everybody's bridges and veths would begin to listen
/// to the containers behind them (CVE-2020-13401 and CVE-2020-10749).
fn keep_listening(host: &Net) -> Result<()> {
    let learned = host.route().learned_by_ra()?;
    let links = host.link().list()?;
    for link in links.iter().filter(|link| learned.contains(&link.index) || is_uplink(link, &links))
    {
        let key = Sysctl::conf(Family::V6, &link.name, "accept_ra");
        if sysctl::read_host(&key).as_deref() == Some("1") {
            tracing::info!(interface = link.name, "goes on accepting router advertisements");
            sysctl::write_host(&[Sysctl::required(key, "2")])?;
        }
    }
    Ok(())
}

/// Whether a device may lead to a router: a bridge does where one of its ports does.
fn is_uplink(link: &Link, links: &[Link]) -> bool {
    let by_itself = |link: &Link| {
        UPLINKS.contains(&link.kind.as_str()) || (link.kind.is_empty() && !link.loopback)
    };
    let mut ports = links.iter().filter(|port| port.master == Some(link.index));
    by_itself(link) || (link.kind == "bridge" && ports.any(by_itself))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: &str, master: Option<u32>) -> Link {
        Link { index, kind: kind.to_owned(), master, ..Link::default() }
    }

    #[test]
    fn uplinks_are_hardware_what_stands_on_it_and_bridges_with_it() {
        let links = [
            link(2, "", Some(4)),
            link(3, "veth", Some(5)),
            link(4, "bridge", None),
            link(5, "bridge", None),
            link(6, "bond", None),
            link(7, "tun", None),
            Link { loopback: true, ..link(1, "", None) },
        ];
        let uplinks: Vec<_> =
            links.iter().filter(|link| is_uplink(link, &links)).map(|link| link.index).collect();
        assert_eq!(uplinks, [2, 4, 6]);
    }
}
