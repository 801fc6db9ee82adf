//! Giving leases back: from the container's interface, or where that is gone from the host.

use std::{io, net::IpAddr, time::Duration};

use chain::Result;
use delegates::dhcp::{Client, Failure, Family, v4};
use tokio::time::timeout;

use super::{
    carrier,
    keeper::blocking,
    lease::Lease,
    place,
    record::Record,
    speaker::{Socket, Speaker},
};

/// How long a lease may take to be given back. Of IPv6 the server's answer is waited for, and DEL waits for that.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an interface that was down may take to carry packets. Nobody answers a RELEASE, so it is not sent again: what is sent in
/// the moment after an interface was set up is lost.
const CARRIER_LIMIT: Duration = Duration::from_secs(1);

/// Gives back the leases on record. What is not given back, or what no server has heard of, ends in its time.
pub async fn give_back(record: &Record, client: Option<Client>) {
    let Some(client) = client else { return };
    tokio::join!(
        give_one_back(record, Family::V4, &client),
        give_one_back(record, Family::V6, &client)
    );
}

/// By what a lease is given back.
#[derive(Debug)]
struct Ways {
    /// A link that leads to the server, if there is one.
    socket: Option<Socket>,
    /// Whether an ordinary packet of the host's goes as well (of IPv4: DHCPv6's servers are known by no address).
    by_routes: bool,
    /// Whether another host has taken the address, as a server of IPv6 is told.
    is_taken: bool,
}

async fn give_one_back(record: &Record, family: Family, client: &Client) {
    let Some((lease, _)) = record.leases.of(family) else { return };
    let (key, address) = (&record.key, lease.address());
    let ways = match inside(record, family).await {
        Ok(Some(socket)) => {
            let is_taken = family == Family::V6 && is_taken(record, address).await;
            Ways { socket: Some(socket), by_routes: false, is_taken }
        }
        Ok(None) => from_host(record, &lease).await,
        Err(error) => {
            tracing::debug!("{key}: {address} is given back from the host: {error}");
            from_host(record, &lease).await
        }
    };
    let is_taken = ways.is_taken;
    match timeout(PATIENCE, send(ways, client, &lease)).await.unwrap_or(Err(Failure::Silence)) {
        Ok(()) if is_taken => {
            tracing::warn!("{key}: another host has {address}, as the server knows now")
        }
        Ok(()) => tracing::info!("{key}: {address} is given back"),
        Err(error) => {
            tracing::warn!("{key}: {address} is not given back, and ends in its time: {error}");
        }
    }
}

async fn send(ways: Ways, client: &Client, lease: &Lease) -> std::result::Result<(), Failure> {
    let routed = match lease {
        Lease::V4(lease) if ways.by_routes => v4::release_by_routes(client, lease).await,
        _ if ways.socket.is_some() => Ok(()),
        _ => Err(io::Error::other("none on this host leads to the container's network")),
    };
    if let Some(socket) = ways.socket {
        Speaker::new(socket, client.clone()).await?.release(lease, ways.is_taken).await?;
    }
    Ok(routed?)
}

/// A socket on the container's interface; `None` where that is gone. One that is up and has no carrier is not waited for: it may
/// have none for good.
async fn inside(record: &Record, family: Family) -> Result<Option<Socket>> {
    let known = record.clone();
    let Some(opened) = blocking(move || place::open(&known, family)).await? else {
        return Ok(None);
    };
    if opened.was_down {
        carrier::wait(record, CARRIER_LIMIT).await;
    }
    Ok(Some(opened.socket))
}

async fn is_taken(record: &Record, address: IpAddr) -> bool {
    let known = record.clone();
    let taken = blocking(move || place::is_taken(&known, address)).await;
    taken.inspect_err(|error| tracing::debug!("{}: {error}", record.key)).unwrap_or_default()
}

/// From the host: by its interface that leads to the container's network, and where that leads to no server, or none is left, by its
/// routes.
///
/// The server may be this very host: no frame that it sends by a bridge comes back to it. One with a UDP socket (dnsmasq) hears what
/// goes by the routes; the kernel says that it came by the bridge. One that reads frames (Kea, dhcpd) sees those that leave by the
/// bridge. So both are sent. Of IPv6 a host hears its own multicasts.
async fn from_host(record: &Record, lease: &Lease) -> Ways {
    let socket = on_uplink(record, lease.family()).await;
    let by_routes = match lease {
        Lease::V4(lease) => socket.as_ref().is_none_or(|socket| {
            // A relay on the host has the first alone; a bridge's hardware address may change, so the server has the second.
            socket.mac() == Some(lease.server_mac) || v4::is_own(lease.server)
        }),
        Lease::V6(_) => false,
    };
    Ways { socket, by_routes, is_taken: false }
}

/// A socket on the host's interface that leads to the container's network; `None` where there is none.
async fn on_uplink(record: &Record, family: Family) -> Option<Socket> {
    let uplink = record.uplink.clone()?;
    let socket = blocking(move || Socket::open(family, &uplink)).await;
    socket.inspect_err(|error| tracing::debug!("{:?}: {error}", record.uplink)).ok()
}
