//! The daemon's socket: one that systemd hands over, or one of its own.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process,
};

use chain::{Code, Dirs, Error, Result, files};

/// The first descriptor that systemd hands over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// A socket that containers' plugins find the daemon at. Whoever has it keeps the leases that are recorded for its path.
#[derive(Debug)]
pub struct Door {
    /// Where it listens.
    pub listener: UnixListener,
    /// Its path, by which the records are found.
    pub path: PathBuf,
    /// The socket's file, which goes with the daemon; systemd's stays.
    own: Option<(u64, u64)>,
    _lock: File,
}

/// What came of the wish to have a socket.
#[derive(Debug)]
pub enum Opened {
    /// It is had.
    Door(Door),
    /// Another daemon answers there.
    Anothers,
}

impl Door {
    /// Takes the socket that systemd has [handed over], else listens at `path`. A socket that a dead daemon left there is
    /// replaced.
    ///
    /// Errors: (5) what hinders it.
    ///
    /// [handed over]: handed_over
    pub fn open(path: &Path, handed_over: Option<UnixListener>, dirs: &Dirs) -> Result<Opened> {
        let path = match &handed_over {
            Some(listener) => {
                let address = listener.local_addr().map_err(|error| failed(path, &error))?;
                address.as_pathname().unwrap_or(path).to_owned()
            }
            None => path.to_owned(),
        };
        let Some(lock) = lock(&path, dirs)? else { return Ok(Opened::Anothers) };
        let (listener, own) = match handed_over {
            Some(listener) => (listener, None),
            None => match listen(&path).map_err(|error| failed(&path, &error))? {
                Some(listener) => (listener, fs::symlink_metadata(&path).ok().map(id)),
                None => return Ok(Opened::Anothers),
            },
        };
        listener.set_nonblocking(true).map_err(|error| failed(&path, &error))?;
        Ok(Opened::Door(Self { listener, path, own, _lock: lock }))
    }
}

impl Door {
    /// Whether plugins still find it at its path: somebody may have removed the socket, or put another in its place. The file
    /// of a socket that is open is not given to another, so the two cannot be taken for each other.
    pub fn is_found(&self) -> bool {
        self.own.is_none() || self.own == fs::symlink_metadata(&self.path).ok().map(id)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.own.is_some()
            && self.is_found()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the socket stays");
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::io(format!("the DHCP daemon's socket {}: {error}", path.display()))
}

#[allow(clippy::needless_pass_by_value, reason = "for map")]
fn id(file: fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Two daemons that find the same dead socket do not both take its place, and one that is about to end has written its records.
fn lock(path: &Path, dirs: &Dirs) -> Result<Option<File>> {
    files::create_dirs(&dirs.run)?;
    let name = path.to_string_lossy().replace('/', "-");
    let lock = dirs.run.join(format!("dhcp{}.lock", files::short(&name, 200)));
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock)
        .map_err(|error| files::at(&lock, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(files::at(&lock, &error)),
    }
}

/// Listens at a path; `None` where somebody answers there.
fn listen(path: &Path) -> io::Result<Option<UnixListener>> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    match UnixStream::connect(path) {
        // A queue that is full is somebody's, too.
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            if !fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    "something that is no socket has its name: move it away",
                ));
            }
            tracing::info!(path = %path.display(), "nobody answers on the socket that is there: it is replaced");
            fs::remove_file(path)?;
        }
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// The socket that systemd has handed over, if it has (sd_listen_fds(3)). It is one: the daemon has one door. To be called once.
#[allow(unsafe_code, reason = "systemd hands descriptors over as numbers")]
pub fn handed_over() -> Result<Option<UnixListener>> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        Some(1) => {
            // SAFETY: systemd has opened it for this process, and nobody else takes it.
            let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
            Ok(Some(UnixListener::from(socket)))
        }
        Some(many) => Err(Error::new(
            Code::Io,
            format!("systemd hands over {many} descriptors, and the DHCP daemon takes one socket"),
        )),
    }
}
