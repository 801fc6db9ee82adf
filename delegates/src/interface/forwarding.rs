//! Turning the node into a router, without cutting it off.

use chain::Result;

use crate::net::{
    Net, Sysctl,
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

/// Lets uplinks go on listening to router advertisements: devices that have learned a route by them, and hardware that
/// may yet do so.
fn keep_listening(host: &Net) -> Result<()> {
    let learned = host.route().learned_by_ra()?;
    for link in host.link().list()? {
        let key = Sysctl::conf(Family::V6, &link.name, "accept_ra");
        let hardware = link.kind.is_empty() && !link.loopback;
        if (hardware || learned.contains(&link.index))
            && sysctl::read_host(&key).as_deref() == Some("1")
        {
            tracing::info!(interface = link.name, "goes on accepting router advertisements");
            sysctl::write_host(&[Sysctl::required(key, "2")])?;
        }
    }
    Ok(())
}
