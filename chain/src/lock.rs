//! Locks of files that processes share: a wait with an end, and who it is that is waited for.

use std::{
    fs::{File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::stat::{major, minor};
use procfs::process::Process;

use crate::{Code, Error};

/// The variable that sets how long a lock is waited for, in seconds.
pub const LOCK_TIMEOUT: &str = "CATENA_LOCK_TIMEOUT";

/// Locks a file for this process alone (`flock(2)`), until the file is closed. `path` is for the error.
///
/// Errors: of kind [`ErrorKind::TimedOut`] where another process still has the lock after `longest`; it says which, and
/// since when. Others as `flock(2)` has them.
pub fn exclusive(file: &File, path: &Path, longest: Duration) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => wait(file, path, longest)?,
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Tells those who have to wait since when this process has it. It may be somebody else's file: no matter.
    let _ = file.set_modified(SystemTime::now());
    Ok(())
}

/// The error for the runtime: to be tried again where the lock was not to be had in time.
pub fn failed(path: &Path, error: &io::Error) -> Error {
    let code = if error.kind() == ErrorKind::TimedOut { Code::TryAgain } else { Code::Io };
    Error::new(code, format!("lock {}: {error}", path.display()))
}

/// flock(2) has no time limit. So it is called on a thread of its own, where the kernel queues it as any other: looking
/// again and again would let those pass who came later.
fn wait(file: &File, path: &Path, longest: Duration) -> io::Result<()> {
    let _step = tracing::debug_span!("wait for lock", path = %path.display()).entered();
    // The lock belongs to what is open, not to the descriptor: the thread locks for this file as well, and one that comes
    // too late lets go of it when it closes its own.
    let same = file.try_clone()?;
    let (done, outcome) = mpsc::channel();
    thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = loop {
            match same.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                locked => break locked,
            }
        };
        let _ = done.send(locked);
    })?;
    match outcome.recv_timeout(longest) {
        Ok(locked) => locked,
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the wait was broken off")),
        Err(RecvTimeoutError::Timeout) => {
            let holder = holder(file, path);
            Err(io::Error::new(
                ErrorKind::TimedOut,
                format!(
                    "{holder}, and not to be had within {} s ({LOCK_TIMEOUT}); if that process hangs, end it; then try again",
                    longest.as_secs_f64()
                ),
            ))
        }
    }
}

/// Who has the lock, and since when, as far as the kernel tells.
fn holder(file: &File, path: &Path) -> String {
    let Some(pid) = holding_pid(file) else {
        return "held by a process that is not seen from here (another PID namespace, or one that began and left it to a child)"
            .to_owned();
    };
    let Some(process) = Process::new(pid).ok() else {
        return format!("held by process {pid}, or by a child that it left it to");
    };
    let name = match process.cmdline() {
        Ok(words) if !words.is_empty() => words.join(" "),
        _ => process.stat().map(|stat| stat.comm).unwrap_or_default(),
    };
    let name: String = name.chars().take(100).collect();
    match since(&process, path) {
        Some(since) => {
            format!("held by process {pid} ({name}) for {} s", since.as_secs())
        }
        None => format!("held by process {pid} ({name})"),
    }
}

/// Whose lock of this file the kernel lists. It writes 0 or -1 for processes of other PID namespaces.
fn holding_pid(file: &File) -> Option<i32> {
    let file = file.metadata().ok()?;
    let device = (major(file.dev()), minor(file.dev()));
    let locks = procfs::locks().ok()?;
    let of_file = |lock: &&procfs::Lock| {
        lock.lock_type == procfs::LockType::FLock
            && lock.inode == file.ino()
            && (u64::from(lock.devmaj), u64::from(lock.devmin)) == device
    };
    locks.iter().find(of_file)?.pid.filter(|pid| *pid > 0)
}

/// For how long the process has the lock: since it took it, which it noted in the file's time; or, where it does not note
/// that (the reference plugins), since it began at the latest.
fn since(process: &Process, path: &Path) -> Option<Duration> {
    let noted = path.metadata().ok()?.modified().ok()?;
    let boot = procfs::boot_time_secs().ok()?;
    let ticks = process.stat().ok()?.starttime;
    let began = UNIX_EPOCH + Duration::from_secs(boot + ticks / procfs::ticks_per_second());
    SystemTime::now().duration_since(noted.max(began)).ok()
}
