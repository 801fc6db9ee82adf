//! A DHCP client: has a server lease an address for a container's interface, keeps the lease and gives it back.
//!
//! What is said to servers and what their answers mean is a state machine that knows neither sockets nor clocks
//! ([`v4::Machine`], [`v6::Machine`]); what carries it out is a few lines over a packet socket ([`Link`]), or one of UDP for
//! IPv6. Who keeps a lease calls [`v4::acquire`], and from then on [`v4::extend`] when the lease's times have come;
//! [`v4::confirm`] after a restart, and [`v4::release`] at the end. With [`v6`] it is the same.

mod backoff;
mod extension;
mod family;
mod lease;
mod link;
pub mod options;
mod passed_over;
pub mod random;
mod result;
mod step;
mod suppress;
mod text;
pub mod v4;
pub mod v6;

use std::{io, time::Duration};

pub use backoff::vary;
pub use extension::Extension;
pub use family::Family;
pub use lease::Lease;
pub use link::{Link, Socket, payload};
pub use random::Random;
pub use result::result;
pub use step::Step;
pub use suppress::Suppress;

use crate::net::Mac;

/// The longest text of a client identifier: an option has 255 bytes, and the first says of which kind it is.
const CLIENT_ID: usize = 254;

/// What all messages of one attachment say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The hardware address of the container's interface.
    pub mac: Mac,
    /// By what servers tell one client from another ([`client_id`]).
    pub client_id: Vec<u8>,
    /// The numbers of the options that servers are asked for ([`options::requests`]).
    pub requests: Vec<u8>,
    /// Options that servers are told, by number ([`options::provides`]). They go before what the client says by itself.
    pub provides: Vec<(u8, Vec<u8>)>,
    /// Whether servers shall broadcast their answers: where several interfaces have one hardware address (ipvlan), what is
    /// sent to it need not arrive here before the interface has an IP address.
    pub broadcast: bool,
}

/// The client identifier that the reference plugin's daemon makes: servers know an attachment by it, whoever keeps its lease.
pub fn client_id(container_id: &str, network: &str, ifname: &str) -> Vec<u8> {
    let text = format!("{container_id}/{network}/{ifname}");
    // No kind of hardware address, but a name (RFC 2132, 9.14).
    [0].into_iter().chain(text.bytes().take(CLIENT_ID)).collect()
}

/// How long servers are waited for. The defaults are those of the reference plugin's daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For one answer: what was offered is to be confirmed within this time, or all begins anew (its `-timeout`, 10 s).
    pub answer: Duration,
    /// At most until a message is repeated (its `-resendmax`, 62 s).
    pub pause: Duration,
    /// For a lease, with all repetitions (its `-resendtimeout`, 208 s).
    pub all: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(10), pause: seconds(62), all: seconds(208) }
    }
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A server says no (DHCPNAK, or a status of DHCPv6): the address is not, or no longer, this client's.
    #[error("a DHCP server refuses the lease: {0}")]
    Refused(String),
    /// Servers answered, but with nothing that can be used: what was wrong with the last answer.
    #[error("a DHCP server answers, but not with a lease that can be used: {0}")]
    Unusable(String),
    /// No server answered in time.
    #[error(
        "no DHCP server answers: see that one serves the network of this interface, and that nothing on the way drops \
         UDP to the ports 67 and 68, or 546 and 547 of IPv6"
    )]
    Silence,
    /// Sending or receiving failed.
    #[error("the interface that DHCP is spoken on: {0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_the_references() {
        assert_eq!(client_id("c1", "net", "eth0"), b"\0c1/net/eth0");
        let long = client_id(&"c".repeat(300), "net", "eth0");
        assert_eq!((long.len(), long[0], long[254]), (255, 0, b'c'));
    }
}
