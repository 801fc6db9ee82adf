//! The verbs of the meta plugin.

use chain::{
    Attachment, CniResult, Code, ConfList, Error, Executor, PluginConf, Request, Result, Runner,
    ValidAttachment,
};
use delegates::Node;
use serde_json::{Map, Value};

use super::{
    client::{self, Api},
    cluster::{Cluster, PodEvent, PodId},
    conf::Conf,
    devices::Devices,
    multus_scratch, networks,
    pods::{PodRequest, Pods, record::Caller},
};
use crate::{logging, wiring};

/// One call of the meta plugin.
pub struct Verbs<'a> {
    /// Runs the cluster network; its scope is that of the cluster network's records.
    executor: Executor<'a, Node>,
    conf: Conf,
    caller: Caller,
    cluster: Reached<'a>,
}

/// How the cluster's API is reached.
enum Reached<'a> {
    /// The daemon's way.
    Given(&'a dyn Cluster),
    /// This call's own.
    Own(Box<Api>),
    /// Nothing points to an API, so far.
    None,
    /// It is not to be asked.
    Never,
}

impl Reached<'_> {
    fn get(&self) -> Option<&dyn Cluster> {
        match self {
            Reached::Given(cluster) => Some(*cluster),
            Reached::Own(api) => Some(api.as_ref()),
            Reached::None | Reached::Never => None,
        }
    }
}

/// Finds the cluster's API, where the configuration or the environment points to one and it is not known yet.
fn reach(cluster: &mut Reached<'_>, conf: &Conf) -> Result<()> {
    if matches!(cluster, Reached::None)
        && let Some(api) = client::connect(conf.kubeconfig.as_deref(), None)?
    {
        *cluster = Reached::Own(Box::new(api));
    }
    Ok(())
}

/// What ADD, DEL and CHECK are about.
pub struct Target<'t> {
    /// The attachment that the runtime knows.
    pub attachment: &'t Attachment,
    /// `runtimeConfig`.
    pub capability_args: &'t Map<String, Value>,
    /// `prevResult`.
    pub prev_result: Option<&'t CniResult>,
}

impl<'a> Verbs<'a> {
    /// The verbs under the name `kind` with this configuration. `cluster`: the daemon's.
    ///
    /// Errors: the configuration is invalid.
    pub fn new(
        kind: &str,
        conf: &PluginConf,
        executor: &Executor<'a, Node>,
        cluster: Option<&'a dyn Cluster>,
    ) -> Result<Self> {
        let mut caller =
            Caller { kind: kind.to_owned(), conf: conf.raw.clone(), cni_path: Vec::new() };
        caller.conf.shift_remove("runtimeConfig");
        let conf = Conf::of(kind, conf)?;
        logging::follow(&conf.log);
        let Runner { path, limits, .. } = &executor.runner;
        let registry = wiring::registry_within();
        let runner = Runner { registry, path: conf.path(path), limits: *limits };
        caller.cni_path.clone_from(&runner.path);
        let executor = Executor {
            runner,
            records: executor.records.clone(),
            scope: executor.scope.clone(),
            instance: executor.instance.clone(),
        };
        let cluster = cluster.map_or(Reached::None, Reached::Given);
        Ok(Self { executor, conf, caller, cluster })
    }

    /// The same for a meta plugin within another one, which has asked the cluster for the pod already: this one attaches the
    /// container to what its configuration says, and to nothing else.
    pub fn without_cluster(self) -> Self {
        Self { cluster: Reached::Never, ..self }
    }

    /// ADD: attaches a pod to all its networks, or a container to the one network that there is.
    pub fn add(&mut self, target: &Target<'_>, node: &mut Node) -> Result<CniResult> {
        self.conf.wait_until_ready()?;
        let id = PodId::of(&target.attachment.args);
        if id.is_some() {
            reach(&mut self.cluster, &self.conf)?;
        }
        let cluster = self.cluster.get();
        let pod = match (&id, cluster) {
            (Some(id), Some(cluster)) => Some(cluster.pod(id)?),
            _ => None,
        };
        let mut networks = networks::resolve(
            &self.conf,
            pod.as_ref(),
            cluster,
            target.attachment,
            target.capability_args,
        )?;
        if let (None, [network]) = (&pod, networks.as_slice()) {
            return self
                .with_request(&network.list, target, |request| self.executor.add(request, node));
        }
        if let (Some(pod), Some(cluster)) = (&pod, cluster) {
            Devices::default().assign(&mut networks, pod, &[]).inspect_err(|error| {
                cluster.record(pod, PodEvent::failed_adding(error.to_string()));
            })?;
        }
        let request = PodRequest {
            attachment: target.attachment,
            pod: pod.as_ref(),
            caller: Some(&self.caller),
            networks: &networks,
            prev_result: target.prev_result.cloned(),
        };
        Pods::new(&self.executor, cluster).add(&request, node)
    }

    /// CHECK of every network.
    pub fn check(&self, target: &Target<'_>, node: &mut Node) -> Result<()> {
        let pods = Pods::new(&self.executor, None);
        if pods.check(target.attachment, target.prev_result, node)? {
            return Ok(());
        }
        let list = networks::cluster(&self.conf, None)?.list;
        self.with_request(&list, target, |request| self.executor.check_carried(request, node))
    }

    /// GC of every network. `network`: the one that the runtime knows.
    pub fn gc(&mut self, network: &str, valid: &[ValidAttachment], node: &mut Node) -> Result<()> {
        let Self { executor, conf, cluster, .. } = self;
        let list = || {
            conf.wait_until_ready()?;
            reach(cluster, conf)?;
            networks::cluster(conf, cluster.get()).map(|found| found.list)
        };
        Pods::new(executor, None).gc(network, list, valid, node)
    }

    /// STATUS: whether the cluster network and the default networks can take a pod now.
    ///
    /// Errors (50): what they need is not there yet; or what one of their plugins says.
    pub fn status(&mut self, node: &mut Node) -> Result<()> {
        let ready =
            self.conf.wait_until_ready().and_then(|()| reach(&mut self.cluster, &self.conf));
        let all = ready.and_then(|()| networks::of_every_pod(&self.conf, self.cluster.get()));
        let all = all.map_err(|error| match error.code {
            Code::TryAgain => Error { code: Code::NotAvailable, ..error },
            _ => error,
        });
        for network in all? {
            self.executor
                .status(&network.list, None, node)
                .map_err(|error| error.context(format_args!("network {}", network.name)))?;
        }
        Ok(())
    }

    fn with_request<T>(
        &self,
        list: &ConfList,
        target: &Target<'_>,
        work: impl FnOnce(&Request<'_>) -> Result<T>,
    ) -> Result<T> {
        work(&Request {
            list,
            attachment: target.attachment,
            capability_args: target.capability_args,
            prev_result: target.prev_result.cloned(),
            observer: None,
        })
    }
}

/// DEL, by the records alone. Neither the pod nor its definitions nor the API need be there, nor a configuration that can be
/// understood (`verbs`).
///
/// What has no record was made by another implementation, or by nobody: Multus's own records say what there is, or else
/// the configuration.
pub fn del(
    verbs: Result<Verbs<'_>>,
    executor: &Executor<'_, Node>,
    target: &Target<'_>,
    node: &mut Node,
) -> Result<()> {
    let attachment = target.attachment;
    if Pods::new(executor, None).del(attachment, node)?
        || executor.del_recorded(attachment, None, node)?
    {
        return Ok(());
    }
    let verbs = match verbs {
        Ok(verbs) => verbs,
        Err(error) => {
            nothing_to_del(attachment, &error);
            return Ok(());
        }
    };
    if multus_scratch::del(&verbs.conf.cni_dir, &verbs.executor, attachment, node)? {
        return Ok(());
    }
    let networks = networks::resolve(&verbs.conf, None, None, attachment, target.capability_args);
    let networks = networks.unwrap_or_else(|error| {
        nothing_to_del(attachment, &error);
        Vec::new()
    });
    for network in networks.iter().rev() {
        let attachment = Attachment { ifname: network.ifname.clone(), ..attachment.clone() };
        let target = Target { attachment: &attachment, ..*target };
        verbs.with_request(&network.list, &target, |request| verbs.executor.del(request, node))?;
    }
    Ok(())
}

/// DEL of what has no record and whose chain is not to be had: its ADD failed over the same, and runtimes call DEL after
/// that as well. An error would keep the pod from being deleted for good.
fn nothing_to_del(attachment: &Attachment, error: &Error) {
    tracing::warn!(%attachment, %error, "there is no record, and no chain to go by: nothing is deleted");
}
