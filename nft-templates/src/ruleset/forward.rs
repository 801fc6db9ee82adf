//! The rule in others' forward chains that lets the packets of pods through (see `forward.nft`).

use std::{collections::BTreeSet, fmt};

use netlink_packet_core::NLM_F_EXCL;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Meta, MetaKey, NfTablesMessage, Operator,
    RuleAttribute, TableAttribute, TableMessage,
};
use nix::errno::Errno;

use super::{ATTEMPTS, Ruleset, commit::rejected};
use crate::{
    error::Error,
    language::Verdict,
    netlink::{Connection, Outcome, Request},
    others::{Base, Chain, Removal, Rule, first},
    stored::{Family, TABLE},
    templates,
};

/// The bit of the mark, as it stands in `catena.nft`, `forward.nft` and `iptables.nft`.
const BIT: u32 = 0x0000_1000;
/// Priority of the chain in `catena.nft` that sets the bit, `raw - 10`.
const MARKED_AT: i32 = -310;
/// Number of the hook.
const FORWARD: u32 = 2;
/// Where the hook's packets come by.
const FAMILIES: [Family; 3] = [Family::Ip, Family::Ip6, Family::Inet];

/// A forward chain of another's that does not let the packets of pods through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Family, table and name.
    chain: String,
    /// The rule that it lacks.
    rule: String,
    /// What drops there.
    why: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, rule, why } = self;
        write!(f, "{why}, and there is no rule \"{rule}\" in chain {chain}")
    }
}

/// A rule that is missing, and the requests that put it in place.
struct Missing {
    gap: Gap,
    /// Whether packets are dropped for want of it: FORWARD of iptables gets it whatever its policy.
    drops: bool,
    requests: Vec<Request>,
}

impl Ruleset {
    /// Sees to it that the forward chains of others let the packets of pods through, and says what was missing for that.
    /// `admin` is the chain of iptables that the administrator's own rules are in.
    ///
    /// It looks only where others have changed the ruleset since it was last seen to be so.
    ///
    /// # Errors
    ///
    /// [`Error::Forward`] for a chain that cannot be changed, [`Error::Unmarked`] for one that comes too early; otherwise
    /// as [`Self::commit`].
    pub fn let_through(&mut self, admin: &str) -> Result<Vec<Gap>, Error> {
        self.locked(|ruleset| {
            if ruleset.is_seen(admin) {
                return Ok(Vec::new());
            }
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let missing = ruleset.missing(admin)?;
                let requests: Vec<_> =
                    missing.iter().flat_map(|one| one.requests.clone()).collect();
                match ruleset.connection.batch(Some(generation), &requests)? {
                    Outcome::Done => {
                        let commits = u32::from(!requests.is_empty());
                        ruleset.remember(admin, generation.wrapping_add(commits));
                        return Ok(missing.into_iter().map(|one| one.gap).collect());
                    }
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => return Err(refused(&missing, &requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }

    /// What keeps the forward chains of others from letting the packets of pods through.
    ///
    /// # Errors
    ///
    /// [`Error::Unmarked`] for a chain that comes too early; otherwise as [`Self::check`].
    pub fn check_let_through(&mut self, admin: &str) -> Result<Vec<Gap>, Error> {
        let missing = self.missing(admin)?.into_iter().filter(|one| one.drops);
        Ok(missing.map(|one| one.gap).collect())
    }

    /// Whether [`Self::let_through`] could put what is missing into chains that drop for want of it; nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Forward`] for one in a table that belongs to another process, [`Error::Unmarked`] for one that comes too
    /// early; otherwise as [`Self::check`].
    pub fn can_let_through(&mut self, admin: &str) -> Result<(), Error> {
        for Missing { gap, drops, requests } in self.missing(admin)? {
            let Some(NfTablesMessage::NewRule(rule)) = requests.last().map(|one| &one.message)
            else {
                continue;
            };
            let family = requests[0].family;
            let table = rule.attributes.iter().find_map(|attribute| match attribute {
                RuleAttribute::Table(name) => Some(name),
                _ => None,
            });
            if let (true, Some(table)) = (drops, table)
                && self.is_anothers(family, table)?
            {
                return Err(Error::Forward { gap, errno: Errno::EPERM });
            }
        }
        Ok(())
    }

    /// Whether a table belongs to a process: the kernel lets no other change it.
    fn is_anothers(&mut self, family: Family, table: &str) -> Result<bool, Error> {
        let attributes = vec![TableAttribute::Name(table.to_owned())];
        let message = NfTablesMessage::GetTable(TableMessage { attributes });
        let answers = self.connection.get(&[Request { family, flags: 0, message }])?;
        Ok(matches!(&answers[..], [Ok(NfTablesMessage::NewTable(table))]
            if table.attributes.iter().any(|one| matches!(one, TableAttribute::Owner(_)))))
    }

    /// Takes away what [`Self::let_through`] put into the chains of others, and says how many rules that were. The chains
    /// `CNI-FORWARD` and the administrator's stay where they hold anything else.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn withdraw(&mut self) -> Result<usize, Error> {
        self.remove_of_others(|others| withdrawal(others.connection))
    }

    fn missing(&mut self, admin: &str) -> Result<Vec<Missing>, Error> {
        let mut missing = Vec::new();
        for (chain, base) in forward_chains(&mut self.connection)? {
            let rules = self.connection.rules_of(&chain)?;
            if base.priority <= MARKED_AT
                && let Some(why) = self.denies(&chain, &base, &rules)?
            {
                return Err(Error::Unmarked { why, priority: base.priority, after: MARKED_AT });
            }
            if is_iptables(&chain) {
                missing.extend(self.missing_of_iptables(&chain, &base, &rules, admin)?);
            } else if !rules.iter().any(accepts)
                && let Some(why) = self.denies(&chain, &base, &rules)?
            {
                let gap = Gap { chain: chain.to_string(), rule: ACCEPT.to_owned(), why };
                // The chain itself is there.
                let rules = templates::forward_rule(&chain)?
                    .into_iter()
                    .filter(|request| matches!(request.message, NfTablesMessage::NewRule(_)));
                missing.push(Missing { gap, drops: true, requests: rules.map(first).collect() });
            }
        }
        Ok(missing)
    }

    /// What drops the packets that a base chain says nothing else about: `None` where it lets them pass.
    fn denies(
        &mut self,
        chain: &Chain,
        base: &Base,
        rules: &[Rule],
    ) -> Result<Option<String>, Error> {
        if let Some(why) = self.ends_in_drop(chain, rules, &mut BTreeSet::new())? {
            return Ok(Some(why));
        }
        Ok(base.drops.then(|| format!("chain {chain} has the policy drop")))
    }

    /// Whether every packet that comes to the end of a chain is dropped or rejected there, or in a chain that it leads to.
    fn ends_in_drop(
        &mut self,
        chain: &Chain,
        rules: &[Rule],
        visited: &mut BTreeSet<String>,
    ) -> Result<Option<String>, Error> {
        let next = match rules.last().and_then(Rule::verdict) {
            Some((Verdict::Drop, true)) => {
                return Ok(Some(format!("chain {chain} ends in a rule that drops or rejects")));
            }
            Some((Verdict::Jump(next) | Verdict::Goto(next), true)) => next,
            _ => return Ok(None),
        };
        if !visited.insert(next.clone()) {
            return Ok(None);
        }
        let next = Chain { name: next, ..chain.clone() };
        let rules = self.connection.rules_of(&next)?;
        self.ends_in_drop(&next, &rules, visited)
    }

    /// What `iptables.nft` has and iptables' table filter has not.
    fn missing_of_iptables(
        &mut self,
        forward: &Chain,
        base: &Base,
        rules: &[Rule],
        admin: &str,
    ) -> Result<Vec<Missing>, Error> {
        let ours = Chain { name: CNI_FORWARD.to_owned(), ..forward.clone() };
        let our_rules = self.connection.rules_of(&ours)?;
        let (chains, mut new): (Vec<_>, Vec<_>) = templates::iptables_rules(forward.family, admin)?
            .into_iter()
            .partition(|request| matches!(request.message, NfTablesMessage::NewChain(_)));
        let (Some(to_ours), Some(accept), Some(to_admin)) = (new.pop(), new.pop(), new.pop())
        else {
            return Err(Error::Protocol("iptables.nft has three rules".into()));
        };
        // What leads to the administrator's chain goes first, and what accepts comes after it in any case.
        let wanted = [
            (
                &ours,
                format!("jump {admin}"),
                our_rules.iter().any(|r| leads(r, admin)),
                first(to_admin),
            ),
            (&ours, ACCEPT.to_owned(), our_rules.iter().any(accepts), accept),
            (
                forward,
                format!("jump {CNI_FORWARD}"),
                rules.iter().any(|r| leads(r, CNI_FORWARD)),
                first(to_ours),
            ),
        ];
        if wanted.iter().all(|(_, _, is_there, _)| *is_there) {
            return Ok(Vec::new());
        }
        let denies = self.denies(forward, base, rules)?;
        // FORWARD itself is there, and of the others perhaps some.
        let mut chains: Vec<_> = chains.into_iter().map(unless_there).collect();
        chains.pop();
        let missing = wanted.into_iter().filter(|(_, _, is_there, _)| !is_there);
        let missing = missing.map(|(chain, rule, _, request)| Missing {
            gap: Gap {
                chain: chain.to_string(),
                rule,
                why: denies.clone().unwrap_or_else(|| format!("chain {forward} may come to drop")),
            },
            drops: denies.is_some(),
            requests: [std::mem::take(&mut chains), vec![request]].concat(),
        });
        Ok(missing.collect())
    }
}

/// Base chains that filter what is forwarded, but for our own.
fn forward_chains(connection: &mut Connection) -> Result<Vec<(Chain, Base)>, Error> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let chains = connection.chains(family)?.into_iter();
        found.extend(chains.filter_map(|(chain, base)| {
            let base = base.filter(|base| base.kind == "filter" && base.hook == FORWARD)?;
            (chain.table != TABLE).then_some((chain, base))
        }));
    }
    Ok(found)
}

/// Our rules in chains of others, and the chains `CNI-FORWARD` in which nothing else is.
fn withdrawal(connection: &mut Connection) -> Result<Removal, Error> {
    let mut removal = Removal::default();
    for (chain, _) in forward_chains(connection)? {
        let rules = connection.rules_of(&chain)?;
        if is_iptables(&chain) {
            let ours = Chain::new(chain.family, &chain.table, CNI_FORWARD);
            let our_rules = connection.rules_of(&ours)?;
            let is_ours = |rule: &Rule| is_our_accept(rule) || rule.comment() == Some(TO_ADMIN);
            if our_rules.iter().any(is_our_accept) && our_rules.iter().all(is_ours) {
                removal.rules.extend(rules.iter().filter(|rule| leads(rule, CNI_FORWARD)).cloned());
                let admins = our_rules.iter().filter_map(Rule::leads_to);
                let admins = admins.map(|name| Chain::new(chain.family, &chain.table, &name));
                removal.chains.push(ours.clone());
                for admin in admins {
                    if is_idle(connection, &admin, &ours)? && !removal.chains.contains(&admin) {
                        removal.chains.push(admin);
                    }
                }
            } else {
                removal.rules.extend(our_rules.into_iter().filter(is_our_accept));
            }
        }
        removal.rules.extend(rules.into_iter().filter(is_our_accept));
    }
    Ok(removal)
}

/// Whether a chain has no rules, and no other of its table leads to it than `but`.
fn is_idle(connection: &mut Connection, chain: &Chain, but: &Chain) -> Result<bool, Error> {
    if !connection.rules_of(chain)?.is_empty() {
        return Ok(false);
    }
    for (other, _) in connection.chains(chain.family)? {
        if other.table != chain.table || other == *but {
            continue;
        }
        let rules = connection.rules_of(&other)?;
        if rules.iter().any(|rule| rule.leads_to().as_ref() == Some(&chain.name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The chain that others share with the reference plugin.
const CNI_FORWARD: &str = "CNI-FORWARD";
/// The comment of the jump to the administrator's chain, as in `iptables.nft` (and the reference plugin's).
const TO_ADMIN: &str = "CNI firewall plugin admin overrides";
/// The comment of the rule that accepts, as in `forward.nft` and `iptables.nft`.
const OURS: &str = "catena";
/// The rule, in nft's words.
const ACCEPT: &str = "meta mark & 0x00001000 == 0x00001000 accept";

fn is_iptables(chain: &Chain) -> bool {
    let of_ip = matches!(chain.family, Family::Ip | Family::Ip6);
    of_ip && chain.table == "filter" && chain.name == "FORWARD"
}

/// Whether every packet that comes to this rule goes on in that chain.
fn leads(rule: &Rule, to: &str) -> bool {
    matches!(rule.verdict(), Some((Verdict::Jump(chain) | Verdict::Goto(chain), true)) if chain == to)
}

/// Whether it is the rule that accepts what bears our bit, whoever wrote it, and in whatever words.
fn accepts(rule: &Rule) -> bool {
    let parts: Vec<_> = rule.expressions().collect();
    let [Expressions::Meta(load), Expressions::Bitwise(mask), Expressions::Cmp(compare), _] =
        parts[..]
    else {
        return false;
    };
    let value = |bits: u32| DataAttribute::Value(bits.to_ne_bytes().to_vec());
    let compares = |operator, bits| {
        compare.contains(&Cmp::Op(operator)) && compare.contains(&Cmp::Data(value(bits)))
    };
    load.contains(&Meta::Key(MetaKey::Mark))
        && mask.contains(&Bitwise::Mask(value(BIT)))
        && (compares(Operator::Equal, BIT) || compares(Operator::NotEqual, 0))
        && matches!(rule.verdict(), Some((Verdict::Accept, _)))
}

/// Whether it is that rule, and not one that an administrator wrote for himself.
fn is_our_accept(rule: &Rule) -> bool {
    accepts(rule) && rule.comment() == Some(OURS)
}

/// Turns a message that makes a chain into one that does nothing where there is one.
fn unless_there(mut request: Request) -> Request {
    request.flags &= !NLM_F_EXCL;
    request
}

/// The error for a transaction that the kernel refused, which names the chain.
fn refused(missing: &[Missing], requests: &[Request], failed: &[(usize, Errno)]) -> Error {
    let mut owners = missing.iter().flat_map(|one| one.requests.iter().map(move |_| &one.gap));
    match failed.first() {
        Some((index, errno)) => match owners.nth(*index) {
            Some(gap) => Error::Forward { gap: gap.clone(), errno: *errno },
            None => rejected(requests, failed),
        },
        None => rejected(requests, failed),
    }
}
