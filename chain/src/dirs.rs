//! Where Catena keeps what it has to remember.

use std::{path::PathBuf, time::Duration};

/// The directories of a node, and how they are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// What outlives a boot: records, and whose the leases are (default `/var/lib/catena`).
    pub state: PathBuf,
    /// What does not: locks, sockets, the mark of this boot; on tmpfs (default `/run/catena`).
    pub run: PathBuf,
    /// How long a lock that another process holds is waited for (default 60 s).
    pub lock_wait: Duration,
}

impl Default for Dirs {
    fn default() -> Self {
        Self {
            state: "/var/lib/catena".into(),
            run: "/run/catena".into(),
            lock_wait: Duration::from_secs(60),
        }
    }
}
