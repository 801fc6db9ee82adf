//! Somebody on the network who answers what nobody has asked.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use testnode::dhcp::Program;
use testnode::{Node, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, list, short};

/// An answer of a server's to a client that there is not (RFC 2131, section 2): its options end within one.
fn answer(transaction: u32) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..4].copy_from_slice(&[2, 1, 6, 0]);
    packet[4..8].copy_from_slice(&transaction.to_be_bytes());
    packet[16..20].copy_from_slice(&[10, 7, 0, 66]);
    packet.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 5, 119, 4, 0xc0, 0x00, 0xc0]);
    packet
}

#[test]
fn a_flood_of_answers_keeps_no_lease_from_anybody() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, short(6, [2, 4]));
    let _daemon = lan.daemon();
    let [stranger, before, meanwhile] =
        ["stranger", "before", "meanwhile"].map(|n| node.container(n));
    lan.catena().add(&list(), &stranger);
    let kept = address(&lan.catena().add(&list(), &before));
    let (is_over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            stranger.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:67").unwrap();
                socket.set_broadcast(true).unwrap();
                for transaction in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    for packet in [answer(transaction), b"no packet of DHCP".to_vec()] {
                        // Its queue may be full.
                        let _ = socket.send_to(&packet, "10.7.0.255:68");
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        until("it sends", PATIENCE, || (sent.load(Ordering::Relaxed) > 1000).then_some(()));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let new = address(&lan.catena().add(&list(), &meanwhile));
            // What was leased before is extended all the same.
            let often = lan.server.granted(&kept) + 1;
            lan.await_granted(&kept, often);
            lan.catena().check(&list(), &meanwhile);
            lan.catena().del(&list(), &meanwhile);
            lan.await_released(&new);
        }));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap();
    });
}
