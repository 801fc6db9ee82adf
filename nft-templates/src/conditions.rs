//! Which connections a port of the node is for.

use std::{fmt, fmt::Write as _};

use data_encoding::HEXLOWER;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::element::IpFamily;

/// The template of a chain of conditions; see the file for what its placeholders stand for.
pub(crate) const TEMPLATE: &str = include_str!("../ports.nft");

/// How every such chain's name begins.
pub(crate) const CHAIN_PREFIX: &str = "ports_";

/// What has to hold for a connection that a port takes. Ports with the same conditions share one chain, whose name is a
/// digest of its rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// What is looked at, and what it has to be.
    pub subject: Subject,
    /// It has to be anything else.
    pub negated: bool,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Where the connection comes from.
    Source(IpNet),
    /// The node's address that it is made to.
    Destination(IpNet),
    /// The interface that it comes by; with a `*` at its end, any whose name begins like that. Connections of the node
    /// itself come by none.
    Interface(String),
}

impl Condition {
    /// What a packet is like that does not meet it, in nft's language.
    fn unmet(&self) -> String {
        let operator = if self.negated { "" } else { "!= " };
        let ip = |net: &IpNet| if matches!(net, IpNet::V4(_)) { "ip" } else { "ip6" };
        match &self.subject {
            Subject::Source(net) => format!("{} saddr {operator}{}", ip(net), net.trunc()),
            Subject::Destination(net) => format!("{} daddr {operator}{}", ip(net), net.trunc()),
            Subject::Interface(name) => format!("iifname {operator}\"{name}\""),
        }
    }

    /// Whether a packet of this family may meet it.
    pub(crate) fn is_of(&self, family: IpFamily) -> bool {
        match &self.subject {
            Subject::Source(net) | Subject::Destination(net) => IpFamily::of(net.addr()) == family,
            Subject::Interface(_) => true,
        }
    }
}

/// As an administrator would say it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "not " } else { "" };
        match &self.subject {
            Subject::Source(net) => write!(f, "{not}from {net}"),
            Subject::Destination(net) => write!(f, "{not}to {net}"),
            Subject::Interface(name) => write!(f, "{not}by {name}"),
        }
    }
}

/// The chain of these conditions: its name, and nft text as `nft -f` takes it (a table with this one chain). `map` is
/// where the port is looked up.
pub(crate) fn chain(conditions: &[Condition], family: IpFamily, map: &str) -> (String, String) {
    let text = rendered(conditions, family, map, CHAIN_PREFIX);
    let name = format!("{CHAIN_PREFIX}{}", &HEXLOWER.encode(&Sha256::digest(text))[..16]);
    let text = rendered(conditions, family, map, &name);
    (name, text)
}

fn rendered(conditions: &[Condition], family: IpFamily, map: &str, name: &str) -> String {
    let ip = if family == IpFamily::V4 { "ip" } else { "ip6" };
    let port = "meta l4proto . th dport";
    let key = if map.ends_with("_addr") { format!("{ip} daddr . {port}") } else { port.to_owned() };
    let mut unmet: Vec<_> = conditions.iter().map(Condition::unmet).collect();
    // Equal conditions read the same, in whatever order they were given.
    unmet.sort();
    unmet.dedup();
    let mut text = String::new();
    for line in TEMPLATE.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let line = line
            .replace("$NAME", name)
            .replace("$IP", ip)
            .replace("$KEY", &key)
            .replace("$MAP", map);
        if line.contains("$UNMET") {
            for unmet in &unmet {
                let _ = writeln!(text, "{}", line.replace("$UNMET", unmet));
            }
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(subject: Subject, negated: bool) -> Condition {
        Condition { subject, negated }
    }

    #[test]
    fn conditions_read_as_their_template_says() {
        let conditions = [
            condition(Subject::Interface("eth0".into()), false),
            condition(Subject::Destination("192.0.2.9/24".parse().unwrap()), true),
        ];
        let (name, text) = chain(&conditions, IpFamily::V4, "hostports4_addr");
        let expected = format!(
            "table inet catena {{\n\tchain {name} {{\n\t\tiifname != \"eth0\" return\n\
             \t\tip daddr 192.0.2.0/24 return\n\
             \t\tdnat ip to ip daddr . meta l4proto . th dport map @hostports4_addr\n\t}}\n}}\n"
        );
        assert_eq!(text, expected);
        let [first, second] = conditions;
        let other_order = [second.clone(), first, second];
        assert_eq!(chain(&other_order, IpFamily::V4, "hostports4_addr").0, name);
        assert_ne!(chain(&other_order, IpFamily::V4, "hostports4").0, name);
    }
}
