//! ADD of a chain: forward, or back to where it began.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Executor, Request, position, step};
use crate::{
    CniResult, Delegate, Error, Node, PluginConf, Result, Verb,
    record::{DelegateRecord, Journal, Key, Lock, NetnsId, Record, State},
};

impl<N: Node> Executor<'_, N> {
    /// ADD: runs the delegates in order, each with the result of the one before, and returns the last one's result.
    ///
    /// A record of what is planned is on the disk before anything is done. Where a delegate fails, what was done is
    /// undone in reverse before the error is returned: it says which delegate failed, and in its details what rolling
    /// back did. If that was not complete, the record stays, and the next DEL or GC goes on from it.
    ///
    /// An attachment that lives is not added again. What an earlier one left (its ADD was killed, or its namespace is
    /// gone) is removed first.
    pub fn add(&self, request: &Request<'_>, node: &mut N) -> Result<CniResult> {
        let _step = step::begin(Verb::Add, request.attachment);
        let confs = request.list.delegates(request.capability_args)?;
        self.require_runnable(&confs)?;
        let boot = self.records.dirs().boot()?;
        let key = self.key_to_add(request.attachment, &boot)?;
        let lock = self.records.lock(&key)?;
        self.clear_way(&key, request, &boot, node)?;
        let record = self.plan(&key, request, &confs, boot);
        let mut journal = match Journal::begin(&self.records, record) {
            Ok(journal) => journal,
            Err(error) => {
                // Nothing was done, so nothing is to be remembered.
                let _ = self.records.remove(&key);
                lock.remove();
                return Err(error.context("the attachment could not be recorded"));
            }
        };
        match self.forward(&mut journal, &confs, request, node) {
            Ok(result) => Ok(result),
            Err(error) => Err(self.roll_back(error, journal.record, lock, request, node)),
        }
    }

    /// A chain that cannot be run to its end is not begun.
    fn require_runnable(&self, confs: &[PluginConf]) -> Result<()> {
        for (index, conf) in confs.iter().enumerate() {
            self.runner
                .require_runnable(Delegate::of(conf))
                .map_err(|error| position(error, index, confs.len()))?;
        }
        Ok(())
    }

    /// Refuses to touch an attachment that lives; removes what is left of one that does not.
    fn clear_way(&self, key: &Key, request: &Request<'_>, boot: &str, node: &mut N) -> Result<()> {
        let Some(mut record) = self.records.read(key)? else { return Ok(()) };
        let netns = request.attachment.netns.as_deref();
        if record.is_live(netns, boot) {
            return Err(Error::internal(format!(
                "container {} has interface {} on network {} already, and its namespace is the same; DEL it first",
                record.container_id, record.ifname, record.network
            )));
        }
        tracing::info!(attachment = %request.attachment, "removing what an earlier attachment left");
        record.take_begun();
        self.undo(record, None, boot, request.observer, node)
            .map(drop)
            .map_err(|error| error.context("what an earlier attachment left could not be removed"))
    }

    pub(super) fn plan(
        &self,
        key: &Key,
        request: &Request<'_>,
        confs: &[PluginConf],
        boot: String,
    ) -> Record {
        let attachment = request.attachment;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let delegates = confs.iter().map(|conf| DelegateRecord {
            conf: conf.raw.clone(),
            foreign: self.runner.is_foreign(Delegate::of(conf)),
            ipam_foreign: Delegate::ipam(conf).is_some_and(|ipam| self.runner.is_foreign(ipam)),
            state: State::Planned,
            result: None,
        });
        Record {
            format: Record::FORMAT,
            network: attachment.network.clone(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            scope: key.scope().to_owned(),
            instance: self.instance.clone(),
            // DEL may come with another working directory.
            netns: attachment.netns.as_deref().and_then(|path| std::path::absolute(path).ok()),
            netns_id: attachment.netns.as_deref().and_then(NetnsId::of),
            boot,
            created: created.as_secs(),
            cni_version: request.list.cni_version,
            args: attachment.args.to_string(),
            cni_path: self.runner.path.clone(),
            capability_args: request.capability_args.clone(),
            disable_check: request.list.disable_check,
            prev_result: request.prev_result.clone(),
            delegates: delegates.collect(),
            result: None,
            complete: false,
            undoing: false,
        }
    }

    /// Runs the chain to its end, or to its first error. The record says how far it came.
    fn forward(
        &self,
        journal: &mut Journal,
        confs: &[PluginConf],
        request: &Request<'_>,
        node: &mut N,
    ) -> Result<CniResult> {
        let mut result = request.prev_result.clone();
        let mut put_off = false;
        for (index, conf) in confs.iter().enumerate() {
            let delegate = Delegate::of(conf);
            if self.runner.is_on_its_own(delegate) && put_off {
                self.flush(request.observer, Verb::Add, node).inspect_err(|_| {
                    // The record has this one begun already, but nothing of it has run.
                    journal.record.delegates[index].state = State::Planned;
                })?;
                put_off = false;
            }
            let added = self.step(request.observer, delegate, Verb::Add, || {
                self.runner.try_add(delegate, request.attachment, result.as_ref(), node)
            });
            let added = added.map_err(|failure| {
                if !failure.unclean && !node.left_behind() {
                    journal.record.delegates[index].state = State::Planned;
                }
                position(failure.error, index, confs.len())
            })?;
            put_off |= !self.runner.is_foreign(delegate);
            if index + 1 < confs.len() {
                journal.proceed(index, &added)?;
            }
            result = Some(added);
        }
        let result = result.unwrap_or_default();
        self.flush(request.observer, Verb::Add, node)?;
        journal.finish(confs.len() - 1, &result)?;
        Ok(result)
    }

    fn roll_back(
        &self,
        error: Error,
        record: Record,
        lock: Lock,
        request: &Request<'_>,
        node: &mut N,
    ) -> Error {
        node.discard();
        let netns = request.attachment.netns.as_deref();
        let boot = record.boot.clone();
        let path = self.records.path(&record.key());
        match self.undo(record, netns, &boot, request.observer, node) {
            Ok(undone) => {
                lock.remove();
                if undone.is_empty() {
                    return error;
                }
                error.and(format_args!("rolled back: {}", undone.join(", ")))
            }
            Err(undo) => error.and(format_args!(
                "rolling back was not complete: {undo}; what is left is recorded in {}, and the next DEL or GC \
                 removes it",
                path.display()
            )),
        }
    }
}
