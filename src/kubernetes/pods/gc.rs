//! GC: what belongs to no pod that lives.

use std::collections::HashSet;

use chain::{Attachment, CniArgs, ConfList, Error, Result, ValidAttachment};
use delegates::Node;

use super::{PodRecord, Pods, SECONDARY};
use crate::kubernetes::networks::Role;

impl Pods<'_> {
    /// GC of the network that the runtime knows by `network`. Pods whose attachment to it is not valid are DELed whole. A
    /// secondary attachment is valid as long as its pod's attachment is: the runtime knows nothing of it.
    ///
    /// `cluster` finds the cluster network as the configuration has it now. What is on record is removed before it is looked
    /// for, and also where it is not found. Goes on over errors, and returns them together.
    pub fn gc(
        &self,
        network: &str,
        cluster: impl FnOnce() -> Result<ConfList>,
        valid: &[ValidAttachment],
        node: &mut Node,
    ) -> Result<()> {
        let mut errors = Vec::new();
        self.gc_pods(network, valid, node).unwrap_or_else(|error| errors.push(error));
        self.executor
            .gc_records(network, valid, None, node)
            .unwrap_or_else(|error| errors.push(error));
        match cluster() {
            Ok(cluster) => {
                self.executor
                    .gc(network, &cluster, valid, None, node)
                    .unwrap_or_else(|error| errors.push(error));
                self.gc_delegates(&cluster, valid, node).unwrap_or_else(|error| errors.push(error));
            }
            Err(error) => errors.push(error),
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    fn gc_pods(&self, network: &str, valid: &[ValidAttachment], node: &mut Node) -> Result<()> {
        let valid: HashSet<_> =
            valid.iter().map(|one| (one.container_id.as_str(), one.ifname.as_str())).collect();
        let boot = self.executor.records.dirs().boot()?;
        let mut errors = Vec::new();
        for record in self.records.list()? {
            let stale = !valid.contains(&(record.container_id.as_str(), record.ifname.as_str()));
            if record.network != network || !stale {
                continue;
            }
            self.gc_pod(&record, &boot, node).unwrap_or_else(|error| {
                errors.push(
                    error.context(format_args!(
                        "stale pod {}/{}",
                        record.container_id, record.ifname
                    )),
                );
            });
        }
        let mut orphans = Vec::new();
        for network in self.executor.records.networks()? {
            orphans.extend(self.executor.records.list(&network)?);
        }
        orphans
            .retain(|one| !valid.iter().any(|(container_id, _)| *container_id == one.container_id));
        self.undo_orphans(orphans, node).unwrap_or_else(|error| errors.push(error));
        for (network, container_id, ifname) in self.records.unborn()? {
            let args = CniArgs::default();
            let pod = Attachment { network, container_id, ifname, netns: None, args };
            let Ok(Some(lock)) = self.try_lock(&pod) else { continue };
            if self.records.read(&pod)?.is_none() {
                self.records.remove(&pod)?;
                lock.remove();
            }
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    fn gc_pod(&self, listed: &PodRecord, boot: &str, node: &mut Node) -> Result<()> {
        let attachment = listed.attachment(None)?;
        // One whose ADD or DEL is at work right now is left to it.
        let Some(lock) = self.try_lock(&attachment)? else { return Ok(()) };
        if let Some(mut record) = self.records.read(&attachment)? {
            self.undo(&mut record, None, boot, node)?;
        }
        lock.remove();
        Ok(())
    }

    /// Has the delegates of every network that pods have remove what belongs to none of its attachments. Of those Catena
    /// has records; a container that another implementation attached has none of its secondary interfaces on record, so
    /// where there is one nobody can tell what is stale.
    fn gc_delegates(
        &self,
        cluster: &ConfList,
        valid: &[ValidAttachment],
        node: &mut Node,
    ) -> Result<()> {
        let pods = self.records.list()?;
        let known: HashSet<_> = pods.iter().map(|pod| pod.container_id.as_str()).collect();
        if let Some(foreign) = valid.iter().find(|one| !known.contains(one.container_id.as_str())) {
            tracing::info!(
                container = foreign.container_id,
                "it was not attached by catena: what its secondary networks' delegates keep is left alone"
            );
            return Ok(());
        }
        let mut networks: Vec<ConfList> = Vec::new();
        for attachment in pods.iter().flat_map(|pod| &pod.attachments) {
            let list = ConfList::from_value(attachment.conf.clone())?;
            let is_new = networks.iter().all(|known| known.name != list.name);
            if attachment.role != Role::Cluster && list.name != cluster.name && is_new {
                networks.push(list);
            }
        }
        let mut errors = Vec::new();
        let executor = self.secondary();
        for list in networks {
            let records = executor.records.list(&list.name)?;
            let mut valid: Vec<_> = records
                .into_iter()
                .filter(|record| record.scope == SECONDARY)
                .map(|record| ValidAttachment {
                    container_id: record.container_id,
                    ifname: record.ifname,
                })
                .collect();
            // A network may be one pod's cluster network, and another one's secondary.
            valid.extend(pods.iter().flat_map(|pod| {
                let same = |conf: &serde_json::Value| conf["name"] == list.name.as_str();
                pod.attachments.iter().filter(move |one| same(&one.conf)).map(|one| {
                    ValidAttachment {
                        container_id: pod.container_id.clone(),
                        ifname: one.ifname.clone(),
                    }
                })
            }));
            let mut seen = HashSet::new();
            valid.retain(|one| seen.insert(one.clone()));
            executor.gc(&list.name, &list, &valid, None, node).unwrap_or_else(|error| {
                errors.push(error.context(format_args!("network {}", list.name)));
            });
        }
        Error::join(errors).map_or(Ok(()), Err)
    }
}
