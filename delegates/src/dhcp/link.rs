//! The socket that DHCP is spoken over: below IP, since the interface has no address yet.

mod address;
mod filter;
mod frame;
#[cfg(test)]
mod tests;

pub use frame::payload;

use std::{
    io::{self, ErrorKind},
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::{
    libc,
    net::if_::if_nametoindex,
    sys::socket::{LinkAddr, MsgFlags, bind, recvfrom, sendto},
};
use socket2::{Domain, Type};
use tokio::{io::unix::AsyncFd, runtime::Handle};

use crate::net::Mac;

/// Everybody on the link.
pub(super) const EVERYBODY: Mac = Mac([0xff; 6]);
/// The longest packet that is read: what is longer than that is no answer to a client that takes
/// [`MAX_MESSAGE`](super::v4::MAX_MESSAGE) bytes.
const LONGEST: usize = 4096;

/// A packet socket on one interface, open and in no runtime yet.
///
/// It gets IPv4 packets of UDP that are for this host and the DHCP client's port, and none that belong to a VLAN.
#[derive(Debug)]
pub struct Socket {
    /// There until this is dropped.
    socket: Option<socket2::Socket>,
    index: u32,
    mac: Mac,
}

impl Socket {
    /// Opens the socket on an interface of the calling thread's network namespace. Afterwards it may be used in any thread.
    ///
    /// Errors: there is no such interface (ENODEV), it is none of Ethernet (`Unsupported`), or the kernel's.
    pub fn open(ifname: &str) -> io::Result<Self> {
        let index = if_nametoindex(ifname)?;
        let kind = Type::DGRAM.nonblocking().cloexec();
        // Without a protocol nothing arrives before it is bound, so nothing has passed by the filter.
        let socket = socket2::Socket::new(Domain::PACKET, kind, None)?;
        socket.attach_filter(&filter::ANSWERS)?;
        bind(socket.as_raw_fd(), &address::of(index, None)?)?;
        let own = address::own(&socket)?;
        match own.addr() {
            Some(mac) if own.halen() == 6 && own.hatype() == libc::ARPHRD_ETHER => {
                Ok(Self { socket: Some(socket), index, mac: Mac(mac) })
            }
            _ => {
                let why = format!("{ifname} is no Ethernet interface: DHCP wants one");
                Err(io::Error::new(ErrorKind::Unsupported, why))
            }
        }
    }

    /// The interface's hardware address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    fn inner(&self) -> &socket2::Socket {
        self.socket.as_ref().expect("it is there until this is dropped")
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner().as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner().as_fd()
    }
}

impl Drop for Socket {
    /// The kernel closes a packet socket when nobody can be using it any more, which takes it 10 ms (`synchronize_net` of
    /// net/packet/af_packet.c). Neither a runtime's other work nor who asked for a lease is to wait for that.
    fn drop(&mut self) {
        if let (Some(socket), Ok(runtime)) = (self.socket.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(socket));
        }
    }
}

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Link(AsyncFd<Socket>);

/// A message of a server.
#[derive(Debug)]
pub(super) struct Datagram {
    /// The payload of UDP.
    pub payload: Vec<u8>,
    /// Who sent the frame: the server, or the relay or router between.
    pub from: Mac,
}

impl Link {
    /// Opens a socket on an interface of the calling thread's network namespace; within a tokio runtime.
    pub fn open(ifname: &str) -> io::Result<Self> {
        Self::new(Socket::open(ifname)?)
    }

    /// Makes a socket usable by the runtime within which this is called.
    #[allow(unsafe_code, reason = "tokio wants to be sure that a socket stays what it is")]
    pub fn new(socket: Socket) -> io::Result<Self> {
        // SAFETY: the socket owns its descriptor, which is neither handed out nor replaced before it is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket)? }))
    }

    /// The interface's hardware address.
    pub fn mac(&self) -> Mac {
        self.0.get_ref().mac
    }

    /// Sends the payload of a UDP packet from the client's to the server's port, in a frame to `mac`.
    pub(super) async fn send(
        &self,
        payload: &[u8],
        from: Ipv4Addr,
        to: Ipv4Addr,
        mac: Mac,
    ) -> io::Result<()> {
        let packet = frame::wrap(from, to, payload)?;
        let address = address::of(self.0.get_ref().index, Some(mac))?;
        loop {
            let mut ready = self.0.writable().await?;
            let sent = ready.try_io(|socket| {
                Ok(sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty())?)
            });
            if let Ok(sent) = sent {
                return sent.map(drop);
            }
        }
    }

    /// The next message of a server.
    pub(super) async fn receive(&self) -> io::Result<Datagram> {
        let mut buffer = [0; LONGEST];
        loop {
            let mut ready = self.0.readable().await?;
            let received =
                ready.try_io(|socket| Ok(recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?));
            let Ok(received) = received else { continue };
            let (length, from) = received?;
            let packet = buffer.get(..length).and_then(payload);
            let from = from.and_then(|from| from.addr()).map(Mac);
            if let (Some(payload), Some(from)) = (packet, from) {
                return Ok(Datagram { payload: payload.to_vec(), from });
            }
            // Whoever floods the link with what is no answer shall not have the thread for himself.
            tokio::task::yield_now().await;
        }
    }
}
