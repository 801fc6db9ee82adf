//! A pod's networks as one transaction: all of them, or none.
//!
//! Each network is a chain of its own with a record of its own, as any chain that Catena runs. What ties them together is
//! the pod's record ([`record`]): it is on the disk before the first chain is begun, and says which attachments there are.
//! DEL, CHECK and GC work from it alone, whatever has become of the pod, its definitions or the cluster by then.

mod add;
mod check;
mod defaults;
mod del;
mod gc;
mod plug;
pub mod record;
mod repair;

use std::path::Path;

use chain::{
    Attachment, CniArgs, CniResult, ConfList, Executor, Key, NetnsId, Request, Result, Runner,
    record::Lock,
};
use delegates::Node;

pub use self::{
    add::PodRequest,
    record::{PodAttachment, PodRecord, PodRecords},
};
use super::{cluster::Cluster, networks::Role};
use crate::wiring;

/// Who keeps the records of secondary attachments (see [`Key`]).
pub const SECONDARY: &str = "secondary";

/// Whose lock a pod's is. A meta plugin within another one has one of its own.
const POD: &str = "pod";

/// Runs the chains of pods.
pub struct Pods<'a> {
    executor: &'a Executor<'a, Node>,
    records: PodRecords,
    cluster: Option<&'a dyn Cluster>,
}

impl<'a> Pods<'a> {
    /// `executor` runs the cluster network, and its scope is that of the cluster network's records. Without a `cluster`
    /// nothing is told to it.
    pub fn new(executor: &'a Executor<'a, Node>, cluster: Option<&'a dyn Cluster>) -> Self {
        let dirs = executor.records.dirs();
        let records = match is_outermost(&executor.scope) {
            true => PodRecords::open(dirs),
            false => PodRecords::within(dirs, &executor.scope),
        };
        Self { executor, records, cluster }
    }

    fn key(&self, pod: &Attachment) -> Result<Key> {
        match is_outermost(&self.executor.scope) {
            true => Key::new(pod, POD),
            false => Key::new(pod, &format!("{POD}-{}", self.executor.scope)),
        }
    }

    /// Locks a pod: one ADD, DEL or change of its networks at a time, be it by this process or the daemon.
    fn lock(&self, pod: &Attachment) -> Result<Lock> {
        self.executor.records.lock(&self.key(pod)?)
    }

    /// The same; `None` where something is at work on it.
    fn try_lock(&self, pod: &Attachment) -> Result<Option<Lock>> {
        self.executor.records.try_lock(&self.key(pod)?)
    }

    /// The same executor for records of another scope.
    fn executor(&self, scope: &str, instance: &str) -> Executor<'a, Node> {
        let Runner { path, limits, .. } = &self.executor.runner;
        Executor {
            runner: Runner {
                registry: wiring::registry_within(),
                path: path.clone(),
                limits: *limits,
            },
            records: self.executor.records.clone(),
            scope: scope.to_owned(),
            instance: instance.to_owned(),
        }
    }

    /// An executor for the chains of secondary networks.
    fn secondary(&self) -> Executor<'a, Node> {
        self.executor(SECONDARY, "")
    }

    /// The recorded result of a pod's attachment; an empty one where there is none.
    fn result_of(&self, pod: &PodRecord, one: &PodAttachment) -> Result<CniResult> {
        let records = self.executor.records.find(&one.network, &pod.container_id, &one.ifname)?;
        Ok(records.into_iter().find_map(|own| own.result).unwrap_or_default())
    }

    /// Runs `work` with the executor that the record of a pod's attachment belongs to: the cluster network's is that of the
    /// call that attached the pod, whatever name or configuration the plugin has by now.
    fn with_executor_of<T>(
        &self,
        pod: &PodRecord,
        role: Role,
        work: impl FnOnce(&Executor<'_, Node>) -> Result<T>,
    ) -> Result<T> {
        match role {
            Role::Cluster => work(&self.executor(&pod.scope, &pod.instance)),
            Role::Default | Role::Selected | Role::Auxiliary => work(&self.secondary()),
        }
    }
}

/// Whether an executor is no part of another meta plugin's chain: what it runs is what the runtime or a person asked for.
fn is_outermost(scope: &str) -> bool {
    wiring::is_meta(scope) || scope == Key::CHAIN
}

/// Where a pod is now: its namespace at the recorded path or at the one that is given, where it is still the same.
fn netns_of<'p>(pod: &'p PodRecord, given: Option<&'p Path>, boot: &str) -> Option<&'p Path> {
    let same = |path: &&Path| pod.netns_id.is_some() && NetnsId::of(path) == pod.netns_id;
    [pod.netns.as_deref(), given].into_iter().flatten().find(same).filter(|_| pod.boot == boot)
}

/// The request for an attachment of a pod by what the pod's record says of it.
fn with_request<T>(
    pod: &PodRecord,
    attachment: &PodAttachment,
    netns: Option<&Path>,
    work: impl FnOnce(&Request<'_>) -> Result<T>,
) -> Result<T> {
    let list = ConfList::from_value(attachment.conf.clone())?;
    let target = Attachment {
        network: attachment.network.clone(),
        container_id: pod.container_id.clone(),
        ifname: attachment.ifname.clone(),
        netns: netns.map(Path::to_owned),
        args: CniArgs::parse(&attachment.args)?,
    };
    work(&Request {
        list: &list,
        attachment: &target,
        capability_args: &attachment.capability_args,
        prev_result: None,
        observer: None,
    })
}
