//! The part of a repair that no single chain knows of: which network a pod's default route goes by.

use chain::{Condition, Node as _, Repaired, Result};
use delegates::Node;

use super::{PodAttachment, PodRecord, Pods, defaults};

impl Pods<'_> {
    /// Takes away the default routes that attachments of living pods have, but are not to have; with `dry_run` it only finds them.
    /// What is found and done is added to `all`, which the chains' own repair has come to; other attachments are left
    /// alone.
    ///
    /// Errors: where the records cannot be read.
    pub fn repair(&self, dry_run: bool, all: &mut [Repaired], node: &mut Node) -> Result<()> {
        let boot = self.executor.records.dirs().boot()?;
        for listed in self.records.list()? {
            let of = listed.attachment(None)?;
            // Whose ADD, DEL or change is at work is that one's.
            let Some(lock) = self.try_lock(&of)? else { continue };
            let Some(record) = self.records.read(&of)? else {
                lock.remove();
                continue;
            };
            if !record.is_live(record.netns.as_deref(), &boot) {
                continue;
            }
            for one in record.attachments.iter().filter(|one| one.loses_default != (false, false)) {
                let same = |other: &&mut Repaired| {
                    let other = &other.attachment;
                    other.container_id == record.container_id
                        && (&other.network, &other.ifname) == (&one.network, &one.ifname)
                };
                if let Some(repaired) = all.iter_mut().find(same) {
                    self.repair_one(&record, one, dry_run, repaired, node);
                }
            }
            // The next pod has another namespace.
            node.discard();
        }
        Ok(())
    }

    fn repair_one(
        &self,
        pod: &PodRecord,
        one: &PodAttachment,
        dry_run: bool,
        repaired: &mut Repaired,
        node: &Node,
    ) {
        let Some(netns) = &pod.netns else { return };
        if matches!(repaired.condition, Condition::Busy | Condition::Unchecked) {
            return;
        }
        let result = self.result_of(pod, one);
        let found = result.and_then(|result| defaults::unwanted(one, &result, netns, node));
        let done = found.and_then(|found| {
            let Some(error) = defaults::found(&found) else { return Ok(()) };
            repaired.missing.push(error);
            if dry_run {
                repaired.condition = Condition::Damaged;
                return Ok(());
            }
            defaults::remove(&found, netns, node)?;
            if repaired.condition == Condition::Well {
                repaired.condition = Condition::Repaired;
            }
            Ok(())
        });
        if let Err(error) = done {
            repaired.condition = Condition::Damaged;
            repaired.left.push(error);
        }
    }
}
