//! The socket that DHCPv6 is spoken over: UDP, from the address that the interface has by itself.

use std::{
    io::{self, ErrorKind},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use dhcproto::v6::{CLIENT_PORT, SERVER_PORT};
use nix::{errno::Errno, net::if_::if_nametoindex};
use socket2::{Domain, Protocol, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep},
};

/// All servers and relays of a link (RFC 8415, 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// How long an interface may take to have an address of its own: the kernel asks whether nobody else has it, for a second or
/// two after it is up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// The longest message that is read.
const LONGEST: usize = 4096;

/// A socket in the namespace of an interface, not bound yet.
#[derive(Debug)]
pub struct Socket {
    socket: socket2::Socket,
    /// What shows which address the interface has.
    probe: socket2::Socket,
    index: u32,
}

impl Socket {
    /// Opens the socket for an interface of the calling thread's network namespace. Afterwards it may be used in any thread.
    pub fn open(ifname: &str) -> io::Result<Self> {
        let index = if_nametoindex(ifname)?;
        let socket = || {
            let kind = Type::DGRAM.nonblocking().cloexec();
            socket2::Socket::new(Domain::IPV6, kind, Some(Protocol::UDP))
        };
        let opened = Self { socket: socket()?, probe: socket()?, index };
        opened.socket.set_only_v6(true)?;
        Ok(opened)
    }

    fn servers(&self) -> SocketAddr {
        SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index).into()
    }

    /// The address that the interface speaks to its link from. Connecting sends nothing.
    fn own(&self) -> io::Result<SocketAddrV6> {
        self.probe.connect(&self.servers().into())?;
        let own = self.probe.local_addr()?.as_socket_ipv6();
        own.ok_or_else(|| ErrorKind::AddrNotAvailable.into())
    }

    /// The same, once it may be used.
    async fn usable(&self) -> io::Result<SocketAddrV6> {
        let late = Instant::now() + PATIENCE;
        loop {
            match self.own() {
                Ok(own) => return Ok(own),
                Err(error) if Instant::now() < late && is_early(&error) => sleep(LOOK).await,
                Err(error) => {
                    let why = format!("it has no link-local address to speak DHCPv6 from: {error}");
                    return Err(io::Error::new(error.kind(), why));
                }
            }
        }
    }
}

/// Whether it may be that the address is not there yet.
fn is_early(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::ENETUNREACH | Errno::EHOSTUNREACH))
}

/// A socket on one interface.
#[derive(Debug)]
pub struct Link {
    socket: UdpSocket,
    servers: SocketAddr,
}

impl Link {
    /// Makes a socket usable by the runtime within which this is called, as soon as its interface has an address.
    ///
    /// Errors: it has none within ten seconds, or somebody in the namespace speaks DHCPv6 there already.
    pub async fn new(socket: Socket) -> io::Result<Self> {
        let own = socket.usable().await?;
        let own = SocketAddrV6::new(*own.ip(), CLIENT_PORT, 0, socket.index);
        socket.socket.bind(&SocketAddr::from(own).into())?;
        let servers = socket.servers();
        Ok(Self { socket: UdpSocket::from_std(socket.socket.into())?, servers })
    }

    /// Sends a message to all servers and relays of the link.
    pub(super) async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, self.servers).await.map(drop)
    }

    /// The next message.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; LONGEST];
        let (length, _) = self.socket.recv_from(&mut buffer).await?;
        buffer.truncate(length);
        Ok(buffer)
    }
}
