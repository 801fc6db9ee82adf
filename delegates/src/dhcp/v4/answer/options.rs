//! The options of a message, wherever they stand in it.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Range};

use dhcproto::{
    Decoder,
    v4::{OptionCode, borrowed::DhcpOptionIterator},
};
use ipnet::Ipv4Net;

use super::HEAD;
use crate::dhcp::text;

/// The fields for a boot file's and a server's name: option 52 says that they hold options.
const FILE: Range<usize> = 108..236;
const SNAME: Range<usize> = 44..108;

/// Options by number, with the pieces of one that is written in several put together (RFC 3396).
///
/// One that makes no sense is as if it were not there, and the others hold. dhcproto finds the options and reads their
/// values; its own parser of whole messages ends at the first one that makes no sense.
#[derive(Debug, Default)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The options of a whole message.
    pub fn read(payload: &[u8]) -> Self {
        let mut options = Self::default();
        options.add(payload.get(HEAD..));
        // Only the first field can say so: what stands in the others is not looked at again.
        let overload = options.byte(OptionCode::OptionOverload).unwrap_or(0);
        if overload & 1 != 0 {
            options.add(payload.get(FILE));
        }
        if overload & 2 != 0 {
            options.add(payload.get(SNAME));
        }
        options
    }

    fn add(&mut self, field: Option<&[u8]>) {
        for option in DhcpOptionIterator::new(field.unwrap_or_default()) {
            self.0.entry(option.code().into()).or_default().extend(option.data());
        }
    }

    fn value(&self, code: OptionCode) -> Option<(Decoder<'_>, usize)> {
        let value = self.0.get(&code.into())?;
        Some((Decoder::new(value), value.len()))
    }

    // What is of one length and there twice was repeated, not continued: the first counts.

    /// A number of one byte.
    pub fn byte(&self, code: OptionCode) -> Option<u8> {
        self.value(code)?.0.read_u8().ok()
    }

    /// A number of two bytes.
    pub fn half(&self, code: OptionCode) -> Option<u16> {
        self.value(code)?.0.read_u16().ok()
    }

    /// A number of four bytes.
    pub fn word(&self, code: OptionCode) -> Option<u32> {
        self.value(code)?.0.read_u32().ok()
    }

    /// An address.
    pub fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        self.word(code).map(Ipv4Addr::from)
    }

    /// Addresses.
    pub fn addresses(&self, code: OptionCode) -> Option<Vec<Ipv4Addr>> {
        let (mut value, length) = self.value(code)?;
        value.read_ipv4s(length).ok()
    }

    /// Pairs of addresses.
    pub fn pairs(&self, code: OptionCode) -> Option<Vec<(Ipv4Addr, Ipv4Addr)>> {
        let (mut value, length) = self.value(code)?;
        value.read_pair_ipv4s(length).ok()
    }

    /// Text, with a sign in the place of what is none.
    pub fn text(&self, code: OptionCode) -> Option<String> {
        self.0.get(&code.into()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Domain names, as DNS writes them.
    pub fn names(&self, code: OptionCode) -> Option<Vec<String>> {
        self.value(code).map(|(value, _)| text::dns_names(value))
    }

    /// Networks by as many of their bytes as their prefixes need, each with a router (RFC 3442).
    pub fn networks(&self, code: OptionCode) -> Option<Vec<(Ipv4Net, Ipv4Addr)>> {
        let (mut value, _) = self.value(code)?;
        let mut networks = Vec::new();
        while let Ok(prefix) = value.read_u8() {
            let mut address = [0; 4];
            let bytes = value.read_slice(usize::from(prefix.div_ceil(8))).ok()?;
            address.get_mut(..bytes.len())?.copy_from_slice(bytes);
            let network = Ipv4Net::new(address.into(), prefix).ok()?;
            networks.push((network, value.read_ipv4(4).ok()?));
        }
        Some(networks)
    }
}
