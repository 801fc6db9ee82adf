//! The daemon at its socket: whoever connects is served, none has to wait for another.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chain::{Error, Result};
use tokio::{net::UnixListener, sync::Semaphore, time::sleep};

use super::{connection::Connection, door::Door, keeper::Keeper};
use crate::daemon::is_allowed;

/// How many plugins may be connected at once; others wait.
const CONNECTED: usize = 1024;

/// Serves plugins at a door, for ever.
pub async fn serve(door: &Door, keeper: Arc<Keeper>, host_prefix: PathBuf) -> Result<()> {
    let listener = door.listener.try_clone().and_then(UnixListener::from_std);
    let listener =
        listener.map_err(|error| Error::io(format!("{}: {error}", door.path.display())))?;
    let places = Arc::new(Semaphore::new(CONNECTED));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                let (keeper, host_prefix) = (keeper.clone(), host_prefix.clone());
                let connection = Arc::new(Connection { keeper, host_prefix, _place: place });
                tokio::spawn(connection.serve(stream));
            }
            Ok(_) => {}
            Err(error) => {
                // No descriptor is left, for instance: others have to end first.
                tracing::warn!(%error, "a plugin's connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
