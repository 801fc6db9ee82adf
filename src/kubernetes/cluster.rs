//! What has to be asked or told of a cluster.

use std::collections::BTreeMap;

use chain::{CniArgs, Result};

/// A pod as a runtime names it in `CNI_ARGS` (`K8S_POD_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodId {
    /// Its namespace (`K8S_POD_NAMESPACE`).
    pub namespace: String,
    /// Its name (`K8S_POD_NAME`).
    pub name: String,
    /// Its UID (`K8S_POD_UID`): another pod may have the same name later. Older runtimes do not say it.
    pub uid: Option<String>,
}

impl PodId {
    /// The pod that the arguments name; `None` where they name none.
    pub fn of(args: &CniArgs) -> Option<Self> {
        let get = |key| args.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
        Some(Self {
            namespace: get("K8S_POD_NAMESPACE")?,
            name: get("K8S_POD_NAME")?,
            uid: get("K8S_POD_UID"),
        })
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID in the cluster. Of a static pod it differs from the one that the runtime says.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A NetworkAttachmentDefinition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.config`: a CNI configuration; empty where a file on the node has it.
    pub config: String,
    /// The annotation `k8s.v1.cni.cncf.io/resourceName`: the device plugin's resource whose devices it hands out.
    pub resource: Option<String>,
}

/// An event on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Whether something went wrong (type `Warning`, else `Normal`).
    pub warning: bool,
    /// Why, in one word: `AddedInterface`, `NoNetworkFound`, …
    pub reason: &'static str,
    /// What happened, in a sentence.
    pub message: String,
}

impl PodEvent {
    /// A pod does not get its networks, for this reason.
    pub fn failed_adding(message: String) -> Self {
        Self { warning: true, reason: "FailedAddingInterface", message }
    }
}

/// A cluster's API. Calls block, and have an end: an API that does not answer is an error.
pub trait Cluster: Sync {
    /// The pod of this name and UID. It is waited for a moment, since a cache or another API server may be late.
    ///
    /// Errors (11): there is no such pod, or its UID is another (it was deleted and made anew), or the API does not answer.
    fn pod(&self, id: &PodId) -> Result<Pod>;

    /// A NetworkAttachmentDefinition; `None` where there is none of this name.
    ///
    /// Errors (11): the API does not answer, or does not allow it.
    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>>;

    /// Writes the pod's annotation `k8s.v1.cni.cncf.io/network-status`, by one patch that holds for this UID only.
    fn publish_status(&self, pod: &Pod, status: &str) -> Result<()>;

    /// Records an event on the pod. It is a courtesy: where it fails that is logged, and nobody waits for it for long.
    fn record(&self, pod: &Pod, event: PodEvent);
}
