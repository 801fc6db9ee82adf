//! What a client says (RFC 8415, 18.2).

use std::{net::Ipv6Addr, time::Duration};

use dhcproto::{
    Encodable,
    v6::{DhcpOption, IAAddr, IANA, Message, MessageType, ORO, OptionCode},
};

use super::Client;

/// What is asked for: name resolution, and that which everybody has to ask for (RFC 8415, 21.7).
const REQUESTS: [OptionCode; 3] =
    [OptionCode::DomainNameServers, OptionCode::DomainSearchList, OptionCode::SolMaxRt];

/// A message; with the server that it is for, where it is for one, and an address that it is about.
pub fn message(
    client: &Client,
    kind: MessageType,
    xid: [u8; 3],
    elapsed: Duration,
    server: Option<&[u8]>,
    address: Option<Ipv6Addr>,
) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(client.duid.clone()));
    if let Some(server) = server {
        options.insert(DhcpOption::ServerId(server.to_vec()));
    }
    let hundredths = u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX);
    options.insert(DhcpOption::ElapsedTime(hundredths));
    let of_nothing = |addr| IAAddr { addr, preferred_life: 0, valid_life: 0, opts: <_>::default() };
    let opts = address.into_iter().map(|addr| DhcpOption::IAAddr(of_nothing(addr))).collect();
    // The times are the server's to say.
    options.insert(DhcpOption::IANA(IANA { id: client.iaid, t1: 0, t2: 0, opts }));
    if !matches!(kind, MessageType::Release | MessageType::Decline) {
        options.insert(DhcpOption::ORO(ORO { opts: REQUESTS.to_vec() }));
    }
    // Options of at most 130 bytes can be written. The error's own words would only be linked.
    message.to_vec().unwrap_or_else(|_| unreachable!("a message that fits"))
}
