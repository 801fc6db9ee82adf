//! A cluster that is asked for each definition once.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chain::{Code, Error, Result};

use crate::kubernetes::cluster::{Cluster, Definition, Pod, PodEvent, PodId};

/// A cluster as one call sees it: elements that name the same network get the same definition, by one request.
pub(super) struct Remembered<'c> {
    cluster: &'c dyn Cluster,
    /// By namespace and name.
    definitions: Mutex<HashMap<(String, String), Option<Definition>>>,
    /// Whether the pod was told something already.
    told: AtomicBool,
}

impl<'c> Remembered<'c> {
    pub fn new(cluster: &'c dyn Cluster) -> Self {
        Self { cluster, definitions: Mutex::default(), told: AtomicBool::default() }
    }

    /// Tells the pod why it cannot have its networks, unless it was told with a reason of its own. What is to be tried again (11)
    /// is not for the pod's owner to change, and mostly an API that would not take the event either.
    pub fn tell_failure(&self, pod: &Pod, error: &Error) {
        if !self.told.load(Ordering::Relaxed) && error.code != Code::TryAgain {
            self.record(pod, PodEvent::failed_adding(error.to_string()));
        }
    }
}

impl Cluster for Remembered<'_> {
    fn pod(&self, id: &PodId) -> Result<Pod> {
        self.cluster.pod(id)
    }

    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = || self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = known().get(&key) {
            return Ok(definition.clone());
        }
        let definition = self.cluster.definition(namespace, name)?;
        known().insert(key, definition.clone());
        Ok(definition)
    }

    fn publish_status(&self, pod: &Pod, status: &str) -> Result<()> {
        self.cluster.publish_status(pod, status)
    }

    fn record(&self, pod: &Pod, event: PodEvent) {
        self.told.store(true, Ordering::Relaxed);
        self.cluster.record(pod, event);
    }
}
