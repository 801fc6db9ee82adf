//! Bridges that are closed, and for whose sake: each stays so as long as an attachment wants it.
//!
//! The comment of a bridge's element names one of its closers, so that the others come and go without anyone's looking at
//! all of them. Only when that one goes is another looked for.

use super::{
    ATTEMPTS, Ruleset,
    commit::{Change, Plan, rejected},
};
use crate::{
    element::Key,
    error::Error,
    netlink::{Outcome, Request},
    owner::Owner,
    set_element,
    stored::{self, Entry, Family},
};

/// The sets of closers.
const CLOSERS: [&str; 2] = ["closers4", "closers6"];

impl Ruleset {
    /// In a change under construction, gives the bridges that were closed in the name of those who go to another closer, or
    /// has them open.
    pub(super) fn hand_on_bridges(
        &mut self,
        plan: &Plan<'_>,
        change: &mut Change,
    ) -> Result<(), Error> {
        let closed = change.closed_bridges(plan);
        if closed.is_empty() {
            return Ok(());
        }
        let mut closers = self.entries_of(Family::Inet, &CLOSERS)?;
        // Those that come back with a table that is being made.
        closers.extend(change.state.entries.values().cloned());
        for closed in closed {
            let heir = heir(&closed, &closers);
            change.take(&closed.place);
            if let Some(owner) = heir {
                change.put(Entry { owner, ..closed })?;
            }
        }
        Ok(())
    }

    /// Removes what is known of bridges that `exists` does not know, and opens those that are closed for nobody's sake; says
    /// how many elements that changed. For garbage collection: what others took away, nobody handed on.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`], but for those of conflicts.
    pub fn collect_bridges(&mut self, exists: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
        self.locked(|ruleset| {
            for _ in 0..ATTEMPTS {
                let generation = ruleset.generation()?;
                let entries = ruleset.all_entries(Family::Inet)?;
                let requests: Vec<_> = entries
                    .iter()
                    .flat_map(|entry| match stored::key(&entry.place) {
                        Some(Key::Bridge { ifname } | Key::ClosedBridge { ifname })
                            if !exists(&ifname) =>
                        {
                            vec![set_element::delete(&entry.place)]
                        }
                        Some(Key::ClosedBridge { ifname })
                            if !closers(&ifname, &entries).any(|owner| *owner == entry.owner) =>
                        {
                            hand_on(entry, &entries)
                        }
                        _ => Vec::new(),
                    })
                    .collect();
                match ruleset.connection.batch(Some(generation), &requests)? {
                    Outcome::Done => return Ok(requests.len()),
                    Outcome::Stale => {}
                    Outcome::Failed(failed) => return Err(rejected(&requests, &failed)),
                }
            }
            Err(Error::Busy { attempts: ATTEMPTS })
        })
    }
}

/// What gives the element of a closed bridge to another closer of these, or takes it away.
pub(super) fn hand_on(closed: &Entry, entries: &[Entry]) -> Vec<Request> {
    let mut requests = vec![set_element::delete(&closed.place)];
    let heir = heir(closed, entries).map(|owner| Entry { owner, ..closed.clone() });
    requests.extend(heir.map(|entry| set_element::add(&entry, true)));
    requests
}

fn heir(closed: &Entry, entries: &[Entry]) -> Option<Owner> {
    let Some(Key::ClosedBridge { ifname }) = stored::key(&closed.place) else { return None };
    closers(&ifname, entries).find(|owner| **owner != closed.owner).cloned()
}

fn closers<'e>(bridge: &str, entries: &'e [Entry]) -> impl Iterator<Item = &'e Owner> {
    let closes = move |entry: &&Entry| matches!(stored::key(&entry.place), Some(Key::Closed { bridge: of, .. }) if of == bridge);
    entries.iter().filter(closes).map(|entry| &entry.owner)
}
