//! DEL of a chain: from its record alone.

use std::{mem, path::Path};

use super::{Executor, Observer, Request, position};
use crate::{
    Attachment, Delegate, Error, History, Node, Result, Runner, Verb,
    record::{Key, Record, State},
};

impl<N: Node> Executor<'_, N> {
    /// DEL: undoes ADD in reverse, by its record. All delegates are run, also where one fails; the errors are returned
    /// together, and the record keeps what is left to do, so that the next DEL goes on from there.
    ///
    /// Without a record (another implementation made the attachment, or nobody did) the request's chain is run, and its
    /// delegates are told that nothing is known ([`History::Unknown`]).
    pub fn del(&self, request: &Request<'_>, node: &mut N) -> Result<()> {
        let keys = self.keys_of(request.attachment)?;
        let [key] = keys.as_slice() else {
            return self.del_recorded(request.attachment, request.observer, node).map(drop);
        };
        // One lock over both: no ADD comes in between.
        let lock = self.records.lock(key)?;
        let mut done = Ok(());
        if !self.del_by_record(key, request.attachment, request.observer, node)? {
            done = self.del_unknown(request, node);
        }
        // Where the record is gone nothing is left to lock.
        lock.remove();
        done
    }

    /// DEL by the record, for when the network's definition is gone. Returns whether there was a record.
    pub fn del_recorded(
        &self,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<bool> {
        let mut found = false;
        let mut errors = Vec::new();
        for key in self.keys_of(attachment)? {
            let lock = self.records.lock(&key)?;
            match self.del_by_record(&key, attachment, observer, node) {
                Ok(one) => {
                    found |= one;
                    lock.remove();
                }
                Err(error) => errors.push(error),
            }
        }
        Error::join(errors).map_or(Ok(found), Err)
    }

    fn del_by_record(
        &self,
        key: &Key,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<bool> {
        let Some(mut record) = self.records.read(key)? else {
            // A process may have been killed before its record had its name.
            self.records.remove_unborn(key)?;
            return Ok(false);
        };
        record.take_begun();
        let boot = self.records.dirs().boot()?;
        self.undo(&mut record, attachment.netns.as_deref(), &boot, observer, node)?;
        Ok(true)
    }

    /// Undoes what a record says was done, in reverse, and removes the record; the caller has its lock. Returns the
    /// types of the delegates that were undone.
    ///
    /// Where something fails the rest is done nevertheless, and the record keeps what failed.
    pub(super) fn undo(
        &self,
        record: &mut Record,
        netns: Option<&Path>,
        boot: &str,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Vec<String>> {
        let attachment = record.attachment(netns, boot)?;
        let prev_result = record.result.clone().or_else(|| record.prev_result.clone());
        let runner = self.runner_of(record);
        let count = record.delegates.len();
        let mut undone = Vec::new();
        let mut errors = Vec::new();
        // Built-in delegates whose DEL has put off a part of its work: they are undone when that is done.
        let mut waiting = Vec::new();
        for index in (0..count).rev() {
            let Some(history) = record.delegates[index].history() else { continue };
            let conf = match record.delegates[index].plugin_conf() {
                Ok(conf) => conf,
                Err(error) => {
                    errors.push(position(error.context("its record"), index, count));
                    continue;
                }
            };
            let delegate = Delegate::of(&conf);
            let foreign = runner.is_foreign(delegate);
            if foreign && !waiting.is_empty() {
                self.settle(record, mem::take(&mut waiting), observer, node)
                    .unwrap_or_else(|error| errors.push(error));
            }
            let result = if foreign { prev_result.as_ref() } else { record.result_for(index) };
            let deleted = self.step(observer, delegate, Verb::Del, || {
                runner.del(delegate, &attachment, result, history, node)
            });
            match deleted {
                Ok(()) => {
                    undone.push(delegate.kind.to_owned());
                    if foreign {
                        record.delegates[index].state = State::Planned;
                    } else {
                        waiting.push(index);
                    }
                }
                Err(error) => errors.push(position(error, index, count)),
            }
        }
        // Also what a delegate had put off before it failed.
        self.settle(record, waiting, observer, node).unwrap_or_else(|error| errors.push(error));
        let kept = match errors.is_empty() {
            true => self.records.remove(&record.key()),
            false => {
                record.complete = false;
                record.undoing = true;
                self.records.write(record)
            }
        };
        kept.unwrap_or_else(|error| errors.push(error));
        match Error::join(errors) {
            None => Ok(undone),
            Some(error) => Err(error),
        }
    }

    fn settle(
        &self,
        record: &mut Record,
        waiting: Vec<usize>,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        self.flush(observer, Verb::Del, node)?;
        for index in waiting {
            record.delegates[index].state = State::Planned;
        }
        Ok(())
    }

    /// A runner that also looks where ADD found its executables.
    pub(super) fn runner_of(&self, record: &Record) -> Runner<'_, N> {
        let mut path = self.runner.path.clone();
        path.extend(record.cni_path.iter().filter(|dir| !self.runner.path.contains(dir)).cloned());
        Runner { registry: self.runner.registry, path, limits: self.runner.limits }
    }

    fn del_unknown(&self, request: &Request<'_>, node: &mut N) -> Result<()> {
        let confs = request.list.delegates(request.capability_args)?;
        let prev_result = request.prev_result.as_ref();
        let mut errors = Vec::new();
        let mut put_off = false;
        for (index, conf) in confs.iter().enumerate().rev() {
            let delegate = Delegate::of(conf);
            let foreign = self.runner.is_foreign(delegate);
            if foreign && mem::take(&mut put_off) {
                self.flush(request.observer, Verb::Del, node)
                    .unwrap_or_else(|error| errors.push(error));
            }
            put_off |= !foreign;
            let deleted = self.step(request.observer, delegate, Verb::Del, || {
                let history = History::Unknown;
                self.runner.del(delegate, request.attachment, prev_result, history, node)
            });
            deleted.unwrap_or_else(|error| errors.push(position(error, index, confs.len())));
        }
        self.flush(request.observer, Verb::Del, node).unwrap_or_else(|error| errors.push(error));
        Error::join(errors).map_or(Ok(()), Err)
    }
}
