//! CHECK of a pod: all its networks.

use std::path::Path;

use chain::{Attachment, CniResult, Error, Request, Result};
use delegates::Node;

use super::{PodAttachment, PodRecord, Pods, defaults, netns_of, with_request};
use crate::kubernetes::networks::Role;

impl Pods<'_> {
    /// CHECK of all networks of a pod; what is found goes into one error that names each network. Returns whether the pod
    /// has a record.
    ///
    /// `prev_result`: the cluster network's, as the runtime remembers it.
    pub fn check(
        &self,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        node: &mut Node,
    ) -> Result<bool> {
        let Some(record) = self.records.read(attachment)? else { return Ok(false) };
        if !record.complete || record.undoing {
            return Err(Error::internal(format!(
                "{attachment}: the ADD or DEL of its networks was not finished; DEL it, and ADD it again"
            )));
        }
        let boot = self.executor.records.dirs().boot()?;
        let netns = netns_of(&record, attachment.netns.as_deref(), &boot);
        let netns = netns.or(attachment.netns.as_deref());
        let mut findings = Vec::new();
        for one in &record.attachments {
            let mut is_checked = true;
            let checked = self.with_executor_of(&record, one.role, |executor| {
                with_request(&record, one, netns, |request| {
                    if request.list.disable_check {
                        is_checked = false;
                        return Ok(());
                    }
                    let prev_result = match one.role {
                        Role::Cluster => prev_result.cloned(),
                        Role::Default | Role::Selected | Role::Auxiliary => None,
                    };
                    executor.check_carried(&Request { prev_result, ..*request }, node)
                })
            });
            let kept = match netns.filter(|_| is_checked) {
                Some(netns) => self.check_default_route(&record, one, netns, node),
                None => Ok(()),
            };
            for error in [checked.err(), kept.err()].into_iter().flatten() {
                findings.push(error.context(format_args!("network {} ({})", one.name, one.ifname)));
            }
        }
        Error::join(findings).map_or(Ok(true), Err)
    }

    /// Whether an attachment that is not to have the pod's default route has none.
    fn check_default_route(
        &self,
        pod: &PodRecord,
        one: &PodAttachment,
        netns: &Path,
        node: &Node,
    ) -> Result<()> {
        if one.loses_default == (false, false) {
            return Ok(());
        }
        let found = defaults::unwanted(one, &self.result_of(pod, one)?, netns, node)?;
        defaults::found(&found).map_or(Ok(()), Err)
    }
}
