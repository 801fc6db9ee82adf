//! Whether the daemon can be relied upon.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What `/readyz` tells.
pub struct Health {
    serving: AtomicBool,
    /// The watches, where there is a cluster.
    watches: Vec<Watched>,
}

/// The state of a watch.
pub struct Watched {
    name: &'static str,
    state: Mutex<State>,
}

/// What a watch has come to.
#[derive(Default)]
struct State {
    /// Whether it has ever been answered.
    told: bool,
    /// Whether the last thing heard was an answer (what it keeps is as the API has it), or an error.
    up: Option<bool>,
}

impl Health {
    /// Of a daemon with watches of these names.
    pub fn new(watches: &[&'static str]) -> Self {
        let watched = |name: &&'static str| Watched { name, state: Mutex::default() };
        Self { serving: AtomicBool::default(), watches: watches.iter().map(watched).collect() }
    }

    /// Whether calls are taken.
    pub fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// The watches, in the order of their names given.
    pub fn watches(&self) -> &[Watched] {
        &self.watches
    }

    /// Why the daemon is not ready; empty where it is. A watch that has been answered once is enough: calls ask the API
    /// for what it does not have.
    pub fn missing(&self) -> Vec<String> {
        let serving = self.serving.load(Ordering::Relaxed);
        let new = self.watches.iter().filter(|watched| !watched.lock().told);
        let new = new.map(|watched| format!("has not been told of {} yet", watched.name));
        (!serving).then(|| "takes no calls".to_owned()).into_iter().chain(new).collect()
    }
}

impl Watched {
    /// What is watched.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The API has answered. Logged where it had not before.
    pub fn up(&self, objects: usize) {
        let mut state = self.lock();
        state.told = true;
        if state.up.replace(true) != Some(true) {
            tracing::info!(watch = self.name, objects, "as the API has it");
        }
    }

    /// The API does not answer, or not so. Logged where it did before.
    pub fn down(&self, error: &dyn std::error::Error) {
        if self.lock().up.replace(false) != Some(false) {
            tracing::warn!(watch = self.name, %error, "it is tried again and again");
        } else {
            tracing::debug!(watch = self.name, %error, "still");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
