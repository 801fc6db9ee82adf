//! Chains and rules of others: reading them, and taking away those that are to go.
//!
//! They are asked for by name, so that the cost does not grow with what others keep elsewhere, and rules are understood as
//! far as is needed: where they lead, what they compare, what they say of themselves. Only a listing of all chains grows
//! with what others keep.

mod rule;

use netlink_packet_core::NLM_F_APPEND;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
};
use nix::errno::Errno;

pub use self::rule::Rule;
pub use crate::stored::Family;
use crate::{
    error::Error,
    netlink::{Connection, Request},
};

/// A policy of chains (linux/netfilter.h).
const NF_DROP: u32 = 0;

/// A chain of anyone's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// The family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

impl Chain {
    /// The chain of this name.
    pub fn new(family: Family, table: &str, name: &str) -> Self {
        Self { family, table: table.to_owned(), name: name.to_owned() }
    }

    /// Asks whether it is there.
    fn get(&self) -> Request {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: self.attributes() });
        Request { family: self.family, flags: 0, message }
    }

    /// Deletes it; the kernel refuses while a rule leads to it, and takes its own rules along.
    pub(crate) fn delete(&self) -> Request {
        let message = NfTablesMessage::DeleteChain(ChainMessage { attributes: self.attributes() });
        Request { family: self.family, flags: 0, message }
    }

    fn attributes(&self) -> Vec<ChainAttribute> {
        vec![ChainAttribute::Table(self.table.clone()), ChainAttribute::Name(self.name.clone())]
    }
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
    /// Chains of one hook see a packet in this order, the lowest first.
    pub(crate) priority: i32,
    /// Whether its policy is drop.
    pub(crate) drops: bool,
}

/// What others have in the kernel.
pub struct Others<'c> {
    pub(crate) connection: &'c mut Connection,
}

impl Others<'_> {
    /// Those of the chains that are there, by one request.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`], [`Error::NoNfTables`] and those of the socket.
    pub fn present(
        &mut self,
        chains: impl IntoIterator<Item = Chain>,
    ) -> Result<Vec<Chain>, Error> {
        let chains: Vec<_> = chains.into_iter().collect();
        let requests: Vec<_> = chains.iter().map(Chain::get).collect();
        let mut present = Vec::new();
        for (chain, answer) in chains.into_iter().zip(self.connection.get(&requests)?) {
            match answer {
                Ok(_) => present.push(chain),
                // No such chain, no such table, a family that the kernel does not have.
                Err(Errno::ENOENT | Errno::EAFNOSUPPORT) => {}
                Err(errno) => {
                    return Err(Error::Rejected { object: format!("chain {chain}"), errno });
                }
            }
        }
        Ok(present)
    }

    /// A chain's rules, in their order; none where there is no such chain.
    ///
    /// # Errors
    ///
    /// As [`Self::present`], and [`Error::Busy`] when others left no gap.
    pub fn rules(&mut self, chain: &Chain) -> Result<Vec<Rule>, Error> {
        self.connection.rules_of(chain)
    }
}

/// What of others' is to be taken away.
#[derive(Debug, Default)]
pub struct Removal {
    /// Rules.
    pub rules: Vec<Rule>,
    /// Chains with their rules. None may be led to by a rule that stays.
    pub chains: Vec<Chain>,
}

impl Removal {
    /// The requests, in the order in which the kernel can do them: a chain goes when nothing leads to it any more.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let rules = self.rules.iter().map(Rule::delete);
        rules.chain(self.chains.iter().map(Chain::delete)).collect()
    }
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
            NfTablesMessage::NewRule(message) => Some(Rule::read(chain, message)),
            _ => None,
        });
        Ok(rules.collect())
    }
}

/// Turns a message that appends a rule into one that puts it first.
pub(crate) fn first(mut request: Request) -> Request {
    request.flags &= !NLM_F_APPEND;
    request
}

fn chain(family: Family, message: ChainMessage) -> Option<(Chain, Option<Base>)> {
    let (mut table, mut name, mut kind, mut hook, mut drops) = (None, None, None, None, false);
    let mut priority = 0;
    for attribute in message.attributes {
        match attribute {
            ChainAttribute::Table(of) => table = Some(of),
            ChainAttribute::Name(is) => name = Some(is),
            ChainAttribute::Type(is) => kind = Some(is),
            ChainAttribute::Policy(policy) => drops = policy == NF_DROP,
            ChainAttribute::Hook(parts) => {
                for part in parts {
                    match part {
                        Hook::Number(number) => hook = Some(number),
                        Hook::Priority(is) => priority = is.cast_signed(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let base =
        kind.zip(hook).map(|(kind, hook)| Base { kind, hook: number(hook), priority, drops });
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
