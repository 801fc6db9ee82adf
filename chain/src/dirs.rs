//! Where Catena keeps what it has to remember.

use std::path::PathBuf;

/// The directories of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// What outlives a boot: records, and whose the leases are (default `/var/lib/catena`).
    pub state: PathBuf,
    /// What does not: locks, sockets, the mark of this boot; on tmpfs (default `/run/catena`).
    pub run: PathBuf,
}

impl Default for Dirs {
    fn default() -> Self {
        Self { state: "/var/lib/catena".into(), run: "/run/catena".into() }
    }
}
