//! The DHCP daemon as a part of another one.

use std::{
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use chain::{Dirs, Error, Result};
use delegates::dhcp::Timing;
use tokio::{sync::oneshot, time::sleep};

use super::{
    door::{Door, Opened},
    end,
    keeper::{Keeper, Manner, blocking},
    runtime, server,
};

/// How often the socket is looked at that another daemon has.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked whether plugins still find the own one.
const OWN: Duration = Duration::from_secs(3);

/// The DHCP daemon on a thread of its own, which ends when this is dropped. The leases stay.
pub struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Serves at a socket as soon as no other daemon does.
    pub fn start(socket: PathBuf, dirs: Dirs) -> Result<Self> {
        let mut first = Some(runtime()?);
        let (stop, mut stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("dhcp".to_owned()).spawn(move || {
            loop {
                let runtime = match first.take().map_or_else(runtime, Ok) {
                    Ok(runtime) => runtime,
                    Err(error) => return tracing::error!("no leases are kept: {error}"),
                };
                match runtime.block_on(round(&socket, &dirs, &mut stopped)) {
                    Round::Lost(door) => end(runtime, door),
                    Round::Over(Some(door)) => return end(runtime, door),
                    Round::Over(None) => return runtime.shutdown_background(),
                }
            }
        });
        let thread = thread.map_err(|error| Error::io(format!("a thread for DHCP: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How it came that the leases are kept no more.
enum Round {
    /// Plugins do not find the socket any more. The leases are left to whoever has the path now, and may be this one again.
    Lost(Door),
    /// It is to end.
    Over(Option<Door>),
}

/// Keeps leases as soon as nobody else does, and as long as plugins find the socket.
async fn round(socket: &Path, dirs: &Dirs, stopped: &mut oneshot::Receiver<()>) -> Round {
    let door = tokio::select! {
        door = free(socket, dirs) => door,
        _ = &mut *stopped => return Round::Over(None),
    };
    tokio::select! {
        () = serve(&door, dirs.clone()) => Round::Over(Some(door)),
        () = lost(&door) => {
            tracing::warn!(
                "{} was removed, or replaced by another's: the leases are left to whoever listens there, else it is made anew",
                socket.display()
            );
            Round::Lost(door)
        }
        _ = stopped => Round::Over(Some(door)),
    }
}

/// Until plugins do not find the socket any more.
async fn lost(door: &Door) {
    while door.is_found() {
        sleep(OWN).await;
    }
}

/// The door, once nobody else has it.
async fn free(socket: &Path, dirs: &Dirs) -> Door {
    let mut said = String::new();
    loop {
        let (path, dirs) = (socket.to_owned(), dirs.clone());
        let why = match blocking(move || Door::open(&path, None, &dirs)).await {
            Ok(Opened::Door(door)) => return door,
            Ok(Opened::Anothers) => {
                format!("another DHCP daemon answers on {}, and keeps the leases", socket.display())
            }
            Err(error) => error.to_string(),
        };
        if said != why {
            tracing::warn!("{why}");
            said = why;
        }
        sleep(LOOK).await;
    }
}

/// Returns only where that is not to be done.
async fn serve(door: &Door, dirs: Dirs) {
    let manner = Manner { timing: Timing::default(), broadcast: false };
    let served = async {
        let keeper = Keeper::start(door.path.clone(), dirs, manner).await?;
        tracing::info!(socket = %door.path.display(), "serving DHCP");
        server::serve(door, keeper, PathBuf::new()).await
    };
    if let Err(error) = served.await {
        tracing::error!("no leases are kept: {error}");
    }
}
