//! Values to a stream.

use std::io::{self, Write};

use super::{Type, Value};

/// Ids of the types that every stream knows.
const INT: i64 = 2;
const UINT: i64 = 3;
const BYTES: i64 = 5;
const STRING: i64 = 6;
/// The first id that a stream gives away.
const FIRST: i64 = 65;

/// Writes one stream, and knows the types that it has described there.
#[derive(Default)]
pub struct Encoder {
    /// The types' names, in the order of their ids.
    described: Vec<&'static str>,
}

impl Encoder {
    /// Writes a struct, after the descriptions that the stream lacks. A field of another type than `of` says is left out.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub fn encode(&mut self, to: &mut impl Write, of: &Type, value: &Value) -> io::Result<()> {
        let mut out = Vec::new();
        let mut body = Vec::new();
        int(&mut body, self.describe(&mut out, of));
        put(&mut body, of, value);
        message(&mut out, &body);
        to.write_all(&out)
    }

    /// The id of a type, which is described where the stream does not know it yet, and before it what it is made of.
    fn describe(&mut self, out: &mut Vec<u8>, of: &Type) -> i64 {
        let (name, parts) = match of {
            Type::Int => return INT,
            Type::Uint => return UINT,
            Type::Bytes => return BYTES,
            Type::String => return STRING,
            Type::List(name, of) => (*name, Parts::Elements(of)),
            Type::Struct(name, fields) => (*name, Parts::Fields(fields)),
        };
        if let Some(at) = self.described.iter().position(|one| *one == name) {
            return id(at);
        }
        let fields: Vec<_> = match parts {
            Parts::Elements(of) => vec![("", self.describe(out, of))],
            Parts::Fields(fields) => {
                fields.iter().map(|(name, part)| (*name, self.describe(out, part))).collect()
            }
        };
        let own = id(self.described.len());
        self.described.push(name);

        // A wireType, of which the field for slices (2) or structs (3) is there, and in it a CommonType with name and id.
        let mut body = Vec::new();
        int(&mut body, -own);
        let is_list = matches!(parts, Parts::Elements(_));
        body.extend([if is_list { 2 } else { 3 }, 1, 1]);
        bytes(&mut body, name.as_bytes());
        uint(&mut body, 1);
        int(&mut body, own);
        body.push(0);
        if let (true, [(_, element)]) = (is_list, fields.as_slice()) {
            uint(&mut body, 1);
            int(&mut body, *element);
            body.extend([0, 0]);
            message(out, &body);
            return own;
        }
        if !fields.is_empty() {
            uint(&mut body, 1);
            uint(&mut body, fields.len() as u64);
        }
        for (name, part) in &fields {
            uint(&mut body, 1);
            bytes(&mut body, name.as_bytes());
            uint(&mut body, 1);
            int(&mut body, *part);
            body.push(0);
        }
        body.extend([0, 0]);
        message(out, &body);
        own
    }
}

/// What a described type is made of.
#[derive(Clone, Copy)]
enum Parts {
    Elements(&'static Type),
    Fields(&'static [(&'static str, Type)]),
}

fn id(at: usize) -> i64 {
    FIRST + i64::try_from(at).unwrap_or_default()
}

/// A message: its length, and it.
fn message(out: &mut Vec<u8>, body: &[u8]) {
    bytes(out, body);
}

fn put(out: &mut Vec<u8>, of: &Type, value: &Value) {
    match (of, value) {
        (Type::Int, Value::Int(number)) => int(out, *number),
        (Type::List(_, of), Value::List(all)) => {
            uint(out, all.len() as u64);
            all.iter().for_each(|one| put(out, of, one));
        }
        (Type::Uint, Value::Uint(number)) => uint(out, *number),
        (Type::Bytes, Value::Bytes(all)) => bytes(out, all),
        (Type::String, Value::String(text)) => bytes(out, text.as_bytes()),
        (Type::Struct(_, fields), value) => {
            let mut last = -1;
            for (at, (name, of)) in (0..).zip(*fields) {
                if let Some(value) = value.field(name).filter(|value| is_sent(of, value)) {
                    uint(out, u64::try_from(at - last).unwrap_or_default());
                    put(out, of, value);
                    last = at;
                }
            }
            out.push(0);
        }
        // Of another type: as much as nothing.
        _ => uint(out, 0),
    }
}

/// Whether a field is sent: it is not zero, and of its type.
fn is_sent(of: &Type, value: &Value) -> bool {
    match (of, value) {
        (Type::Int, Value::Int(number)) => *number != 0,
        (Type::List(..), Value::List(all)) => !all.is_empty(),
        (Type::Uint, Value::Uint(number)) => *number != 0,
        (Type::Bytes, Value::Bytes(all)) => !all.is_empty(),
        (Type::String, Value::String(text)) => !text.is_empty(),
        (Type::Struct(..), Value::Struct(_)) => true,
        _ => false,
    }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    uint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Below 128 one byte; else the negated number of bytes, and these, the highest first.
fn uint(out: &mut Vec<u8>, number: u64) {
    if let Ok(small @ 0..128) = u8::try_from(number) {
        return out.push(small);
    }
    let all = number.to_be_bytes();
    let zeros = usize::try_from(number.leading_zeros() / 8).unwrap_or_default();
    let length = i8::try_from(all.len() - zeros).unwrap_or_default();
    out.push((-length).cast_unsigned());
    out.extend(&all[zeros..]);
}

/// The sign is the lowest bit, and a negative number's others are inverted.
fn int(out: &mut Vec<u8>, number: i64) {
    uint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}
