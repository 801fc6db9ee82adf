//! A router that nobody asked for.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// How often it sends.
const INTERVAL: Duration = Duration::from_millis(5);
/// ff02::1: everyone on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A host that sends router advertisements (RFC 4861, section 4.2) all the time, until it is dropped: it is the default
/// router, and whoever listens gives itself an address of the prefix (SLAAC).
#[derive(Debug)]
pub struct Advertiser {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Advertiser {
    /// Advertises `prefix`, a /64, by the interface `dev` of a namespace, which has a link-local address.
    pub fn start(netns: &Netns, dev: &str, prefix: Ipv6Addr) -> Self {
        let opened = netns.enter(|| open(dev));
        let (socket, to) = opened
            .unwrap_or_else(|e| panic!("a socket for ICMPv6 on {dev} in {}: {e}", netns.name()));
        let message = advertisement(prefix);
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // It may fail while an address is tentative.
                let _ = socket.send_to(&message, &to.into());
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(dev: &str) -> io::Result<(Socket, SocketAddrV6)> {
    let index = if_nametoindex(dev)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    // What has passed a router is no advertisement of a neighbour.
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    Ok((socket, SocketAddrV6::new(ALL_NODES, 0, 0, index)))
}

/// The message; the kernel adds the checksum.
fn advertisement(prefix: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0];
    // Hop limit, no flags, lifetime of the default route in seconds, and two times that say nothing.
    message.extend([64, 0]);
    message.extend(1800_u16.to_be_bytes());
    message.extend([0; 8]);
    // Prefix information of four times eight bytes: on the link, and for addresses; how long these are valid and preferred.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86400_u32.to_be_bytes());
    message.extend(14400_u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    message
}
