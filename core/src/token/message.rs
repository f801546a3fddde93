//! The two-field message inside a cookie: field 1 `address` (string), field 2 `expires` (uint64).
//!
//! The reader accepts byte for byte what Envoy's protobuf runtime accepts (conformance §1.3; pb-*, fuzzpb-*). Two fields do
//! not need a generated parser, and the usual ones refuse what Envoy takes: a known field with another wire type is an
//! unknown field there.

use core::ops::Range;

use crate::limits::ADDRESS_MAX;
use crate::planted::Bug;

/// The longest message that is written: both tags, a length of two bytes, the address, and a varint of ten bytes.
pub(super) const MESSAGE_MAX: usize = 1 + 2 + ADDRESS_MAX + 1 + VARINT_MAX;

const VARINT_MAX: usize = 10;
/// Tags and lengths have 32 bits, so five bytes at most.
const SHORT_VARINT_MAX: usize = 5;
/// Groups may nest this deep (pb-075 and pb-077).
const DEPTH_MAX: u32 = 100;
const ADDRESS_TAG: u8 = 0x0a;
const EXPIRES_TAG: u8 = 0x10;

/// What a message says. Of a repeated field the last one counts (pb-013 to pb-028).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    /// Where the address is, in valid UTF-8; empty when absent.
    pub(super) address: Range<usize>,
    /// Zero when absent.
    pub(super) expires: u64,
}

/// A message in its canonical form: address first, `expires` only when it is not zero (conformance §1.3).
pub(super) struct Written {
    len: usize,
    bytes: [u8; MESSAGE_MAX],
}

/// Reads all of `bytes`; `None`: they are no message.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let mut message = Message { address: 0..0, expires: 0 };
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        match reader.tag()? {
            (1, Wire::Bytes) if Bug::FirstAddress.is_in() && !message.address.is_empty() => {
                reader.bytes()?;
            }
            (1, Wire::Bytes) => {
                let address = reader.bytes()?;
                if !is_ascii(address) && !Bug::AnyBytes.is_in() {
                    core::str::from_utf8(address).ok()?;
                }
                let end = bytes.len() - reader.0.len();
                message.address = end - address.len()..end;
            }
            (2, Wire::Varint) => message.expires = reader.varint(VARINT_MAX)?,
            (field, wire) => reader.skip(field, wire, 0)?,
        }
    }
    Some(message)
}

impl Written {
    /// The message for `address`, which is cut at [`ADDRESS_MAX`] bytes.
    pub(super) fn new(address: &[u8], expires: u64) -> Self {
        let address = address.get(..ADDRESS_MAX).unwrap_or(address);
        let mut written = Self { len: 0, bytes: [0; MESSAGE_MAX] };
        written.put(&[ADDRESS_TAG]);
        written.put_varint(address.len() as u64);
        written.put(address);
        if expires != 0 {
            written.put(&[EXPIRES_TAG]);
            written.put_varint(expires);
        }
        written
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[(value & 0x7f) as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[(value & 0x7f) as u8]);
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Group,
    GroupEnd,
    Fixed32,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Nearly all have one byte.
    #[inline]
    fn varint(&mut self, bytes_max: usize) -> Option<u64> {
        match self.0 {
            [byte @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_varint(bytes_max),
        }
    }

    /// Bits above 64 are dropped without complaint (pb-139 to pb-143); an eleventh byte is an error (pb-137).
    fn long_varint(&mut self, bytes_max: usize) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        while shift < 7 * bytes_max {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
        None
    }

    /// Field number and wire type. The tag is cut to 32 bits: `8a 80 80 80 10` is field 1 and `80 80 80 80 10` is
    /// field 0, which is an error (pb-053).
    #[inline]
    fn tag(&mut self) -> Option<(u32, Wire)> {
        let tag = self.varint(SHORT_VARINT_MAX)? & u64::from(u32::MAX);
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::Group,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return None,
        };
        let field = u32::try_from(tag >> 3).ok().filter(|&field| field != 0)?;
        Some((field, wire))
    }

    /// The length is not cut to 32 bits: a longer one exceeds every message.
    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint(SHORT_VARINT_MAX)?).ok()?;
        self.take(len)
    }

    /// Steps over an unknown field. A group must end with its own number; what is in it does not count (pb-079).
    fn skip(&mut self, field: u32, wire: Wire, depth: u32) -> Option<()> {
        match wire {
            Wire::Varint => drop(self.varint(VARINT_MAX)?),
            Wire::Fixed64 => drop(self.take(8)?),
            Wire::Bytes => drop(self.bytes()?),
            Wire::Fixed32 => drop(self.take(4)?),
            Wire::GroupEnd => return None,
            Wire::Group if depth == DEPTH_MAX => return None,
            Wire::Group => loop {
                match self.tag()? {
                    (end, Wire::GroupEnd) if end == field => break,
                    (inner, wire) => self.skip(inner, wire, depth + 1)?,
                }
            },
        }
        Some(())
    }
}

/// As `<[u8]>::is_ascii`, but sooner done with the usual address.
fn is_ascii(text: &[u8]) -> bool {
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(front), Some(back)) if text.len() <= 16 => {
            (u64::from_ne_bytes(*front) | u64::from_ne_bytes(*back)) & 0x8080_8080_8080_8080 == 0
        }
        _ => text.is_ascii(),
    }
}

#[cfg(test)]
mod tests;
