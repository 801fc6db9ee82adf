//! Repair: what living attachments have lost is put back.

use std::{cmp::Ordering, collections::HashSet};

use super::{Executor, Observer, position};
use crate::{
    Attachment, Delegate, Error, Key, Node, Record, Result, Verb,
    record::{DelegateRecord, Lock},
};

/// What a repair found of one attachment, and what became of it.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The attachment.
    pub attachment: Attachment,
    /// How it is now.
    pub condition: Condition,
    /// What CHECK found missing at first: an error of each delegate that misses something.
    pub missing: Vec<Error>,
    /// What could not be put back, and why.
    pub left: Vec<Error>,
}

/// How an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is missing.
    Well,
    /// Something was missing, and has been put back.
    Repaired,
    /// Something is missing.
    Damaged,
    /// Nobody looked: its ADD or DEL is at work right now.
    Busy,
    /// Nobody looked: its network is not to be checked (`disableCheck`).
    Unchecked,
}

impl<N: Node> Executor<'_, N> {
    /// Has the delegates of each living attachment (of this network only, where one is named) put back what CHECK finds
    /// missing; with `dry_run` nothing is done but to find it. It goes by the records alone, of all scopes, and goes on
    /// over failures: they are part of what is returned.
    ///
    /// All attachments are looked at first: what they share (a bridge, the ruleset) comes back with the first of them.
    /// Executables cannot be asked to repair anything, only to CHECK.
    ///
    /// Errors: where the records cannot be read; a network that none of them is of.
    pub fn repair(
        &self,
        network: Option<&str>,
        dry_run: bool,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Vec<Repaired>> {
        let _step = tracing::debug_span!("repair").entered();
        let boot = self.records.dirs().boot()?;
        let mut all = Vec::new();
        let listed = self.living(network, &boot)?;
        for record in &listed {
            let key = record.key();
            let found = self.look_at(&key, (record, &listed), &boot, observer, node)?;
            all.extend(found.map(|one| (key, one)));
        }
        if !dry_run {
            for (key, one) in &mut all {
                if one.condition == Condition::Damaged {
                    self.mend(key, (one, &listed), &boot, observer, node)?;
                }
            }
        }
        Ok(all.into_iter().map(|(_, one)| one).collect())
    }

    /// The records of living attachments. A chain within another one is not listed: it is a delegate of that one.
    fn living(&self, network: Option<&str>, boot: &str) -> Result<Vec<Record>> {
        let networks = match network {
            Some(network) => vec![self.known(network)?],
            None => self.records.networks()?,
        };
        let mut records = Vec::new();
        for network in networks {
            records.extend(self.records.list(&network)?);
        }
        records.retain(|record| record.is_live(record.netns.as_deref(), boot));
        let within: HashSet<_> = records.iter().flat_map(Record::keys_within).collect();
        records.retain(|record| !within.contains(&record.key()));
        records.sort_by(in_order_of_add);
        Ok(records)
    }

    /// A network's name, if it is one that has records, or had.
    fn known(&self, network: &str) -> Result<String> {
        let known = self.records.networks()?;
        if known.iter().any(|one| one == network) {
            return Ok(network.to_owned());
        }
        let known = match &known[..] {
            [] => "no network has".to_owned(),
            known => format!("these have: {}", known.join(", ")),
        };
        let text = format!("network {network:?} has no attachment on record, {known}");
        Err(Error::config(text))
    }

    /// CHECKs one attachment; `None` where it has gone since it was listed.
    fn look_at(
        &self,
        key: &Key,
        (record, listed): (&Record, &[Record]),
        boot: &str,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Option<Repaired>> {
        let attachment = record.attachment(None, boot)?;
        let unseen =
            |condition| Repaired { attachment, condition, missing: Vec::new(), left: Vec::new() };
        if record.disable_check {
            return Ok(Some(unseen(Condition::Unchecked)));
        }
        let Some(lock) = self.records.try_lock(key)? else {
            return Ok(Some(unseen(Condition::Busy)));
        };
        let Some((_lock, record)) = self.read_living(key, lock, boot, listed)? else {
            return Ok(None);
        };
        let attachment = record.attachment(None, boot)?;
        let missing = self.missing(&record, &attachment, observer, node);
        let condition = if missing.is_empty() { Condition::Well } else { Condition::Damaged };
        Ok(Some(Repaired { attachment, condition, missing, left: Vec::new() }))
    }

    /// Has the delegates of one attachment put back what they miss, and CHECKs it again.
    fn mend(
        &self,
        key: &Key,
        (one, listed): (&mut Repaired, &[Record]),
        boot: &str,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        let Some(lock) = self.records.try_lock(key)? else {
            one.condition = Condition::Busy;
            return Ok(());
        };
        // Whose DEL came in between misses nothing any more.
        let Some((_lock, record)) = self.read_living(key, lock, boot, listed)? else {
            one.condition = Condition::Well;
            return Ok(());
        };
        one.left = self.put_back(&record, &one.attachment, observer, node);
        one.left.extend(self.missing(&record, &one.attachment, observer, node));
        if one.left.is_empty() {
            one.condition = Condition::Repaired;
        }
        Ok(())
    }

    /// The part of a repair that a delegate with a chain of its own does for that chain: has its delegates put back what
    /// they miss. There is nothing to do where it has no record.
    pub fn repair_within(&self, attachment: &Attachment, node: &mut N) -> Result<()> {
        let Some(key) = self.keys_of(attachment)?.into_iter().next() else { return Ok(()) };
        let lock = self.records.lock(&key)?;
        let Some(mut record) = self.records.read(&key)? else {
            lock.remove();
            return Ok(());
        };
        let Attachment { network, container_id, ifname, .. } = attachment;
        record.take_later_result(&self.records.find(network, container_id, ifname)?);
        Error::join(self.put_back(&record, attachment, None, node)).map_or(Ok(()), Err)
    }

    /// Has the delegates put back what they miss, all of them also where one fails.
    fn put_back(
        &self,
        record: &Record,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Vec<Error> {
        let runner = self.runner_of(record);
        let count = record.delegates.len();
        let mut errors = Vec::new();
        for (index, delegate) in record.delegates.iter().enumerate() {
            let repaired = delegate.plugin_conf().and_then(|conf| {
                let delegate = Delegate::of(&conf);
                let result = record.result_for(index);
                // By the steps of ADD, so it is told as one.
                self.step(observer, delegate, Verb::Add, || {
                    runner.repair(delegate, attachment, result, node)
                })
            });
            repaired.unwrap_or_else(|error| errors.push(position(error, index, count)));
        }
        self.flush(observer, Verb::Add, node).unwrap_or_else(|error| errors.push(error));
        errors
    }

    /// The record, if its attachment lives, with its lock, and with the result that later plugins of it came to. A DEL that
    /// was done before that has left nothing to lock.
    fn read_living(
        &self,
        key: &Key,
        lock: Lock,
        boot: &str,
        listed: &[Record],
    ) -> Result<Option<(Lock, Record)>> {
        match self.records.read(key)? {
            None => lock.remove(),
            Some(mut record) if record.is_live(record.netns.as_deref(), boot) => {
                record.take_later_result(listed);
                return Ok(Some((lock, record)));
            }
            Some(_) => {}
        }
        Ok(None)
    }

    fn missing(
        &self,
        record: &Record,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Vec<Error> {
        let confs = record.delegates.iter().map(DelegateRecord::plugin_conf).collect();
        let missing = match confs {
            Ok::<Vec<_>, Error>(confs) => {
                let runner = self.runner_of(record);
                let result = record.result.as_ref();
                self.findings(&runner, &confs, attachment, result, observer, node)
            }
            Err(error) => vec![error.context("its record")],
        };
        // The next attachment has another container.
        node.discard();
        missing
    }
}

/// Where a runtime ran plugins one by one, each has a record: the one that made the interface comes first.
fn in_order_of_add(a: &Record, b: &Record) -> Ordering {
    let place = |record: &Record| {
        let Record { network, container_id, ifname, .. } = record;
        (network.clone(), container_id.clone(), ifname.clone(), record.prev_result.is_some())
    };
    place(a).cmp(&place(b))
}
