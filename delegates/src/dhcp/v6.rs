//! DHCP for IPv6 (RFC 8415), as far as it leases addresses: one of an IA_NA.

mod answer;
mod lease;
mod link;
mod machine;
mod message;
mod options;

use std::{
    future::{Future, ready},
    net::Ipv6Addr,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

pub use lease::{Lease, result};
pub use link::{Link, Socket};
pub use machine::{Machine, Retransmission};

use super::{Extension, Failure, Step, Timing, random};

/// What all messages of one attachment say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// By what servers tell one client from another: a DUID.
    pub duid: Vec<u8>,
    /// By what they tell its associations: an IAID.
    pub iaid: u32,
}

impl Client {
    /// The client of an attachment, by the identifier that it has for IPv4 ([`client_id`](super::client_id)). It is the same
    /// whenever it is asked for, so that a restart loses no lease.
    pub fn new(client_id: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(client_id).into();
        let [mut uuid, rest]: [[u8; 16]; 2] =
            [0, 16].map(|at| std::array::from_fn(|i| digest[at + i]));
        // Of a kind of its own (RFC 9562, 5.8).
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        let [a, b, c, d, ..] = rest;
        // A DUID that is a UUID (RFC 6355).
        Self { duid: [&[0, 4], &uuid[..]].concat(), iaid: u32::from_be_bytes([a, b, c, d]) }
    }
}

/// Gets a lease; with luck that of the address that was wanted.
///
/// It takes a second at least, in which all servers can say what they have (RFC 8415, 18.2.1). `requesting` is shown what is about to
/// be requested, as with [`v4::acquire`](super::v4::acquire).
pub async fn acquire<F: Future<Output = ()>>(
    link: &Link,
    client: &Client,
    timing: Timing,
    wanted: Option<Ipv6Addr>,
    requesting: impl FnMut(Lease) -> F,
) -> Result<Lease, Failure> {
    run(link, Machine::acquire(client, timing, wanted, random::of_kernel()), requesting).await
}

/// Asks whether a lease from before a restart still holds, within the time for one answer.
///
/// It is asked by RENEW: CONFIRM would only say whether the address is one of this link.
pub async fn confirm(
    link: &Link,
    client: &Client,
    lease: &Lease,
    timing: Timing,
) -> Result<Lease, Failure> {
    run(link, Machine::confirm(client, lease, timing, random::of_kernel()), |_| ready(())).await
}

/// Asks for more time on a lease, once.
pub async fn extend(
    link: &Link,
    client: &Client,
    lease: &Lease,
    extension: Extension,
) -> Result<Lease, Failure> {
    run(link, Machine::extend(client, lease, extension), |_| ready(())).await
}

/// Gives a lease back, and waits until the server has heard it, within the time for one answer. It is told where another host has
/// taken the address (RFC 8415, 18.2.8), so that it leases it to nobody.
///
/// The link may be any from which servers are reached: once the container's namespace is gone, the bridge that the container
/// was on.
pub async fn release(
    link: &Link,
    client: &Client,
    lease: &Lease,
    is_taken: bool,
    timing: Timing,
) -> Result<(), Failure> {
    let machine = Machine::release(client, lease, is_taken, timing, random::of_kernel());
    run(link, machine, |_| ready(())).await.map(drop)
}

async fn run<F: Future<Output = ()>>(
    link: &Link,
    mut machine: Machine<'_>,
    mut requesting: impl FnMut(Lease) -> F,
) -> Result<Lease, Failure> {
    let begun = Instant::now();
    let mut shown = None;
    let mut step = machine.woken(Duration::ZERO);
    loop {
        let until = match step {
            Step::Send(message, until) => {
                if let Some(offer) = machine.requested()
                    && shown.as_ref() != Some(offer)
                {
                    requesting(offer.clone()).await;
                    shown = Some(offer.clone());
                }
                link.send(&message).await?;
                until
            }
            Step::Wait(until) => until,
            Step::Done(lease) => return Ok(lease),
            Step::Failed(failure) => return Err(failure),
        };
        step = tokio::select! {
            // A flood of packets must not keep the time from passing.
            biased;
            () = sleep_until(begun + until) => machine.woken(begun.elapsed().max(until)),
            received = link.receive() => machine.received(&received?, begun.elapsed()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_whenever_it_is_asked_for_and_no_other() {
        let client = Client::new(b"\0c1/net/eth0");
        assert_eq!(client, Client::new(b"\0c1/net/eth0"));
        assert_eq!((client.duid.len(), &client.duid[..2]), (18, &[0, 4][..]));
        assert_eq!((client.duid[8] >> 4, client.duid[10] >> 6), (8, 2));
        let other = Client::new(b"\0c1/net/eth1");
        assert!(client.duid != other.duid && client.iaid != other.iaid);
    }
}
