//! Whether the daemon can be relied upon.

use std::sync::atomic::{AtomicBool, Ordering};

/// What `/readyz` tells.
#[derive(Default)]
pub struct Health {
    serving: AtomicBool,
}

impl Health {
    /// Whether calls are taken.
    pub fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// Why the daemon is not ready; empty where it is.
    pub fn missing(&self) -> Vec<&'static str> {
        let serving = self.serving.load(Ordering::Relaxed);
        [(!serving).then_some("takes no calls")].into_iter().flatten().collect()
    }
}
