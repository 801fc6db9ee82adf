//! Serving at a socket for as long as it is this daemon's to serve; and the DHCP daemon as a part of another one.

use std::{
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use chain::{Dirs, Error, Result};
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

/// What a DHCP daemon serves, and how.
pub struct Serving {
    /// Where it listens.
    pub socket: PathBuf,
    pub dirs: Dirs,
    pub manner: Manner,
    /// What goes before the paths of namespaces that plugins name.
    pub host_prefix: PathBuf,
}

/// The DHCP daemon on a thread of its own, which ends when this is dropped. The leases stay.
pub struct Service {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Serves as soon as no other daemon does.
    pub fn start(serving: Serving) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("dhcp".to_owned()).spawn(move || {
            if let Err(error) = serving.until(stopped, None) {
                tracing::error!("no leases are kept: {error}");
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
    /// It is to end, or cannot go on.
    Over(Option<Door>, Result<()>),
}

impl Serving {
    /// Serves until it is told to stop: at a door that is open already, else as soon as no other daemon serves. Blocks.
    ///
    /// Errors: leases cannot be kept.
    pub fn until(&self, mut stopped: oneshot::Receiver<()>, mut door: Option<Door>) -> Result<()> {
        loop {
            let runtime = runtime()?;
            match runtime.block_on(self.round(door.take(), &mut stopped)) {
                Round::Lost(door) => end(runtime, door),
                Round::Over(Some(door), done) => {
                    end(runtime, door);
                    return done;
                }
                Round::Over(None, done) => {
                    runtime.shutdown_background();
                    return done;
                }
            }
        }
    }

    /// Keeps leases as soon as nobody else does, and as long as plugins find the socket.
    async fn round(&self, door: Option<Door>, stopped: &mut oneshot::Receiver<()>) -> Round {
        let door = match door {
            Some(door) => door,
            None => tokio::select! {
                door = free(&self.socket, &self.dirs) => door,
                _ = &mut *stopped => return Round::Over(None, Ok(())),
            },
        };
        tokio::select! {
            served = self.serve(&door) => Round::Over(Some(door), served),
            () = lost(&door) => {
                tracing::warn!(
                    "{} was removed, or replaced by another's: the leases are left to whoever listens there, else it is made anew",
                    door.path.display()
                );
                Round::Lost(door)
            }
            _ = stopped => Round::Over(Some(door), Ok(())),
        }
    }

    /// Returns only where that is not to be done.
    async fn serve(&self, door: &Door) -> Result<()> {
        let keeper = Keeper::start(door.path.clone(), self.dirs.clone(), self.manner).await?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %door.path.display(), "serving DHCP");
        server::serve(door, keeper, self.host_prefix.clone()).await
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
