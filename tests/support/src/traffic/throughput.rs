//! A measured TCP transfer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::listener::{Service, any};
use crate::netns::Netns;
use crate::wait::until;

/// The receiving end of a transfer: a TCP server in a namespace, on both families, that reads
/// and counts. It serves one sender at a time.
#[derive(Debug)]
pub struct Sink {
    received: Arc<AtomicU64>,
    busy: Arc<AtomicBool>,
    _service: Service,
}

impl Sink {
    /// Receives on `port` of all addresses of `netns`; listens when this returns.
    pub fn start(netns: &Netns, port: u16) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let busy = Arc::new(AtomicBool::new(false));
        let (count, is_busy) = (Arc::clone(&received), Arc::clone(&busy));
        let service = Service::start(
            netns,
            format!("a sink on port {port}"),
            move || TcpListener::bind(any(port)),
            move |listener| {
                if let Ok((stream, _)) = listener.accept() {
                    is_busy.store(true, Ordering::Relaxed);
                    drain(stream, &count);
                    is_busy.store(false, Ordering::Relaxed);
                }
            },
        );
        Self { received, busy, _service: service }
    }

    /// Bytes of payload received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn drain(mut stream: TcpStream, count: &AtomicU64) {
    // A sender that is cut off must not keep the sink, and with it the test, for ever.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                count.fetch_add(n as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How a transfer is measured.
///
/// A token bucket lets its burst through at the speed of the link, and TCP takes some round trips
/// to find its rate. Both are over before the measuring begins: at first `skip_bytes` must have
/// arrived (at least the burst), then `skip` must have passed.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Payload, in bytes, to arrive before `skip` begins.
    pub skip_bytes: u64,
    /// Time, after `skip_bytes`, that is not measured.
    pub skip: Duration,
    /// Time that is measured.
    pub window: Duration,
}

impl Default for Measure {
    /// No `skip_bytes`, 400 ms not measured, 1.5 s measured.
    fn default() -> Self {
        Self {
            skip_bytes: 0,
            skip: Duration::from_millis(400),
            window: Duration::from_millis(1500),
        }
    }
}

impl Measure {
    /// The default for a token bucket with this burst, in bytes.
    pub fn after_burst(bytes: u64) -> Self {
        Self { skip_bytes: bytes, ..Self::default() }
    }
}

/// Sends from `from` to `to`, which has to lead to `sink`, as fast as it goes, and returns the
/// rate at which payload arrives, in bits per second.
///
/// Payload is what TCP carries: with Ethernet, IP and TCP headers and a full-sized segment it's
/// 0.957 of what a shaper counts for IPv4 and 0.944 for IPv6.
///
/// # Panics
/// If `to` can't be connected to, or nothing arrives.
pub fn throughput(from: &Netns, to: SocketAddr, sink: &Sink, measure: Measure) -> f64 {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)))
        .unwrap_or_else(|e| panic!("connecting to {to} from {}: {e}", from.name()));
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap_or_else(|e| panic!("a write timeout: {e}"));
    // Closing throws away what is queued, so that the sink is free for the next.
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })
        .unwrap_or_else(|e| panic!("a linger time: {e}"));
    let begin = sink.received();
    let done = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            let block = [0x5a; 16 << 10];
            while !done.load(Ordering::Relaxed) {
                match stream.write(&block) {
                    Ok(_) => {}
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
            }
        });
        // Also where waiting panics the sender has to end.
        let _end = Raise(done);
        until(&format!("data from {} arrives by {to}", from.name()), PATIENCE, || {
            (sink.received() > begin + measure.skip_bytes).then_some(())
        });
        thread::sleep(measure.skip);
        let (start, first) = (Instant::now(), sink.received());
        thread::sleep(measure.window);
        let bytes = sink.received() - first;
        (bytes * 8) as f64 / start.elapsed().as_secs_f64()
    });
    until(&format!("the end of the transfer arrives by {to}"), PATIENCE, || {
        (!sink.busy.load(Ordering::Relaxed)).then_some(())
    });
    rate
}

/// Raises the flag when dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
