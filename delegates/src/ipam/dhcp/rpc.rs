//! Calls of the DHCP daemon, as the reference plugin makes them: Go's `net/rpc` over HTTP's CONNECT, on a unix socket.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket,
            sockopt::SendTimeout,
        },
        time::TimeVal,
    },
};

use super::gob::{Decoder, Encoder, Type, Value};

/// What opens a connection, and what the daemon answers (Go: `net/rpc`, DefaultRPCPath).
const CONNECT: &str = "CONNECT /_goRPC_ HTTP/1.0\n\n";
const CONNECTED: &str = "HTTP/1.0 200 Connected to Go RPC";
/// What is connected to.
pub const PATH: &str = "/_goRPC_";
/// The reason phrase of the daemon's answer.
pub const REASON: &str = "Connected to Go RPC";
/// The longest line of that answer.
const LINE: u64 = 1024;
/// How long the daemon may take to answer who connects.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is alive while it is at work on a call. How long that may take is its own to say: it may have
/// been told to ask servers for hours.
const LOOK: Duration = Duration::from_secs(30);

/// The method of ADD and CHECK: a lease.
pub const ALLOCATE: &str = "DHCP.Allocate";
/// The method of DEL: the lease is given back.
pub const RELEASE: &str = "DHCP.Release";
/// The method of STATUS: whether leases can be kept. The reference's daemon does not have it.
pub const STATUS: &str = "DHCP.Status";
/// What a daemon says of a method that it does not have begins with this.
const UNKNOWN: &str = "rpc: can't find ";

/// `rpc.Request`
const REQUEST: Type =
    Type::Struct("Request", &[("ServiceMethod", Type::String), ("Seq", Type::Uint)]);
/// `rpc.Response`
pub const RESPONSE: Type = Type::Struct(
    "Response",
    &[("ServiceMethod", Type::String), ("Seq", Type::Uint), ("Error", Type::String)],
);
/// What stands for an answer where there is an error or nothing to say.
pub const NOTHING: Type = Type::Struct("Nothing", &[]);

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens there.
    Nobody(io::Error),
    /// The daemon does not answer as one does.
    Answer(io::Error),
    /// It says so itself.
    Said(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Answer(error)
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Client {
    /// Connects, and sees that it is a daemon of this kind that answers.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        Self::shake_hands(socket).map_err(|failure| match failure {
            Failure::Answer(error) if error.kind() == ErrorKind::WouldBlock => silent().into(),
            other => other,
        })
    }

    fn shake_hands(socket: &Path) -> Result<Self, Failure> {
        let stream = connect(socket)?;
        stream.set_read_timeout(Some(HANDSHAKE))?;
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(CONNECT.as_bytes())?;
        let mut first = None;
        loop {
            let mut line = String::new();
            stream.by_ref().take(LINE).read_line(&mut line)?;
            let line = line
                .strip_suffix('\n')
                .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?
                .trim_end();
            match &first {
                None if line != CONNECTED => {
                    let why = format!("it answers {line:?}");
                    return Err(io::Error::new(ErrorKind::InvalidData, why).into());
                }
                Some(()) if line.is_empty() => {
                    return Ok(Self { stream, socket: socket.to_owned() });
                }
                _ => first = Some(()),
            }
        }
    }

    /// Calls a method with one struct, and returns what it answers.
    pub fn call(mut self, method: &str, of: &Type, args: &Value) -> Result<Value, Failure> {
        let request = Value::Struct(vec![
            ("ServiceMethod".to_owned(), Value::String(method.to_owned())),
            ("Seq".to_owned(), Value::Uint(1)),
        ]);
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        encoder.encode(&mut out, &REQUEST, &request)?;
        encoder.encode(&mut out, of, args)?;
        self.stream.get_mut().write_all(&out)?;
        self.stream.get_mut().set_read_timeout(Some(LOOK))?;
        let mut answers = Decoder::new(self);
        let head = answers.decode()?;
        let said = head.text("Error");
        if !said.is_empty() {
            return Err(Failure::Said(said.to_owned()));
        }
        Ok(answers.decode()?)
    }
}

impl Failure {
    /// Whether the daemon does not know what is asked of it: it is the reference's, or an older one.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Said(why) if why.starts_with(UNKNOWN))
    }

    /// What [`is_unknown`](Self::is_unknown) tells the other side.
    pub fn unknown(method: &str) -> String {
        format!("{UNKNOWN}method {method}")
    }
}

/// An answer is waited for as long as the daemon answers others.
impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(failure) = Self::connect(&self.socket) {
                        return Err(match failure {
                            Failure::Nobody(error) | Failure::Answer(error) => error,
                            Failure::Said(why) => io::Error::other(why),
                        });
                    }
                }
                done => return done,
            }
        }
    }
}

fn silent() -> io::Error {
    let why = format!("it does not answer within {} s", HANDSHAKE.as_secs());
    io::Error::new(ErrorKind::TimedOut, why)
}

/// Connects, and waits no longer than for an answer where the queue of those who want to is full, as that of a daemon that hangs.
fn connect(path: &Path) -> Result<UnixStream, Failure> {
    let address = UnixAddr::new(path).map_err(|errno| Failure::Nobody(errno.into()))?;
    let own: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(io::Error::from)?;
    let limit = TimeVal::new(HANDSHAKE.as_secs().cast_signed(), 0);
    setsockopt(&own, SendTimeout, &limit).map_err(io::Error::from)?;
    match connect_to(own.as_raw_fd(), &address) {
        Ok(()) => Ok(own.into()),
        Err(Errno::EAGAIN) => Err(silent().into()),
        Err(errno) => Err(Failure::Nobody(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dhcp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let says = |failure| match failure {
            Failure::Answer(error) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let told = says(Client::connect(&path).unwrap_err());
        assert_eq!(told, "it does not answer within 5 s");
        // Its queue is full.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = connect(&path) {
            queue.push(stream);
        }
        assert_eq!(says(Client::connect(&path).unwrap_err()), "it does not answer within 5 s");
    }
}
