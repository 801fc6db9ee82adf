//! A stream to values.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read},
};

use super::{LONGEST, Value};

/// How deep a value may be.
const DEEPEST: usize = 16;
/// The most values in one message: some take no byte.
const MOST: usize = 1 << 16;
/// The most types that a stream may describe.
const MOST_TYPES: usize = 256;

/// A type as the stream describes it.
#[derive(Clone, Debug)]
enum Wire {
    List(i64),
    /// How many there are is part of the type, and sent again.
    Map(i64, i64),
    Struct(Vec<(String, i64)>),
    Opaque,
}

/// The types that a stream has described.
#[derive(Default)]
pub struct Types(HashMap<i64, Wire>);

/// Reads one stream.
pub struct Decoder<R> {
    from: R,
    types: Types,
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no gob: {why}"))
}

impl Types {
    /// Reads one message, without its length: a value, or `None` where it describes a type.
    ///
    /// # Errors
    ///
    /// `InvalidData` for what Go does not write.
    pub fn read(&mut self, message: &[u8]) -> io::Result<Option<Value>> {
        let mut body = Body { left: message, budget: MOST };
        let id = body.int()?;
        if id < 0 {
            let described = body.wire_type()?;
            let own = id.checked_neg().ok_or_else(|| wrong("a type's id"))?;
            if self.0.len() == MOST_TYPES || self.0.insert(own, described).is_some() {
                return Err(wrong("a type is described twice, or there are too many"));
            }
            return Ok(None);
        }
        let is_struct = matches!(self.0.get(&id), Some(Wire::Struct(_)));
        if !is_struct && body.uint()? != 0 {
            return Err(wrong("a value that stands alone begins with 0"));
        }
        body.value(&self.0, id, 0).map(Some)
    }
}

/// What the first byte of a message says of its length: the length, or in how many bytes it follows, the highest first.
///
/// # Errors
///
/// `InvalidData` where it would be longer than 8 bytes.
pub fn length(first: u8) -> io::Result<Result<u64, usize>> {
    match first {
        small @ 0..128 => Ok(Ok(small.into())),
        negated => match usize::from(negated.wrapping_neg()) {
            count @ 1..=8 => Ok(Err(count)),
            _ => Err(wrong("a length")),
        },
    }
}

impl<R: Read> Decoder<R> {
    /// Reads from here on.
    pub fn new(from: R) -> Self {
        Self { from, types: Types::default() }
    }

    /// The next value.
    ///
    /// # Errors
    ///
    /// Those of the stream (`UnexpectedEof` at its end), `InvalidData` for what Go does not write.
    pub fn decode(&mut self) -> io::Result<Value> {
        loop {
            let body = self.message()?;
            if let Some(value) = self.types.read(&body)? {
                return Ok(value);
            }
        }
    }

    fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut first = [0];
        self.from.read_exact(&mut first)?;
        let length = match length(first[0])? {
            Ok(length) => length,
            Err(count) => {
                let mut all = [0; 8];
                let at = all.len() - count;
                self.from.read_exact(&mut all[at..])?;
                u64::from_be_bytes(all)
            }
        };
        if length > LONGEST {
            return Err(wrong(&format!("a message of {length} bytes")));
        }
        let mut body = Vec::new();
        let read = self.from.by_ref().take(length).read_to_end(&mut body)?;
        if read as u64 != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }
}

/// What is left of a message.
struct Body<'a> {
    left: &'a [u8],
    /// How many values may still come.
    budget: usize,
}

impl Body<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let (taken, left) =
            self.left.split_at_checked(count).ok_or_else(|| wrong("it is cut off"))?;
        self.left = left;
        Ok(taken)
    }

    fn uint(&mut self) -> io::Result<u64> {
        match self.take(1)?[0] {
            small @ 0..128 => Ok(small.into()),
            negated => {
                let mut all = [0; 8];
                let count = usize::from(negated.wrapping_neg());
                let at = all.len().checked_sub(count).ok_or_else(|| wrong("a number"))?;
                all[at..].copy_from_slice(self.take(count)?);
                Ok(u64::from_be_bytes(all))
            }
        }
    }

    fn int(&mut self) -> io::Result<i64> {
        let number = self.uint()?;
        let half = (number >> 1).cast_signed();
        Ok(if number & 1 == 1 { !half } else { half })
    }

    fn count(&mut self) -> io::Result<usize> {
        let count = usize::try_from(self.uint()?).map_err(|_| wrong("a count"))?;
        if count > self.budget {
            return Err(wrong("too many values"));
        }
        Ok(count)
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let count = usize::try_from(self.uint()?).map_err(|_| wrong("a length"))?;
        Ok(self.take(count)?.to_vec())
    }

    fn string(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| wrong("a string that is no UTF-8"))
    }

    /// Calls `field` with the number of each field of a struct, from 0.
    fn fields(
        &mut self,
        mut field: impl FnMut(&mut Self, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut next = 0_u64;
        loop {
            match self.uint()? {
                0 => return Ok(()),
                delta => {
                    next = next.checked_add(delta).ok_or_else(|| wrong("a field"))?;
                    field(self, next - 1)?;
                }
            }
        }
    }

    /// A wireType: of its fields (array, slice, struct, map, and three of what encodes itself) one is there.
    fn wire_type(&mut self) -> io::Result<Wire> {
        let mut found = None;
        self.fields(|body, kind| {
            let (mut ids, mut members) = ([0; 2], Vec::new());
            body.fields(|body, part| match (kind, part) {
                // A CommonType: the name and the id again.
                (_, 0) => body.fields(|body, part| match part {
                    0 => body.bytes().map(drop),
                    1 => body.int().map(drop),
                    _ => Err(wrong("a type's name")),
                }),
                (0 | 1 | 3, 1) => body.int().map(|id| ids[0] = id),
                (0 | 3, 2) => body.int().map(|id| ids[1] = id),
                (2, 1) => {
                    for _ in 0..body.count()? {
                        let mut member = (String::new(), 0);
                        body.fields(|body, part| match part {
                            0 => body.string().map(|name| member.0 = name),
                            1 => body.int().map(|id| member.1 = id),
                            _ => Err(wrong("a field's type")),
                        })?;
                        members.push(member);
                    }
                    Ok(())
                }
                _ => Err(wrong("a type's description")),
            })?;
            found = Some(match kind {
                0 | 1 => Wire::List(ids[0]),
                2 => Wire::Struct(members),
                3 => Wire::Map(ids[0], ids[1]),
                4..=6 => Wire::Opaque,
                _ => return Err(wrong("a kind of type")),
            });
            Ok(())
        })?;
        found.ok_or_else(|| wrong("a type without a description"))
    }

    fn value(&mut self, types: &HashMap<i64, Wire>, id: i64, depth: usize) -> io::Result<Value> {
        if depth > DEEPEST || self.budget == 0 {
            return Err(wrong("it is too deep, or too much"));
        }
        self.budget -= 1;
        Ok(match id {
            1 => Value::Bool(self.uint()? != 0),
            2 => Value::Int(self.int()?),
            // Floating-point numbers are sent as such.
            3 | 4 => Value::Uint(self.uint()?),
            5 => Value::Bytes(self.bytes()?),
            6 => Value::String(self.string()?),
            id => match types.get(&id).ok_or_else(|| wrong("a type that was not described"))? {
                Wire::Opaque => Value::Opaque(self.bytes()?),
                Wire::List(of) => {
                    let count = self.count()?;
                    Value::List(
                        (0..count)
                            .map(|_| self.value(types, *of, depth + 1))
                            .collect::<Result<_, _>>()?,
                    )
                }
                Wire::Map(key, of) => {
                    let count = self.count()?;
                    let pair = |body: &mut Self| {
                        let key = body.value(types, *key, depth + 1)?;
                        Ok::<_, io::Error>((key, body.value(types, *of, depth + 1)?))
                    };
                    Value::Map((0..count).map(|_| pair(self)).collect::<Result<_, _>>()?)
                }
                Wire::Struct(members) => {
                    let mut all = Vec::new();
                    self.fields(|body, number| {
                        let member = usize::try_from(number).ok().and_then(|at| members.get(at));
                        let (name, of) =
                            member.ok_or_else(|| wrong("a field that its type has not"))?;
                        all.push((name.clone(), body.value(types, *of, depth + 1)?));
                        Ok(())
                    })?;
                    Value::Struct(all)
                }
            },
        })
    }
}
