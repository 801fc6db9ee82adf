//! The API server of a cluster, asked and told by the plugin itself or by the daemon.
//!
//! All calls of one [`Api`] share one runtime, and what they can one connection. It needs these rights:
//!
//! | verb | resource | for |
//! |---|---|---|
//! | get | pods | its annotations (metadata only) |
//! | get | network-attachment-definitions (k8s.cni.cncf.io) | the networks that it asks for |
//! | patch | pods/status | the annotation network-status |
//! | create | events | what was attached, and what failed |

mod background;
mod calls;
mod events;
mod failure;
pub mod object;
mod pods;
mod proxy;
pub mod source;

use std::{path::Path, sync::Arc, time::Duration};

use chain::{Error, Result};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{
    Client,
    api::{Patch, PatchParams, Request},
    core::Resource,
};
use serde_json::json;
use tokio::runtime::Handle;

use self::{
    background::Background,
    calls::Server,
    events::Events,
    failure::{Asked, Failure},
    object::AnyObject,
    source::{SERVICE_ACCOUNT, Source},
};
use super::cluster::{Cluster, Definition, Pod, PodEvent, PodId};

/// The annotation that says what a pod was attached to.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The annotation by which a NetworkAttachmentDefinition names a device plugin's resource.
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// How long a call is tried, with all its repetitions. A runtime repeats an ADD after a while, but until then waits for it.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// A cluster's API server.
pub struct Api {
    server: Arc<Server>,
    events: Events,
    runtime: Runtime,
}

/// Who runs the requests.
enum Runtime {
    /// A thread of this API's own.
    Own(Background),
    /// The daemon's.
    Given(Handle),
}

/// The API that a configuration's `kubeconfig` names, else that of the pod that this process runs in; `None` where nothing
/// points to any. Requests run on `runtime`, or on a thread of their own.
///
/// Errors (7): the kubeconfig or service account cannot be read, or is none.
pub fn connect(kubeconfig: Option<&str>, runtime: Option<Handle>) -> Result<Option<Api>> {
    let source = match kubeconfig.filter(|path| !path.is_empty()) {
        Some(path) => Some(Source::Kubeconfig(path.into())),
        None => Source::in_cluster(Path::new(SERVICE_ACCOUNT)),
    };
    source.map(|source| Api::new(source, runtime)).transpose()
}

impl Definition {
    /// The definition that an object of the API is. Its namespace and name are those that it was asked for by.
    pub fn of(object: AnyObject, namespace: &str, name: &str) -> Self {
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            config: object.spec.and_then(|spec| spec.config).unwrap_or_default(),
            resource: annotations.remove(RESOURCE_NAME),
        }
    }
}

impl Api {
    /// The API server that `source` names; nothing is sent yet. Requests run on `runtime`, or where there is none on a
    /// thread of their own.
    ///
    /// Errors (7): the source cannot be read, or is none.
    pub fn new(source: Source, runtime: Option<Handle>) -> Result<Self> {
        let _step = tracing::debug_span!("prepare API client").entered();
        let runtime = match runtime {
            Some(handle) => Runtime::Given(handle),
            None => Runtime::Own(Background::start()?),
        };
        let handle = runtime.handle();
        let server = Arc::new(handle.block_on(Server::new(source))?);
        let events = Events::start(handle, Arc::clone(&server));
        Ok(Self { server, events, runtime })
    }

    /// A client for requests of other kinds, such as watches, with the credentials as they are now.
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// The same with the credentials read anew, for who was refused or has lost the connection.
    pub async fn renewed(&self) -> Client {
        self.server.renewed().await
    }

    /// One call, until it is answered or [`CALL_LIMIT`] is over.
    fn call<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        asked: &Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Failure> {
        self.runtime.handle().block_on(self.server.call(asked, CALL_LIMIT, request))
    }
}

impl Drop for Api {
    /// The plugin's process ends with its API: events that are still under way get a moment.
    fn drop(&mut self) {
        if let Runtime::Own(background) = &self.runtime {
            self.events.finish(background.handle());
        }
    }
}

impl Runtime {
    fn handle(&self) -> &Handle {
        match self {
            Self::Own(background) => background.handle(),
            Self::Given(handle) => handle,
        }
    }
}

impl Cluster for Api {
    fn pod(&self, id: &PodId) -> Result<Pod> {
        let _step = tracing::debug_span!("ask API for pod", pod = %id).entered();
        self.runtime.handle().block_on(pods::get(&self.server, id))
    }

    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>> {
        let _step = tracing::debug_span!("ask API for definition", namespace, name).entered();
        let resource = &object::definitions();
        let asked = Asked::new("get", &resource.plural, &resource.group, namespace, name)?;
        let got = self.call(&asked, |client| async move {
            kube::Api::<AnyObject>::namespaced_with(client, namespace, resource).get(name).await
        });
        match got {
            Ok(object) => Ok(Some(Definition::of(object, namespace, name))),
            Err(failure) if failure.code() == Some(404) => {
                // What the API server says where it has no such kind is no status of its own.
                if !failure.is_of_an_object() {
                    tracing::warn!(
                        "{} does not know the kind NetworkAttachmentDefinition: is its custom resource definition \
                         installed?",
                        self.server
                    );
                }
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn publish_status(&self, pod: &Pod, status: &str) -> Result<()> {
        let _step = tracing::debug_span!("write status by API").entered();
        let asked = Asked::new("patch", "pods/status", "", &pod.namespace, &pod.name)?;
        // A UID in a patch is a condition: the patch is refused where it is another's.
        let patch = json!({
            "metadata": { "uid": pod.uid, "annotations": { NETWORK_STATUS: status } }
        });
        let path = <PodObject as Resource>::url_path(&(), Some(&pod.namespace));
        let parameters = PatchParams { field_manager: Some("catena".into()), ..Default::default() };
        let mut request = Request::new(path)
            .patch_subresource("status", &pod.name, &parameters, &Patch::Merge(patch))
            .map_err(|error| Error::internal(format!("{asked}: {error}")))?;
        // The answer would have the whole pod otherwise.
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        request.headers_mut().insert("accept", metadata.parse().expect("it is ASCII"));
        let patched = self.call(&asked, |client| {
            let request = request.clone();
            async move { client.request::<AnyObject>(request).await }
        });
        match patched {
            Ok(_) => Ok(()),
            Err(failure) if failure.code() == Some(404) => {
                Err(pods::gone(&self.server, pod, "was deleted meanwhile"))
            }
            Err(failure) if failure.is_another_uid() => {
                Err(pods::gone(&self.server, pod, "was deleted and made anew meanwhile"))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn record(&self, pod: &Pod, event: PodEvent) {
        self.events.post(pod, event);
    }
}

#[cfg(test)]
mod tests;
