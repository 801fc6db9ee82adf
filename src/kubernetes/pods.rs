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

use std::path::Path;

use chain::{
    Attachment, CniArgs, ConfList, Executor, Key, NetnsId, Request, Result, Runner, record::Lock,
};
use delegates::Node;

pub use self::{
    add::PodRequest,
    record::{PodAttachment, PodRecord, PodRecords},
};
use super::{cluster::Cluster, networks::Role};

/// Who keeps the records of secondary attachments (see [`Key`]).
pub const SECONDARY: &str = "secondary";

/// Whose lock a pod's is.
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
        let records = PodRecords::open(executor.records.dirs());
        Self { executor, records, cluster }
    }

    /// Locks a pod: one ADD, DEL or change of its networks at a time, be it by this process or the daemon.
    fn lock(&self, pod: &Attachment) -> Result<Lock> {
        self.executor.records.lock(&Key::new(pod, POD)?)
    }

    /// The same; `None` where something is at work on it.
    fn try_lock(&self, pod: &Attachment) -> Result<Option<Lock>> {
        self.executor.records.try_lock(&Key::new(pod, POD)?)
    }

    /// An executor for the chains of secondary networks.
    fn secondary(&self) -> Executor<'a, Node> {
        let Runner { registry, path, limits } = &self.executor.runner;
        Executor {
            runner: Runner { registry, path: path.clone(), limits: *limits },
            records: self.executor.records.clone(),
            scope: SECONDARY.to_owned(),
            instance: String::new(),
        }
    }

    /// Runs `work` with the executor that an attachment's record belongs to.
    fn with_executor_of<T>(
        &self,
        role: Role,
        work: impl FnOnce(&Executor<'_, Node>) -> Result<T>,
    ) -> Result<T> {
        match role {
            Role::Cluster => work(self.executor),
            Role::Default | Role::Selected | Role::Auxiliary => work(&self.secondary()),
        }
    }
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
