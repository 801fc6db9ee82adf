//! The cluster as the daemon knows it: by its watches where they have what is asked for, else by the API.

use kube::{
    ResourceExt,
    core::ApiResource,
    runtime::reflector::{ObjectRef, Store},
};

use chain::Result;

use crate::kubernetes::{
    client::{
        Api,
        object::{self, AnyObject},
    },
    cluster::{Cluster, Definition, Pod, PodEvent, PodId},
};

/// The cluster with what is watched of it.
pub struct Cached {
    api: Api,
    pods: Store<AnyObject>,
    definitions: Store<AnyObject>,
    pod: ApiResource,
    definition: ApiResource,
}

impl Cached {
    /// What the watches fill, and the API for the rest.
    pub fn new(api: Api, pods: Store<AnyObject>, definitions: Store<AnyObject>) -> Self {
        Self { api, pods, definitions, pod: object::pods(), definition: object::definitions() }
    }

    /// The API itself.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The namespaces and names of this node's pods.
    pub fn all(&self) -> Vec<(String, String)> {
        let pods = self.pods.state();
        pods.iter().map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())).collect()
    }

    /// A pod of this node, whatever its UID; `None` where the watch has none of this name.
    pub fn watched(&self, namespace: &str, name: &str) -> Option<Pod> {
        let metadata = &self
            .pods
            .get(&ObjectRef::new_with(name, self.pod.clone()).within(namespace))?
            .metadata;
        Some(Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: metadata.uid.clone()?,
            annotations: metadata.annotations.clone().unwrap_or_default(),
        })
    }
}

impl Cluster for Cached {
    fn pod(&self, id: &PodId) -> Result<Pod> {
        // Another UID, or none: a static pod, an older runtime, a watch that is behind. The API knows.
        let watched = self.watched(&id.namespace, &id.name);
        match watched.filter(|pod| Some(&pod.uid) == id.uid.as_ref()) {
            Some(pod) => Ok(pod),
            None => self.api.pod(id),
        }
    }

    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>> {
        let key = ObjectRef::new_with(name, self.definition.clone()).within(namespace);
        match self.definitions.get(&key) {
            Some(object) => Ok(Some(Definition::of(AnyObject::clone(&object), namespace, name))),
            None => self.api.definition(namespace, name),
        }
    }

    fn publish_status(&self, pod: &Pod, status: &str) -> Result<()> {
        self.api.publish_status(pod, status)
    }

    fn record(&self, pod: &Pod, event: PodEvent) {
        self.api.record(pod, event);
    }
}
