//! Keeping the configuration in step with what it is made of.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use chain::{Error, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{NetConf, Outcome};

/// How long nothing is looked at where no change is told of: a network's own folder of plugins is not watched, nor is what a
/// link leads to.
const SELDOM: Duration = Duration::from_secs(60);

/// How long until what could not be written is tried again.
const SOON: Duration = Duration::from_secs(1);

/// Writes the configuration, and again whenever something it is made of changes (the master, the token, the settings), until
/// `stop` can be read or is closed. What fails is logged, once, and tried again.
///
/// Errors (999): the kernel has no way to tell of changes.
pub fn keep(conf: &NetConf, stop: BorrowedFd<'_>) -> Result<()> {
    let mut said = String::new();
    loop {
        // What changes from here on is told of, also while the files are written.
        let changes = watched(conf).map_err(|errno| {
            Error::internal(format!("watch {}: {errno}", conf.conf_dir.display()))
        })?;
        let patience = match conf.update() {
            Ok(outcome) => {
                if outcome == Outcome::Written || !said.is_empty() {
                    tracing::info!(
                        "{} is up to date",
                        conf.conf_dir.join(super::CONFLIST).display()
                    );
                }
                said.clear();
                SELDOM
            }
            Err(error) => {
                let error = error.to_string();
                if said != error {
                    tracing::warn!("{error}");
                    said = error;
                }
                SOON
            }
        };
        if is_stopped(&changes, stop, patience)? {
            return Ok(());
        }
    }
}

/// Keeps the configuration in step beside everything else, until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    /// Closed, it tells the other end to stop.
    _stop: UnixStream,
}

impl Keeper {
    /// Starts.
    ///
    /// Errors (5): the process has too many open files, or threads.
    pub fn start(conf: Arc<NetConf>) -> Result<Self> {
        let started = UnixStream::pair().and_then(|(own, stop)| {
            let keep = move || {
                if let Err(error) = keep(&conf, stop.as_fd()) {
                    tracing::error!("the runtime's configuration is not kept in step: {error}");
                }
            };
            thread::Builder::new().name("net-conf".to_owned()).spawn(keep).map(|_| own)
        });
        match started {
            Ok(stop) => Ok(Self { _stop: stop }),
            Err(error) => Err(Error::io(format!("keep the runtime's configuration: {error}"))),
        }
    }
}

/// Waits for a change, or for the time to be over. Whether it is the end.
fn is_stopped(changes: &Inotify, stop: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let patience = PollTimeout::try_from(patience).expect("a minute is few milliseconds");
    let mut fds =
        [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, patience) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds[0].any().unwrap_or(true)),
        Err(errno) => Err(Error::internal(format!("wait for changes: {errno}"))),
    }
}

/// Tells of changes in each of the folders that is there.
fn watched(conf: &NetConf) -> nix::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE;
    // What is not there now is looked at again soon: nothing can be written without it.
    let add = |folder: &Path| match changes.add_watch(folder, flags) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        added => added.map(drop),
    };
    let read = [conf.account.as_ref().map(|account| account.path()), conf.settings.path()];
    for folder in read.into_iter().flatten() {
        add(&folder)?;
    }
    // It is made by the first that writes into it.
    add(&conf.conf_dir)?;
    Ok(changes)
}
