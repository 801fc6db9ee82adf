//! Transactions: first blindly, which suffices nearly always; otherwise by reading first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use netlink_packet_netfilter::nftables::NfTablesMessage;
use nix::errno::Errno;

use super::{
    ATTEMPTS, Ruleset,
    state::{Found, State, describe, get_chain},
};
use crate::{
    element::{Element, Key},
    error::Error,
    netlink::{Outcome, Request},
    owner::Owner,
    set_element,
    stored::{self, Entry, Family, Place, Value},
    templates,
    transaction::{Committed, Conflict, Resolution, Transaction},
};

/// A transaction in terms of what the kernel stores.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) adds: Vec<(Entry, &'a Element)>,
    removes: Vec<(Place, &'a Key, &'a Owner)>,
    /// Where an added element has nothing: a port without conditions does not take over those of its former holder.
    vacated: Vec<Place>,
    /// Text of the policy chains that the elements lead to, by name.
    pub(super) policies: BTreeMap<String, String>,
    families: BTreeSet<Family>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        adds: &'a [(Element, Owner)],
        removes: &'a [(Key, Owner)],
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut seen: HashMap<Place, usize> = HashMap::new();
        for (element, owner) in adds {
            plan.policies.extend(stored::chain(element));
            let entries = stored::entries(element, owner)?;
            let vacated = stored::places(&element.key());
            let vacated =
                vacated.into_iter().filter(|place| entries.iter().all(|one| one.place != *place));
            plan.vacated.extend(vacated);
            for entry in entries {
                plan.families.insert(entry.place.family);
                match seen.get(&entry.place) {
                    None => {
                        seen.insert(entry.place.clone(), plan.adds.len());
                        plan.adds.push((entry, element));
                    }
                    Some(earlier) => {
                        let earlier = &mut plan.adds[*earlier];
                        let same_owner = earlier.0.owner == entry.owner;
                        if !(same_owner || element.key().is_shared())
                            || matches!(element, Element::HostPort { .. })
                        {
                            return Err(Error::Duplicate { element: Box::new(element.clone()) });
                        }
                        *earlier = (entry, element);
                    }
                }
            }
        }
        for (key, owner) in removes {
            for place in stored::places(key) {
                plan.families.insert(place.family);
                plan.removes.push((place, key, owner));
            }
        }
        Ok(plan)
    }
}

impl Ruleset {
    /// Makes all of a transaction's changes, or none.
    ///
    /// A transaction that only adds is one request to the kernel, after a look at the chains that it needs: whether they
    /// are there, and with as many rules as they were made with. Where something is in the way (the table is missing, of
    /// another version or lost rules, a key is held, a policy's chain is not there yet),
    /// what is there is read and the change made for exactly the generation of the ruleset that was read,
    /// again until no one else has changed it meanwhile.
    ///
    /// An element that its owner has already is replaced: its value may differ. For one that another owner
    /// has, `conflict` decides. An element is removed only if it is still its owner's; one that is gone is
    /// no error, nor is a table that is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if `conflict` refuses; [`Error::Duplicate`] and [`Error::Invalid`] for elements that
    /// cannot be; [`Error::NotPermitted`], [`Error::NoNfTables`], [`Error::NoBridgeFamily`] and [`Error::Rejected`] for what the
    /// kernel refuses; [`Error::Busy`] when others left no gap.
    pub fn commit(
        &mut self,
        transaction: &Transaction,
        conflict: &mut dyn FnMut(&Conflict) -> Resolution,
    ) -> Result<Committed, Error> {
        let plan = Plan::new(&transaction.adds, &transaction.removes)?;
        if plan.families.is_empty() {
            return Ok(Committed::default());
        }
        // A roll-back has nothing to wait for where its additions were never made.
        if plan.adds.is_empty() && self.is_locked_elsewhere() && !self.holds_any_to_remove(&plan)? {
            return Ok(Committed::default());
        }
        self.locked(|ruleset| {
            let adds_only = plan.removes.is_empty();
            // A table that lost rules takes elements as ever, and they serve nobody. A removal leaves it as it is.
            let damaged = match plan.adds.is_empty() {
                true => BTreeSet::new(),
                false => ruleset.damaged(&plan.families)?.into_keys().collect(),
            };
            if adds_only
                && damaged.is_empty()
                && ruleset.has_policies(&plan)?
                && ruleset.blindly(&plan)?
            {
                return Ok(Committed::default());
            }
            ruleset.knowingly(&plan, damaged, conflict)
        })
    }

    fn holds_any_to_remove(&mut self, plan: &Plan<'_>) -> Result<bool, Error> {
        let places = plan.removes.iter().map(|(place, _, _)| place);
        let state = self.read(&plan.families, places, std::iter::empty())?;
        Ok(plan.removes.iter().any(|(place, key, owner)| {
            let entry = state.entries.get(place);
            entry.is_some_and(|entry| is_to_go(entry, key, owner))
        }))
    }

    /// Whether the chains that the new elements lead to are there. Asking costs a fraction of what a transaction does
    /// that fails for want of one: the kernel waits for all its processors before it answers (5 ms and more).
    fn has_policies(&mut self, plan: &Plan<'_>) -> Result<bool, Error> {
        let chains: Vec<_> =
            plan.policies.keys().map(|name| get_chain(Family::Inet, name)).collect();
        Ok(chains.is_empty() || self.connection.get(&chains)?.iter().all(Result::is_ok))
    }

    /// Adds all elements in the hope that nothing is in the way. `false`: something is, and nothing was done.
    fn blindly(&mut self, plan: &Plan<'_>) -> Result<bool, Error> {
        let mut requests: Vec<_> =
            plan.families.iter().map(|family| templates::version_check(*family)).collect();
        requests.extend(plan.adds.iter().map(|(entry, element)| {
            // An equal shared element is as good.
            set_element::add(entry, !element.key().is_shared())
        }));
        match self.connection.batch(None, &requests)? {
            Outcome::Done => Ok(true),
            Outcome::Stale => Ok(false),
            Outcome::Failed(failed) => {
                // EBUSY is what kernels before 5.12 say of a key with another value.
                let known = [Errno::ENOENT, Errno::EEXIST, Errno::EBUSY];
                if failed.iter().all(|(_, errno)| known.contains(errno)) {
                    Ok(false)
                } else {
                    Err(rejected(&requests, &failed))
                }
            }
        }
    }

    fn knowingly(
        &mut self,
        plan: &Plan<'_>,
        mut damaged: BTreeSet<Family>,
        conflict: &mut dyn FnMut(&Conflict) -> Resolution,
    ) -> Result<Committed, Error> {
        let mut decided = Decisions { conflict, taken: Vec::new() };
        let mut collect = true;
        // Sets that someone deleted are noticed when the kernel refuses their elements.
        let mut sets_lost = false;
        for _ in 0..ATTEMPTS {
            let places = plan.adds.iter().map(|(entry, _)| &entry.place);
            let places = places.chain(plan.removes.iter().map(|(place, _, _)| place));
            let places = places.chain(&plan.vacated);
            let state = self.read(&plan.families, places, plan.policies.keys())?;
            let generation = state.generation;
            let mut change = Change::new(state);
            if plan.adds.is_empty() && change.state.tables.values().all(|f| *f == Found::Absent) {
                return Ok(Committed::default()); // nothing to remove from
            }
            for family in &plan.families {
                match change.state.tables.get(family) {
                    Some(Found::Current) if !damaged.contains(family) => {}
                    Some(Found::Current | Found::Other) => {
                        self.upgrade(*family, plan, &mut change)?;
                    }
                    Some(Found::Absent) | None => self.install(*family, plan, &mut change)?,
                }
            }
            change.remove_all(plan);
            self.hand_on_bridges(plan, &mut change)?;
            change.add_all(plan, &mut decided)?;
            if collect && !change.committed.upgraded {
                change.requests.extend(self.no_longer_used(&change.unled())?);
            }
            match self.connection.batch(Some(generation), &change.requests)? {
                Outcome::Done => return Ok(change.committed),
                Outcome::Stale => {}
                Outcome::Failed(failed) => {
                    let all = |errno: Errno, is: fn(&NfTablesMessage) -> bool| {
                        failed.iter().all(|(index, why)| {
                            *why == errno && is(&change.requests[*index].message)
                        })
                    };
                    let element =
                        |m: &NfTablesMessage| matches!(m, NfTablesMessage::NewSetElement(_));
                    let unused = |m: &NfTablesMessage| matches!(m, NfTablesMessage::DeleteChain(_));
                    if collect && all(Errno::EBUSY, unused) {
                        // Counted as unused and is not: leave it to garbage collection.
                        collect = false;
                    } else if !sets_lost && all(Errno::ENOENT, element) {
                        sets_lost = true;
                        let families = failed.iter().map(|(i, _)| change.requests[*i].family);
                        damaged.extend(families);
                    } else {
                        return Err(rejected(&change.requests, &failed));
                    }
                }
            }
        }
        Err(Error::Busy { attempts: ATTEMPTS })
    }
}

/// The caller's decisions about conflicts: each is asked for once, however often the change is begun anew.
struct Decisions<'a> {
    conflict: &'a mut dyn FnMut(&Conflict) -> Resolution,
    taken: Vec<(Place, Owner)>,
}

impl Decisions<'_> {
    fn take_over(&mut self, entry: &Entry, element: &Element, holder: &Owner) -> bool {
        if self.taken.iter().any(|(place, from)| *place == entry.place && from == holder) {
            return true;
        }
        let conflict = Conflict {
            element: element.clone(),
            holder: holder.clone(),
            wanted_by: entry.owner.clone(),
        };
        let take = (self.conflict)(&conflict) == Resolution::TakeOver;
        if take {
            self.taken.push((entry.place.clone(), holder.clone()));
        }
        take
    }
}

/// A change under construction, and the state that the kernel is in when it has come so far.
pub(super) struct Change {
    pub(super) state: State,
    pub(super) requests: Vec<Request>,
    pub(super) committed: Committed,
    /// Text of policy chains that may have to be made, by name.
    pub(super) policies: BTreeMap<String, String>,
    /// References to policy chains that this change takes away (and adds).
    led: BTreeMap<String, (usize, usize)>,
}

impl Change {
    pub(super) fn new(state: State) -> Self {
        let committed = Committed::default();
        let (policies, led) = (BTreeMap::new(), BTreeMap::new());
        Self { state, requests: Vec::new(), committed, policies, led }
    }

    /// Adds an element whose key is free, and first the chain that it leads to.
    pub(super) fn put(&mut self, entry: Entry) -> Result<(), Error> {
        if let Value::Goto(chain) = &entry.value {
            if !self.state.chains.contains(chain) {
                let Some(text) = self.policies.get(chain) else {
                    tracing::warn!(%chain, "an element leads to a chain that is gone and is left out");
                    return Ok(());
                };
                self.requests.extend(templates::install_policy(text)?);
                self.state.chains.insert(chain.clone());
            }
            self.led.entry(chain.clone()).or_default().1 += 1;
        }
        self.requests.push(set_element::add(&entry, true));
        self.state.entries.insert(entry.place.clone(), entry);
        Ok(())
    }

    /// Adds ranges: their beginnings and ends, in ascending order.
    pub(super) fn put_ranges(&mut self, entries: Vec<Entry>) {
        let ranges = entries.chunk_by(|_, next| next.value == Value::End);
        self.requests.extend(ranges.filter_map(set_element::add_range));
        self.state.entries.extend(entries.into_iter().map(|entry| (entry.place.clone(), entry)));
    }

    pub(super) fn take(&mut self, place: &Place) {
        if let Some(entry) = self.state.entries.remove(place) {
            if let Value::Goto(chain) = entry.value {
                self.led.entry(chain).or_default().0 += 1;
            }
            self.requests.push(set_element::delete(place));
        }
    }

    /// Elements of closed bridges that are to go by the plan, and whose the plan says that they are.
    pub(super) fn closed_bridges(&self, plan: &Plan<'_>) -> Vec<Entry> {
        let closed = plan.removes.iter().filter(|(_, key, _)| is_handed_on(key));
        let held = closed.filter_map(|(place, _, owner)| {
            self.state.entries.get(place).filter(|entry| entry.owner == **owner)
        });
        held.cloned().collect()
    }

    fn remove_all(&mut self, plan: &Plan<'_>) {
        for (place, key, owner) in plan.removes.iter().filter(|(_, key, _)| !is_handed_on(key)) {
            let Some(entry) = self.state.entries.get(place) else { continue };
            if is_to_go(entry, key, owner) {
                self.take(place);
            } else {
                let left = ((*key).clone(), entry.owner.clone());
                if !self.committed.left.contains(&left) {
                    self.committed.left.push(left);
                }
            }
        }
    }

    fn add_all(&mut self, plan: &Plan<'_>, decided: &mut Decisions<'_>) -> Result<(), Error> {
        self.policies.extend(plan.policies.clone());
        for (entry, element) in &plan.adds {
            if let Some(present) = self.state.entries.get(&entry.place) {
                if element.key().is_shared()
                    || (present.owner == entry.owner && present.value == entry.value)
                {
                    continue;
                }
                let holder = present.owner.clone();
                if holder != entry.owner {
                    if !decided.take_over(entry, element, &holder) {
                        let element = Box::new((*element).clone());
                        return Err(Error::Held { element, holder });
                    }
                    let taken = ((*element).clone(), holder);
                    if !self.committed.taken_over.contains(&taken) {
                        self.committed.taken_over.push(taken);
                    }
                }
                self.take(&entry.place);
            }
            self.put(entry.clone())?;
        }
        for place in &plan.vacated {
            self.take(place);
        }
        Ok(())
    }

    /// Policy chains that lose references and gain none, and how many they lose.
    fn unled(&self) -> BTreeMap<String, usize> {
        let lost = self.led.iter().filter(|(_, (lost, gained))| *lost > 0 && *gained == 0);
        lost.map(|(chain, (lost, _))| (chain.clone(), *lost)).collect()
    }
}

/// Whether an element in the kernel goes when this owner gives up its key.
fn is_to_go(entry: &Entry, key: &Key, owner: &Owner) -> bool {
    entry.owner == *owner || matches!(key, Key::Bridge { .. })
}

fn is_handed_on(key: &Key) -> bool {
    matches!(key, Key::ClosedBridge { .. })
}

/// The error for a batch that failed for a reason that cannot be mended here.
pub(super) fn rejected(requests: &[Request], failed: &[(usize, Errno)]) -> Error {
    let Some((index, errno)) = failed.first() else {
        return Error::Protocol("a transaction failed without a reason".into());
    };
    let request = &requests[*index];
    let no_family = [Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT].contains(errno);
    match (&request.message, request.family) {
        (NfTablesMessage::NewTable(_), Family::Bridge) if no_family => {
            Error::NoBridgeFamily(*errno)
        }
        (NfTablesMessage::NewTable(_), Family::Inet) if no_family => Error::NoNfTables(*errno),
        _ => Error::Rejected { object: describe(request), errno: *errno },
    }
}
