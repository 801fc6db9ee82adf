//! Chains and rules of others: reading them, and what of them this crate understands.
//!
//! Rules are read as far as is needed: where they lead, and whether for every packet. Listing all
//! chains of a node grows with what others keep there; a chain's rules are asked for by its name.

use netlink_packet_core::NLM_F_APPEND;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
    Verdict as Code, VerdictAttribute,
};

use crate::{
    error::Error,
    language::Verdict,
    netlink::{Connection, Request},
    stored::Family,
};

// Numbers of linux/netfilter.h: verdicts, and policies of chains.
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// The attribute with the name of an extension of iptables (NFTA_MATCH_NAME).
const MATCH_NAME: u16 = 1;

/// A chain of anyone's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// What a base chain has besides its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter`, `nat` or `route`.
    pub(crate) kind: String,
    /// Number of the hook: prerouting 0, input 1, forward 2, output 3, postrouting 4.
    pub(crate) hook: u32,
    /// Whether its policy is drop.
    pub(crate) drops: bool,
}

/// A rule of anyone's.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    chain: Chain,
    handle: u64,
    expressions: Vec<Expressions>,
}

impl Connection {
    /// All chains of a family, with what is theirs as base chains. A dump: its cost grows with the ruleset.
    pub(crate) fn chains(&mut self, family: Family) -> Result<Vec<(Chain, Option<Base>)>, Error> {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let chains = self.dump(&Request { family, flags: 0, message })?;
        let chains = chains.into_iter().filter_map(|message| match message {
            NfTablesMessage::NewChain(message) => chain(family, message),
            _ => None,
        });
        Ok(chains.collect())
    }

    /// A chain's rules, in their order; none where there is no such chain.
    pub(crate) fn rules_of(&mut self, chain: &Chain) -> Result<Vec<Rule>, Error> {
        let attributes = vec![
            RuleAttribute::Table(chain.table.clone()),
            RuleAttribute::Chain(chain.name.clone()),
        ];
        let message = NfTablesMessage::GetRule(RuleMessage { attributes });
        let rules = self.dump(&Request { family: chain.family, flags: 0, message })?;
        let rules = rules.into_iter().filter_map(|message| match message {
            NfTablesMessage::NewRule(message) => Some(rule(chain, message)),
            _ => None,
        });
        Ok(rules.collect())
    }
}

impl Chain {
    /// Deletes the chain; the kernel refuses while a rule leads to it, and takes its own rules along.
    pub(crate) fn delete(&self) -> Request {
        let attributes = vec![
            ChainAttribute::Table(self.table.clone()),
            ChainAttribute::Name(self.name.clone()),
        ];
        let message = NfTablesMessage::DeleteChain(ChainMessage { attributes });
        Request { family: self.family, flags: 0, message }
    }
}

impl Rule {
    /// The rule's expressions, but for those that count, log or comment.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expressions> {
        self.expressions.iter().filter(|expression| match expression {
            Expressions::Other { expression_type: name, attributes } => match name.as_str() {
                "counter" | "log" => false,
                "match" => !attributes.iter().any(|attribute| {
                    use netlink_packet_core::Nla as _;
                    let mut value = vec![0; attribute.value_len()];
                    attribute.emit_value(&mut value);
                    attribute.kind() == MATCH_NAME && value == b"comment\0"
                }),
                _ => true,
            },
            _ => true,
        })
    }

    /// The verdict, and whether it is that of every packet that comes to this rule.
    pub(crate) fn verdict(&self) -> Option<(Verdict, bool)> {
        let verdict = self.expressions.iter().find_map(verdict_of)?;
        let always = self.expressions().all(|expression| verdict_of(expression).is_some());
        Some((verdict, always))
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
}

/// Turns a message that appends a rule into one that puts it first.
pub(crate) fn first(mut request: Request) -> Request {
    request.flags &= !NLM_F_APPEND;
    request
}

fn chain(family: Family, message: ChainMessage) -> Option<(Chain, Option<Base>)> {
    let (mut table, mut name, mut kind, mut hook, mut drops) = (None, None, None, None, false);
    for attribute in message.attributes {
        match attribute {
            ChainAttribute::Table(of) => table = Some(of),
            ChainAttribute::Name(is) => name = Some(is),
            ChainAttribute::Type(is) => kind = Some(is),
            ChainAttribute::Policy(policy) => drops = policy == NF_DROP,
            ChainAttribute::Hook(parts) => {
                hook = parts.into_iter().find_map(|part| match part {
                    Hook::Number(number) => Some(number),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let base = kind.zip(hook).map(|(kind, hook)| Base { kind, hook: number(hook), drops });
    Some((Chain { family, table: table?, name: name? }, base))
}

fn number(hook: HookNumber) -> u32 {
    match hook {
        HookNumber::Inet(hook) => hook.into(),
        HookNumber::Dev(hook) => hook.into(),
        HookNumber::Other(number) => number,
        _ => u32::MAX,
    }
}

fn rule(chain: &Chain, message: RuleMessage) -> Rule {
    let mut rule = Rule { chain: chain.clone(), handle: 0, expressions: Vec::new() };
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Handle(handle) => rule.handle = handle,
            RuleAttribute::Expressions(list) => {
                rule.expressions = list.into_iter().filter_map(expression).collect();
            }
            _ => {}
        }
    }
    rule
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
