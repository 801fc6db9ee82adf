//! Whole tables: making them, replacing them, finding out whether they are as they were made.

use std::{collections::BTreeSet, slice};

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};

use super::{
    ATTEMPTS, Ruleset,
    commit::{Change, Plan, rejected},
    policies::uses,
    state::{Found, get_chain},
};
use crate::{
    error::Error,
    netlink::{Outcome, Request},
    stored::{Family, TABLE},
    templates,
    transaction::Committed,
};

impl Ruleset {
    /// Puts right what others did to the tables: one of another version, or with chains that lost rules, is
    /// replaced with all its elements; one that is gone comes back with what is on record
    /// ([`Self::on_install`]), if anything is. For garbage collection; a commit does the same for
    /// the damage that is in its way.
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
                let damaged = ruleset.damaged(&families)?;
                for family in &families {
                    match change.state.tables.get(family) {
                        Some(Found::Current) if !damaged.contains(family) => {}
                        Some(Found::Current | Found::Other) => {
                            ruleset.upgrade(*family, &mut change)?;
                        }
                        Some(Found::Absent) | None => ruleset.restore(*family, &mut change)?,
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

    /// Installs a table that is gone if elements of it are on record.
    fn restore(&mut self, family: Family, change: &mut Change) -> Result<(), Error> {
        let recorded = self.recorded.as_mut().map(|recorded| recorded()).unwrap_or_default();
        let has_some = recorded.iter().any(|(element, owner)| {
            let entries = crate::stored::entries(element, owner).unwrap_or_default();
            entries.iter().any(|entry| entry.place.family == family)
        });
        if has_some { self.install(family, &Plan::default(), change) } else { Ok(()) }
    }

    /// The tables of which chains are gone or have another number of rules than they were made with. Each chain
    /// is asked for by name, which does not grow with what the node holds.
    pub(super) fn damaged(
        &mut self,
        families: &BTreeSet<Family>,
    ) -> Result<BTreeSet<Family>, Error> {
        let mut wanted = Vec::new();
        for family in families {
            let chains = templates::chain_uses(*family)?;
            wanted.extend(chains.into_iter().map(|(name, uses)| (*family, name, uses)));
        }
        let requests: Vec<_> =
            wanted.iter().map(|(family, name, _)| get_chain(*family, name)).collect();
        let answers = self.connection.get(&requests)?;
        let damaged = wanted.iter().zip(answers).filter(|((_, _, wanted), answer)| match answer {
            Ok(NfTablesMessage::NewChain(chain)) => uses(chain) != Some(*wanted),
            _ => true,
        });
        Ok(damaged.map(|((family, _, _), _)| *family).collect())
    }

    /// Makes a table that is not there, with all elements that are on record for it, except where the
    /// transaction itself has something for that place.
    pub(super) fn install(
        &mut self,
        family: Family,
        plan: &Plan<'_>,
        change: &mut Change,
    ) -> Result<(), Error> {
        tracing::info!(%family, "installing the nf_tables table catena");
        change.requests.extend(templates::install(family)?);
        change.committed.installed = true;
        let recorded = self.recorded.as_mut().map(|recorded| recorded()).unwrap_or_default();
        for one in &recorded {
            // One bad record must not keep the others from being restored.
            let recorded = match Plan::new(slice::from_ref(one), &[]) {
                Ok(recorded) => recorded,
                Err(error) => {
                    tracing::warn!(%error, "an element on record cannot be restored");
                    continue;
                }
            };
            change.policies.extend(recorded.policies);
            for (entry, _) in recorded.adds {
                let place = &entry.place;
                let free = !change.state.entries.contains_key(place)
                    && !plan.adds.iter().any(|(add, _)| add.place == *place);
                if place.family == family && free {
                    change.put(entry)?;
                }
            }
        }
        Ok(())
    }

    /// Replaces a table by this program's version of it, with all elements and policies that are in it.
    pub(super) fn upgrade(&mut self, family: Family, change: &mut Change) -> Result<(), Error> {
        tracing::info!(%family, "replacing the nf_tables table catena, which is not as it should be");
        let entries = self.all_entries(family)?;
        let attributes = vec![TableAttribute::Name(TABLE.into())];
        change.requests.push(Request {
            family,
            flags: 0,
            message: NfTablesMessage::DeleteTable(TableMessage { attributes }),
        });
        change.requests.extend(templates::install(family)?);
        change.committed.upgraded = true;
        if family == Family::Inet {
            change.state.chains.clear();
            for (name, requests) in self.copy_policies()? {
                change.requests.extend(requests);
                change.state.chains.insert(name);
            }
        }
        change.state.entries.retain(|place, _| place.family != family);
        for entry in entries {
            change.put(entry)?;
        }
        Ok(())
    }
}
