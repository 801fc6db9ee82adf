//! One at a time: a daemon's round, and who takes away what it keeps.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use chain::{Dirs, Result, files, lock};

/// The lock's name in the directory of what a boot needs.
const FILE: &str = "network.lock";

/// Waits until nobody else of Catena changes the node's network; what is returned keeps others waiting until it is dropped.
///
/// Errors: 11 where another process has the lock for too long; 5 where it cannot be locked.
pub fn alone(dirs: &Dirs) -> Result<File> {
    let path = dirs.run.join(FILE);
    let opened = DirBuilder::new().recursive(true).mode(0o700).create(&dirs.run).and_then(|()| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
    });
    let file = opened.map_err(|error| files::at(&path, &error))?;
    lock::exclusive(&file, &path, dirs.lock_wait).map_err(|error| lock::failed(&path, &error))?;
    Ok(file)
}
