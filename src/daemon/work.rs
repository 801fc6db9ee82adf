//! One call: who waits for it, and the work itself, on a thread of its own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chain::Dirs;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send},
};
use tokio::net::UnixStream;

use super::cached::Cached;
use crate::{
    handover::{self, Answer},
    kubernetes::cluster::Cluster,
    plugin::{Invocation, Served, version_of},
};

/// How long a plugin may take to read its answer.
const READING: Duration = Duration::from_secs(10);

/// A plugin that waits at the other end of a connection.
pub struct Caller {
    stream: UnixStream,
    answered: Mutex<bool>,
}

impl Caller {
    /// Whoever is at the other end of this connection.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, answered: Mutex::new(false) }
    }

    /// The connection.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Tells the plugin that the daemon is alive. Never waits.
    pub fn sign_of_life(&self) {
        // Who has the lock is writing the answer.
        let Ok(answered) = self.answered.try_lock() else { return };
        if !*answered {
            // What does not fit is not needed: the plugin has not read the last ones.
            let _ = send(self.stream.as_raw_fd(), b"\n", no_signal() | MsgFlags::MSG_DONTWAIT);
        }
    }

    /// Whether the plugin has closed the connection: it does not want an answer any more.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        let over = PollFlags::POLLHUP | PollFlags::POLLERR;
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|events| events.intersects(over))
    }

    /// Answers. Blocks until the plugin has room for it.
    pub fn answer(&self, answer: &Answer) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = true;
        let text = serde_json::to_vec(answer).expect("an answer is JSON");
        if let Err(error) = self.write(&text) {
            tracing::info!(%error, "the plugin has not waited for its answer");
        }
    }

    /// The socket itself does not block, since the runtime has it.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(self.stream.as_raw_fd(), bytes, no_signal()) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    let limit = PollTimeout::try_from(READING).unwrap_or(PollTimeout::MAX);
                    if poll(&mut fds, limit)? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn no_signal() -> MsgFlags {
    MsgFlags::MSG_NOSIGNAL
}

/// Does a call that nobody else would do, under the lock of its attachment.
pub fn alone(invocation: &Invocation, dirs: &Dirs, cluster: Option<&Cached>) -> Served {
    let _step = invocation.begin();
    match handover::lock(&invocation.environment, dirs) {
        Ok(lock) => {
            let served = invocation.serve(cluster.map(|cluster| cluster as &dyn Cluster));
            if let Some(lock) = lock {
                lock.remove();
            }
            served
        }
        Err(error) => {
            let version = version_of(&invocation.stdin).unwrap_or(chain::Version::LATEST);
            Served::failed(&error, version)
        }
    }
}

/// Does a call under the lock of its hand-over, and answers before that is let go; `None` where the plugin did not wait, and
/// nothing was done.
pub fn run(
    invocation: &Invocation,
    caller: &Caller,
    dirs: &Dirs,
    cluster: Option<&Cached>,
) -> Option<Served> {
    let _step = invocation.begin();
    let cluster = cluster.map(|cluster| cluster as &dyn Cluster);
    let lock = match handover::lock(&invocation.environment, dirs) {
        Ok(lock) => lock,
        Err(error) => {
            let version = version_of(&invocation.stdin).unwrap_or(chain::Version::LATEST);
            let failed = Served::failed(&error, version);
            caller.answer(&Answer::Served(failed.clone()));
            return Some(failed);
        }
    };
    // Whoever goes away after this waits for the lock.
    let served = (!caller.is_gone()).then(|| invocation.serve(cluster));
    if let Some(served) = &served {
        caller.answer(&Answer::Served(served.clone()));
    }
    if let Some(lock) = lock {
        lock.remove();
    }
    served
}
