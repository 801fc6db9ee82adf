//! Datagrams and their answers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::listener::{Peers, Service, any, plain};
use crate::netns::Netns;

/// A UDP server in a namespace, on both families. It answers each datagram with a text, the
/// address that it saw the client under, and the datagram.
#[derive(Debug)]
pub struct UdpServer {
    peers: Peers,
    _service: Service,
}

impl UdpServer {
    /// Answers on `port` of all addresses of `netns`; it is bound when this returns.
    pub fn start(netns: &Netns, port: u16, text: &str) -> Self {
        Self::start_at(netns, any(port), text)
    }

    /// Answers on one address: where there are several of a family, so that the answer comes from
    /// the one that was asked.
    pub fn start_at(netns: &Netns, address: SocketAddr, text: &str) -> Self {
        assert!(!text.contains('\n'), "{text:?}: a line break ends the text in an answer");
        let peers = Peers::default();
        let (seen, text) = (peers.clone(), text.to_owned());
        let service = Service::start(
            netns,
            format!("a UDP server on {address}"),
            move || UdpSocket::bind(address),
            move |socket| {
                let mut datagram = [0; 2048];
                let Ok((length, peer)) = socket.recv_from(&mut datagram) else {
                    return;
                };
                seen.push(plain(peer));
                let mut answer = format!("{text}\n{}\n", plain(peer)).into_bytes();
                answer.extend_from_slice(&datagram[..length]);
                // Where it can't be sent the client times out and says so.
                let _ = socket.send_to(&answer, peer);
            },
        );
        Self { peers, _service: service }
    }

    /// The clients' addresses as the server saw them, one for each datagram.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.list()
    }
}

/// What a [`UdpServer`] answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpAnswer {
    /// The server's text: which server it was.
    pub text: String,
    /// The address that the server saw the client under.
    pub from: SocketAddr,
}

/// A UDP client in a namespace that keeps its port from one question to the next, as a flow in
/// the connection table does.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A client for servers with IPv4 addresses; `port` 0 takes any.
    pub fn v4(netns: &Netns, port: u16) -> Self {
        Self::bind(netns, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
    }

    /// A client for servers with IPv6 addresses; `port` 0 takes any.
    pub fn v6(netns: &Netns, port: u16) -> Self {
        Self::bind(netns, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
    }

    /// A client with an address of its own.
    pub fn bind(netns: &Netns, address: SocketAddr) -> Self {
        let socket = netns
            .enter(|| UdpSocket::bind(address))
            .unwrap_or_else(|e| panic!("a UDP client on {address} in {}: {e}", netns.name()));
        Self { socket }
    }

    /// Asks `to` until there is an answer, since a busy machine may lose a datagram.
    ///
    /// # Panics
    /// After three questions without an answer.
    #[track_caller]
    pub fn answer(&self, to: impl Into<SocketAddr>) -> UdpAnswer {
        let to = to.into();
        let answer = self.ask(to).or_else(|_| self.ask(to)).or_else(|_| self.ask(to));
        answer.unwrap_or_else(|e| panic!("three questions: {e}"))
    }

    /// Sends one datagram to `to` and waits a second for its answer from there, which is told from
    /// answers to earlier questions. One from another address is none: most clients do not see it.
    ///
    /// # Errors
    /// What the kernel says (`ConnectionRefused` does not come on an unconnected socket);
    /// `TimedOut` without an answer.
    pub fn ask(&self, to: impl Into<SocketAddr>) -> io::Result<UdpAnswer> {
        const PATIENCE: Duration = Duration::from_secs(1);
        static QUESTION: AtomicU64 = AtomicU64::new(0);
        let to = to.into();
        let number = QUESTION.fetch_add(1, Ordering::Relaxed).to_string();
        self.socket.send_to(number.as_bytes(), to)?;
        let deadline = Instant::now() + PATIENCE;
        let timed_out =
            || io::Error::new(io::ErrorKind::TimedOut, format!("{to} did not answer in 1 s"));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut datagram = [0; 4096];
            let length = match self.socket.recv_from(&mut datagram) {
                Ok((length, from)) if from == to => length,
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
                Err(e) => return Err(e),
            };
            let answer = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let mut lines = answer.splitn(3, '\n');
            let (text, from, echo) = (lines.next(), lines.next(), lines.next());
            if let (Some(text), Some(from), Some(echo)) = (text, from, echo)
                && echo == number
                && let Ok(from) = from.parse()
            {
                return Ok(UdpAnswer { text: text.to_owned(), from });
            }
        }
    }
}
