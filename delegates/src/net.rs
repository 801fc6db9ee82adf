//! The kernel's network configuration, read and written in the words of `ip` and `tc`.
//!
//! A [`Net`] is a route netlink socket in one network namespace. Its calls block: a run of a chain is one thread.

pub mod addr;
pub mod conntrack;
mod error;
pub mod link;
mod mac;
mod message;
pub mod neigh;
pub mod netns;
pub mod route;
mod socket;
pub mod sysctl;
pub mod tc;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

pub use error::{NetError, Refusal, Result};
pub use mac::Mac;
pub use netns::Netns;
pub use sysctl::Sysctl;

use message::RouteMessage;
use socket::Socket;

/// A route netlink socket in one network namespace.
///
/// It goes on working outside the namespace it was opened in, and keeps that namespace and its devices alive: drop it
/// as soon as it has served.
pub struct Net {
    socket: Socket<RouteMessage>,
    place: String,
}

impl Net {
    /// A socket in the caller's namespace, which messages call `place`.
    pub(crate) fn here(place: String) -> Result<Self> {
        // Makes the kernel honour the filters of a listing instead of passing over them.
        let strict = |socket: &netlink_sys::Socket| socket.set_netlink_get_strict_chk(true);
        let socket = Socket::open(NETLINK_ROUTE, strict).map_err(NetError::Socket)?;
        Ok(Self { socket, place })
    }

    /// Where this is, for messages: "the host" or the namespace's path.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// `ip neigh` and `bridge fdb`.
    pub fn neigh(&self) -> neigh::Neighbours<'_> {
        neigh::Neighbours(self)
    }

    /// `ip link`.
    pub fn link(&self) -> link::Links<'_> {
        link::Links(self)
    }

    /// `ip address`.
    pub fn addr(&self) -> addr::Addresses<'_> {
        addr::Addresses(self)
    }

    /// `ip route`.
    pub fn route(&self) -> route::Routes<'_> {
        route::Routes(self)
    }

    /// `tc`.
    pub fn tc(&self) -> tc::Tc<'_> {
        tc::Tc(self)
    }

    /// Sends one request and returns the kernel's answers to it; `flags` beyond `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub(crate) fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.socket.request(RouteMessage(message), flags).map(within)
    }

    /// Asks for one object: its answer is all that comes.
    pub(crate) fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.socket.request(RouteMessage(message), NLM_F_REQUEST).map(within)
    }

    /// Lists objects; repeated where the listing was interrupted by a change. Only for what is small: the kernel is
    /// given a filter wherever it takes one.
    pub(crate) fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.socket.dump(RouteMessage(message)).map(within)
    }

    /// Makes several changes, in their order and sent at once: the kernel's own workers, which wait for the lock that each change
    /// takes, do not get between them. The first that is refused is the error; those after it may have been made.
    pub(crate) fn change(&self, changes: Vec<Wanted>) -> Result<()> {
        let mut about = Vec::with_capacity(changes.len());
        let mut requests = Vec::with_capacity(changes.len());
        for Wanted { message, flags, doing, fine } in changes {
            requests.push((RouteMessage(message), NLM_F_REQUEST | NLM_F_ACK | flags));
            about.push((doing, fine));
        }
        if requests.is_empty() {
            return Ok(());
        }
        let outcomes = match self.socket.requests(requests) {
            Ok(outcomes) => outcomes,
            Err(refusal) => return Err(refusal.on(about.swap_remove(0).0)),
        };
        for (outcome, (doing, fine)) in outcomes.into_iter().zip(about) {
            match outcome {
                Err(refusal) if Some(refusal.errno) != fine => return Err(refusal.on(doing)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A change that is asked of the kernel.
pub(crate) struct Wanted {
    message: RouteNetlinkMessage,
    /// Beyond `NLM_F_REQUEST` and `NLM_F_ACK`.
    flags: u16,
    /// What a failure failed to do.
    doing: String,
    /// The refusal that is as good as success.
    fine: Option<Errno>,
}

/// What the kernel said.
fn within(messages: Vec<RouteMessage>) -> Vec<RouteNetlinkMessage> {
    messages.into_iter().map(|RouteMessage(message)| message).collect()
}
