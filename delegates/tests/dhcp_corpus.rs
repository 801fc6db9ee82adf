//! The packets that the fuzz targets know, on a stable toolchain.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

#[path = "../fuzz/hostile.rs"]
mod hostile;

use std::{fs, path::Path};

/// Goes through a target's corpus; a panic says by which file.
fn all_of(target: &str, take: fn(&[u8]) -> bool) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let (mut packets, mut leases) = (0, 0);
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let packet = fs::read(&path).unwrap();
        let taken = std::panic::catch_unwind(|| take(&packet));
        let Ok(leased) = taken else { panic!("{} makes the client panic", path.display()) };
        packets += 1;
        leases += usize::from(leased);
    }
    // They are still answers to this client.
    assert!(packets > 100 && leases > 10, "{leases} of {packets}");
}

#[test]
fn no_known_packet_of_ipv4_harms_the_client() {
    all_of("dhcp_v4", hostile::v4);
}

#[test]
fn no_known_message_of_dhcpv6_harms_the_client() {
    all_of("dhcp_v6", hostile::v6);
}
