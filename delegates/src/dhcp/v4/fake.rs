//! A server for tests: it answers messages without a network.

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode},
};

use super::Outgoing;
use crate::{dhcp::Client, net::Mac};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

pub fn client() -> Client {
    Client {
        mac: Mac([2, 0, 0, 0, 0, 2]),
        client_id: b"\0c1/net/eth0".to_vec(),
        requests: vec![1, 3, 121],
        provides: Vec::new(),
        broadcast: false,
    }
}

/// What a client has sent.
pub fn read(sent: &Outgoing) -> Message {
    Message::decode(&mut Decoder::new(&sent.payload)).expect("a message")
}

/// An answer that leases an address for an hour, before it is changed.
pub fn answer(to: &Outgoing, kind: MessageType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = read(to);
    message.set_opcode(Opcode::BootReply).set_yiaddr(ADDRESS);
    let options = message.opts_mut();
    options.clear();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    options.insert(DhcpOption::AddressLeaseTime(3600));
    options.insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
    options.insert(DhcpOption::Router(vec![SERVER]));
    change(&mut message);
    message.to_vec().expect("an answer can be written")
}
