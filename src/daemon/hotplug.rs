//! Networks that come and go while a pod runs: an edit of its annotation attaches and detaches interfaces.
//!
//! Each pod that the watch tells of is compared with its record: what the annotation asks for and the record does not have
//! is attached, what the record has of the annotation's and it no longer asks for is detached. When the daemon starts, and
//! after the watch was away, all are compared. What fails is tried again, later and later. Pods do not wait for each other:
//! several are edited at once, each by one edit at a time.

mod change;
mod edit;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kube::{ResourceExt, runtime::watcher::Event};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{cached::Cached, metrics::Metrics, turns::Turns};
use crate::kubernetes::{client::object::AnyObject, cluster::Pod, selection::NETWORKS};

/// The pause before the first new try; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How many pods are edited at once.
const AT_ONCE: usize = 8;

/// How many edits may take long at once, beside those.
const LONG_AT_ONCE: usize = 32;

/// How many threads edits have at most.
pub const THREADS: usize = AT_ONCE + LONG_AT_ONCE;

/// A pod's namespace and name.
type Key = (String, String);

/// What the watch has told.
pub enum Told {
    /// Of one pod: it may be gone.
    One(Key),
    /// Of all.
    All,
}

/// Tells of an event of the watch, once the store has it.
pub fn tell(to: &UnboundedSender<Told>, event: &Event<AnyObject>) {
    let told = match event {
        Event::Apply(pod) | Event::Delete(pod) => {
            Told::One((pod.namespace().unwrap_or_default(), pod.name_any()))
        }
        Event::InitDone => Told::All,
        Event::Init | Event::InitApply(_) => return,
    };
    // Who does not listen any more is about to end.
    let _ = to.send(told);
}

/// What has become of a pod that was looked at.
pub enum Outcome {
    /// It has what it asks for.
    Settled,
    /// Something failed.
    Failed,
}

/// What is remembered of a pod that was looked at.
struct Seen {
    /// Its UID and what it asked for.
    asked: (String, Option<String>),
    /// Where something failed: when it is tried again, and the pause until then.
    again: Option<(Instant, Duration)>,
}

impl Seen {
    fn after(pod: &Pod, outcome: &Outcome, before: Option<&Self>) -> Self {
        let asked = asked_by(pod);
        let same = before.filter(|before| before.asked == asked);
        let again = match outcome {
            Outcome::Settled => None,
            Outcome::Failed => {
                let last = same.and_then(|before| before.again);
                let pause = last.map_or(FIRST_PAUSE, |(_, last)| LONGEST_PAUSE.min(last * 2));
                Some((Instant::now() + pause, pause))
            }
        };
        Self { asked, again }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.again.is_some_and(|(at, _)| at <= now)
    }
}

fn asked_by(pod: &Pod) -> (String, Option<String>) {
    (pod.uid.clone(), pod.annotations.get(NETWORKS).cloned())
}

/// Follows what the watch tells, for ever.
pub async fn follow(
    cluster: Arc<Cached>,
    mut told: UnboundedReceiver<Told>,
    metrics: Arc<Metrics>,
) {
    let mut seen: HashMap<Key, Seen> = HashMap::new();
    // Pods that something is at work on, and those of them that were told of meanwhile.
    let mut busy: HashMap<Key, bool> = HashMap::new();
    let turns = Arc::new(Turns::new(AT_ONCE, LONG_AT_ONCE, None));
    let mut edits = JoinSet::new();
    loop {
        let free = seen.iter().filter(|(key, _)| !busy.contains_key(*key));
        let next = free.filter_map(|(_, seen)| Some(seen.again?.0)).min();
        let mut keys = HashSet::new();
        tokio::select! {
            first = told.recv() => {
                let Some(mut one) = first else { return };
                loop {
                    match one {
                        Told::One(key) => drop(keys.insert(key)),
                        Told::All => {
                            keys.extend(cluster.all());
                            keys.extend(seen.keys().cloned());
                        }
                    }
                    match told.try_recv() {
                        Ok(another) => one = another,
                        Err(_) => break,
                    }
                }
            }
            Some(ended) = edits.join_next() => {
                // A panic is caught within, and nobody cancels one.
                let Ok((pod, outcome)): Result<(Pod, _), _> = ended else { continue };
                let key = (pod.namespace.clone(), pod.name.clone());
                if busy.remove(&key) == Some(true) {
                    keys.insert(key.clone());
                }
                let after = Seen::after(&pod, &outcome, seen.get(&key));
                seen.insert(key, after);
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        let now = Instant::now();
        keys.extend(seen.iter().filter(|(_, seen)| seen.is_due(now)).map(|(key, _)| key.clone()));
        let mut pods = Vec::new();
        for key in keys {
            if let Some(again) = busy.get_mut(&key) {
                *again = true;
                continue;
            }
            let last = seen.get(&key);
            match cluster.watched(&key.0, &key.1) {
                None => drop(seen.remove(&key)),
                Some(pod) if last.is_some_and(|s| s.asked == asked_by(&pod) && !s.is_due(now)) => {}
                Some(pod) => pods.push(pod),
            }
        }
        if pods.is_empty() {
            continue;
        }
        let found = spawn_blocking(move || edit::find(pods)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "looking at pods broke off");
            Vec::new()
        });
        for (pod, found) in found {
            let key = (pod.namespace.clone(), pod.name.clone());
            let record = match found {
                edit::Found::Record(record) => record,
                edit::Found::None => {
                    seen.remove(&key);
                    continue;
                }
                edit::Found::Unreadable => {
                    let after = Seen::after(&pod, &Outcome::Failed, seen.get(&key));
                    seen.insert(key, after);
                    continue;
                }
            };
            busy.insert(key, false);
            let (turns, own, counted) = (turns.clone(), cluster.clone(), metrics.clone());
            edits.spawn(async move {
                let edited = pod.clone();
                let work = move || edit::run(&own, &edited, &record, &counted);
                let outcome = match turns.next().await {
                    Some(turn) => turn.work(work).await.unwrap_or_else(|error| {
                        tracing::error!(%error, "the edit of a pod broke off");
                        Outcome::Failed
                    }),
                    // Nobody ends these.
                    None => Outcome::Failed,
                };
                (pod, outcome)
            });
        }
    }
}
