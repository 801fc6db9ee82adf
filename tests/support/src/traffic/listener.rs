//! A thread that serves in a namespace until its handle is dropped.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::{Netns, enter_path};

/// Who has come, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(Arc<Mutex<Vec<SocketAddr>>>);

impl Peers {
    pub(super) fn push(&self, peer: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
    }

    pub(super) fn list(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A serving thread; dropping it closes its socket (which would keep the namespace alive).
#[derive(Debug)]
pub(super) struct Service {
    /// Closing this end is the sign to stop.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Binds a socket in `netns` by `bind`, then calls `serve` each time it has something to be
    /// read. When this returns the socket is bound, so clients need not wait.
    pub(super) fn start<S, B, F>(netns: &Netns, what: String, bind: B, serve: F) -> Self
    where
        S: AsFd,
        B: FnOnce() -> io::Result<S> + Send + 'static,
        F: Fn(&S) + Send + 'static,
    {
        let (stop, stopped) =
            UnixStream::pair().unwrap_or_else(|e| panic!("a socket pair for {what}: {e}"));
        let (bound, is_bound) = mpsc::channel();
        let path: PathBuf = netns.path().to_owned();
        let thread = thread::spawn(move || {
            enter_path(&path);
            let socket = match bind() {
                Ok(socket) => socket,
                Err(e) => return bound.send(Err(e)).unwrap_or_default(),
            };
            bound.send(Ok(())).unwrap_or_default();
            while wait_readable(&socket, &stopped) {
                serve(&socket);
            }
        });
        match is_bound.recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => panic!("{what} in {}: {e}", netns.name()),
            Err(_) => panic!("{what} in {}: its thread panicked", netns.name()),
        }
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

/// Waits until `socket` is readable; `false` once the other end of `stopped` is closed.
fn wait_readable(socket: &impl AsFd, stopped: &UnixStream) -> bool {
    loop {
        let mut fds = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[1].any().unwrap_or(true) => return false,
            Ok(_) if fds[0].any().unwrap_or(true) => return true,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// All addresses of both families.
pub(super) fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// An IPv4 peer of a socket of both families as IPv4.
pub(super) fn plain(peer: SocketAddr) -> SocketAddr {
    let ip: IpAddr = peer.ip().to_canonical();
    SocketAddr::new(ip, peer.port())
}
