//! A folder whose files change by renames, and who its files belong to.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use chain::{
    Error, Result,
    files::{self, Found},
    lock,
};

use crate::wiring;

/// A folder, locked until dropped: of two who write the same file one waits.
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// For `map_err`: what was tried on which path.
pub fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::io(format!("{what} {}: {error}", path.display()))
}

impl Folder {
    /// Locks the folder, which is made where it is missing, with this mode.
    pub fn make(path: &Path, mode: u32) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(failed("make", path))?;
        let dir = File::open(path).map_err(failed("open", path))?;
        Self::lock(path, dir)
    }

    /// Locks the folder; `None` where there is none.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match File::open(path) {
            Ok(dir) => Self::lock(path, dir).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", path)(error)),
        }
    }

    fn lock(path: &Path, dir: File) -> Result<Self> {
        lock::exclusive(&dir, path, wiring::dirs()?.lock_wait)
            .map_err(|error| lock::failed(path, &error))?;
        Ok(Self { path: path.to_owned(), _lock: dir })
    }

    /// Whether a file has this mark.
    pub fn is_own(&self, name: &str, mark: &str) -> Result<bool> {
        let path = self.path.join(name);
        match files::read(&path).map_err(failed("read", &path))? {
            Found::Content(text) => Ok(memchr::memmem::find(&text, mark.as_bytes()).is_some()),
            Found::Nothing | Found::NoFile(_) => Ok(false),
        }
    }

    /// Refuses to go on where somebody else's file has the name. An empty one says nothing, and is nobody's.
    pub fn require_own(&self, name: &str, mark: &str) -> Result<()> {
        let path = self.path.join(name);
        let Ok(file) = path.symlink_metadata() else { return Ok(()) };
        let is_empty = file.is_file() && file.size() == 0;
        if is_empty || self.is_own(name, mark)? {
            return Ok(());
        }
        Err(Error::config(format!(
            "{} was written by somebody else, and is not overwritten: move it away",
            path.display()
        )))
    }

    /// Gives a file, for root alone, this content durably and by one rename. Whether it was another. (Runtimes
    /// read no file that is called as its draft is.)
    pub fn put(&self, name: &str, content: &str) -> Result<bool> {
        let is_new = self.prepare(name, content)?;
        if is_new {
            self.publish(name)?;
        }
        Ok(is_new)
    }

    /// Writes a file's content, for [`Self::publish`] to put it in its place. Whether there is anything to be put.
    pub fn prepare(&self, name: &str, content: &str) -> Result<bool> {
        let path = self.path.join(name);
        if is_same(&path, content).map_err(failed("read", &path))? {
            return Ok(false);
        }
        files::prepare(&path, content.as_bytes())?;
        Ok(true)
    }

    /// Puts what is prepared in its place.
    pub fn publish(&self, name: &str) -> Result<()> {
        files::publish(&self.path.join(name))
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).symlink_metadata().is_ok()
    }

    /// Removes a file, and what somebody who was killed has left of it; one that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        files::remove_file(&files::draft(&path))?;
        files::remove_file(&path)
    }

    /// Removes a file with this mark; another's stays, and that is said.
    pub fn remove_own(&self, name: &str, mark: &str) -> Result<()> {
        let path = self.path.join(name);
        if self.is_own(name, mark)? || path.symlink_metadata().is_err() {
            return self.remove(name);
        }
        tracing::warn!("{} was written by somebody else, and stays", path.display());
        Ok(())
    }

    /// Removes the folder itself, unless something is in it.
    pub fn remove_if_empty(&self) -> Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
            {
                Err(failed("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

fn is_same(path: &Path, content: &str) -> io::Result<bool> {
    Ok(files::read(path)? == Found::Content(content.as_bytes().to_vec())
        && path.symlink_metadata()?.mode() & 0o7777 == 0o600)
}
