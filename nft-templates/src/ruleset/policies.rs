//! Policy chains: which exist, which are used, how to carry them over.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage,
};

use super::{ATTEMPTS, Ruleset, state::get_chain};
use crate::{
    conditions,
    error::Error,
    netlink::{Outcome, Request},
    policy,
    stored::{Family, TABLE},
};

impl Ruleset {
    /// Removes the policy chains that no element leads to, and says how many they were.
    ///
    /// Removing the last pod of a policy takes its chain along already; this is for garbage collection,
    /// after elements went another way (someone's `nft delete element`, a replaced table).
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn collect_unused_policies(&mut self) -> Result<usize, Error> {
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let mut unused = Vec::new();
                for (name, uses) in ruleset.policy_chains()? {
                    if uses == ruleset.rules(Family::Inet, &name)?.len() {
                        unused.push(delete_chain(&name));
                    }
                }
                match ruleset.connection.batch(Some(generation), &unused)? {
                    Outcome::Done => return Ok(unused.len()),
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => {
                        return Err(super::commit::rejected(&unused, &failed));
                    }
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }

    /// Of the chains that `removed` elements led to, those that nothing else leads to.
    pub(super) fn no_longer_used(
        &mut self,
        removed: &BTreeMap<String, usize>,
    ) -> Result<Vec<Request>, Error> {
        let mut requests = Vec::new();
        for (name, removed) in removed {
            let answer = self.connection.get(&[get_chain(Family::Inet, name)])?.pop();
            let Some(Ok(NfTablesMessage::NewChain(chain))) = answer else { continue };
            // The kernel counts a chain's own rules among its uses. A chain that many pods use needs no
            // closer look: policies of that many rules are not worth one at each removal.
            let uses = uses(&chain).unwrap_or(usize::MAX);
            if uses - removed.min(&uses) <= 64
                && uses == self.rules(Family::Inet, name)?.len() + removed
            {
                requests.push(delete_chain(name));
            }
        }
        Ok(requests)
    }

    /// All policy chains and their rules, as messages that make them anew in a table that replaces theirs.
    pub(super) fn copy_policies(&mut self) -> Result<BTreeMap<String, Vec<Request>>, Error> {
        let mut copies = BTreeMap::new();
        for (name, _) in self.policy_chains()? {
            let mut requests = vec![new_chain(&name)];
            for rule in self.rules(Family::Inet, &name)? {
                let keep = |attribute: &RuleAttribute| {
                    matches!(
                        attribute,
                        RuleAttribute::Table(_)
                            | RuleAttribute::Chain(_)
                            | RuleAttribute::Expressions(_)
                            | RuleAttribute::UserData(_)
                    )
                };
                let attributes = rule.attributes.into_iter().filter(keep).collect();
                requests.push(Request {
                    family: Family::Inet,
                    flags: NLM_F_CREATE | NLM_F_APPEND,
                    message: NfTablesMessage::NewRule(RuleMessage { attributes }),
                });
            }
            copies.insert(name, requests);
        }
        Ok(copies)
    }

    /// Names of the policy chains, and how often each is used, its own rules included.
    fn policy_chains(&mut self) -> Result<Vec<(String, usize)>, Error> {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let all = self.connection.dump(&Request { family: Family::Inet, flags: 0, message })?;
        let mut chains = Vec::new();
        for message in all {
            let NfTablesMessage::NewChain(chain) = message else { continue };
            let ours = chain.attributes.contains(&ChainAttribute::Table(TABLE.into()));
            let name = chain.attributes.iter().find_map(|attribute| match attribute {
                ChainAttribute::Name(name) if is_policy(name) => Some(name.clone()),
                _ => None,
            });
            if let (true, Some(name), Some(uses)) = (ours, name, uses(&chain)) {
                chains.push((name, uses));
            }
        }
        Ok(chains)
    }

    /// A chain's rules. The kernel goes to this chain's directly: the cost does not grow with the ruleset.
    pub(super) fn rules(&mut self, family: Family, chain: &str) -> Result<Vec<RuleMessage>, Error> {
        let attributes =
            vec![RuleAttribute::Table(TABLE.into()), RuleAttribute::Chain(chain.into())];
        let message = NfTablesMessage::GetRule(RuleMessage { attributes });
        let rules = self.connection.dump(&Request { family, flags: 0, message })?;
        let rules = rules.into_iter().filter_map(|message| match message {
            NfTablesMessage::NewRule(rule) => Some(rule),
            _ => None,
        });
        Ok(rules.collect())
    }
}

/// Whether a chain comes and goes with the elements that lead to it.
fn is_policy(chain: &str) -> bool {
    [policy::CHAIN_PREFIX, conditions::CHAIN_PREFIX].iter().any(|prefix| chain.starts_with(prefix))
}

pub(super) fn uses(chain: &ChainMessage) -> Option<usize> {
    chain.attributes.iter().find_map(|attribute| match attribute {
        ChainAttribute::Use(uses) => usize::try_from(*uses).ok(),
        _ => None,
    })
}

fn new_chain(name: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    Request {
        family: Family::Inet,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: NfTablesMessage::NewChain(ChainMessage { attributes }),
    }
}

/// Deletes a chain with its rules; the kernel refuses while an element leads to it.
fn delete_chain(name: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    let message = NfTablesMessage::DeleteChain(ChainMessage { attributes });
    Request { family: Family::Inet, flags: 0, message }
}
