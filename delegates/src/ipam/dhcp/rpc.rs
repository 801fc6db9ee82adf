//! Calls of the DHCP daemon, as the reference plugin makes them: Go's `net/rpc` over HTTP's CONNECT, on a unix socket.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
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
/// How long the daemon may take. The reference's tries for 208 s to get a lease.
const LIMIT: Duration = Duration::from_secs(240);

/// The method of ADD and CHECK: a lease.
pub const ALLOCATE: &str = "DHCP.Allocate";
/// The method of DEL: the lease is given back.
pub const RELEASE: &str = "DHCP.Release";

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
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects, and sees that it is a daemon of this kind that answers.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(Failure::Nobody)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
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
                Some(()) if line.is_empty() => return Ok(Self(stream)),
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
        self.0.get_mut().write_all(&out)?;
        let mut answers = Decoder::new(&mut self.0);
        let head = answers.decode()?;
        let said = head.text("Error");
        if !said.is_empty() {
            return Err(Failure::Said(said.to_owned()));
        }
        Ok(answers.decode()?)
    }
}
