//! Addresses of packet sockets.
#![allow(unsafe_code, reason = "nix reads such addresses, but makes none of them")]

use std::io;

use nix::{
    libc,
    sys::socket::{LinkAddr, SockaddrLike},
};
use socket2::Socket;

use crate::net::Mac;

/// IPv4 on an interface; with the frame's receiver where one is to be sent.
pub fn of(index: u32, mac: Option<Mac>) -> io::Result<LinkAddr> {
    let mut bytes = [0; 8];
    if let Some(Mac(mac)) = mac {
        bytes[..mac.len()].copy_from_slice(&mac);
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: if mac.is_some() { 6 } else { 0 },
        sll_addr: bytes,
    };
    read(&address)
}

/// A socket's own address, with the hardware address of its interface. The kernel leaves out what that has no use for.
pub fn own(socket: &Socket) -> io::Result<LinkAddr> {
    let own = socket.local_addr()?;
    // SAFETY: as large as any kind of address, and zero where the kernel has written nothing.
    let storage = unsafe { own.as_ptr().cast::<libc::sockaddr_storage>().read() };
    let address = (&raw const storage).cast::<libc::sockaddr_ll>();
    // SAFETY: of the two structures, both without any invalid value, the first is larger, and aligned as strictly.
    read(unsafe { &*address })
}

fn read(address: &libc::sockaddr_ll) -> io::Result<LinkAddr> {
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: it points to a `sockaddr_ll`, and says so.
    unsafe { LinkAddr::from_raw((&raw const *address).cast(), Some(length)) }
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
