//! The headers of IP and UDP around a message.

use std::{io, net::Ipv4Addr};

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
use etherparse::{IpNumber, Ipv4Header, Ipv4Slice, UdpHeader, UdpSlice};

const TTL: u8 = 64;

/// A packet from the client's to the server's port.
pub fn wrap(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (from, to) = (from.octets(), to.octets());
    let length = u16::try_from(UdpHeader::LEN + payload.len()).map_err(|_| too_long(()))?;
    let mut ip = Ipv4Header::new(length, TTL, IpNumber::UDP, from, to).map_err(|_| too_long(()))?;
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(CLIENT_PORT, SERVER_PORT, &ip, payload)
        .map_err(|_| too_long(()))?;
    Ok([&ip.to_bytes()[..], &udp.to_bytes(), payload].concat())
}

/// The payload of a packet from a server's port; the filter of the socket has let through none but whole ones of UDP.
///
/// Its checksum is not looked at: what comes over a veth has none yet, since nothing can happen to it in between. What is
/// damaged elsewhere the link's own checksum shows.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let ip = Ipv4Slice::from_slice(packet).ok()?;
    if ip.payload_ip_number() != IpNumber::UDP || ip.is_payload_fragmented() {
        return None;
    }
    let udp = UdpSlice::from_slice(ip.payload().payload).ok()?;
    let ports = (udp.source_port(), udp.destination_port());
    (ports == (SERVER_PORT, CLIENT_PORT)).then(|| udp.payload())
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn what_is_sent_has_the_checksums_of_its_headers() {
        let packet = wrap([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), b"message").unwrap();
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{sliced:?}") };
        let of_payload = udp.to_header().calc_checksum_ipv4(&header, b"message").unwrap();
        assert_eq!((udp.checksum(), udp.payload()), (of_payload, &b"message"[..]));
    }

    #[test]
    fn only_what_comes_from_a_servers_port_is_read_and_padding_is_not() {
        let packet = |from_port, to_port| {
            let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
            let builder = builder.udp(from_port, to_port);
            let mut packet = vec![0; builder.size(7)];
            builder.write_to_slice(&mut packet, b"message").unwrap();
            packet.extend([0; 20]);
            packet
        };
        assert_eq!(payload(&packet(67, 68)), Some(&b"message"[..]));
        assert_eq!(payload(&packet(1067, 68)), None);
        assert_eq!(payload(&packet(67, 67)), None);
        let whole = packet(67, 68);
        assert!((0..whole.len() - 20).all(|length| payload(&whole[..length]).is_none()));
    }
}
