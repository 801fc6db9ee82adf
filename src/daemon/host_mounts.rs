//! A daemon in a pod, at work in the host's mount namespace: records, sockets, plugins and namespaces are the host's.

use std::{
    env,
    fs::File,
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
};

use chain::{Error, Result};
use nix::sched::{CloneFlags, setns};

use crate::handover::FileId;

const INIT: &str = "/proc/1/ns/mnt";

/// Moves this process to the mount namespace of process 1. To be called before any thread is started. Returns the path by
/// which `folder`, of the pod, can be read from there: it is kept open for good.
///
/// Errors (7): process 1 is not the host's. (5): it is not allowed.
pub fn enter(folder: &Path) -> Result<PathBuf> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::io(format!(
            "--host-mounts: the mount namespace {INIT}: {error}; the pod must be privileged, and have hostPID"
        ))
    };
    let host = File::open(INIT).map_err(|error| failed(&error))?;
    if FileId::of(&host) == FileId::at(Path::new("/proc/self/ns/mnt")) {
        return Err(Error::config(format!(
            "--host-mounts: {INIT} is this process's own mount namespace; the pod must have hostPID, and outside of \
             pods the flag is not needed"
        )));
    }
    let kept = File::open(folder).ok();
    setns(&host, CloneFlags::CLONE_NEWNS).map_err(|errno| failed(&errno))?;
    env::set_current_dir("/").map_err(|error| failed(&error))?;
    Ok(match kept {
        Some(folder) => format!("/proc/self/fd/{}", folder.into_raw_fd()).into(),
        None => folder.to_owned(),
    })
}
