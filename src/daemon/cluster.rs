//! The cluster that the daemon watches.

use std::{path::Path, sync::Arc};

use chain::{Error, Result};
use kube::{
    Api as ApiOf,
    runtime::{
        reflector::store::Writer,
        watcher::{Config, watcher},
    },
};
use nix::unistd::gethostname;
use tokio::{runtime::Handle, sync::mpsc::unbounded_channel, task::spawn_blocking};

use super::{Args, cached::Cached, health::Health, hotplug, metrics::Metrics, watch};
use crate::kubernetes::client::{
    Api,
    object::{self, AnyObject},
    source::Source,
};

/// What is watched.
pub const WATCHES: [&str; 2] = ["pods", "network-attachment-definitions"];

/// A cluster, not yet watched.
pub struct Found {
    api: Api,
    node_name: String,
}

/// The cluster that the command line names, or the environment; `None` where neither does. `account`: the folder of the
/// pod's service account.
///
/// Errors (7): the kubeconfig cannot be read, or is none.
pub async fn find(args: &Args, account: &Path) -> Result<Option<Found>> {
    let source = match &args.kubeconfig {
        Some(path) => Some(Source::Kubeconfig(path.clone())),
        None => Source::in_cluster(account),
    };
    let Some(source) = source else { return Ok(None) };
    let node_name = match &args.node_name {
        Some(name) => name.clone(),
        // As kubelet has it.
        None => gethostname()
            .map_err(|error| Error::io(format!("the host's name: {error}; give --node-name")))?
            .to_string_lossy()
            .trim()
            .to_lowercase(),
    };
    let handle = Handle::current();
    // It waits for what it starts on the runtime.
    let api = spawn_blocking(move || Api::new(source, Some(handle))).await;
    let api = api.map_err(|error| Error::internal(format!("the cluster's API: {error}")))??;
    Ok(Some(Found { api, node_name }))
}

impl Found {
    /// This node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Watches it from here on.
    pub fn watch(self, metrics: &Arc<Metrics>, health: &Arc<Health>) -> Arc<Cached> {
        let (pod, definition) = (object::pods(), object::definitions());
        let pods = Writer::<AnyObject>::new(pod.clone());
        let definitions = Writer::<AnyObject>::new(definition.clone());
        let cached = Cached::new(self.api, pods.as_reader(), definitions.as_reader());
        let cluster = Arc::new(cached);

        // This node's, and no others.
        let config = Config::default().fields(&format!("spec.nodeName={}", self.node_name));
        let (own, seen, counted) = (cluster.clone(), health.clone(), metrics.clone());
        let (to, told) = unbounded_channel();
        tokio::spawn(async move {
            let open = |client| watcher(ApiOf::<AnyObject>::all_with(client, &pod), config.clone());
            let watched = &seen.watches()[0];
            let tell = |event: &_| hotplug::tell(&to, event);
            watch::follow(own.api(), open, pods, watched, &counted, tell).await;
        });
        tokio::spawn(hotplug::follow(cluster.clone(), told, metrics.clone()));
        let (own, seen, counted) = (cluster.clone(), health.clone(), metrics.clone());
        tokio::spawn(async move {
            let open = |client| {
                let api = ApiOf::<AnyObject>::all_with(client, &definition);
                watcher(api, Config::default())
            };
            let watched = &seen.watches()[1];
            watch::follow(own.api(), open, definitions, watched, &counted, |_| ()).await;
        });
        cluster
    }
}
