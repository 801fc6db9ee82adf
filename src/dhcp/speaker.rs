//! Who speaks with servers of either family: the exchanges that both have.

use std::{future::Future, io};

use delegates::{
    dhcp::{self, Client, Extension, Failure, Family, Link, Timing, v4, v6},
    net::Mac,
};

use super::lease::Lease;

/// A socket on an interface, in no runtime yet.
#[derive(Debug)]
pub enum Socket {
    V4(dhcp::Socket),
    V6(v6::Socket),
}

impl Socket {
    /// Opens it on an interface of the calling thread's network namespace.
    pub fn open(family: Family, ifname: &str) -> io::Result<Self> {
        Ok(match family {
            Family::V4 => Self::V4(dhcp::Socket::open(ifname)?),
            Family::V6 => Self::V6(v6::Socket::open(ifname)?),
        })
    }

    /// The hardware address that messages are sent from, where that matters to servers.
    pub fn mac(&self) -> Option<Mac> {
        match self {
            Self::V4(socket) => Some(socket.mac()),
            Self::V6(_) => None,
        }
    }
}

/// A socket, and what all messages sent by it say.
pub enum Speaker {
    V4(Link, Client),
    V6(v6::Link, v6::Client),
}

impl Speaker {
    /// As soon as the interface can be spoken on.
    pub async fn new(socket: Socket, client: Client) -> io::Result<Self> {
        Ok(match socket {
            Socket::V4(socket) => Self::V4(Link::new(socket)?, client),
            Socket::V6(socket) => {
                Self::V6(v6::Link::new(socket).await?, v6::Client::new(&client.client_id))
            }
        })
    }

    /// A new lease. What a server offers is shown to `requesting` before it is requested.
    pub async fn acquire<F: Future<Output = ()>>(
        &self,
        timing: Timing,
        mut requesting: impl FnMut(Lease) -> F,
    ) -> Result<Lease, Failure> {
        Ok(match self {
            Self::V4(link, client) => {
                let requesting = |offer| requesting(Lease::V4(offer));
                Lease::V4(v4::acquire(link, client, timing, None, requesting).await?)
            }
            Self::V6(link, client) => {
                let requesting = |offer| requesting(Lease::V6(offer));
                Lease::V6(v6::acquire(link, client, timing, None, requesting).await?)
            }
        })
    }

    /// Whether a lease from before a restart still holds.
    pub async fn confirm(&self, lease: &Lease, timing: Timing) -> Result<Lease, Failure> {
        Ok(match (self, lease) {
            (Self::V4(link, client), Lease::V4(lease)) => {
                Lease::V4(v4::confirm(link, client, lease, timing).await?)
            }
            (Self::V6(link, client), Lease::V6(lease)) => {
                Lease::V6(v6::confirm(link, client, lease, timing).await?)
            }
            _ => return Err(other_family()),
        })
    }

    /// More time for a lease.
    pub async fn extend(&self, lease: &Lease, extension: Extension) -> Result<Lease, Failure> {
        Ok(match (self, lease) {
            (Self::V4(link, client), Lease::V4(lease)) => {
                Lease::V4(v4::extend(link, client, lease, extension).await?)
            }
            (Self::V6(link, client), Lease::V6(lease)) => {
                Lease::V6(v6::extend(link, client, lease, extension).await?)
            }
            _ => return Err(other_family()),
        })
    }

    /// Gives a lease back. Of IPv6 a server says that it has heard it, and is told whether another host has taken the address.
    pub async fn release(&self, lease: &Lease, is_taken: bool) -> Result<(), Failure> {
        match (self, lease) {
            (Self::V4(link, client), Lease::V4(lease)) => {
                Ok(v4::release(link, client, lease).await?)
            }
            (Self::V6(link, client), Lease::V6(lease)) => {
                v6::release(link, client, lease, is_taken, Timing::default()).await
            }
            _ => Err(other_family()),
        }
    }
}

/// No caller does that.
fn other_family() -> Failure {
    io::Error::new(io::ErrorKind::InvalidInput, "the lease is of the other family").into()
}
