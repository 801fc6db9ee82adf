//! The daemon's place on the node: one daemon at a time, and its sockets.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::Path,
    time::Duration,
};

use chain::{Dirs, Error, Result, lock};
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// How long an earlier daemon is waited for, which may just be ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// The place. It is given up when this is dropped, or by the kernel when the process ends.
pub struct Place {
    dirs: Dirs,
    _lock: File,
}

impl Place {
    /// Takes the place.
    ///
    /// Errors (11): another daemon has it.
    pub fn take(dirs: &Dirs) -> Result<Self> {
        // The plugin compares the folder of the records with the daemon's: it has to be there.
        for dir in [&dirs.run, &dirs.state] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| Error::io(format!("{}: {error}", dir.display())))?;
        }
        let path = dirs.run.join("daemon.lock");
        let taken = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| lock::exclusive(&file, &path, PATIENCE).map(|()| file));
        let file = taken.map_err(|error| {
            lock::failed(&path, &error).context("another daemon serves this node")
        })?;
        Ok(Self { dirs: dirs.clone(), _lock: file })
    }

    /// The node's directories.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// Listens on a socket of this name, for root alone. One that an earlier daemon left is replaced, and at no instant
    /// there is none. To be called within the runtime.
    pub fn listen(&self, name: &str) -> Result<UnixListener> {
        let path = self.dirs.run.join(name);
        bind(&path).map_err(|error| Error::io(format!("socket {}: {error}", path.display())))
    }

    /// Removes a socket: nobody finds it any more.
    pub fn leave(&self, name: &str) {
        let path = self.dirs.run.join(name);
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "the socket stays");
        }
    }
}

/// Listens at a path, for root alone; what is there is replaced.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    fs::rename(&new, path)?;
    UnixListener::from_std(listener)
}

/// Whether whoever has connected may be served: root, and the daemon's own user.
pub fn is_allowed(stream: &UnixStream) -> bool {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let allowed = uid.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw());
    if !allowed {
        tracing::warn!("a process that is not root's has connected");
    }
    allowed
}
