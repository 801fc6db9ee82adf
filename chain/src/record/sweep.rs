//! What killed processes leave beside the records.

use std::collections::HashSet;

use super::{
    Key, Records,
    store::{is_record, record_of_draft},
};
use crate::{
    Result,
    files::{draft, names, remove_file},
};

impl Records {
    /// Removes a network's drafts that never became records, and locks without a record; what a living process has
    /// locked is left to it. DEL does so for its own attachment: this is for those that nobody calls DEL for.
    pub fn sweep(&self, network: &str) -> Result<()> {
        let dir = self.network_dir(network);
        for record in names(&dir)?.iter().filter_map(|name| record_of_draft(name)) {
            let record = dir.join(record);
            let Some(lock) = self.try_acquire(self.lock_of(&record))? else { continue };
            remove_file(&draft(&record))?;
            tracing::info!(record = %record.display(), "what a killed process left of a record is removed");
            if !record.exists() {
                lock.remove();
            }
        }
        self.sweep_locks()?;
        self.dirs().sweep_marks()
    }

    /// Removes what a killed process has left of a record that never got its name; the caller has its lock.
    pub fn remove_unborn(&self, key: &Key) -> Result<()> {
        self.remove(key)?;
        self.dirs().sweep_marks()
    }

    /// A lock is removed under itself, so an ADD that has just opened its file takes a new one. That of a record which
    /// is made meanwhile may go, too: the next one makes it again.
    fn sweep_locks(&self) -> Result<()> {
        let locks = names(&self.locks_dir())?;
        if locks.is_empty() {
            return Ok(());
        }
        let mut used = HashSet::new();
        for network in names(&self.attachments_dir())? {
            let dir = self.attachments_dir().join(network);
            let records = names(&dir)?;
            used.extend(
                records
                    .iter()
                    .filter(|name| is_record(name))
                    .map(|name| self.lock_of(&dir.join(name))),
            );
        }
        for path in locks.iter().map(|name| self.locks_dir().join(name)) {
            if used.contains(&path) {
                continue;
            }
            if let Some(lock) = self.try_acquire(path)? {
                lock.remove();
            }
        }
        Ok(())
    }
}
