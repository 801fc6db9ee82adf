//! A folder that is read on when this process has other files before it.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc;

use crate::handover::FileId;

/// A folder that is held open.
#[derive(Debug)]
pub struct KeptFolder {
    folder: File,
    /// Where it was opened.
    path: PathBuf,
    /// The mount namespace that it was opened in.
    mounts: Option<FileId>,
}

impl KeptFolder {
    /// Opens a folder. Errors as open(2) has them.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        match folder.metadata()?.is_dir() {
            true => Ok(Self { folder, path: path.to_owned(), mounts: mounts() }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Its path, wherever this process has its files by now. As long as these are the same, one that is made anew counts.
    pub fn path(&self) -> PathBuf {
        match self.mounts.is_some() && self.mounts == mounts() {
            true => self.path.clone(),
            false => Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()),
        }
    }

    /// Reads a file in it, also by a link.
    ///
    /// Errors as open(2) and read(2) have them, and one for what is no file: a pipe is not waited for.
    pub fn read(&self, name: &OsStr) -> io::Result<String> {
        let path = self.path().join(name);
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }
}

fn mounts() -> Option<FileId> {
    FileId::at(Path::new("/proc/self/ns/mnt"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::fs;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_folder_that_is_made_anew_is_the_one_that_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "old").unwrap();
        let folder = KeptFolder::open(&path).unwrap();
        assert_eq!(folder.read("file".as_ref()).unwrap(), "old");
        fs::rename(&path, dir.path().join("before")).unwrap();
        let error = folder.read("file".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "new").unwrap();
        assert_eq!(folder.read("file".as_ref()).unwrap(), "new");
    }

    #[test]
    fn in_another_mount_namespace_it_is_the_same_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "of the pod").unwrap();
        let mut folder = KeptFolder::open(dir.path()).unwrap();
        // As if this process had been elsewhere when it opened it.
        folder.mounts = FileId::at(dir.path());
        fs::rename(dir.path(), dir.path().with_extension("moved")).unwrap();
        fs::create_dir(dir.path()).unwrap();
        assert_eq!(folder.read("file".as_ref()).unwrap(), "of the pod");
        fs::remove_dir_all(dir.path().with_extension("moved")).unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeptFolder::open(dir.path()).unwrap();
        mkfifo(&dir.path().join("pipe"), Mode::S_IRUSR).unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        for name in ["pipe", "folder"] {
            let error = folder.read(name.as_ref()).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file");
        }
    }
}
