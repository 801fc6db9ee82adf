//! DEL of a pod: from its record alone.

use std::path::Path;

use chain::{Attachment, Error, Record, Result, Undoing};
use delegates::Node;

use super::{PodAttachment, PodRecord, Pods, SECONDARY, is_outermost, netns_of, with_request};
use crate::kubernetes::devices::Devices;

impl Pods<'_> {
    /// DEL of all networks of a pod, in reverse, by its record. All are tried, also where one fails; the errors are
    /// returned together, and the record keeps what is left to do. Returns whether there was a record.
    pub fn del(&self, attachment: &Attachment, node: &mut Node) -> Result<bool> {
        let lock = self.lock(attachment)?;
        let Some(mut record) = self.records.read(attachment)? else {
            // A process may have been killed before the record had its name.
            self.records.remove(attachment)?;
            let orphans = self.executor.records.of_container(&attachment.container_id)?;
            self.undo_orphans(orphans, node)?;
            lock.remove();
            return Ok(false);
        };
        let boot = self.executor.records.dirs().boot()?;
        self.undo(&mut record, attachment.netns.as_deref(), &boot, node)?;
        lock.remove();
        Ok(true)
    }

    /// Undoes a pod's attachments in reverse and removes its record; the caller has its lock. Where something fails the
    /// rest is done nevertheless, and the record keeps what failed.
    pub(super) fn undo(
        &self,
        record: &mut PodRecord,
        given: Option<&Path>,
        boot: &str,
        node: &mut Node,
    ) -> Result<()> {
        let netns = netns_of(record, given, boot).map(Path::to_owned);
        // The links of all networks are deleted together, at the end.
        let mut begun = Vec::new();
        let mut outcomes = Vec::new();
        for attachment in record.attachments.iter().rev() {
            let before = begun.len();
            let outcome = self.begin_detach(record, attachment, netns.as_deref(), &mut begun, node);
            outcomes.push((attachment, outcome, begun.len() - before));
        }
        let mut finished = self.executor.finish_del(begun, None, node).into_iter();
        let mut left = Vec::new();
        let mut errors = Vec::new();
        for (attachment, outcome, count) in outcomes {
            let outcome = all_of(outcome, finished.by_ref().take(count));
            if let Err(error) = outcome.and_then(|()| release_device(record, attachment)) {
                errors.push(
                    error.context(format_args!(
                        "network {} ({})",
                        attachment.name, attachment.ifname
                    )),
                );
                left.insert(0, attachment.clone());
            }
        }
        record.attachments = left;
        let of = record.attachment(None)?;
        let kept = if record.attachments.is_empty() {
            self.records.remove(&of)
        } else {
            record.undoing = true;
            self.records.write(record)
        };
        kept.unwrap_or_else(|error| errors.push(error));
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// Undoes those of these attachments that are secondary ones, and of no pod on record: its record is lost.
    pub(super) fn undo_orphans(&self, attachments: Vec<Record>, node: &mut Node) -> Result<()> {
        // One within another meta plugin does not know that one's pods.
        if !is_outermost(&self.executor.scope) {
            return Ok(());
        }
        let mut orphans = attachments;
        orphans.retain(|one| one.scope == SECONDARY);
        if orphans.is_empty() {
            return Ok(());
        }
        // Listed later than they: a pod's record is there before those of its attachments.
        let pods = self.records.list_all()?;
        let executor = self.secondary();
        let boot = executor.records.dirs().boot()?;
        let mut errors = Vec::new();
        for one in orphans.iter().filter(|one| !pods.iter().any(|pod| pod.has(one))) {
            tracing::warn!(
                container = one.container_id,
                network = one.network,
                ifname = one.ifname,
                "removing an attachment whose pod has no record any more"
            );
            one.attachment(None, &boot)
                .and_then(|attachment| executor.del_recorded(&attachment, None, node))
                .map(drop)
                .unwrap_or_else(|error| {
                    errors.push(
                        error.context(format_args!("network {} ({})", one.network, one.ifname)),
                    );
                });
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// Undoes one attachment.
    pub(super) fn detach(
        &self,
        pod: &PodRecord,
        attachment: &PodAttachment,
        netns: Option<&Path>,
        node: &mut Node,
    ) -> Result<()> {
        let mut begun = Vec::new();
        let outcome = self.begin_detach(pod, attachment, netns, &mut begun, node);
        all_of(outcome, self.executor.finish_del(begun, None, node))?;
        release_device(pod, attachment)
    }

    /// Undoes one attachment by its own record, but for what is put off ([`Executor::finish_del`]). Where a finished ADD's
    /// record is lost, its chain is run nevertheless: what it made can be named from the configuration and the kernel.
    fn begin_detach(
        &self,
        pod: &PodRecord,
        attachment: &PodAttachment,
        netns: Option<&Path>,
        begun: &mut Vec<Undoing>,
        node: &mut Node,
    ) -> Result<()> {
        self.with_executor_of(pod, attachment.role, |executor| {
            with_request(pod, attachment, netns, |request| {
                let of = request.attachment;
                let (network, container) = (of.network.as_str(), of.container_id.as_str());
                let interface = of.ifname.as_str();
                let step =
                    tracing::debug_span!("verb", step = "DEL", network, container, interface);
                let found = step.in_scope(|| executor.begin_del(of, None, begun, node))?;
                if found || !pod.complete {
                    return Ok(());
                }
                // Its end does what is put off, and its failure would be none of theirs.
                executor.settle_del(begun, None, node);
                executor.del(request, node)
            })
        })
    }
}

/// What both parts of a DEL have come to.
fn all_of(
    begun: Result<()>,
    finished: impl IntoIterator<Item = Result<Vec<String>>>,
) -> Result<()> {
    let all = [begun].into_iter().chain(finished.into_iter().map(|one| one.map(drop)));
    Error::join(all.filter_map(Result::err).collect()).map_or(Ok(()), Err)
}

fn release_device(pod: &PodRecord, attachment: &PodAttachment) -> Result<()> {
    Devices::default().remove(&attachment.name, &pod.container_id, &attachment.ifname)
}
