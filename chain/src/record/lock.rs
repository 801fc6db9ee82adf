//! One ADD or DEL of an attachment at a time.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    marker::PhantomData,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Key, Records, store};
use crate::{Error, Result, lock};

thread_local! {
    /// The locks that this thread has. A chain runs on one thread, so whoever waits for one of these waits for itself.
    static HELD: RefCell<HashSet<PathBuf>> = RefCell::default();
}

/// The lock of one record. It is released when this is dropped, or by the kernel when the process ends.
#[derive(Debug)]
pub struct Lock {
    /// Locked by flock(2); a child that is exec'd does not inherit it.
    _file: File,
    path: PathBuf,
    /// It stays on its thread (see `HELD`).
    _thread: PhantomData<*const ()>,
}

impl Records {
    /// Locks a record; waits for whoever has it.
    ///
    /// Errors (7): the caller has it itself. That is a chain which contains itself. (11): another process still has it
    /// after [`Dirs::lock_wait`](crate::Dirs).
    pub fn lock(&self, key: &Key) -> Result<Lock> {
        let longest = self.dirs().lock_wait;
        self.acquire(key, |file, path| lock::exclusive(file, path, longest).map(|()| true))
            .map(|lock| lock.expect("waiting ends with the lock or an error"))
    }

    /// Locks a record; `None` where an ADD or DEL of it is at work.
    pub fn try_lock(&self, key: &Key) -> Result<Option<Lock>> {
        self.acquire(key, |file, _| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    fn acquire(
        &self,
        key: &Key,
        take: impl Fn(&File, &Path) -> io::Result<bool>,
    ) -> Result<Option<Lock>> {
        let dir = self.locks_dir();
        let path = dir.join(key.digest());
        if HELD.with_borrow(|held| held.contains(&path)) {
            return Err(Error::config(format!(
                "network {} contains itself: container {} is being attached to it or detached right here ({})",
                key.network, key.container_id, key.scope
            )));
        }
        let failed = |error: io::Error| lock::failed(&path, &error);
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        loop {
            let file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    store::create_dirs(&dir)?;
                    open().map_err(failed)?
                }
                file => file.map_err(failed)?,
            };
            if !take(&file, &path).map_err(failed)? {
                return Ok(None);
            }
            // Whoever had it may have removed the file, and a later one locked a new file of this name.
            let locked = file.metadata().map_err(failed)?;
            match fs::metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => {
                    HELD.with_borrow_mut(|held| held.insert(path.clone()));
                    return Ok(Some(Lock { _file: file, path, _thread: PhantomData }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Lock {
    /// Releases the lock and removes its file, since nothing is left to lock. Whoever waits for it notices.
    pub fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the lock's file stays");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.remove(&self.path));
    }
}
