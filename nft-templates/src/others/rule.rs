//! A rule of anyone's, as far as it is understood.
//!
//! The tools of iptables make rules of nf_tables, too, in which extensions of iptables stand as they are in memory
//! (linux/netfilter/x_tables.h): `match` and `target`, each with a name, a revision and a structure.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_netfilter::nftables::{
    Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    NfTablesMessage, Operator, Payload, RuleAttribute, RuleMessage, Verdict as Code,
    VerdictAttribute,
};

use super::{Chain, Family};
use crate::{comment::comment_of, language::Verdict, netlink::Request, stored::address};

// Numbers of linux/netfilter.h.
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// Attributes of an extension of iptables: its name, revision and structure (NFTA_MATCH_*, NFTA_TARGET_*).
const EXTENSION_NAME: u16 = 1;
const EXTENSION_REVISION: u16 = 2;
const EXTENSION_INFO: u16 = 3;
// `match` conntrack (linux/netfilter/xt_conntrack.h): where its flags and states are, in all revisions from 1 on, and what
// says that nothing but the states is compared, and that these are ESTABLISHED and RELATED.
const CONNTRACK_FLAGS: usize = 146;
const CONNTRACK_INVERTED: usize = 148;
const CONNTRACK_STATES: usize = 150;
const OF_STATES: u16 = 1;
const ESTABLISHED_OR_RELATED: u16 = 6;
// Bases of what is loaded from a packet (NFT_PAYLOAD_*).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// A rule of anyone's.
#[derive(Clone, Debug)]
pub struct Rule {
    chain: Chain,
    handle: u64,
    expressions: Vec<Expressions>,
    comment: Option<String>,
}

/// An extension of iptables in a rule.
struct Extension {
    name: String,
    revision: u32,
    info: Vec<u8>,
}

impl Extension {
    /// Whether it is iptables' `-m conntrack --ctstate RELATED,ESTABLISHED`, and no more.
    fn is_of_answers(&self) -> bool {
        let half = |at: usize| {
            let bytes = self.info.get(at..at + 2)?;
            Some(u16::from_ne_bytes(bytes.try_into().ok()?))
        };
        let states = match self.revision {
            // One byte there.
            1 => self.info.get(CONNTRACK_STATES).map(|states| u16::from(*states)),
            _ => half(CONNTRACK_STATES),
        };
        self.name == "conntrack"
            && self.revision >= 1
            && half(CONNTRACK_FLAGS) == Some(OF_STATES)
            && half(CONNTRACK_INVERTED) == Some(0)
            && states == Some(ESTABLISHED_OR_RELATED)
    }
}

impl Rule {
    pub(super) fn read(chain: &Chain, message: RuleMessage) -> Self {
        let mut rule =
            Self { chain: chain.clone(), handle: 0, expressions: Vec::new(), comment: None };
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Handle(handle) => rule.handle = handle,
                RuleAttribute::Expressions(list) => {
                    rule.expressions = list.into_iter().filter_map(expression).collect();
                }
                RuleAttribute::UserData(bytes) => {
                    rule.comment = comment_of(&bytes).map(str::to_owned);
                }
                _ => {}
            }
        }
        if rule.comment.is_none() {
            let of_iptables = rule.extensions("match").find(|match_| match_.name == "comment");
            rule.comment = of_iptables.map(|comment| text(&comment.info));
        }
        rule
    }

    /// The chain that it is in.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Its comment: nft's, or that of iptables' match `comment`.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The chain that it jumps or goes to.
    pub fn leads_to(&self) -> Option<String> {
        match self.verdict() {
            Some((Verdict::Jump(chain) | Verdict::Goto(chain), _)) => Some(chain),
            _ => None,
        }
    }

    /// Whether it accepts.
    pub fn accepts(&self) -> bool {
        matches!(self.verdict(), Some((Verdict::Accept, _)))
    }

    /// The one source address of which it accepts everything: it compares nothing else, and says nothing of itself.
    pub fn accepts_all_from(&self) -> Option<IpAddr> {
        let is_bare = self.accepts() && self.comment.is_none() && self.uncounted().count() == 3;
        is_bare.then(|| self.source()).flatten()
    }

    /// The one destination address of which it accepts the answers, by iptables' match `conntrack`: it compares nothing else,
    /// and says nothing of itself.
    pub fn accepts_answers_to(&self) -> Option<IpAddr> {
        let is_bare = self.accepts() && self.comment.is_none() && self.uncounted().count() == 4;
        let answers = self.extensions("match").any(|of| of.is_of_answers());
        (is_bare && answers).then(|| self.destination()).flatten()
    }

    /// Its expressions, but for counters, which iptables gives to every rule. An address is two: loaded, and compared.
    fn uncounted(&self) -> impl Iterator<Item = &Expressions> {
        self.expressions.iter().filter(|expression| {
            !matches!(expression, Expressions::Other { expression_type, .. } if expression_type == "counter")
        })
    }

    /// Its expressions, but for those that count, log or comment.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expressions> {
        self.expressions.iter().filter(|expression| match expression {
            Expressions::Other { expression_type, .. }
                if ["counter", "log"].contains(&expression_type.as_str()) =>
            {
                false
            }
            _ => extension(expression, "match").is_none_or(|of| of.name != "comment"),
        })
    }

    /// The verdict, and whether it is that of every packet that comes to this rule.
    pub(crate) fn verdict(&self) -> Option<(Verdict, bool)> {
        let verdict = self.expressions.iter().find_map(verdict_of)?;
        let always = self.expressions().all(|expression| verdict_of(expression).is_some());
        Some((verdict, always))
    }

    /// The one source address that it is about.
    pub fn source(&self) -> Option<IpAddr> {
        self.compared(NETWORK_HEADER, 12, 4)
            .or_else(|| self.compared(NETWORK_HEADER, 8, 16))
            .and_then(address)
    }

    /// The one destination address that it is about.
    pub fn destination(&self) -> Option<IpAddr> {
        self.compared(NETWORK_HEADER, 16, 4)
            .or_else(|| self.compared(NETWORK_HEADER, 24, 16))
            .and_then(address)
    }

    /// The one destination port that it is about.
    pub fn destination_port(&self) -> Option<u16> {
        if let Some(port) = self.compared(TRANSPORT_HEADER, 2, 2) {
            return Some(u16::from_be_bytes(port.try_into().ok()?));
        }
        // struct xt_tcp and xt_udp begin with the lowest and highest port of the source, then those of the destination.
        let ports = self.extensions("match").find(|m| m.name == "tcp" || m.name == "udp")?;
        let port =
            |at: usize| Some(u16::from_ne_bytes(ports.info.get(at..at + 2)?.try_into().ok()?));
        port(4).filter(|lowest| port(6) == Some(*lowest))
    }

    /// Whether it masquerades.
    pub fn masquerades(&self) -> bool {
        let is_masq = |e: &Expressions| matches!(e, Expressions::Other { expression_type, .. } if expression_type == "masq");
        self.expressions.iter().any(is_masq)
            || self.extensions("target").any(|target| target.name == "MASQUERADE")
    }

    /// Where it translates destinations to.
    pub fn dnat_to(&self) -> Option<SocketAddr> {
        if let Some(target) = self.extensions("target").find(|target| target.name == "DNAT") {
            return dnat_target(&target, self.chain.family);
        }
        let is_nat = |e: &Expressions| matches!(e, Expressions::Other { expression_type, .. } if expression_type == "nat");
        if !self.expressions.iter().any(is_nat) {
            return None;
        }
        let mut ip = self.expressions.iter().filter_map(loaded);
        let mut port = ip.clone();
        let ip = ip.find_map(address)?;
        let port = port.find_map(|value| <[u8; 2]>::try_from(value).ok())?;
        Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
    }

    /// Deletes the rule.
    pub(crate) fn delete(&self) -> Request {
        let attributes = vec![
            RuleAttribute::Table(self.chain.table.clone()),
            RuleAttribute::Chain(self.chain.name.clone()),
            RuleAttribute::Handle(self.handle),
        ];
        let message = NfTablesMessage::DeleteRule(RuleMessage { attributes });
        Request { family: self.chain.family, flags: 0, message }
    }

    /// What this part of a packet has to be equal to, as a whole.
    fn compared(&self, base: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let parts = [Payload::Base(base), Payload::Offset(offset), Payload::Len(length)];
        self.expressions.windows(2).find_map(|pair| match pair {
            // A mask or the like would stand in between.
            [Expressions::Payload(payload), Expressions::Cmp(cmp)]
                if parts.iter().all(|part| payload.contains(part)) =>
            {
                let equal = cmp.contains(&Cmp::Op(Operator::Equal));
                let value = cmp.iter().find_map(|attribute| match attribute {
                    Cmp::Data(DataAttribute::Value(value)) => Some(&value[..]),
                    _ => None,
                })?;
                (equal && value.len() == length as usize).then_some(value)
            }
            _ => None,
        })
    }

    /// The extensions of iptables in it; `kind` is `match` or `target`.
    fn extensions(&self, kind: &'static str) -> impl Iterator<Item = Extension> {
        self.expressions.iter().filter_map(move |expression| extension(expression, kind))
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} handle {}", self.chain, self.handle)
    }
}

fn expression(attribute: ListAttribute<ExpressionAttribute>) -> Option<Expressions> {
    let ListAttribute::Element(attributes) = attribute else { return None };
    let mut name = None;
    for attribute in attributes {
        match attribute {
            ExpressionAttribute::Data(data) => return Some(data),
            ExpressionAttribute::Name(is) => name = Some(is),
            _ => {}
        }
    }
    // One without data, as "notrack".
    name.map(|name| Expressions::Other { expression_type: name, attributes: Vec::new() })
}

fn extension(expression: &Expressions, kind: &str) -> Option<Extension> {
    let attributes = match expression {
        Expressions::Other { expression_type, attributes } if expression_type == kind => attributes,
        _ => return None,
    };
    let value = |wanted: u16| attributes.iter().find(|a| a.kind() == wanted).map(bytes);
    Some(Extension {
        name: text(&value(EXTENSION_NAME)?),
        revision: u32::from_be_bytes(value(EXTENSION_REVISION)?.try_into().ok()?),
        info: value(EXTENSION_INFO)?,
    })
}

fn verdict_of(expression: &Expressions) -> Option<Verdict> {
    let attributes = match expression {
        Expressions::Immediate(attributes) => attributes,
        // A reject ends a packet as a drop does.
        Expressions::Other { expression_type, .. } if expression_type == "reject" => {
            return Some(Verdict::Drop);
        }
        _ => return None,
    };
    let verdict = attributes.iter().find_map(|attribute| match attribute {
        Immediate::Data(DataAttribute::Verdict(verdict)) => Some(verdict),
        _ => None,
    })?;
    let (mut code, mut chain) = (None, String::new());
    for part in verdict {
        match part {
            VerdictAttribute::Code(is) => code = Some(*is),
            VerdictAttribute::Chain(name) => chain.clone_from(name),
            _ => {}
        }
    }
    Some(match code? {
        Code::Jump => Verdict::Jump(chain),
        Code::Goto => Verdict::Goto(chain),
        Code::Return => Verdict::Return,
        Code::Other(NF_DROP) => Verdict::Drop,
        Code::Other(NF_ACCEPT) => Verdict::Accept,
        _ => return None,
    })
}

/// What an expression loads into a register.
fn loaded(expression: &Expressions) -> Option<&[u8]> {
    let Expressions::Immediate(attributes) = expression else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        Immediate::Data(DataAttribute::Value(value)) => Some(&value[..]),
        _ => None,
    })
}

/// Where iptables' target DNAT leads, if to one address and port (linux/netfilter/nf_nat.h).
fn dnat_target(target: &Extension, family: Family) -> Option<SocketAddr> {
    let (ip, port) = match (target.revision, family) {
        // struct nf_nat_ipv4_multi_range_compat: count, flags, two addresses, two ports.
        (0, Family::Ip) => (target.info.get(8..12)?, target.info.get(16..18)?),
        // struct nf_nat_range and nf_nat_range2: flags, two addresses of 16 bytes each, two ports.
        (_, Family::Ip) => (target.info.get(4..8)?, target.info.get(36..38)?),
        _ => (target.info.get(4..20)?, target.info.get(36..38)?),
    };
    Some(SocketAddr::new(address(ip)?, u16::from_be_bytes(port.try_into().ok()?)))
}

fn bytes(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

/// A text that ends at its NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Older tools of iptables use older structures; newer kernels still take them.
    #[test]
    fn targets_of_every_revision_are_understood() {
        let v4 =
            [[1, 0, 0, 0], [3, 0, 0, 0], [10, 1, 0, 2], [10, 1, 0, 2], [0, 80, 0, 80]].concat();
        let mut v6 = vec![3, 0, 0, 0];
        v6.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2].repeat(2));
        v6.extend([0, 80, 0, 80]);
        for (revision, family, info, to) in
            [(0, Family::Ip, v4, "10.1.0.2:80"), (1, Family::Ip6, v6, "[fd00::2]:80")]
        {
            let target =
                |info: &[u8]| Extension { name: "DNAT".into(), revision, info: info.into() };
            assert_eq!(dnat_target(&target(&info), family), Some(to.parse().unwrap()));
            assert_eq!(dnat_target(&target(&info[..10]), family), None);
        }
    }
}
