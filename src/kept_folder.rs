//! A folder that is read on when this process has other files before it.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A folder that is held open.
#[derive(Debug)]
pub struct KeptFolder(File);

impl KeptFolder {
    /// Opens a folder. Errors as open(2) has them.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        match folder.metadata()?.is_dir() {
            true => Ok(Self(folder)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Its path, wherever this process has its files by now.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string())
    }
}
