//! ADD of a pod: every network, or none.

use std::path::Path;

use chain::{Attachment, CniResult, Error, Request, Result};
use delegates::Node;
use serde_json::Value;

use super::{PodAttachment, PodRecord, Pods, record::Caller};
use crate::kubernetes::{
    cluster::{Pod, PodEvent},
    devices::Devices,
    networks::{Network, Role},
    status::{self, Attached},
};

/// What ADD of a pod gets.
pub struct PodRequest<'r> {
    /// The attachment that the runtime asks for: the cluster network's.
    pub attachment: &'r Attachment,
    /// The pod, where the runtime named one.
    pub pod: Option<&'r Pod>,
    /// How the meta plugin was called.
    pub caller: Option<&'r Caller>,
    /// The networks, the cluster network first.
    pub networks: &'r [Network],
    /// The result that the meta plugin was given, where it stands in a chain.
    pub prev_result: Option<CniResult>,
}

/// A network that a pod has been attached to.
pub(super) struct Added<'n> {
    pub network: &'n Network,
    pub result: CniResult,
    pub device_info: Option<Value>,
}

impl Pods<'_> {
    /// Attaches a pod to its networks, one after the other, and tells the cluster. The result is the cluster network's.
    ///
    /// Where one fails, those before it are undone in reverse, and the error names the one that failed.
    pub fn add(&self, request: &PodRequest<'_>, node: &mut Node) -> Result<CniResult> {
        let boot = self.executor.records.dirs().boot()?;
        let lock = self.lock(request.attachment)?;
        self.clear_way(request.attachment, &boot, node)?;
        let scope = (self.executor.scope.as_str(), self.executor.instance.as_str());
        let mut record = PodRecord::plan(request, scope, boot);
        self.records
            .write(&record)
            .map_err(|error| error.context("the pod's networks could not be recorded"))?;
        match self.forward(&mut record, request, node) {
            Ok(result) => Ok(result),
            Err(error) => {
                let error = self.roll_back(error, record, request, node);
                if self.records.read(request.attachment).is_ok_and(|left| left.is_none()) {
                    lock.remove();
                }
                Err(error)
            }
        }
    }

    /// Refuses to touch a pod that lives; removes what is left of one that does not.
    fn clear_way(&self, attachment: &Attachment, boot: &str, node: &mut Node) -> Result<()> {
        let Some(mut left) = self.records.read(attachment)? else { return Ok(()) };
        if left.is_live(attachment.netns.as_deref(), boot) {
            return Err(Error::internal(format!(
                "container {} has its networks already, by interface {} on network {}, and its namespace is the same; \
                 DEL it first",
                left.container_id, left.ifname, left.network
            )));
        }
        tracing::info!(%attachment, "removing what an earlier attachment of the pod left");
        self.undo(&mut left, None, boot, node)
            .map_err(|error| error.context("what an earlier attachment left could not be removed"))
    }

    fn forward(
        &self,
        record: &mut PodRecord,
        request: &PodRequest<'_>,
        node: &mut Node,
    ) -> Result<CniResult> {
        let mut added = Vec::with_capacity(request.networks.len());
        for (network, attachment) in request.networks.iter().zip(&record.attachments) {
            let one = self.attach(record, request, (network, attachment), node);
            let one = one.map_err(|error| {
                let Network { name, ifname, .. } = network;
                self.tell_failure(request, format!("{ifname} on network {name}: {error}"));
                error.context(format_args!("network {name} ({ifname})"))
            })?;
            // While the next network is at work, or the status is written.
            if let (Some(cluster), Some(pod)) = (self.cluster, request.pod) {
                cluster.record(pod, added_event(&one));
            }
            added.push(one);
        }
        let netns = request.attachment.netns()?;
        let wanted: Vec<_> = added.iter().map(|one| one.network.default_routes.clone()).collect();
        let mut results: Vec<_> = added.iter().map(|one| one.result.clone()).collect();
        let moved = self.move_defaults(record, &wanted, &mut results, netns, node);
        added.iter_mut().zip(results).for_each(|(one, result)| one.result = result);
        moved
            .and_then(|()| self.tell(request, &added))
            .inspect_err(|error| self.tell_failure(request, error.to_string()))?;
        record.complete = true;
        self.records.write(record)?;
        let cluster = added.into_iter().find(|one| one.network.role == Role::Cluster);
        cluster.map(|one| one.result).ok_or_else(|| Error::config("the pod has no cluster network"))
    }

    /// Attaches the pod to one network.
    pub(super) fn attach<'n>(
        &self,
        pod: &PodRecord,
        request: &PodRequest<'_>,
        (network, planned): (&'n Network, &PodAttachment),
        node: &mut Node,
    ) -> Result<Added<'n>> {
        let netns = request.attachment.netns()?;
        if network.role != Role::Cluster {
            require_unused(&network.ifname, netns, node)?;
        }
        let attachment = Attachment {
            network: planned.network.clone(),
            ifname: network.ifname.clone(),
            args: network.args.clone(),
            ..request.attachment.clone()
        };
        let devices = Devices::default();
        let container_id = &attachment.container_id;
        let mut ready = network.clone();
        devices.prepare(&mut ready, container_id);
        let prev_result = match network.role {
            Role::Cluster => request.prev_result.clone(),
            Role::Default | Role::Selected => None,
            // What is chained works on a result.
            Role::Auxiliary => Some(CniResult::default()),
        };
        let request = Request {
            list: &ready.list,
            attachment: &attachment,
            capability_args: &ready.capability_args,
            prev_result,
            observer: None,
        };
        let result = self
            .with_executor_of(pod, network.role, |executor| executor.add(&request, node))
            .map_err(|error| {
                match devices.remove(&network.name, container_id, &network.ifname) {
                    Ok(()) => error,
                    Err(left) => error.and(left),
                }
            })?;
        let device_info = devices.info(network, container_id);
        Ok(Added { network, result, device_info })
    }

    /// Writes the pod's status.
    fn tell(&self, request: &PodRequest<'_>, added: &[Added<'_>]) -> Result<()> {
        let (Some(cluster), Some(pod)) = (self.cluster, request.pod) else { return Ok(()) };
        let attached: Vec<_> = added
            .iter()
            .map(|one| Attached {
                name: &one.network.name,
                ifname: &one.network.ifname,
                role: one.network.role,
                result: &one.result,
                device_info: one.device_info.clone(),
            })
            .collect();
        cluster.publish_status(pod, &status::of(&attached)).map_err(|error| {
            error.context(format_args!("network-status of pod {}/{}", pod.namespace, pod.name))
        })
    }

    fn tell_failure(&self, request: &PodRequest<'_>, message: String) {
        let (Some(cluster), Some(pod)) = (self.cluster, request.pod) else { return };
        cluster.record(pod, PodEvent::failed_adding(message));
    }

    /// Undoes what was done of an ADD, and says so in its error.
    fn roll_back(
        &self,
        error: Error,
        mut record: PodRecord,
        request: &PodRequest<'_>,
        node: &mut Node,
    ) -> Error {
        let boot = record.boot.clone();
        match self.undo(&mut record, request.attachment.netns.as_deref(), &boot, node) {
            Ok(()) => error,
            Err(undo) => error.and(format_args!(
                "rolling back was not complete: {undo}; what is left is recorded, and the next DEL or GC removes it"
            )),
        }
    }
}

/// A secondary interface's name must not be in use, be it by a delegate of an earlier network.
fn require_unused(ifname: &str, netns: &Path, node: &Node) -> Result<()> {
    let container = node.container(netns)?;
    match container.net()?.link().get(ifname)? {
        None => Ok(()),
        Some(_) => Err(Error::config(format!(
            "the pod has an interface {ifname} already: ask for another name (\"interface\", or @NAME in the short form)"
        ))),
    }
}

fn added_event(added: &Added<'_>) -> PodEvent {
    let addresses: Vec<_> = added.result.ips.iter().map(|ip| ip.address.to_string()).collect();
    PodEvent {
        warning: false,
        reason: "AddedInterface",
        message: format!(
            "Add {} [{}] from {}",
            added.network.ifname,
            addresses.join(" "),
            added.network.name
        ),
    }
}
