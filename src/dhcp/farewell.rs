//! Giving leases back: from the container's interface, or where that is gone from the host.

use std::{io, time::Duration};

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

async fn give_one_back(record: &Record, family: Family, client: &Client) {
    let Some((lease, _)) = record.leases.of(family) else { return };
    let (key, address) = (&record.key, lease.address());
    let socket = match inside(record, family).await {
        Ok(Some(socket)) => Some(socket),
        Ok(None) => on_uplink(record, &lease).await,
        Err(error) => {
            tracing::debug!("{key}: {address} is given back from the host: {error}");
            on_uplink(record, &lease).await
        }
    };
    match timeout(PATIENCE, send(socket, client, &lease)).await.unwrap_or(Err(Failure::Silence)) {
        Ok(()) => tracing::info!("{key}: {address} is given back"),
        Err(error) => {
            tracing::warn!("{key}: {address} is not given back, and ends in its time: {error}");
        }
    }
}

async fn send(
    socket: Option<Socket>,
    client: &Client,
    lease: &Lease,
) -> std::result::Result<(), Failure> {
    match (socket, lease) {
        (Some(socket), _) => Speaker::new(socket, client.clone()).await?.release(lease).await,
        (None, Lease::V4(lease)) => Ok(v4::release_by_routes(client, lease).await?),
        // Servers are known by no address, only as those of a link.
        (None, Lease::V6(_)) => {
            Err(io::Error::other("none on this host leads to the container's network").into())
        }
    }
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

/// A socket on the host's interface that leads to the container's network; `None` where there is none. The server may be this very
/// host: no frame that a bridge sends comes back to it. Of IPv6 a host hears its own multicasts.
async fn on_uplink(record: &Record, lease: &Lease) -> Option<Socket> {
    let (uplink, family) = (record.uplink.clone()?, lease.family());
    let socket = blocking(move || Socket::open(family, &uplink)).await;
    let socket = socket.inspect_err(|error| tracing::debug!("{:?}: {error}", record.uplink));
    let is_server = |socket: &Socket| match lease {
        Lease::V4(lease) => socket.mac() == Some(lease.server_mac),
        Lease::V6(_) => false,
    };
    socket.ok().filter(|socket| !is_server(socket))
}
