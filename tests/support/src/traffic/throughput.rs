//! A measured TCP transfer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    state: Arc<Mutex<State>>,
    _service: Service,
}

/// What has arrived, and when the last of it did.
#[derive(Debug, Clone, Copy)]
struct State {
    bytes: u64,
    at: Instant,
    busy: bool,
}

impl Sink {
    /// Receives on `port` of all addresses of `netns`; listens when this returns.
    pub fn start(netns: &Netns, port: u16) -> Self {
        let state = Arc::new(Mutex::new(State { bytes: 0, at: Instant::now(), busy: false }));
        let shared = Arc::clone(&state);
        let service = Service::start(
            netns,
            format!("a sink on port {port}"),
            move || TcpListener::bind(any(port)),
            move |listener| {
                if let Ok((stream, _)) = listener.accept() {
                    update(&shared, |state| state.busy = true);
                    drain(stream, &shared);
                    update(&shared, |state| state.busy = false);
                }
            },
        );
        Self { state, _service: service }
    }

    /// Bytes of payload received so far.
    pub fn received(&self) -> u64 {
        self.now().bytes
    }

    fn now(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn update(state: &Mutex<State>, change: impl FnOnce(&mut State)) {
    change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
}

fn drain(mut stream: TcpStream, state: &Mutex<State>) {
    // A sender that is cut off must not keep the sink, and with it the test, for ever.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => update(state, |state| {
                state.bytes += n as u64;
                state.at = Instant::now();
            }),
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
///
/// What is on its way at a time can be limited, so that the bucket's queue (in the reference's
/// `bandwidth` the burst and 25 ms of the rate) does not overflow: it's the shaper that is to be
/// measured, not TCP's recovery from losses.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Payload, in bytes, to arrive before `skip` begins.
    pub skip_bytes: u64,
    /// Time, after `skip_bytes`, that is not measured.
    pub skip: Duration,
    /// Time that is measured.
    pub window: Duration,
    /// Payload, in bytes, that the sender may have on its way; `None` leaves it to the kernel.
    pub in_flight: Option<usize>,
}

impl Default for Measure {
    /// No `skip_bytes`, 400 ms not measured, 1.5 s measured, no limit on what is on its way.
    fn default() -> Self {
        Self {
            skip_bytes: 0,
            skip: Duration::from_millis(400),
            window: Duration::from_millis(1500),
            in_flight: None,
        }
    }
}

impl Measure {
    /// The default for a token bucket with this burst, in bytes: the burst passes unmeasured, and no
    /// more than the burst (but at least 48 KiB) is on its way.
    pub fn after_burst(bytes: u64) -> Self {
        let in_flight = usize::try_from(bytes).unwrap_or(usize::MAX).max(48 << 10);
        Self { skip_bytes: bytes, in_flight: Some(in_flight), ..Self::default() }
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
    let stream = connect(from, to, measure.in_flight);
    let begin = sink.received();
    let done = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || send(stream, done));
        // Also where waiting panics the sender has to end.
        let _end = Raise(done);
        until(&format!("data from {} arrives by {to}", from.name()), PATIENCE, || {
            (sink.received() > begin + measure.skip_bytes).then_some(())
        });
        // From one arrival to another: between them the rate is exact, however large the pieces are.
        let arrival_after = |since: Instant, time: Duration| {
            until(&format!("data arrives by {to} {time:?} later"), time + PATIENCE, || {
                Some(sink.now()).filter(|now| now.at >= since + time)
            })
        };
        let first = arrival_after(sink.now().at, measure.skip);
        let last = arrival_after(first.at, measure.window);
        let time = last.at.duration_since(first.at);
        assert!(!time.is_zero(), "nothing arrived by {to} in {:?}", measure.window);
        ((last.bytes - first.bytes) * 8) as f64 / time.as_secs_f64()
    });
    until(&format!("the end of the transfer arrives by {to}"), PATIENCE, || {
        (!sink.now().busy).then_some(())
    });
    rate
}

/// Asserts that a transfer is shaped to `rate`, in bits per second, within 10 %; the bucket's
/// `burst` is in bytes.
///
/// On a machine that is busy with other things a transfer may be slower than it's shaped to, so it
/// is measured up to three times. A wrong shaper is wrong each time.
///
/// # Panics
/// With the rates measured, if none was right.
#[track_caller]
pub fn assert_rate(from: &Netns, to: SocketAddr, sink: &Sink, rate: u64, burst: u64) {
    let mut measured = Vec::new();
    while measured.len() < 3 {
        let payload = throughput(from, to, sink, Measure::after_burst(burst));
        if (0.9..=1.1).contains(&(payload / rate as f64)) {
            return;
        }
        measured.push(payload.round());
    }
    panic!("{measured:?} bit/s from {} to {to}, not {rate} within 10 %", from.name());
}

fn connect(from: &Netns, to: SocketAddr, in_flight: Option<usize>) -> TcpStream {
    let fail = |what: &str, e: &dyn std::fmt::Display| -> ! {
        panic!("{what} to {to} from {}: {e}", from.name())
    };
    let stream = from
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)))
        .unwrap_or_else(|e| fail("connecting", &e));
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap_or_else(|e| fail("a write timeout", &e));
    // Closing throws away what is queued, so that the sink is free for the next.
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })
        .unwrap_or_else(|e| fail("a linger time", &e));
    if let Some(bytes) = in_flight {
        // The kernel doubles the value, for what it needs beside the payload: hardly anything when
        // it sends large pieces. It takes no more than net.core.wmem_max.
        setsockopt(&stream, sockopt::SndBuf, &(bytes / 2))
            .unwrap_or_else(|e| fail("a send buffer", &e));
    }
    stream
}

fn send(mut stream: TcpStream, done: &AtomicBool) {
    let block = [0x5a; 16 << 10];
    while !done.load(Ordering::Relaxed) {
        match stream.write(&block) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// Raises the flag when dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
