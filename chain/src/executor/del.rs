//! DEL of a chain: from its record alone.

use std::{mem, path::Path};

use super::{Executor, Observer, Request, position, step};
use crate::{
    Attachment, Code, Delegate, Error, History, Node, Result, Runner, Verb,
    record::{Key, Lock, Record, State},
};

/// An attachment whose delegates were run for DEL, but for what the built-in ones have put off
/// ([`Executor::finish_del`]).
#[must_use = "its delegates may have put off a part of their work, and its record is still there"]
pub struct Undoing {
    record: Record,
    /// Where the caller does not have it.
    lock: Option<Lock>,
    /// Delegates that are undone when what is put off is done.
    waiting: Vec<usize>,
    /// The types of those that were undone.
    undone: Vec<String>,
    errors: Vec<Error>,
}

impl Undoing {
    fn of(record: Record) -> Self {
        Self { record, lock: None, waiting: Vec::new(), undone: Vec::new(), errors: Vec::new() }
    }
}

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
        let _step = step::begin(Verb::Del, request.attachment);
        // One lock over both: no ADD comes in between.
        let lock = self.records.lock(key)?;
        let begun = self.begin_del_of(key, request.attachment, &mut [], request.observer, node)?;
        let Some(mut one) = begun else {
            let done = self.del_unknown(request, node);
            lock.remove();
            return done;
        };
        self.settle([&mut one].into_iter(), request.observer, node);
        self.keep(Undoing { lock: Some(lock), ..one }).map(drop)
    }

    /// DEL by the record, for when the network's definition is gone. Returns whether there was a record.
    pub fn del_recorded(
        &self,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<bool> {
        let _step = step::begin(Verb::Del, attachment);
        let mut begun = Vec::new();
        let found = self.begin_del(attachment, observer, &mut begun, node);
        let finished = self.finish_del(begun, observer, node);
        let mut errors: Vec<_> = finished.into_iter().filter_map(Result::err).collect();
        let found = found.unwrap_or_else(|error| {
            errors.push(error);
            false
        });
        Error::join(errors).map_or(Ok(found), Err)
    }

    /// The first part of a DEL by the record: runs the delegates, and leaves what the built-in ones put off to
    /// [`finish_del`](Self::finish_del), so that it is done for several attachments at once: a device's deletion waits for
    /// the kernel, and that of many devices for no longer. `begun`: the attachments before, and then this one as well.
    ///
    /// Returns whether there was a record.
    pub fn begin_del(
        &self,
        attachment: &Attachment,
        observer: Option<&Observer<'_>>,
        begun: &mut Vec<Undoing>,
        node: &mut N,
    ) -> Result<bool> {
        let mut found = false;
        let mut errors = Vec::new();
        for key in self.keys_of(attachment)? {
            let lock = self.records.lock(&key)?;
            match self.begin_del_of(&key, attachment, begun, observer, node) {
                Ok(Some(undoing)) => {
                    found = true;
                    begun.push(Undoing { lock: Some(lock), ..undoing });
                }
                // Where there is no record nothing is left to lock.
                Ok(None) => lock.remove(),
                Err(error) => errors.push(error),
            }
        }
        Error::join(errors).map_or(Ok(found), Err)
    }

    fn begin_del_of(
        &self,
        key: &Key,
        attachment: &Attachment,
        others: &mut [Undoing],
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Option<Undoing>> {
        let Some(mut record) = self.records.read(key)? else {
            // A process may have been killed before its record had its name.
            self.records.remove_unborn(key)?;
            return Ok(None);
        };
        record.take_begun();
        let boot = self.records.dirs().boot()?;
        self.run_back(record, attachment.netns.as_deref(), &boot, others, observer, node).map(Some)
    }

    /// Does what the delegates of these attachments have put off, before something that is not to be done together with it.
    /// Where that fails [`finish_del`](Self::finish_del) says so.
    pub fn settle_del(&self, begun: &mut [Undoing], observer: Option<&Observer<'_>>, node: &mut N) {
        if begun.iter().any(|one| !one.waiting.is_empty()) {
            self.settle(begun.iter_mut(), observer, node);
        }
    }

    /// The second part of a DEL: does what the delegates have put off, and removes the records. Where something failed,
    /// then or in the first part, the record keeps what is left to do.
    ///
    /// Returns of each attachment, in their order, the types of the delegates that were undone, or what failed.
    pub fn finish_del(
        &self,
        mut begun: Vec<Undoing>,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Vec<Result<Vec<String>>> {
        self.settle(begun.iter_mut(), observer, node);
        begun.into_iter().map(|one| self.keep(one)).collect()
    }

    /// Undoes what a record says was done, in reverse, and removes the record; the caller has its lock. Returns the
    /// types of the delegates that were undone.
    ///
    /// Where something fails the rest is done nevertheless, and the record keeps what failed.
    pub(super) fn undo(
        &self,
        record: Record,
        netns: Option<&Path>,
        boot: &str,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Vec<String>> {
        let _step = tracing::debug_span!("undo", container = record.container_id).entered();
        let mut one = self.run_back(record, netns, boot, &mut [], observer, node)?;
        self.settle([&mut one].into_iter(), observer, node);
        self.keep(one)
    }

    /// Runs the delegates that a record says were run, in reverse. `others`: attachments whose delegates have work put off
    /// as well.
    fn run_back(
        &self,
        record: Record,
        netns: Option<&Path>,
        boot: &str,
        others: &mut [Undoing],
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<Undoing> {
        let attachment = record.attachment(netns, boot)?;
        let prev_result = record.result.clone().or_else(|| record.prev_result.clone());
        let mut one = Undoing::of(record);
        let count = one.record.delegates.len();
        for index in (0..count).rev() {
            let Some(history) = one.record.delegates[index].history() else { continue };
            let conf = match one.record.delegates[index].plugin_conf() {
                Ok(conf) => conf,
                Err(error) => {
                    one.errors.push(position(error.context("its record"), index, count));
                    continue;
                }
            };
            let delegate = Delegate::of(&conf);
            let waits = !one.waiting.is_empty() || others.iter().any(|one| !one.waiting.is_empty());
            if waits && self.runner.is_on_its_own(delegate) {
                self.settle(others.iter_mut().chain([&mut one]), observer, node);
            }
            let foreign = self.runner.is_foreign(delegate);
            let runner = self.runner_of(&one.record);
            let result = if foreign { prev_result.as_ref() } else { one.record.result_for(index) };
            let deleted = self.step(observer, delegate, Verb::Del, || {
                runner.del(delegate, &attachment, result, history, node)
            });
            match deleted {
                Ok(()) => {
                    one.undone.push(delegate.kind.to_owned());
                    if foreign {
                        one.record.delegates[index].state = State::Planned;
                    } else {
                        one.waiting.push(index);
                    }
                }
                Err(error) if is_refused_as_in_add(&error, foreign, history) => {
                    tracing::info!(%attachment, %error, "nothing was added, so nothing is left");
                    one.record.delegates[index].state = State::Planned;
                }
                Err(error) => one.errors.push(position(error, index, count)),
            }
        }
        Ok(one)
    }

    /// Does what delegates have put off, also one that failed after that. Those that waited for it are undone by that, or
    /// all fail.
    fn settle<'u>(
        &self,
        all: impl Iterator<Item = &'u mut Undoing>,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) {
        let flushed = self.flush(observer, Verb::Del, node);
        let mut all: Vec<_> = all.collect();
        let nobody_waits = all.iter().all(|one| one.waiting.is_empty());
        if let (Err(error), true, Some(last)) = (&flushed, nobody_waits, all.last_mut()) {
            last.errors.push(error.clone());
        }
        for one in all {
            let waiting = mem::take(&mut one.waiting);
            match &flushed {
                Ok(()) => {
                    for index in waiting {
                        one.record.delegates[index].state = State::Planned;
                    }
                }
                Err(_) if waiting.is_empty() => {}
                Err(error) => one.errors.push(error.clone()),
            }
        }
    }

    /// Removes the record of what was undone, or writes down what is left to do.
    fn keep(&self, one: Undoing) -> Result<Vec<String>> {
        let Undoing { mut record, lock, undone, mut errors, .. } = one;
        let kept = match errors.is_empty() {
            true => self.records.remove(&record.key()),
            false => {
                record.complete = false;
                record.undoing = true;
                self.records.write(&record)
            }
        };
        kept.unwrap_or_else(|error| errors.push(error));
        match Error::join(errors) {
            None => {
                // Where the record is gone nothing is left to lock.
                if let Some(lock) = lock {
                    lock.remove();
                }
                Ok(undone)
            }
            Some(error) => Err(error),
        }
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
            if self.runner.is_on_its_own(delegate) && mem::take(&mut put_off) {
                self.flush(request.observer, Verb::Del, node)
                    .unwrap_or_else(|error| errors.push(error));
            }
            put_off |= !self.runner.is_foreign(delegate);
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

/// Whether an executable refuses to undo an ADD, of which nobody knows that it was done, since it does not speak the
/// configuration's version: then it has refused the ADD as well, and would refuse every further DEL.
fn is_refused_as_in_add(error: &Error, foreign: bool, history: History) -> bool {
    foreign && history == History::Begun && error.code == Code::IncompatibleVersion
}
