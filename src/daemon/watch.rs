//! Watches of the API, which go on whatever becomes of it.

use std::{hash::Hash, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{Stream, StreamExt};
use kube::{
    Client, Resource,
    runtime::{
        reflector::store::Writer,
        watcher::{Error, Event},
    },
};
use tokio::time::sleep;

use super::{health::Watched, metrics::Metrics};
use crate::kubernetes::client::Api;

/// The annotation in which kubectl keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Keeps a store as the API has it, for ever. `open` starts the watch, `told` hears of every event after the store.
///
/// An API that is away, a watch that is too far behind, a token that has ended: each is logged once, and the watch
/// begins anew, with the credentials as they are by then. What the store has stays until there is newer.
pub async fn follow<K, S>(
    api: &Api,
    open: impl Fn(Client) -> S,
    mut writer: Writer<K>,
    watched: &Watched,
    metrics: &Metrics,
    told: impl Fn(&Event<K>),
) where
    K: Resource<DynamicType: Eq + Hash + Clone> + Clone + 'static,
    S: Stream<Item = Result<Event<K>, Error>>,
{
    let store = writer.as_reader();
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times();
    let mut pause = pauses.build();
    let mut client = api.client();
    loop {
        let mut events = std::pin::pin!(open(client));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let event = event.modify(strip);
                    let begun = matches!(event, Event::Init | Event::InitApply(_));
                    writer.apply_watcher_event(&event);
                    told(&event);
                    if !begun {
                        pause = pauses.build();
                        watched.up(store.len());
                        metrics.watched(watched.name(), true, store.len());
                    }
                }
                // The list comes anew by itself.
                Err(Error::WatchError(status)) if status.code == 410 => {
                    tracing::debug!(watch = watched.name(), "too far behind; listing anew");
                }
                Err(error) => {
                    watched.down(&error);
                    metrics.watched(watched.name(), false, store.len());
                    break;
                }
            }
        }
        sleep(pause.next().unwrap_or(Duration::from_secs(10))).await;
        client = api.renewed().await;
    }
}

/// Leaves out what nobody here reads: with hundreds of pods that is most of it.
fn strip<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.labels = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}
