//! Which packets come to the socket at all: a program of the kernel's packet filter (linux/filter.h).

use nix::libc;
use socket2::SockFilter;

/// What the packet is to this host (linux/if_packet.h): for itself, for several or for all.
const PACKET_MULTICAST: u32 = 2;

/// The kernel's own knowledge of a packet is read from addresses below zero.
const KIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const IS_TAGGED: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_HALF_AFTER: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const IF_MORE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn load(how: u16, from: u32) -> SockFilter {
    SockFilter::new(how, 0, 0, from)
}

/// Whole UDP packets of IPv4 to the port of DHCP clients, for this host and without a VLAN's tag. The kernel takes the tag off
/// where no interface of that VLAN is there, and then says that the packet is another host's.
pub const ANSWERS: [SockFilter; 13] = [
    load(LOAD_BYTE, KIND),
    SockFilter::new(IF_MORE, 10, 0, PACKET_MULTICAST),
    load(LOAD_BYTE, IS_TAGGED),
    SockFilter::new(IF_EQUAL, 0, 8, 0),
    load(LOAD_BYTE, 9),
    SockFilter::new(IF_EQUAL, 0, 6, libc::IPPROTO_UDP as u32),
    load(LOAD_HALF, 6),
    SockFilter::new(IF_ANY_BIT, 4, 0, 0x3fff),
    load(HEADER_LENGTH, 0),
    load(LOAD_HALF_AFTER, 2),
    SockFilter::new(IF_EQUAL, 0, 1, dhcproto::v4::CLIENT_PORT as u32),
    load(RETURN, u32::MAX),
    load(RETURN, 0),
];
