//! Network namespaces by path.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
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

/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// How often the way back is tried again while the kernel has no memory for it: for a second.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

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
        let failed = |error| NetError::Enter { path: path.to_owned(), error };
        let file_system = fstatfs(&netns.file).map_err(|errno| failed(errno.into()))?;
        if file_system.filesystem_type() != NSFS_MAGIC {
            return Err(NetError::NotANetns { path: path.to_owned() });
        }
        if !override_own() && netns.identity()? == identity(&own()?).map_err(failed)? {
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

    /// Runs `work` inside the namespace. Nothing but the calling thread is moved, and that is back when this returns.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        let outcome = match WayBack::from(own()?) {
            Some(_way_back) => inside(),
            // A user namespace that has this network namespace, and not the one that it was made in: what goes there stays there.
            None => self.on_a_thread(inside)?,
        };
        outcome.map_err(|errno| match errno {
            // A namespace of another type.
            Errno::EINVAL => NetError::NotANetns { path: self.path.clone() },
            errno => NetError::Enter { path: self.path.clone(), error: errno.into() },
        })
    }

    /// A thread takes a fifth of a millisecond, more than all that is done inside.
    fn on_a_thread<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned());
            let spawned = thread.spawn_scoped(scope, work);
            let thread =
                spawned.map_err(|error| NetError::Enter { path: self.path.clone(), error })?;
            thread.join().map_err(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The network namespace that a thread goes back to when this is dropped, also by a panic.
struct WayBack(File);

impl WayBack {
    /// Back to the namespace that the calling thread is in; `None` where it may not enter that again.
    fn from(own: File) -> Option<Self> {
        setns(&own, CloneFlags::CLONE_NEWNET).ok().map(|()| Self(own))
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        let back = || setns(&self.0, CloneFlags::CLONE_NEWNET);
        let mut went = back();
        for _ in 0..TRIES {
            if went != Err(Errno::ENOMEM) {
                break;
            }
            thread::sleep(PAUSE);
            went = back();
        }
        if let Err(errno) = went {
            // What is meant for the host must not be done to the container.
            tracing::error!(%errno, "there is no way back from a network namespace: the process ends");
            std::process::abort();
        }
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

/// The calling thread's namespace.
fn own() -> Result<File> {
    File::open(OWN).map_err(|error| NetError::Enter { path: OWN.into(), error })
}

fn override_own() -> bool {
    std::env::var("CNI_NETNS_OVERRIDE")
        .is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}
