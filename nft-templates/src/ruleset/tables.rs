//! Whole tables: making them, replacing them, finding out whether they are as they were made.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};

use super::{
    ATTEMPTS, Ruleset,
    commit::{Change, Plan, rejected},
    look::is_shared,
    policies::uses,
    state::{Found, get_chain, get_table},
};
use crate::{
    error::Error,
    netlink::{Outcome, Request},
    owner::Owner,
    stored::{Entry, Family, Place, TABLE},
    templates::{self, Made},
    transaction::Committed,
};

impl Ruleset {
    /// Puts right what others did to the tables: one of another version, or with chains that lost rules, is
    /// replaced with all its elements and those on record ([`Self::on_install`]); one that is gone comes back with what
    /// is on record, if anything is. A commit does the same for the tables that it adds to.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn repair(&mut self) -> Result<Committed, Error> {
        let families = BTreeSet::from(Family::OURS);
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let state = ruleset.read(&families, std::iter::empty(), std::iter::empty())?;
                let generation = state.generation;
                let mut change = Change::new(state);
                let mut damaged = ruleset.damaged(&families)?;
                let recorded = ruleset.on_record();
                if !ruleset.damaged_policies(&recorded.policies)?.is_empty() {
                    damaged.entry(Family::Inet).or_default();
                }
                for family in &families {
                    match change.state.tables.get(family) {
                        Some(Found::Current) if !damaged.contains_key(family) => {}
                        Some(Found::Current | Found::Other) => {
                            ruleset.upgrade(*family, &Plan::default(), &mut change)?;
                        }
                        Some(Found::Absent) | None if recorded.has_some(*family) => {
                            recorded.install(*family, &Plan::default(), &mut change)?;
                        }
                        Some(Found::Absent) | None => {}
                    }
                }
                match ruleset.connection.batch(Some(generation), &change.requests)? {
                    Outcome::Done => return Ok(change.committed),
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => return Err(rejected(&change.requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }

    /// Takes the tables away with all that is in them, unless somebody has an element who is not known: he is returned then.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn take_away(&mut self, is_known: &dyn Fn(&Owner) -> bool) -> Result<Option<Owner>, Error> {
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let mut requests = Vec::new();
                for family in Family::OURS {
                    let table = ruleset.connection.get(&[get_table(family)])?.pop();
                    if !matches!(table, Some(Ok(_))) {
                        continue;
                    }
                    let held = ruleset.all_entries(family)?.into_iter();
                    let mut owners = held.filter(|one| !is_shared(one)).map(|one| one.owner);
                    if let Some(owner) = owners.find(|owner| !is_known(owner)) {
                        return Ok(Some(owner));
                    }
                    requests.push(delete_table(family));
                }
                match ruleset.connection.batch(Some(generation), &requests)? {
                    Outcome::Done => return Ok(None),
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => return Err(rejected(&requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }

    /// The tables of which chains are gone or are used another number of times than they were made with, and these chains.
    /// Each is asked for by name, which does not grow with what the node holds. A chain that a rule leads to is used less
    /// where that rule is gone, too: see [`Self::without_rules`].
    pub(super) fn damaged(
        &mut self,
        families: &BTreeSet<Family>,
    ) -> Result<BTreeMap<Family, Vec<Made>>, Error> {
        let mut damaged: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for family in families {
            let made = templates::chains(*family);
            let requests: Vec<_> =
                made.iter().map(|chain| get_chain(*family, chain.name)).collect();
            for (made, answer) in made.iter().copied().zip(self.connection.get(&requests)?) {
                match answer {
                    Ok(NfTablesMessage::NewChain(chain)) if uses(&chain) == Some(made.uses) => {}
                    _ => damaged.entry(*family).or_default().push(made),
                }
            }
        }
        Ok(damaged)
    }

    /// Of damaged chains the names of those that have lost rules of their own.
    pub(super) fn without_rules(
        &mut self,
        damaged: &BTreeMap<Family, Vec<Made>>,
    ) -> Result<BTreeMap<Family, Vec<String>>, Error> {
        let mut lost: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (family, chains) in damaged {
            for chain in chains {
                if self.rules(*family, chain.name)?.len() != chain.rules {
                    lost.entry(*family).or_default().push(chain.name.to_owned());
                }
            }
        }
        Ok(lost)
    }

    /// Makes a table that is not there, with all elements that are on record for it.
    pub(super) fn install(
        &mut self,
        family: Family,
        plan: &Plan<'_>,
        change: &mut Change,
    ) -> Result<(), Error> {
        let recorded = self.on_record();
        recorded.install(family, plan, change)
    }

    /// Replaces a table by this program's version of it, with all elements and policies that are in it, and those that
    /// are on record: who took rules away may have taken elements, too.
    pub(super) fn upgrade(
        &mut self,
        family: Family,
        plan: &Plan<'_>,
        change: &mut Change,
    ) -> Result<(), Error> {
        let recorded = self.on_record();
        tracing::info!(%family, "replacing the nf_tables table catena, which is not as it should be");
        let entries = self.all_entries(family)?;
        // Of a table with other sets there are none.
        let cluster = self.cluster_ranges(family)?;
        change.requests.push(delete_table(family));
        change.requests.extend(templates::install(family)?);
        change.committed.upgraded = true;
        if family == Family::Inet {
            change.state.chains.clear();
            for (name, copy) in self.copy_policies()? {
                // The chains of policies may have lost rules as well.
                let text = recorded.policies.get(&name).or_else(|| plan.policies.get(&name));
                change.requests.extend(match text {
                    Some(text) => templates::install_policy(text)?,
                    None => copy,
                });
                change.state.chains.insert(name);
            }
        }
        change.state.entries.retain(|place, _| place.family != family);
        for entry in entries {
            change.put(entry)?;
        }
        change.put_ranges(cluster);
        recorded.put(family, plan, change)
    }

    /// What is on record, in terms of what the kernel stores.
    fn on_record(&mut self) -> OnRecord {
        let (elements, cluster) =
            self.recorded.as_mut().map(|recorded| recorded()).unwrap_or_default();
        let mut recorded = OnRecord { cluster: cluster.entries(), ..OnRecord::default() };
        for one in &elements {
            // One bad record must not keep the others from being restored.
            match Plan::new(slice::from_ref(one), &[]) {
                Ok(plan) => {
                    recorded.entries.extend(plan.adds.into_iter().map(|(entry, _)| entry));
                    recorded.policies.extend(plan.policies);
                }
                Err(error) => tracing::warn!(%error, "an element on record cannot be restored"),
            }
        }
        recorded
    }

    /// Those of these policies' chains (text by name) that are there with another number of rules than they were made with.
    pub(super) fn damaged_policies(
        &mut self,
        policies: &BTreeMap<String, String>,
    ) -> Result<BTreeSet<String>, Error> {
        let mut damaged = BTreeSet::new();
        for (name, text) in policies {
            let chain = self.connection.get(&[get_chain(Family::Inet, name)])?.pop();
            let is_rule =
                |request: &&Request| matches!(request.message, NfTablesMessage::NewRule(_));
            let made_with = templates::install_policy(text)?.iter().filter(is_rule).count();
            if matches!(chain, Some(Ok(_))) && self.rules(Family::Inet, name)?.len() != made_with {
                damaged.insert(name.clone());
            }
        }
        Ok(damaged)
    }
}

fn delete_table(family: Family) -> Request {
    let attributes = vec![TableAttribute::Name(TABLE.into())];
    Request { family, flags: 0, message: NfTablesMessage::DeleteTable(TableMessage { attributes }) }
}

/// What is on record.
#[derive(Default)]
struct OnRecord {
    entries: Vec<Entry>,
    /// Of the sets of the cluster's addresses.
    cluster: Vec<Entry>,
    /// Text of the policy chains that the entries lead to, by name.
    policies: BTreeMap<String, String>,
}

impl OnRecord {
    fn has_some(&self, family: Family) -> bool {
        self.entries.iter().any(|entry| entry.place.family == family)
    }

    fn install(&self, family: Family, plan: &Plan<'_>, change: &mut Change) -> Result<(), Error> {
        tracing::info!(%family, "installing the nf_tables table catena");
        change.requests.extend(templates::install(family)?);
        change.committed.installed = true;
        self.put(family, plan, change)
    }

    /// Adds what is on record to a table that is being made, except where it has something for that place already, or the
    /// transaction itself does for the same owner. What another owner has on record is a conflict as if it were in place.
    fn put(&self, family: Family, plan: &Plan<'_>, change: &mut Change) -> Result<(), Error> {
        change.policies.extend(self.policies.clone());
        // What a table had of these counts: ranges cannot be mixed.
        let has = |place: &Place| change.state.entries.keys().any(|has| has.set == place.set);
        let cluster = self.cluster.iter().filter(|entry| entry.place.family == family);
        let cluster = cluster.filter(|entry| !has(&entry.place)).cloned().collect();
        change.put_ranges(cluster);
        for entry in &self.entries {
            let place = &entry.place;
            let free = !change.state.entries.contains_key(place)
                && !plan
                    .adds
                    .iter()
                    .any(|(add, _)| add.place == *place && add.owner == entry.owner);
            if place.family == family && free {
                change.put(entry.clone())?;
            }
        }
        Ok(())
    }
}
