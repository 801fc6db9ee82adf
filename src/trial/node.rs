//! The throw-away node of a trial: network and mount namespaces in which nothing of the machine can be touched.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
};

use chain::{Error, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Where a trial keeps its namespaces and files: on a tmpfs of its own in a throw-away node.
const PLACE: &str = "/run/catena-try";

/// Moves the calling thread, and those it starts, into a node of its own. It has a loopback interface, its own `/run`,
/// and a `/var/lib` whose changes go with it.
pub fn throw_away_node() -> Result<()> {
    let failed = |what: &str, errno: nix::Error| {
        Error::internal(format!(
            "{what}: {errno}; a trial needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        ))
    };
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| failed("make the trial's node", errno))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| failed("make its mounts private", errno))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| failed("mount its /run", errno))?;
    let layer = |name: &str| {
        let dir = format!("{PLACE}/{name}");
        fs::create_dir_all(&dir)
            .map(|()| dir)
            .map_err(|error| Error::io(format!("{PLACE}: {error}")))
    };
    let options =
        format!("lowerdir=/var/lib,upperdir={},workdir={}", layer("upper")?, layer("work")?);
    mount(Some("overlay"), "/var/lib", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        // Inside a container an overlay may not be had: an empty /var/lib serves as well.
        .or_else(|_| {
            mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        })
        .map_err(|errno| failed("mount its /var/lib", errno))
}

/// A network namespace that is gone when this is dropped.
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Makes a namespace, held by a mount as those of `ip netns` are.
    pub fn new(name: &str) -> Result<Self> {
        let path = Path::new(PLACE).join(format!("{name}-{}", std::process::id()));
        let made = || -> io::Result<()> {
            fs::create_dir_all(PLACE)?;
            File::create(&path)?;
            thread::scope(|scope| {
                let bound = scope.spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    mount(
                        Some("/proc/thread-self/ns/net"),
                        &path,
                        None::<&str>,
                        MsFlags::MS_BIND,
                        None::<&str>,
                    )
                });
                bound
                    .join()
                    .map_err(|_| io::Error::other("its thread panicked"))?
                    .map_err(io::Error::from)
            })
        };
        let namespace = Self { path: path.clone() };
        made().map_err(|error| {
            Error::io(format!("make the namespace {}: {error}", path.display()))
        })?;
        Ok(namespace)
    }

    /// Its path, as `CNI_NETNS` has it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Where it was never mounted there is nothing to take down.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(PLACE);
    }
}
