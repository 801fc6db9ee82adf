//! A transfer between two pods that must not stop.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use testnode::{Netns, Sink, until};

use crate::PATIENCE;

/// One TCP connection that is always full.
pub struct Transfer {
    sink: Sink,
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Transfer {
    pub fn start(from: &Netns, to: &Netns, address: SocketAddr) -> Self {
        let sink = Sink::start(to, address.port());
        let mut stream = from.enter(|| TcpStream::connect(address)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sender = thread::spawn(move || {
            let block = [0; 16 << 10];
            while !stopped.load(Ordering::Relaxed) {
                stream.write_all(&block).unwrap();
            }
        });
        Self { sink, stop, sender: Some(sender) }
    }

    /// Waits until more has arrived than was under way.
    #[track_caller]
    pub fn assert_goes_on(&self) {
        let now = self.sink.received();
        until("the transfer goes on", PATIENCE, || {
            (self.sink.received() > now + (8 << 20)).then_some(())
        });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            // Its panic is the test's.
            sender.join().unwrap();
        }
    }
}
