//! What servers say: as far as it is said to this client, and can be made use of.

use std::net::Ipv6Addr;

use dhcproto::{
    Decoder,
    v6::{MessageType, OptionCode, Status},
};

use super::{Client, Lease, options::Options};
use crate::dhcp::{
    lease::{FOR_EVER, Times},
    text,
};

/// The longest message that is read: servers have no more to say.
const LONGEST: usize = 2048;
/// The longest DUID (RFC 8415, 11.1).
const DUID: usize = 130;

/// An answer to this client's question.
#[derive(Debug)]
pub struct Answer<'a> {
    pub kind: MessageType,
    /// The server's DUID.
    pub server: &'a [u8],
    options: Options<'a>,
    iaid: u32,
}

/// An association, in an answer.
struct Association<'a> {
    renew: u32,
    rebind: u32,
    options: Options<'a>,
}

impl<'a> Answer<'a> {
    /// Reads a message; none where it is no server's, or said to another client or in another exchange (RFC 8415, 16).
    pub fn read(payload: &'a [u8], client: &Client, xid: [u8; 3]) -> Option<Self> {
        if payload.len() > LONGEST {
            return None;
        }
        let mut decoder = Decoder::new(payload);
        let kind = MessageType::from(decoder.read_u8().ok()?);
        let ours = decoder.read::<3>().ok()? == xid;
        let options = Options::new(payload.get(4..)?);
        let server = options.first(OptionCode::ServerId)?;
        let to_us = options.first(OptionCode::ClientId)? == client.duid;
        let named = (3..=DUID).contains(&server.len());
        (ours && to_us && named).then_some(Self { kind, server, options, iaid: client.iaid })
    }

    /// How much the server wants to be chosen.
    pub fn preference(&self) -> u8 {
        self.options
            .first(OptionCode::Preference)
            .and_then(|value| value.first().copied())
            .unwrap_or(0)
    }

    /// What the server says of the whole, or of the association, where that is not that all is well.
    pub fn status(&self) -> Option<(Status, String)> {
        let association = self.association().map(|association| association.options);
        [self.options].into_iter().chain(association).find_map(status)
    }

    /// Whether the server says of an address that its time is over.
    pub fn ends(&self, address: Ipv6Addr) -> bool {
        let association = self.association();
        let addresses = association.iter().flat_map(|one| one.options.all(OptionCode::IAAddr));
        let mut times = addresses.filter_map(times);
        times.any(|(other, _, valid)| other == address && valid == 0)
    }

    /// The lease; of several addresses that which is wanted, or else the first. The error says what is wrong with it.
    pub fn lease(&self, wanted: Option<Ipv6Addr>) -> Result<Lease, String> {
        let association = self.association().ok_or("it has nothing for this client")?;
        // Such an answer is to be thrown away (RFC 8415, 21.4).
        if association.renew > association.rebind && association.rebind > 0 {
            return Err(format!("T1 {} is after T2 {}", association.renew, association.rebind));
        }
        let addresses = association.options.all(OptionCode::IAAddr);
        let usable: Vec<_> = addresses.filter_map(leased).collect();
        let (address, preferred, valid) = *usable
            .iter()
            .find(|(address, ..)| Some(*address) == wanted)
            .or(usable.first())
            .ok_or("it has no address that can be used")?;
        // Zero leaves it to the client.
        let given = |time: u32, default: u32| if time > 0 { time } else { default };
        let (half, four_fifths) = (preferred.div_ceil(2), preferred - preferred / 5);
        let renew = given(association.renew, half);
        let times =
            Times::of(Some(valid), Some(renew), Some(given(association.rebind, four_fifths)));
        let times = times.ok_or("the lease ends as it begins")?;
        let names = self.options.first(OptionCode::DomainSearchList);
        let servers = self.options.first(OptionCode::DomainNameServers);
        let servers = servers.and_then(|value| Decoder::new(value).read_ipv6s(value.len()).ok());
        Ok(Lease {
            address,
            server: self.server.to_vec(),
            preferred_time: (preferred != FOR_EVER).then_some(preferred),
            lease_time: times.end,
            renew_after: times.renew,
            rebind_after: times.rebind,
            dns: servers.into_iter().flatten().filter(|server| is_host(*server)).collect(),
            search: names.map(|value| text::dns_names(Decoder::new(value))).unwrap_or_default(),
        })
    }

    fn association(&self) -> Option<Association<'a>> {
        self.options.all(OptionCode::IANA).find_map(|value| {
            let mut decoder = Decoder::new(value);
            let iaid = decoder.read_u32().ok()?;
            let (renew, rebind) = (decoder.read_u32().ok()?, decoder.read_u32().ok()?);
            let options = Options::new(value.get(12..)?);
            (iaid == self.iaid).then_some(Association { renew, rebind, options })
        })
    }
}

/// Where the options of an address begin.
const ADDRESS: usize = 24;

/// An address with its preferred and its valid time.
fn times(value: &[u8]) -> Option<(Ipv6Addr, u32, u32)> {
    let mut decoder = Decoder::new(value);
    let address = Ipv6Addr::from(decoder.read::<16>().ok()?);
    Some((address, decoder.read_u32().ok()?, decoder.read_u32().ok()?))
}

/// The same, where it is one that lasts and nothing is wrong with it.
fn leased(value: &[u8]) -> Option<(Ipv6Addr, u32, u32)> {
    let (address, preferred, valid) = times(value)?;
    let well = status(Options::new(value.get(ADDRESS..)?)).is_none();
    (is_host(address) && preferred <= valid && valid > 0 && well)
        .then_some((address, preferred, valid))
}

fn status(options: Options<'_>) -> Option<(Status, String)> {
    let value = options.first(OptionCode::StatusCode)?;
    let status = Decoder::new(value).read_u16().ok().map(Status::from)?;
    let why = text::printable(&String::from_utf8_lossy(value.get(2..)?));
    (status != Status::Success).then_some((status, why))
}

/// Whether it can be the address of one host beyond the link.
fn is_host(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}
