//! The options of a message, wherever they stand in it.

use std::{collections::BTreeMap, ops::Range};

use dhcproto::v4::{
    Decodable, Decoder, DhcpOption, Encoder, OptionCode, borrowed::DhcpOptionIterator,
    encode_long_opt_bytes,
};

use super::HEAD;

/// The fields for a boot file's and a server's name: option 52 says that they hold options.
const FILE: Range<usize> = 108..236;
const SNAME: Range<usize> = 44..108;

/// Options by number, with the pieces of one that is written in several put together (RFC 3396).
///
/// One that makes no sense is as if it were not there, and the others hold.
#[derive(Debug, Default)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The options of a whole message.
    pub fn read(payload: &[u8]) -> Self {
        let mut options = Self::default();
        options.add(payload.get(HEAD..));
        let overload = match options.get(OptionCode::OptionOverload) {
            Some(DhcpOption::OptionOverload(fields)) => fields,
            _ => 0,
        };
        // Only the first field can say so: what stands in the others is not looked at again.
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

    /// One option.
    pub fn get(&self, code: OptionCode) -> Option<DhcpOption> {
        let value = self.0.get(&code.into())?;
        // What is there twice and is of one length was repeated, not continued.
        let length = match code {
            OptionCode::SubnetMask | OptionCode::ServerIdentifier => 4,
            _ => value.len(),
        };
        let mut bytes = Vec::new();
        let value = &value[..length.min(value.len())];
        encode_long_opt_bytes(code, value, &mut Encoder::new(&mut bytes)).ok()?;
        DhcpOption::decode(&mut Decoder::new(&bytes)).ok()
    }
}
