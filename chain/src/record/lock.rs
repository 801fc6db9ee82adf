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
use crate::{Error, Result, files, lock};

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
        let path = self.lock_of(&self.path(key));
        refuse_own(&path, key)?;
        let longest = self.dirs().lock_wait;
        let _step = tracing::debug_span!("take lock", of = key.scope).entered();
        self.acquire(path, |file, path| lock::exclusive(file, path, longest).map(|()| true))
            .map(|lock| lock.expect("waiting ends with the lock or an error"))
    }

    /// Locks a record; `None` where an ADD or DEL of it is at work.
    pub fn try_lock(&self, key: &Key) -> Result<Option<Lock>> {
        let path = self.lock_of(&self.path(key));
        refuse_own(&path, key)?;
        self.try_acquire(path)
    }

    /// Takes a lock by its file; `None` where somebody has it, be it this thread.
    pub(super) fn try_acquire(&self, path: PathBuf) -> Result<Option<Lock>> {
        self.acquire(path, |file, _| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    /// The file of the lock for a record's file. It is known from the names alone, so that what a killed process has left
    /// of a record can be locked, too.
    pub(super) fn lock_of(&self, record: &Path) -> PathBuf {
        let names = [record.parent().and_then(Path::file_name), record.file_name()];
        let names = names.map(|name| name.unwrap_or_default().to_string_lossy());
        self.locks_dir().join(store::hex(&names.join("/")))
    }

    fn acquire(
        &self,
        path: PathBuf,
        take: impl Fn(&File, &Path) -> io::Result<bool>,
    ) -> Result<Option<Lock>> {
        let dir = self.locks_dir();
        let failed = |error: io::Error| lock::failed(&path, &error);
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        loop {
            let file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files::create_dirs(&dir)?;
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

/// A chain that comes to its own record once more is inside itself.
fn refuse_own(path: &Path, key: &Key) -> Result<()> {
    if HELD.with_borrow(|held| held.contains(path)) {
        return Err(Error::config(format!(
            "network {} contains itself: container {} is being attached to it or detached right here ({})",
            key.network, key.container_id, key.scope
        )));
    }
    Ok(())
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
