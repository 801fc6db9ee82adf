//! What servers say: as far as it is said to this client, and can be made use of.

mod options;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use dhcproto::v4::{HType, MAGIC, MessageType, Opcode, OptionCode, borrowed::Message as Raw};
use ipnet::Ipv4Net;

use self::options::Options;
use crate::{
    dhcp::{Client, Lease, lease::Times, text},
    net::Mac,
};

/// The longest message that this client takes, in bytes with all headers (option 57): every link that carries IPv6 carries it
/// in one piece.
pub const MAX_MESSAGE: u16 = 1280;
/// Up to the options: the fixed fields and the number that says that there are options.
const HEAD: usize = 240;
/// The place of that number, and of the two fields that may hold options too.
const MAGIC_AT: std::ops::Range<usize> = 236..HEAD;

/// An answer to this client's question.
#[derive(Debug)]
pub struct Answer {
    pub kind: MessageType,
    /// The server, as it calls itself.
    pub server: Option<Ipv4Addr>,
    address: Ipv4Addr,
    options: Options,
}

impl Answer {
    /// Reads a message; none where it is no server's, or said to another client or in another exchange.
    pub fn read(payload: &[u8], client: &Client, xid: u32) -> Option<Self> {
        if payload.len() > usize::from(MAX_MESSAGE) || payload.get(MAGIC_AT)? != MAGIC {
            return None;
        }
        let raw = Raw::new(payload).ok()?;
        // The length of the hardware address has to be looked at before the address is.
        let ours = raw.opcode() == Opcode::BootReply
            && raw.xid() == xid
            && raw.htype() == HType::Eth
            && usize::from(raw.hlen()) == client.mac.0.len()
            && raw.chaddr() == client.mac.0;
        if !ours {
            return None;
        }
        let options = Options::read(payload);
        let kind = options.byte(OptionCode::MessageType)?.into();
        let server =
            options.address(OptionCode::ServerIdentifier).filter(|server| is_host(*server));
        Some(Self { kind, server, address: raw.yiaddr(), options })
    }

    /// Why a server refuses.
    pub fn refusal(&self) -> String {
        match self.options.text(OptionCode::Message) {
            Some(text) if !text.is_empty() => text::printable(&text),
            _ => "it does not say why".to_owned(),
        }
    }

    /// The lease that is offered or confirmed, by the server that names itself, or else by the one that is known. The error
    /// says what is wrong with it.
    pub fn lease(&self, from: Mac, known: Option<Ipv4Addr>) -> Result<Lease, String> {
        let address = self.address;
        if !is_host(address) {
            return Err(format!("{address} is no address for a host"));
        }
        let server = self.server.or(known).ok_or("the server does not name itself")?;
        let prefix = self.prefix()?;
        let times = Times::of(
            self.options.word(OptionCode::AddressLeaseTime),
            self.options.word(OptionCode::Renewal),
            self.options.word(OptionCode::Rebinding),
        )
        .ok_or("the lease ends as it begins")?;
        let (domain, search) = self.domains();
        Ok(Lease {
            address,
            prefix,
            server,
            server_mac: from,
            lease_time: times.end,
            renew_after: times.renew,
            rebind_after: times.rebind,
            routers: self.hosts(OptionCode::Router),
            static_routes: self.static_routes(),
            classless_routes: self.classless_routes(),
            mtu: self.options.half(OptionCode::InterfaceMtu).filter(|mtu| *mtu >= 68),
            dns: self.hosts(OptionCode::DomainNameServer),
            domain,
            search,
        })
    }

    fn prefix(&self) -> Result<u8, String> {
        match self.options.address(OptionCode::SubnetMask) {
            None => Ok(class(self.address).prefix_len()),
            Some(mask) => {
                ipnet::ipv4_mask_to_prefix(mask).map_err(|_| format!("{mask} is no subnet mask"))
            }
        }
    }

    fn hosts(&self, code: OptionCode) -> Vec<Ipv4Addr> {
        let all = self.options.addresses(code).unwrap_or_default();
        all.into_iter().filter(|host| is_host(*host)).collect()
    }

    /// Option 33: pairs of a destination and a router. A default route is none of these (RFC 2132, 5.8).
    fn static_routes(&self) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let pairs = self.options.pairs(OptionCode::StaticRoutingTable).unwrap_or_default();
        let usable = |(to, router): &(Ipv4Addr, Ipv4Addr)| is_host(*to) && is_host(*router);
        let net = |to| match class(to) {
            net if net.network() == to => net,
            _ => to.into(),
        };
        pairs.into_iter().filter(usable).map(|(to, router)| (net(to), router)).collect()
    }

    /// Option 121.
    fn classless_routes(&self) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let routes = self.options.networks(OptionCode::ClasslessStaticRoute).unwrap_or_default();
        let usable = |router: Ipv4Addr| router.is_unspecified() || is_host(router);
        routes.into_iter().filter(|(_, router)| usable(*router)).collect()
    }

    /// The domain and the domains to search. Of old, servers write several names into the option for one.
    fn domains(&self) -> (Option<String>, Vec<String>) {
        let names = self.options.text(OptionCode::DomainName);
        let names = names.map(|names| text::domains(&names)).unwrap_or_default();
        let search = match self.options.names(OptionCode::DomainSearch) {
            Some(names) => names,
            None if names.len() > 1 => names.clone(),
            None => Vec::new(),
        };
        (names.into_iter().next(), search)
    }
}

/// Whether it can be the address of one host on a network.
fn is_host(address: Ipv4Addr) -> bool {
    address.octets()[0] != 0 && !address.is_loopback() && address.octets()[0] < 224
}

/// The network of an address by its class (RFC 950), of a host's.
fn class(address: Ipv4Addr) -> Ipv4Net {
    let length = match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    };
    Ipv4Net::new_assert(address, length).trunc()
}
