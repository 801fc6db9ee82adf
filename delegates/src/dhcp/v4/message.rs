//! What a client says (RFC 2131, table 5).

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{DhcpOption, Flags, MIN_PACKET_SIZE, Message, MessageType, OptionCode, UnknownOption},
};

use super::{MAX_MESSAGE, To};
use crate::{
    dhcp::{Client, Lease, link::EVERYBODY},
    net::Mac,
};

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A message, with where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message.
    pub payload: Vec<u8>,
    /// Its source; 0.0.0.0 as long as there is none.
    pub from: Ipv4Addr,
    /// Its destination.
    pub to: Ipv4Addr,
    /// The frame's destination.
    pub mac: Mac,
}

/// What the messages of one exchange have in common.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    pub client: &'a Client,
    pub xid: u32,
    /// For how long the client has been trying, in seconds.
    pub secs: u16,
}

impl Exchange<'_> {
    /// DHCPDISCOVER.
    pub fn discover(&self, wanted: Option<Ipv4Addr>) -> Outgoing {
        let mut message = self.asking(MessageType::Discover, NOBODY);
        if let Some(wanted) = wanted {
            message.opts_mut().insert(DhcpOption::RequestedIpAddress(wanted));
        }
        to_all(&message, NOBODY)
    }

    /// DHCPREQUEST of what was offered.
    pub fn request(&self, offer: &Lease) -> Outgoing {
        let mut message = self.asking(MessageType::Request, NOBODY);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
        to_all(&message, NOBODY)
    }

    /// DHCPREQUEST of the lease from before a restart.
    pub fn reboot(&self, lease: &Lease) -> Outgoing {
        let mut message = self.asking(MessageType::Request, NOBODY);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(lease.address));
        to_all(&message, NOBODY)
    }

    /// DHCPREQUEST of more time, from the address that it is about.
    pub fn extend(&self, lease: &Lease, to: To) -> Outgoing {
        let message = self.asking(MessageType::Request, lease.address);
        match to {
            To::Server => to_server(&message, lease),
            To::All => to_all(&message, lease.address),
        }
    }

    fn asking(&self, kind: MessageType, address: Ipv4Addr) -> Message {
        let mut message = message(self.client, self.xid, kind, address);
        // With an address servers answer to that.
        if self.client.broadcast && address == NOBODY {
            message.set_flags(Flags::default().set_broadcast());
        }
        message.set_secs(self.secs);
        let options = message.opts_mut();
        if !self.client.requests.is_empty() {
            let codes = self.client.requests.iter().map(|code| OptionCode::from(*code));
            options.insert(DhcpOption::ParameterRequestList(codes.collect()));
        }
        options.insert(DhcpOption::MaxMessageSize(MAX_MESSAGE));
        for (code, value) in &self.client.provides {
            options.insert(told(*code, value));
        }
        message
    }
}

/// DHCPRELEASE.
pub fn release(client: &Client, lease: &Lease, xid: u32) -> Outgoing {
    let mut message = message(client, xid, MessageType::Release, lease.address);
    message.opts_mut().insert(DhcpOption::ServerIdentifier(lease.server));
    to_server(&message, lease)
}

fn message(client: &Client, xid: u32, kind: MessageType, address: Ipv4Addr) -> Message {
    let mut message = Message::new_with_id(xid, address, NOBODY, NOBODY, NOBODY, &client.mac.0);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    // It tells the server whose the lease is, so that it stands in all messages alike (RFC 2131, 4.2).
    let code = u8::from(OptionCode::ClientIdentifier);
    let provided = client.provides.iter().find(|(provided, _)| *provided == code);
    options.insert(told(code, provided.map_or(&client.client_id, |(_, value)| value)));
    message
}

fn told(code: u8, value: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec()))
}

fn to_all(message: &Message, from: Ipv4Addr) -> Outgoing {
    Outgoing { payload: encode(message), from, to: Ipv4Addr::BROADCAST, mac: EVERYBODY }
}

fn to_server(message: &Message, lease: &Lease) -> Outgoing {
    Outgoing {
        payload: encode(message),
        from: lease.address,
        to: lease.server,
        mac: lease.server_mac,
    }
}

fn encode(message: &Message) -> Vec<u8> {
    // Options of at most 255 bytes can be written. The error's own words would only be linked.
    let mut bytes = message.to_vec().unwrap_or_else(|_| unreachable!("a message that fits"));
    // Relays may drop what is shorter than BOOTP's messages were (RFC 1542, 2.1).
    if bytes.len() < MIN_PACKET_SIZE {
        bytes.resize(MIN_PACKET_SIZE, 0);
    }
    bytes
}
