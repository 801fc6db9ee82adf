//! Giving a lease back: from the container's interface, or where that is gone from the host.

use delegates::dhcp::{Client, Link, Socket, v4};

use super::{keeper::blocking, place, record::Record};

/// Gives back the lease on record, if there is one. No server answers that, so nobody knows whether it has arrived; a lease that
/// was not given back ends in its time.
pub async fn give_back(record: &Record, client: Option<Client>) {
    let (Some(lease), Some(client)) = (&record.lease, client) else { return };
    let (key, address) = (&record.key, lease.address);
    let inside = record.clone();
    let socket = match blocking(move || place::socket(&inside)).await {
        Ok(Some(socket)) => Ok(socket),
        Ok(None) => on_uplink(record).await,
        Err(error) => {
            tracing::debug!("{key}: {address} is given back from the host: {error}");
            on_uplink(record).await
        }
    };
    let given = match socket.and_then(|socket| Link::new(socket).map_err(|error| error.to_string()))
    {
        Ok(link) => v4::release(&link, &client, lease).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match given {
        Ok(()) => tracing::info!("{key}: {address} is given back"),
        Err(error) => tracing::warn!(
            "{key}: {address} ends in its time, since it cannot be given back: {error}"
        ),
    }
}

/// On the host's interface that leads to the container's network.
async fn on_uplink(record: &Record) -> Result<Socket, String> {
    let Some(uplink) = record.uplink.clone() else {
        return Err(
            "the namespace is gone, and no interface of the host leads to its network".to_owned()
        );
    };
    let named = uplink.clone();
    let socket = blocking(move || Socket::open(&uplink)).await;
    socket.map_err(|error| format!("the namespace is gone, and {named}: {error}"))
}
