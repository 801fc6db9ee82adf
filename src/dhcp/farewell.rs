//! Giving a lease back: from the container's interface, or where that is gone from the host.

use delegates::{
    dhcp::{Client, Lease, Link, Socket, v4},
    net::Mac,
};

use super::{keeper::blocking, place, record::Record};

/// Gives back the lease on record, if there is one. No server answers that, so nobody knows whether it has arrived; a lease that
/// was not given back ends in its time.
pub async fn give_back(record: &Record, client: Option<Client>) {
    let (Some(lease), Some(client)) = (&record.lease, client) else { return };
    let (key, address) = (&record.key, lease.address);
    let inside = record.clone();
    let inside = blocking(move || place::socket(&inside)).await.unwrap_or_else(|error| {
        tracing::debug!("{key}: {address} is given back from the host: {error}");
        None
    });
    let socket = match inside {
        Some(socket) => Some(socket),
        None => on_uplink(record, lease.server_mac).await,
    };
    match send(socket, &client, lease).await {
        Ok(()) => tracing::info!("{key}: {address} is given back"),
        Err(error) => {
            tracing::warn!("{key}: {address} is not given back, and ends in its time: {error}");
        }
    }
}

async fn send(socket: Option<Socket>, client: &Client, lease: &Lease) -> std::io::Result<()> {
    match socket {
        Some(socket) => v4::release(&Link::new(socket)?, client, lease).await,
        None => v4::release_by_routes(client, lease).await,
    }
}

/// A socket on the host's interface that leads to the container's network; `None` where there is none. The server may be this very
/// host: no frame that a bridge sends comes back to it.
async fn on_uplink(record: &Record, server: Mac) -> Option<Socket> {
    let uplink = record.uplink.clone()?;
    let socket = blocking(move || Socket::open(&uplink)).await;
    let socket = socket.inspect_err(|error| tracing::debug!("{:?}: {error}", record.uplink));
    socket.ok().filter(|socket| socket.mac() != server)
}
