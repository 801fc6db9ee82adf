//! Network namespaces by path.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns},
    sys::{
        stat::fstat,
        statfs::{NSFS_MAGIC, fstatfs},
    },
};

use super::{NetError, Result};

/// An open network namespace that is not the caller's own. Holding it keeps the namespace alive.
pub struct Netns {
    path: PathBuf,
    file: File,
}

/// What tells a namespace from all others that exist: its file's device and inode. The number may be given to another
/// namespace once this one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device of nsfs.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
}

impl Netns {
    /// Opens the namespace at a path.
    ///
    /// Errors: the path is not there (code 3), is no network namespace (8), or is the caller's own (8), unless
    /// `CNI_NETNS_OVERRIDE` is 1 or true as with the reference plugins.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            // A pipe at the path must not block.
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    NetError::NetnsGone { path: path.to_owned(), error }
                }
                _ => NetError::Enter { path: path.to_owned(), error },
            })?;
        let netns = Self { path: path.to_owned(), file };
        let file_system = fstatfs(&netns.file)
            .map_err(|errno| NetError::Enter { path: path.to_owned(), error: errno.into() })?;
        if file_system.filesystem_type() != NSFS_MAGIC {
            return Err(NetError::NotANetns { path: path.to_owned() });
        }
        if !override_own() && netns.identity()? == own(path)? {
            return Err(NetError::OwnNetns { path: path.to_owned() });
        }
        Ok(netns)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    pub fn identity(&self) -> Result<Identity> {
        identity(&self.file).map_err(|error| NetError::Enter { path: self.path.clone(), error })
    }

    /// Runs `work` inside the namespace, on a thread of its own: no other thread is ever moved.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })
                .map_err(|error| NetError::Enter { path: self.path.clone(), error })?;
            match thread.join() {
                Ok(Ok(outcome)) => Ok(outcome),
                // A namespace of another type.
                Ok(Err(Errno::EINVAL)) => Err(NetError::NotANetns { path: self.path.clone() }),
                Ok(Err(errno)) => {
                    Err(NetError::Enter { path: self.path.clone(), error: errno.into() })
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The identity of an open namespace file.
fn identity(file: &File) -> io::Result<Identity> {
    let stat = fstat(file)?;
    Ok(Identity { dev: stat.st_dev, ino: stat.st_ino })
}

/// The identity of the calling thread's namespace.
fn own(path: &Path) -> Result<Identity> {
    File::open("/proc/thread-self/ns/net")
        .and_then(|file| identity(&file))
        .map_err(|error| NetError::Enter { path: path.to_owned(), error })
}

fn override_own() -> bool {
    std::env::var("CNI_NETNS_OVERRIDE")
        .is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}
