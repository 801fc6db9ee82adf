//! The DHCP daemon: gets leases for containers' interfaces, keeps them and gives them back.
//!
//! It is run as `dhcp daemon`, with the reference plugin's flags, or as a part of `catena daemon`. Plugins, this one's and the
//! reference's, ask for leases at its socket; what is leased is on record for that socket, and taken up again by whoever has it
//! next.

mod ask;
mod attachment;
mod call;
mod carrier;
mod connection;
mod door;
mod farewell;
mod flags;
mod interface;
mod keeper;
mod lease;
mod place;
mod rebuilt;
mod record;
mod server;
mod service;
mod speaker;

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use chain::{Code, Dirs, Error, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use self::{
    door::{Door, Opened},
    flags::Flags,
};
pub use self::{
    keeper::Manner,
    service::{Service, Serving},
};
use crate::{daemon, logging, wiring};

/// Where the daemon listens, unless it is told otherwise.
const DEFAULT_SOCKET: &str = delegates::ipam::dhcp::SOCKET;
/// How long a daemon that systemd has started waits for another one to leave its socket's leases.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks.
const AGAIN: Duration = Duration::from_millis(200);
/// How many descriptors the process may have.
const DESCRIPTORS: u64 = 16_384;
/// How many containers' namespaces are visited at once.
const VISITS: usize = 16;

/// `dhcp daemon`, with what comes after these words.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    logging::init("info");
    match run_until_told(&Flags::read(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dhcp daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the process is told to end (SIGTERM, SIGINT). The leases stay: the next daemon takes them up.
fn run_until_told(flags: &Flags) -> Result<()> {
    if let Some(path) = flags.pid_file().filter(|path| !path.is_absolute()) {
        return Err(Error::config(format!(
            "-pidfile {}: it must be an absolute path",
            path.display()
        )));
    }
    daemon::share_heap();
    let dirs = wiring::dirs()?;
    let door = open(flags, &dirs)?;
    // Only now: the file of a daemon that has the socket stays its own.
    if let Some(path) = flags.pid_file() {
        write_pid(path)?;
    }
    let manner = Manner { timing: flags.timing(), broadcast: flags.broadcast };
    let stopped = told_to_end()?;
    let socket = door.path.clone();
    let host_prefix = flags.host_prefix.clone().into();
    let served = Serving { socket, dirs, manner, host_prefix }.until(stopped, Some(door));
    if let Some(path) = flags.pid_file() {
        remove_pid(path);
    }
    served
}

/// Comes when the process is told to end (SIGTERM, SIGINT). It is waited for on a thread of its own, whatever the others do.
fn told_to_end() -> Result<oneshot::Receiver<()>> {
    let failed = |error| Error::io(format!("signals: {error}"));
    let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let (mut term, mut int) = {
        let _within = runtime.enter();
        let told = |kind| signal(kind).map_err(failed);
        (told(SignalKind::terminate())?, told(SignalKind::interrupt())?)
    };
    let (stop, stopped) = oneshot::channel();
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        });
        drop(stop);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    Ok(stopped)
}

/// The socket. One that systemd hands over is waited for: who keeps the leases of its path finds out in time that plugins come
/// here now ([`Door::is_found`]).
fn open(flags: &Flags, dirs: &Dirs) -> Result<Door> {
    let path = prefixed(&flags.host_prefix, &flags.socket);
    let handed_over = door::handed_over()?;
    let until = handed_over.is_some().then(|| Instant::now() + PATIENCE);
    let mut said = false;
    loop {
        let handed_over = handed_over.as_ref().map(UnixListener::try_clone).transpose();
        let handed_over =
            handed_over.map_err(|error| Error::io(format!("systemd's socket: {error}")))?;
        if let Opened::Door(door) = Door::open(&path, handed_over, dirs)? {
            return Ok(door);
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            return Err(Error::new(
                Code::TryAgain,
                format!(
                    "another DHCP daemon answers on {}: end it, or give -socketpath",
                    path.display()
                ),
            ));
        }
        if !std::mem::replace(&mut said, true) {
            tracing::info!("another DHCP daemon keeps the leases of this socket: it is waited for");
        }
        sleep(AGAIN);
    }
}

fn write_pid(path: &Path) -> Result<()> {
    fs::write(path, format!("{}\n", process::id()))
        .map_err(|error| Error::io(format!("-pidfile {}: {error}", path.display())))
}

/// Removes the file, unless the next daemon has written its own by now.
fn remove_pid(path: &Path) {
    if fs::read_to_string(path).is_ok_and(|text| text.trim() == process::id().to_string()) {
        let _ = fs::remove_file(path);
    }
}

/// A path as this process sees it. Go's daemon puts the two together as they stand.
fn prefixed(prefix: &OsStr, path: &Path) -> PathBuf {
    let mut whole = prefix.to_owned();
    whole.push(path);
    whole.into()
}

/// One thread for all that waits, and some more for what blocks.
fn runtime() -> Result<Runtime> {
    raise_limit();
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(VISITS)
        .build()
        .map_err(|error| Error::io(format!("the runtime: {error}")))
}

/// Ends all that is at work, and then leaves the socket to others: by then nobody writes records any more.
fn end(runtime: Runtime, door: Door) {
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(door);
}

/// Each container that waits for a lease takes two descriptors; the usual limit for a service is 1024. Plugins that are executed
/// inherit it, and some of them close as many descriptors as they may have, so it is not made as high as it goes.
fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(DESCRIPTORS)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS), hard)
    {
        tracing::debug!(%error, soft, "the limit of open files stays");
    }
}
