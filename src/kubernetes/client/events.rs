//! Events on pods, sent beside everything else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chain::Result;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{api::PostParams, core::ObjectMeta};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, Receiver, Sender},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    calls::Server,
    failure::{Asked, Failure},
};
use crate::kubernetes::cluster::{Pod, PodEvent};

/// How long one event is tried to be sent, and how long a process waits for all that are still under way at its end.
const LIMIT: Duration = Duration::from_secs(1);

/// How long an event has the connection for itself. Where the API server takes longer, the next one is sent beside it.
const SOON: Duration = Duration::from_millis(50);

/// Events that wait while the API server does not answer; further ones are dropped.
const WAITING: usize = 256;

/// Who reports: shown by `kubectl describe pod` under "From".
const REPORTER: &str = "catena";

/// What the API server takes as a message, in bytes.
const MESSAGE_LENGTH: usize = 1024;

/// The task that sends events: one after the other over one connection, as long as they are answered soon.
pub struct Events {
    queue: Mutex<Option<(Sender<Event>, JoinHandle<()>)>>,
    node: String,
}

impl Events {
    /// Starts the task.
    pub fn start(runtime: &Handle, server: Arc<Server>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let task = runtime.spawn(send(server, receiver));
        let node = nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self { queue: Mutex::new(Some((sender, task))), node }
    }

    /// Queues an event.
    pub fn post(&self, pod: &Pod, event: PodEvent) {
        let event = object(pod, event, &self.node, Timestamp::now());
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, _)) = &*queue
            && sender.try_send(event).is_err()
        {
            tracing::warn!(
                "{WAITING} events wait for the Kubernetes API: further ones are dropped"
            );
        }
    }

    /// Waits until all events are sent, but not for long.
    pub fn finish(&self, runtime: &Handle) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, task)) = queue {
            drop(sender);
            let finished = async { timeout(LIMIT, task).await };
            if runtime.block_on(finished).is_err() {
                tracing::warn!(
                    "events were not all sent: the Kubernetes API does not answer in time"
                );
            }
        }
    }
}

async fn send(server: Arc<Server>, mut events: Receiver<Event>) {
    // No more than fit into the time that each of them has.
    let mut under_way = JoinSet::new();
    while let Some(event) = events.recv().await {
        let server = Arc::clone(&server);
        under_way.spawn(async move {
            if let Err(error) = create(&server, &event).await {
                tracing::warn!("an event is not recorded: {error}");
            }
        });
        let all_answered = async { while under_way.join_next().await.is_some() {} };
        // Whether they were is not asked: the next one's turn has come.
        let _ = timeout(SOON, all_answered).await;
    }
    while under_way.join_next().await.is_some() {}
}

async fn create(server: &Server, event: &Event) -> Result<()> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let asked = Asked::new("create", "events", "", namespace, name)?;
    let created = server
        .call(&asked, LIMIT, |client| async move {
            kube::Api::<Event>::namespaced(client, namespace)
                .create(&PostParams::default(), event)
                .await
        })
        .await;
    match created {
        Ok(_) => Ok(()),
        // An earlier attempt, whose answer was lost.
        Err(failure) if Failure::code(&failure) == Some(409) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// The event as an object of the core group: like kubelet's own events, each version of `kubectl describe` shows it, with who
/// reports it and when.
fn object(pod: &Pod, event: PodEvent, node: &str, now: Timestamp) -> Event {
    let mut message = event.message;
    message.truncate(message.floor_char_boundary(MESSAGE_LENGTH));
    // As the other reporters name theirs; the longest name of a pod leaves no room for it.
    let mut name = pod.name.clone();
    name.truncate(230);
    Event {
        metadata: ObjectMeta {
            namespace: Some(pod.namespace.clone()),
            name: Some(format!("{}.{:x}", name.trim_end_matches(['-', '.']), now.as_nanosecond())),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..Default::default()
        },
        type_: Some(if event.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(event.reason.into()),
        message: Some(message),
        source: Some(EventSource { component: Some(REPORTER.into()), host: Some(node.to_owned()) }),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Default::default()
    }
}
