//! The plugin's side.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chain::{Dirs, Environment, Record, Records, Result, Verb, Version};
use nix::{
    fcntl::OFlag,
    sys::{
        socket::{
            AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect,
            sendmsg, setsockopt, socket,
            sockopt::{ReceiveTimeout, SendTimeout},
        },
        time::TimeVal,
    },
};

use super::{Answer, NodeId, PROTOCOL, Request, SOCKET, lock, sweep};
use crate::{
    plugin::{Invocation, Served},
    wiring,
};

/// The variable that sets how long a daemon may be silent before the plugin goes on without it, in seconds (default 10).
pub const DAEMON_TIMEOUT: &str = "CATENA_DAEMON_TIMEOUT";

const DEFAULT_SILENCE: Duration = Duration::from_secs(10);

/// Serves a call: by the node's daemon where there is one, else here.
pub fn serve(invocation: &Invocation) -> Served {
    try_serve(invocation).unwrap_or_else(|error| Served::failed(&error, invocation.version()))
}

fn try_serve(invocation: &Invocation) -> Result<Served> {
    // VERSION asks the binary that was called.
    if invocation.verb == Verb::Version {
        return Ok(invocation.serve(None));
    }
    let began = SystemTime::now();
    let dirs = wiring::dirs()?;
    let silence = wiring::seconds(DAEMON_TIMEOUT, 10)?.unwrap_or(DEFAULT_SILENCE);
    let step = tracing::debug_span!("hand over").entered();
    let handed_over = told(invocation).and_then(|(env, stdin)| {
        // Before all that costs more: on most nodes there is none.
        let stream = dial(&dirs.run.join(SOCKET), silence)?;
        let request = Request {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kind: invocation.kind.to_owned(),
            env,
            stdin,
            node: NodeId::own(&dirs),
        };
        Ok((send(&stream, &request, netns(invocation).as_ref()), stream))
    });
    let (sent, mut stream) = match handed_over {
        Ok(handed_over) => handed_over,
        Err(error) => {
            drop(step);
            tracing::debug!(%error, "without the daemon");
            let served = invocation.serve(None);
            if invocation.verb == Verb::Del {
                sweep(&invocation.environment, &dirs);
            }
            return Ok(served);
        }
    };
    let mut received = Vec::new();
    let ended = sent.and_then(|()| stream.read_to_end(&mut received));
    drop(step);
    match answer(&received) {
        Some(Answer::Served(served)) => return Ok(served),
        Some(Answer::Refused(why)) => {
            tracing::debug!(why, "the daemon does not take the call");
            return Ok(invocation.serve(None));
        }
        None => {}
    }
    let why = match ended {
        Ok(_) => "it has ended, or its answer cannot be understood".to_owned(),
        Err(error) if is_timeout(&error) => format!("silent for {} s", silence.as_secs_f64()),
        Err(error) => error.to_string(),
    };
    tracing::warn!(why, "no answer from the daemon");
    // It may be at it all the same, and has the lock then.
    let lock = lock(&invocation.environment, &dirs)?;
    if stream.set_nonblocking(true).is_ok() {
        // What there is is read; the error says that there is no more.
        let _ = stream.read_to_end(&mut received);
    }
    drop(stream);
    let served = match answer(&received) {
        Some(Answer::Served(served)) => served,
        _ => {
            undo_since(began, invocation, &dirs)?;
            invocation.serve(None)
        }
    };
    if let Some(lock) = lock {
        lock.remove();
    }
    Ok(served)
}

/// Takes away what a daemon has added for this very call that was killed before it said so: the call is done anew, and an ADD
/// refuses what is there. What was there before is left to it.
fn undo_since(began: SystemTime, invocation: &Invocation, dirs: &Dirs) -> Result<()> {
    if invocation.verb != Verb::Add {
        return Ok(());
    }
    let Environment { container_id, ifname, .. } = &invocation.environment;
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let records = Records::open(dirs).of_container(container_id)?;
    let is_of_this_call =
        |record: &Record| record.complete && record.ifname == *ifname && record.created >= began;
    if records.iter().any(is_of_this_call) {
        tracing::warn!("the daemon was killed when all was done; that is undone, and done anew");
        let undone = Invocation {
            kind: invocation.kind,
            verb: Verb::Del,
            environment: invocation.environment.clone(),
            stdin: invocation.stdin.clone(),
        }
        .serve(None);
        if !undone.ok {
            tracing::error!("it could not be undone: {}", undone.stdout);
        }
    }
    Ok(())
}

/// What a request tells of a call, its variables and its configuration. It fails where the call is one for this very process.
fn told(invocation: &Invocation) -> io::Result<(BTreeMap<String, String>, String)> {
    // The delegates look at it in their own environment.
    if env::var_os("CNI_NETNS_OVERRIDE").is_some() {
        return Err(io::Error::other("CNI_NETNS_OVERRIDE is set, which counts for this process"));
    }
    let stdin = String::from_utf8(invocation.stdin.clone()).map_err(io::Error::other)?;
    let variables = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("CNI_"))?;
        Some((name, value))
    });
    let env = variables
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(io::Error::other(format!("{name} is not UTF-8"))),
        })
        .collect::<io::Result<_>>()?;
    Ok((env, stdin))
}

/// The container's namespace, which goes with the request.
fn netns(invocation: &Invocation) -> Option<File> {
    let path = invocation.environment.netns.as_deref()?;
    File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()
}

/// Connects, with a limit for each step from here on: a daemon that hangs lets its backlog fill up.
fn dial(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let named = |errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(named)?;
    let limit =
        TimeVal::new(limit.as_secs().try_into().unwrap_or(i64::MAX), limit.subsec_micros().into());
    setsockopt(&fd, SendTimeout, &limit).map_err(named)?;
    setsockopt(&fd, ReceiveTimeout, &limit).map_err(named)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path).map_err(named)?).map_err(named)?;
    Ok(fd.into())
}

fn send(mut stream: &UnixStream, request: &Request, netns: Option<&File>) -> io::Result<()> {
    let bytes = serde_json::to_vec(request)?;
    let fds: Vec<_> = netns.iter().map(|netns| netns.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let sent = sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    stream.write_all(&bytes[sent..])?;
    stream.shutdown(Shutdown::Write)
}

/// The answer, if all of it is there.
fn answer(received: &[u8]) -> Option<Answer> {
    serde_json::from_slice(received).ok()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Invocation {
    /// The version that an error of this call is told in.
    fn version(&self) -> Version {
        crate::plugin::version_of(&self.stdin).unwrap_or(Version::LATEST)
    }
}
