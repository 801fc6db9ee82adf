//! The sets of the cluster's addresses.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ATTEMPTS, Ruleset,
    commit::{Change, Plan, rejected},
    state::Found,
};
use crate::{
    cluster::{Cluster, SETS},
    error::Error,
    netlink::Outcome,
    set_element,
    stored::{Entry, Family, Value},
};

/// What becomes of a table of another version that has sets for the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherVersion {
    /// It is replaced by this program's: for who has just come.
    Replace,
    /// It stays: it may be of a version that came later, and two who replace each other's would never end.
    Keep,
}

impl Ruleset {
    /// Has the sets of the cluster's addresses be these, and says whether anything had to be changed for it. A table that
    /// is not there is made, with what is on record ([`Self::on_install`]), as it is by a commit.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn keep_cluster(&mut self, cluster: &Cluster, other: OtherVersion) -> Result<bool, Error> {
        let entries = cluster.entries();
        let wanted = by_set(&entries);
        let mut keeps = other == OtherVersion::Keep;
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let families = BTreeSet::from([Family::Inet]);
                let state = ruleset.read(&families, std::iter::empty(), std::iter::empty())?;
                let generation = state.generation;
                let mut change = Change::new(state);
                let is_other = change.state.tables.get(&Family::Inet) == Some(&Found::Other);
                match change.state.tables.get(&Family::Inet) {
                    Some(Found::Current) => {}
                    Some(Found::Other) if keeps => {}
                    Some(Found::Other) => {
                        ruleset.upgrade(Family::Inet, &Plan::default(), &mut change)?;
                    }
                    _ => ruleset.install(Family::Inet, &Plan::default(), &mut change)?,
                }
                let present = match change.requests.is_empty() {
                    true => ruleset.cluster_ranges(Family::Inet)?,
                    false => change.state.entries.values().cloned().collect(),
                };
                let present = by_set(&present);
                for set in SETS.into_iter().filter(|set| present.get(set) != wanted.get(set)) {
                    // Parts of ranges cannot be taken away.
                    if present.contains_key(set) {
                        change.requests.push(set_element::flush(Family::Inet, set));
                    }
                    let anew = entries.iter().filter(|entry| entry.place.set == set);
                    change.put_ranges(anew.cloned().collect());
                }
                if change.requests.is_empty() {
                    return Ok(false);
                }
                match ruleset.connection.batch(Some(generation), &change.requests)? {
                    Outcome::Done => return Ok(true),
                    Outcome::Stale => {}
                    // It has other sets.
                    Outcome::Failed(_) if is_other && keeps => keeps = false,
                    Outcome::Failed(failed) => return Err(rejected(&change.requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }

    /// The beginnings and ends of all ranges in a table's sets of the cluster's addresses, in ascending order.
    pub(super) fn cluster_ranges(&mut self, family: Family) -> Result<Vec<Entry>, Error> {
        let mut entries = match family {
            Family::Inet => self.entries_of(family, &SETS)?,
            _ => Vec::new(),
        };
        // nft itself has the addresses before the first range end at zero; nothing is there without it, too.
        entries
            .retain(|one| one.value != Value::End || one.place.key.iter().any(|byte| *byte != 0));
        entries.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(entries)
    }
}

/// Keys and values of each set.
fn by_set(entries: &[Entry]) -> BTreeMap<&str, BTreeMap<&[u8], &Value>> {
    let mut sets = BTreeMap::<_, BTreeMap<_, _>>::new();
    for Entry { place, value, .. } in entries {
        sets.entry(place.set).or_default().insert(&place.key[..], value);
    }
    sets
}
