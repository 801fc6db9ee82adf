//! How many calls are at work at once, or edits of pods.
//!
//! What takes long computes nothing: it waits for a DHCP server, or for a plugin of others. Others are not to wait with it, so it
//! makes room for them after a while.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, spawn_blocking},
    time::timeout,
};

use super::metrics::Metrics;

/// How long a call counts as one of those at work: hundreds of times as long as a chain takes that waits for nobody.
const LONG: Duration = Duration::from_secs(5);

/// The places of calls at work.
pub struct Turns {
    /// Closed when the daemon is to end.
    at_work: Arc<Semaphore>,
    long: Arc<Semaphore>,
    counted: Option<Arc<Metrics>>,
}

/// The place of one call.
struct Place {
    _permit: OwnedSemaphorePermit,
    /// Where it counts as one at work.
    counted: Option<Arc<Metrics>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(metrics) = &self.counted {
            metrics.at_work.dec();
        }
    }
}

impl Turns {
    /// `at_once` at a time, and `long_at_once` beside them that take long. Each has a thread. `counted`: where those at work are told.
    pub fn new(at_once: usize, long_at_once: usize, counted: Option<Arc<Metrics>>) -> Self {
        Self {
            at_work: Arc::new(Semaphore::new(at_once)),
            long: Arc::new(Semaphore::new(long_at_once)),
            counted,
        }
    }

    /// Gives nobody a turn any more.
    pub fn close(&self) {
        self.at_work.close();
    }

    /// Waits for a turn; `None` where there will be none. It is over when `work` is.
    pub async fn next(&self) -> Option<Turn<'_>> {
        let permit = self.at_work.clone().acquire_owned().await.ok()?;
        let counted = self.counted.clone();
        if let Some(metrics) = &counted {
            metrics.at_work.inc();
        }
        Some(Turn { turns: self, place: Place { _permit: permit, counted } })
    }
}

/// A turn that has come.
pub struct Turn<'t> {
    turns: &'t Turns,
    place: Place,
}

impl Turn<'_> {
    /// Does the work, on a thread of its own. It keeps its place until it is done, whether anybody waits for that or not.
    pub async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Self { turns, place } = self;
        let place = Arc::new(Mutex::new(Some(place)));
        let own = HeldPlace(place.clone());
        let mut done = spawn_blocking(move || {
            let _own = own;
            work()
        });
        if let Ok(done) = timeout(LONG, &mut done).await {
            return done;
        }
        tokio::select! {
            biased;
            done = &mut done => return done,
            permit = turns.long.clone().acquire_owned() => {
                if let (Ok(permit), Some(place)) = (permit, &mut *lock(&place)) {
                    *place = Place { _permit: permit, counted: None };
                }
            }
        }
        done.await
    }
}

/// Leaves the place when the work ends, also by a panic.
struct HeldPlace(Arc<Mutex<Option<Place>>>);

impl Drop for HeldPlace {
    fn drop(&mut self) {
        lock(&self.0).take();
    }
}

fn lock(place: &Mutex<Option<Place>>) -> std::sync::MutexGuard<'_, Option<Place>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
