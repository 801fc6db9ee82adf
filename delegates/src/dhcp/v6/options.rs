//! The options of a message, or of an option.

use dhcproto::{Decoder, v6::OptionCode};

/// Options one after the other, each with the bytes that it has. What claims to be longer than all ends them.
///
/// dhcproto's own parser of them ends at the first one that makes no sense, calls itself for options in options as often as a
/// message says, and subtracts from lengths without a look. So the options are walked here, and its decoder reads what is
/// in them.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// All options of a kind.
    pub fn all(self, code: OptionCode) -> impl Iterator<Item = &'a [u8]> {
        let mut decoder = Decoder::new(self.0);
        let next = move || {
            let (code, length) = (decoder.read_u16().ok()?, decoder.read_u16().ok()?);
            Some((OptionCode::from(code), decoder.read_slice(usize::from(length)).ok()?))
        };
        std::iter::from_fn(next).filter(move |(other, _)| *other == code).map(|(_, value)| value)
    }

    /// The first option of a kind.
    pub fn first(self, code: OptionCode) -> Option<&'a [u8]> {
        self.all(code).next()
    }
}
