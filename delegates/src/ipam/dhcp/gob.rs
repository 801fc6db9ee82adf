//! Go's encoding of values, `encoding/gob`, as far as the DHCP daemon's protocol needs it: there is no maintained library
//! for it outside of Go.
//!
//! A stream describes each of its types before the first value of it, and fields are known by their names, so that both ends
//! may have others. See the documentation of Go's package encoding/gob.

mod decode;
mod encode;

pub use self::{
    decode::{Decoder, Types, length},
    encode::Encoder,
};

/// The longest message that is read: an answer of the DHCP daemon's has some hundred bytes.
pub const LONGEST: u64 = 1 << 20;

/// A type of what is sent: what Go's plugin and its daemon send each other has no others.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// `int` of any size.
    Int,
    /// `uint` of any size.
    Uint,
    /// `[]byte`, and `net.IP` and `net.IPMask`, which are such.
    Bytes,
    /// `string`
    String,
    /// A slice of any type but bytes: its name, and of what it is. Names are as a struct's.
    List(&'static str, &'static Type),
    /// A struct: its name and its fields in order. Names tell a stream's types from each other, and mean nothing else to the
    /// other end.
    Struct(&'static str, &'static [(&'static str, Type)]),
}

/// A value. Go sends no zero values: a field that is missing is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `bool`
    Bool(bool),
    /// `int` of any size.
    Int(i64),
    /// `uint` of any size; also the bits of floating-point numbers, byte-reversed.
    Uint(u64),
    /// `[]byte`
    Bytes(Vec<u8>),
    /// `string`
    String(String),
    /// A slice or an array.
    List(Vec<Value>),
    /// A map.
    Map(Vec<(Value, Value)>),
    /// A struct: the fields that are not zero.
    Struct(Vec<(String, Value)>),
    /// What encodes itself: only its own program knows what it means.
    Opaque(Vec<u8>),
}

impl Value {
    /// A struct's field, where it is not zero.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => {
                fields.iter().find(|(of, _)| of == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// A field that is a string; the empty one where it is zero.
    pub fn text(&self, name: &str) -> &str {
        match self.field(name) {
            Some(Self::String(text)) => text,
            _ => "",
        }
    }

    /// A field that is bytes; none where it is zero.
    pub fn bytes(&self, name: &str) -> &[u8] {
        match self.field(name) {
            Some(Self::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// A field that is a number; 0 where it is zero, or cannot be one of this kind.
    pub fn number(&self, name: &str) -> u64 {
        match self.field(name) {
            Some(Self::Uint(number)) => *number,
            Some(Self::Int(number)) => u64::try_from(*number).unwrap_or_default(),
            _ => 0,
        }
    }

    /// A field that is a list; the empty one where it is zero.
    pub fn list(&self, name: &str) -> &[Self] {
        match self.field(name) {
            Some(Self::List(all)) => all,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use proptest::prelude::*;

    use super::*;

    const HOST: Type =
        Type::Struct("Host", &[("Name", Type::String), ("Port", Type::Uint), ("Raw", Type::Bytes)]);

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    fn fields(all: &[(&str, Value)]) -> Value {
        Value::Struct(all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn through(of: Type, value: &Value) -> Value {
        let mut stream = Vec::new();
        Encoder::default().encode(&mut stream, &of, value).unwrap();
        Decoder::new(&stream[..]).decode().unwrap()
    }

    #[test]
    fn a_struct_is_written_as_go_does_it() {
        let mut stream = Vec::new();
        let mut encoder = Encoder::default();
        let value = fields(&[("Name", text("web")), ("Port", Value::Uint(8080))]);
        encoder.encode(&mut stream, &HOST, &value).unwrap();
        // The type's description, then the value: lengths, numbers and fields by Go's documentation.
        let described = [
            0x26, 0xff, 0x81, 0x03, 0x01, 0x01, 0x04, b'H', b'o', b's', b't', 0x01, 0xff, 0x82,
            0x00, 0x01, 0x03, 0x01, 0x04, b'N', b'a', b'm', b'e', 0x01, 0x0c, 0x00, 0x01, 0x04,
            b'P', b'o', b'r', b't', 0x01, 0x06, 0x00, 0x01, 0x03, b'R', b'a', b'w', 0x01, 0x0a,
            0x00, 0x00, 0x00,
        ];
        let described = [&[described.len() as u8 - 1][..], &described[1..]].concat();
        let is = [0x0b, 0xff, 0x82, 0x01, 0x03, b'w', b'e', b'b', 0x01, 0xfe, 0x1f, 0x90, 0x00];
        let is = [&[is.len() as u8 - 1][..], &is[1..]].concat();
        assert_eq!(stream, [&described[..], &is].concat());
        // A type is described once.
        stream.clear();
        encoder.encode(&mut stream, &HOST, &value).unwrap();
        assert_eq!(stream, is);
    }

    #[test]
    fn values_come_back_without_their_zeros() {
        const ALL: Type = Type::Struct("All", &[("Host", HOST), ("Name", Type::String)]);
        let host = fields(&[("Port", Value::Uint(u64::MAX)), ("Raw", Value::Bytes(vec![0, 255]))]);
        let value = fields(&[("Host", host), ("Name", text("here"))]);
        assert_eq!(through(ALL, &value), value);
        assert_eq!(through(ALL, &fields(&[])), fields(&[]));
        let zeros = fields(&[("Host", fields(&[("Port", Value::Uint(0))])), ("Name", text(""))]);
        assert_eq!(through(ALL, &zeros), fields(&[("Host", fields(&[]))]));
        assert_eq!(
            (value.text("none"), value.number("none"), value.list("Names").len()),
            ("", 0, 0)
        );
    }

    #[test]
    fn a_list_is_written_as_go_does_it() {
        const ALL: Type = Type::Struct("All", &[("L", Type::List("Ints", &Type::Int))]);
        let mut stream = Vec::new();
        let value = fields(&[("L", Value::List(vec![Value::Int(-2), Value::Int(0)]))]);
        Encoder::default().encode(&mut stream, &ALL, &value).unwrap();
        // A wireType of which the second field, for slices, is there: its name and id, and the id of its elements' type.
        let list = [
            0x0f, 0xff, 0x81, 0x02, 0x01, 0x01, 0x04, b'I', b'n', b't', b's', 0x01, 0xff, 0x82,
            0x00, 0x01, 0x04, 0x00, 0x00,
        ];
        let list = [&[list.len() as u8 - 1][..], &list[1..]].concat();
        let all = [
            0x12, 0xff, 0x83, 0x03, 0x01, 0x01, 0x03, b'A', b'l', b'l', 0x01, 0xff, 0x84, 0x00,
            0x01, 0x01, 0x01, 0x01, b'L', 0x01, 0xff, 0x82, 0x00, 0x00, 0x00,
        ];
        let all = [&[all.len() as u8 - 1][..], &all[1..]].concat();
        // In a list zeros are sent, too.
        let is = [0x07, 0xff, 0x84, 0x01, 0x02, 0x03, 0x00, 0x00];
        assert_eq!(stream, [&list[..], &all, &is].concat());
        assert_eq!(Decoder::new(&stream[..]).decode().unwrap(), value);
    }

    #[test]
    fn lists_of_structs_come_back() {
        const ALL: Type = Type::Struct("All", &[("Hosts", Type::List("Hosts", &HOST))]);
        let hosts =
            [fields(&[("Port", Value::Uint(1))]), fields(&[]), fields(&[("Name", text("b"))])];
        let value = fields(&[("Hosts", Value::List(hosts.to_vec()))]);
        assert_eq!(through(ALL, &value), value);
        assert_eq!(through(ALL, &fields(&[("Hosts", Value::List(vec![]))])), fields(&[]));
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let whole = {
            let mut stream = Vec::new();
            let value = fields(&[("Name", text("here"))]);
            Encoder::default().encode(&mut stream, &HOST, &value).unwrap();
            stream
        };
        for end in 0..whole.len() {
            assert!(Decoder::new(&whole[..end]).decode().is_err(), "cut at {end}");
        }
        // A length that nobody could send, a type that was not described, a type of itself without an end.
        for stream in
            [&[0xf8, 255, 255, 255, 255, 255, 255, 255, 255][..], &[3, 0xff, 0x82, 0], &[0x80]]
        {
            assert!(Decoder::new(stream).decode().is_err(), "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::new(&bytes[..]).decode();
        }

        #[test]
        fn any_change_of_a_stream_ends_in_a_value_or_an_error(at in 0_usize..46, to in any::<u8>()) {
            let mut stream = Vec::new();
            let value = fields(&[("Port", Value::Uint(1)), ("Name", text("here"))]);
            Encoder::default().encode(&mut stream, &HOST, &value).unwrap();
            if let Some(byte) = stream.get_mut(at) {
                *byte = to;
            }
            let _ = Decoder::new(&stream[..]).decode();
        }

        #[test]
        fn numbers_come_back(port in any::<u64>()) {
            prop_assert_eq!(through(HOST, &fields(&[("Port", Value::Uint(port))])).number("Port"), port);
        }
    }
}
