//! The ruleset in the kernel of the present network namespace.

mod closers;
mod cluster;
mod commit;
mod forward;
mod look;
mod others;
mod policies;
mod seen;
mod state;
mod tables;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub use self::{cluster::OtherVersion, forward::Gap, look::Held};
use crate::{cluster::Cluster, element::Element, error::Error, netlink::Connection, owner::Owner};

/// How often a change is begun anew because others changed the ruleset meanwhile.
const ATTEMPTS: u32 = 100;

/// Elements that are on record, for the case that the kernel has lost them all, and the cluster's addresses.
type Recorded = Box<dyn FnMut() -> (Vec<(Element, Owner)>, Cluster) + Send>;

/// Takes the lock of a file at a path.
type TakeLock = Box<dyn FnMut(&File, &Path) -> io::Result<()> + Send>;

/// The ruleset of one network namespace: that of the thread which opened it.
///
/// Everything blocks, for some ten microseconds per request; a transaction that fails takes longer, because the
/// kernel waits for an RCU grace period before it gives up what it had prepared.
pub struct Ruleset {
    connection: Connection,
    lock: File,
    lock_path: PathBuf,
    take_lock: TakeLock,
    recorded: Option<Recorded>,
}

impl Ruleset {
    /// Opens a netlink socket in the calling thread's network namespace, and the lock file (made with its
    /// directory if absent), which is locked while a commit is under way only.
    ///
    /// # Errors
    ///
    /// [`Error::Lock`], [`Error::NoNfTables`], [`Error::Io`]. Whether this process may change the ruleset is
    /// found out by the first commit.
    pub fn open(lock_path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Lock { path: lock_path.to_owned(), source };
        if let Some(directory) = lock_path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(lock_path).map_err(failed)?;
        let connection = Connection::open()?;
        let take_lock: TakeLock = Box::new(|file, _| file.lock());
        Ok(Self { connection, lock, lock_path: lock_path.to_owned(), take_lock, recorded: None })
    }

    /// Says where to get all elements that are on record, and the cluster's addresses. It is asked when a commit finds no table at all (the
    /// first use on a node, or someone's `nft flush ruleset`) or one that is damaged, and what it says is restored in
    /// the same transaction. It should leave out what the commit itself removes.
    pub fn on_install(
        &mut self,
        recorded: impl FnMut() -> (Vec<(Element, Owner)>, Cluster) + Send + 'static,
    ) {
        self.recorded = Some(Box::new(recorded));
    }

    /// Says how to take the lock, where another process has it (by default it is waited for without an end).
    pub fn on_lock(&mut self, take: impl FnMut(&File, &Path) -> io::Result<()> + Send + 'static) {
        self.take_lock = Box::new(take);
    }

    /// Whether another process has the lock at this moment. What this program's other processes do meanwhile is about
    /// other owners' elements.
    fn is_locked_elsewhere(&self) -> bool {
        match self.lock.try_lock() {
            Ok(()) => {
                let _ = self.lock.unlock();
                false
            }
            Err(error) => matches!(error, TryLockError::WouldBlock),
        }
    }

    /// Runs `work` while none of this program's other processes changes rules, as for those that nf_tables does not have.
    ///
    /// # Errors
    ///
    /// [`Error::Lock`].
    pub fn alone<T>(&mut self, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.locked(|_| Ok(work()))
    }

    /// Runs `work` under the lock. The lock orders this program's own processes; against those of others
    /// there is the ruleset's generation.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let failed = |source| Error::Lock { path: self.lock_path.clone(), source };
        (self.take_lock)(&self.lock, &self.lock_path).map_err(failed)?;
        let seen = self.still_seen();
        let commits = self.connection.commits();
        let result = work(self);
        if let Some(seen) = seen {
            self.carry(&seen, self.connection.commits() - commits);
        }
        // Cannot fail for a lock that is held; and the end of the process gives it back in any case.
        let _ = self.lock.unlock();
        result
    }
}
