//! What the kernel does with new links by itself, some time after a command has returned.

use std::time::Duration;

use serde_json::Value;

use crate::netns::Netns;
use crate::wait::within;

/// Long enough for duplicate address detection (1 s, after a random delay of up to 1 s).
const PATIENCE: Duration = Duration::from_secs(4);

/// Awaits that each veth that is up has its link-local address, that its addresses are past duplicate address detection, and that
/// they have their routes, which the kernel makes only after it has said so. Bridges are not waited for.
///
/// Gives up without a word: a link may be such that this never comes.
pub(super) fn settle(netns: &Netns) {
    let _ = within(PATIENCE, || is_settled(netns).then_some(()));
}

fn is_settled(netns: &Netns) -> bool {
    let links = netns.json(["ip", "-j", "-d", "addr", "show", "up", "type", "veth"]);
    let is_routed = |dev: &str, address: &Value| {
        let routes = netns.json(["ip", "-j", "-6", "route", "show", "table", "local", "dev", dev]);
        routes.as_array().is_some_and(|all| all.iter().any(|one| one["dst"] == address["local"]))
    };
    let settled = |link: &Value| {
        let Some(name) = link["ifname"].as_str() else { return true };
        let flags = link["flags"].as_array().into_iter().flatten();
        if !flags.into_iter().any(|flag| flag == "LOWER_UP") {
            return true;
        }
        let addresses = link["addr_info"].as_array().into_iter().flatten();
        let addresses: Vec<_> = addresses.filter(|address| address["family"] == "inet6").collect();
        if addresses.iter().any(|address| address["tentative"] == true) {
            return false;
        }
        if !addresses.iter().all(|address| address["dadfailed"] == true || is_routed(name, address))
        {
            return false;
        }
        let is_set = |key| netns.sysctl(&format!("ipv6/conf/{name}/{key}")) == "1";
        addresses.iter().any(|address| address["scope"] == "link")
            || is_set("addr_gen_mode")
            || is_set("disable_ipv6")
    };
    links.as_array().is_none_or(|links| links.iter().all(settled))
}
