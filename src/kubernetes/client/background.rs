//! A runtime on a thread of its own, so that a connection is served while the plugin does something else.

use std::thread::{self, JoinHandle};

use chain::{Error, Result};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The thread and its runtime; both end when this is dropped.
pub struct Background {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let failed = |error| Error::io(format!("thread for the Kubernetes API: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("kubernetes".into())
            .spawn(move || {
                // Stopped either way, whether it was said or the sender is gone.
                let _ = runtime.block_on(stopped);
                // A look-up of a name cannot be broken off: it is not waited for.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// What to run tasks with, from any other thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is none of the plugin's; it has been printed.
            let _ = thread.join();
        }
    }
}
