//! Looking at what is there: checks by key, and listings for what has no record.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{ATTEMPTS, Ruleset, closers::hand_on, state::Found};
use crate::{
    element::{Element, Key},
    error::Error,
    netlink::Outcome,
    owner::Owner,
    set_element,
    stored::{self, Entry, Family, Value},
    transaction::{Missing, Problem},
};

/// An element that the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// What it is.
    pub key: Key,
    /// Whose it is, by its comment.
    pub owner: Owner,
    /// Where a host port leads; `None` for the others.
    pub to: Option<SocketAddr>,
}

impl Ruleset {
    /// Compares elements with those in the kernel, and returns those that are not as wanted. Each is asked for
    /// by its key: the cost does not grow with what the node holds.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn check(&mut self, wanted: &[(Element, Owner)]) -> Result<Vec<Missing>, Error> {
        let mut entries = Vec::new();
        for (element, owner) in wanted {
            for entry in stored::entries(element, owner)? {
                entries.push((entry, element, owner));
            }
        }
        let families: BTreeSet<_> =
            entries.iter().map(|(entry, _, _)| entry.place.family).collect();
        if families.is_empty() {
            return Ok(Vec::new());
        }
        let places = entries.iter().map(|(entry, _, _)| &entry.place);
        let state = self.read(&families, places, std::iter::empty())?;
        let current =
            state.tables.iter().filter(|(_, found)| **found == Found::Current).map(|(f, _)| *f);
        let damaged = self.damaged(&current.collect())?;
        let damaged = self.without_rules(&damaged)?;
        let policies = wanted.iter().filter_map(|(element, _)| stored::chain(element)).collect();
        let damaged_policies = self.damaged_policies(&policies)?;
        let mut missing: Vec<Missing> = Vec::new();
        for (entry, element, owner) in &entries {
            let table = state.tables.get(&entry.place.family);
            let problem = match state.entries.get(&entry.place) {
                _ if table == Some(&Found::Absent) => Problem::NoTable,
                None => Problem::Absent,
                Some(found) if element.key().is_shared() || found == entry => {
                    let policy = match &entry.value {
                        Value::Goto(chain) => damaged_policies.get(chain),
                        _ => None,
                    };
                    let of_table = damaged.get(&entry.place.family).into_iter().flatten();
                    let chains: Vec<_> = of_table.chain(policy).cloned().collect();
                    if chains.is_empty() {
                        continue;
                    }
                    Problem::Damaged(chains)
                }
                Some(found) if found.owner != entry.owner => {
                    Problem::OtherOwner(found.owner.clone())
                }
                Some(_) => Problem::OtherValue,
            };
            if missing.last().is_none_or(|last| last.element != **element || last.owner != **owner)
            {
                let (element, owner) = ((*element).clone(), (*owner).clone());
                missing.push(Missing { element, owner, problem });
            }
        }
        Ok(missing)
    }

    /// Those of these keys that anybody holds.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn held_of(&mut self, keys: &[Key]) -> Result<Vec<Key>, Error> {
        let places: Vec<_> = keys.iter().map(stored::places).collect();
        let families = places.iter().flatten().map(|place| place.family).collect();
        let state = self.read(&families, places.iter().flatten(), std::iter::empty())?;
        let held =
            |places: &[stored::Place]| places.iter().any(|place| state.entries.contains_key(place));
        Ok(keys
            .iter()
            .zip(&places)
            .filter(|(_, of)| held(of))
            .map(|(key, _)| key.clone())
            .collect())
    }

    /// Everything that any attachment holds; shared elements are left out. A dump: for garbage collection and
    /// after a crash, not for the way of an ADD or DEL.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn held(&mut self) -> Result<Vec<Held>, Error> {
        let entries = match self.snapshot()? {
            Some(entries) => entries,
            // Most likely it was this program's other processes who were at work: hold them up.
            None => self.locked(|ruleset| {
                for _ in 0..ATTEMPTS {
                    if let Some(entries) = ruleset.snapshot()? {
                        return Ok(entries);
                    }
                }
                Err(Error::Busy { attempts: ATTEMPTS })
            })?,
        };
        let mut held: Vec<_> =
            entries.into_iter().filter(|e| !is_shared(e)).filter_map(held_by).collect();
        held.sort();
        Ok(held)
    }

    /// All elements of both tables, or `None` if anyone changed anything meanwhile. The kernel marks an
    /// interrupted dump of rules or chains (`NLM_F_DUMP_INTR`) but not one of a set's elements, which then
    /// may miss some and repeat others.
    fn snapshot(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        let before = self.generation()?;
        let mut entries = Vec::new();
        for family in Family::OURS {
            entries.extend(self.all_entries(family)?);
        }
        Ok((self.generation()? == before).then_some(entries))
    }

    /// What one attachment holds. See [`Self::held`].
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn owned_by(&mut self, owner: &Owner) -> Result<Vec<Held>, Error> {
        let mut held = self.held()?;
        held.retain(|held| held.owner == *owner);
        Ok(held)
    }

    /// All attachments that hold anything. See [`Self::held`].
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn owners(&mut self) -> Result<BTreeSet<Owner>, Error> {
        Ok(self.held()?.into_iter().map(|held| held.owner).collect())
    }

    /// Removes everything that one attachment holds, and returns what that was. This is for what has no record
    /// (of a process that was killed); with a record, [`Self::commit`] knows the keys.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn remove_owned(&mut self, owner: &Owner) -> Result<Vec<Held>, Error> {
        if self.is_locked_elsewhere() && self.owned_by(owner)?.is_empty() {
            return Ok(Vec::new());
        }
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let mut entries = Vec::new();
                for family in Family::OURS {
                    entries.extend(ruleset.all_entries(family)?);
                }
                let closed =
                    entries.iter().filter(|entry| is_shared(entry) && entry.owner == *owner);
                let handed_on: Vec<_> =
                    closed.flat_map(|closed| hand_on(closed, &entries)).collect();
                entries.retain(|entry| entry.owner == *owner && !is_shared(entry));
                let requests: Vec<_> =
                    entries.iter().map(|entry| set_element::delete(&entry.place)).collect();
                let mut led = std::collections::BTreeMap::new();
                for entry in &entries {
                    if let Value::Goto(chain) = &entry.value {
                        *led.entry(chain.clone()).or_default() += 1;
                    }
                }
                let requests = [requests, handed_on, ruleset.no_longer_used(&led)?].concat();
                match ruleset.connection.batch(Some(generation), &requests)? {
                    Outcome::Done => {
                        let mut held: Vec<_> = entries.into_iter().filter_map(held_by).collect();
                        held.sort();
                        return Ok(held);
                    }
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => {
                        return Err(super::commit::rejected(&requests, &failed));
                    }
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }
}

pub(super) fn is_shared(entry: &Entry) -> bool {
    stored::key(&entry.place).is_some_and(|key| key.is_shared())
}

fn held_by(entry: Entry) -> Option<Held> {
    let key = stored::key(&entry.place)?;
    let to = matches!(key, Key::HostPort { .. }).then(|| stored::target(&entry.value)).flatten();
    Some(Held { key, owner: entry.owner, to })
}
