//! Who waits for a lease, until somebody has it.

use std::sync::Arc;

use chain::CniResult;

use super::Keeper;
use crate::dhcp::call::Key;

/// A lease that was asked for.
pub struct Leased {
    /// What it gives.
    pub result: Arc<CniResult>,
    pub(super) waiting: Waiting,
}

impl Leased {
    /// Whoever asked has it.
    pub fn delivered(mut self) {
        self.waiting.delivered = true;
    }
}

/// Somebody who waits for a lease. Where the last one goes before anyone has it, it is given back.
pub(super) struct Waiting {
    pub(super) keeper: Arc<Keeper>,
    pub(super) key: Key,
    /// The number of what it waits for: there may be another one of that key by now.
    pub(super) number: u64,
    pub(super) delivered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut entries = self.keeper.entries();
        let entry = entries.of.get_mut(&self.key).filter(|entry| entry.number == self.number);
        let Some(entry) = entry else { return };
        entry.waiting -= 1;
        entry.delivered |= self.delivered;
        if entry.waiting == 0 && !entry.delivered {
            tracing::info!(
                "{}: whoever asked for the lease is gone, and it is given back",
                self.key
            );
            entry.end.send_replace(true);
        }
    }
}
