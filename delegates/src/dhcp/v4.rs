//! DHCP for IPv4 (RFC 2131).

mod answer;
#[cfg(test)]
mod fake;
mod machine;
mod message;

use std::{
    future::{Future, ready},
    io,
    net::Ipv4Addr,
    time::Duration,
};

use dhcproto::v4::SERVER_PORT;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

pub use answer::MAX_MESSAGE;
pub use machine::Machine;
pub use message::Outgoing;

use super::{Client, Extension, Failure, Lease, Link, Step, Timing, random, result::unreachable};

/// Who is asked to extend a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Its server alone (RENEWING, from T1 on).
    Server,
    /// Any server (REBINDING, from T2 on).
    All,
}

/// Gets a lease; with luck that of the address that was wanted.
///
/// What a server offers is shown to `requesting` before it is requested: from then on the server may count it as leased,
/// whether its answer is heard or not.
pub async fn acquire<F: Future<Output = ()>>(
    link: &Link,
    client: &Client,
    timing: Timing,
    wanted: Option<Ipv4Addr>,
    requesting: impl FnMut(Lease) -> F,
) -> Result<Lease, Failure> {
    let machine = Machine::acquire(client, timing, wanted, random::of_kernel());
    let lease = run(link, machine, requesting).await?;
    for (to, router) in unreachable(&lease) {
        tracing::warn!(
            "DHCP: nothing leads {} to the router {router}: the server's route to {to} is left out",
            lease.address
        );
    }
    Ok(lease)
}

/// Asks whether a lease from before a restart still holds (INIT-REBOOT), within the time for one answer.
///
/// Where no server answers ([`Failure::Silence`]) it may be used until it ends. One that is refused may not.
pub async fn confirm(
    link: &Link,
    client: &Client,
    lease: &Lease,
    timing: Timing,
) -> Result<Lease, Failure> {
    run(link, Machine::confirm(client, lease, timing, random::of_kernel()), |_| ready(())).await
}

/// Asks for more time on a lease, once.
///
/// The lease that comes back may differ in everything but the client, its address included.
pub async fn extend(
    link: &Link,
    client: &Client,
    lease: &Lease,
    extension: Extension,
) -> Result<Lease, Failure> {
    run(link, Machine::extend(client, lease, extension), |_| ready(())).await
}

/// Gives a lease back. Nobody answers that.
///
/// The link may be any from which frames reach the server: once the container's namespace is gone, the bridge that the
/// container was on.
pub async fn release(link: &Link, client: &Client, lease: &Lease) -> io::Result<()> {
    let xid = random::of_kernel()();
    send(link, &message::release(client, lease, xid)).await
}

/// The same by an ordinary UDP packet of this host's, for where no link of it leads to the container's network, or none does to the
/// server, since that is this host: as good as its routes to the server are.
pub async fn release_by_routes(client: &Client, lease: &Lease) -> io::Result<()> {
    let xid = random::of_kernel()();
    let message = message::release(client, lease, xid);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.send_to(&message.payload, (lease.server, SERVER_PORT)).await.map(drop)
}

/// Whether an address is one of this host's, as far as its routes say. Nothing is sent.
pub fn is_own(address: Ipv4Addr) -> bool {
    let source = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // The kernel speaks to an address of its own from that address.
        socket.connect((address, SERVER_PORT))?;
        socket.local_addr()
    };
    source().is_ok_and(|source| source.ip() == address)
}

async fn send(link: &Link, message: &Outgoing) -> io::Result<()> {
    link.send(&message.payload, message.from, message.to, message.mac).await
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
                send(link, &message).await?;
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
            received = link.receive() => {
                let received = received?;
                machine.received(&received.payload, received.from, begun.elapsed())
            }
        };
    }
}
