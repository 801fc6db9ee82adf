//! Networks that come and go while a pod runs.

use chain::{Attachment, CniArgs, CniResult, Error, Result};
use delegates::Node;

use super::{PodAttachment, PodRecord, PodRequest, Pods, netns_of};
use crate::kubernetes::{
    cluster::Pod,
    devices::Devices,
    networks::Network,
    status::{self, Attached},
};

impl Pods<'_> {
    /// A running pod's record as it is by now; `None` where the pod is gone, or being deleted.
    pub fn again(&self, listed: &PodRecord) -> Result<Option<PodRecord>> {
        let boot = self.executor.records.dirs().boot()?;
        let record = self.records.read(&listed.attachment(None)?)?;
        Ok(record.filter(|record| {
            record.pod == listed.pod && record.is_live(record.netns.as_deref(), &boot)
        }))
    }

    /// The network-status of a running pod, by its records.
    pub fn status(&self, record: &PodRecord) -> Result<String> {
        let mut results = Vec::new();
        for one in &record.attachments {
            results.push((one, self.result_of(record, one)?));
        }
        let devices = Devices::default();
        let attached: Vec<_> = results
            .iter()
            .map(|(one, result)| Attached {
                name: &one.name,
                ifname: &one.ifname,
                role: one.role,
                result,
                device_info: one
                    .device
                    .as_ref()
                    .and_then(|_| devices.info_of(&one.name, &record.container_id, &one.ifname)),
            })
            .collect();
        Ok(status::of(&attached))
    }

    /// Attaches a running pod to one more network. Its interface's name must be free.
    ///
    /// Errors: the pod is gone by now; or as ADD of the network has them, and nothing is left behind then.
    pub fn plug(
        &self,
        record: &PodRecord,
        pod: &Pod,
        network: &Network,
        node: &mut Node,
    ) -> Result<CniResult> {
        self.change(record, |mut record, attachment| {
            let planned = PodAttachment::plan(network, &record.network);
            if record.attachments.iter().any(|one| one.ifname == planned.ifname) {
                return Err(Error::config(format!(
                    "interface {} of the pod is another network's",
                    planned.ifname
                )));
            }
            record.attachments.push(planned.clone());
            self.records.write(&record)?;
            let caller = record.caller.clone();
            let request = PodRequest {
                attachment: &attachment,
                pod: Some(pod),
                caller: caller.as_ref(),
                networks: std::slice::from_ref(network),
                prev_result: None,
            };
            let attached = self.attach(&record, &request, (network, &planned), node);
            let result = attached.map(|added| added.result);
            let attached = result.and_then(|result| {
                self.settle_defaults(&mut record, attachment.netns()?, node).map(|()| result)
            });
            attached.map_err(|error| {
                let netns = attachment.netns.as_deref();
                let mut undone = record.clone();
                // Its own record says what there is to undo: it was not finished.
                undone.complete = false;
                if let Err(undo) = self.detach(&undone, &planned, netns, node) {
                    return error.and(format_args!("rolling back was not complete: {undo}"));
                }
                record.attachments.pop();
                let kept = self.records.write(&record);
                match kept.and_then(|()| self.settle_defaults_of(&mut record, &attachment, node)) {
                    Ok(()) => error,
                    Err(kept) => error.and(kept),
                }
            })
        })
    }

    /// Detaches a running pod from the network of this interface. One that is not there is no error.
    pub fn unplug(&self, record: &PodRecord, ifname: &str, node: &mut Node) -> Result<()> {
        self.change(record, |mut record, attachment| {
            let Some(place) = record.attachments.iter().position(|one| one.ifname == ifname) else {
                return Ok(());
            };
            let one = record.attachments[place].clone();
            self.detach(&record, &one, attachment.netns.as_deref(), node)?;
            record.attachments.remove(place);
            self.records.write(&record)?;
            self.settle_defaults_of(&mut record, &attachment, node)
        })
    }

    /// Has a running pod's default routes go by what it is attached to: somebody may have been killed before.
    pub fn settle(&self, record: &PodRecord, node: &mut Node) -> Result<()> {
        let plain = |one: &PodAttachment| {
            let asked = one.asked.as_ref().and_then(|asked| asked.default_route.as_ref());
            one.put_away.is_empty() && asked.is_none()
        };
        if record.attachments.iter().all(plain) {
            return Ok(());
        }
        self.change(record, |mut record, attachment| {
            self.settle_defaults_of(&mut record, &attachment, node)
        })
    }

    fn settle_defaults_of(
        &self,
        record: &mut PodRecord,
        attachment: &Attachment,
        node: &mut Node,
    ) -> Result<()> {
        self.settle_defaults(record, attachment.netns()?, node)
    }

    /// Changes a pod's networks under its lock, if it is still the same one and lives.
    fn change<T>(
        &self,
        listed: &PodRecord,
        work: impl FnOnce(PodRecord, Attachment) -> Result<T>,
    ) -> Result<T> {
        let of = listed.attachment(None)?;
        let _lock = self.lock(&of)?;
        let Some(record) = self.again(listed)? else {
            return Err(Error::internal(format!("{of}: the pod is gone, or being deleted")));
        };
        let boot = self.executor.records.dirs().boot()?;
        let netns = netns_of(&record, None, &boot).map(std::path::Path::to_owned);
        let args = CniArgs::parse(&record.args)?;
        let attachment = Attachment { netns, args, ..of };
        work(record, attachment)
    }
}
