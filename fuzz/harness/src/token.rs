//! Tokens: the decoders against a naive reader and against prost, and what is written against what is read back.

use std::net::SocketAddr;

use homing_core::clock::UnixSecs;
use homing_core::limits::{ADDRESS_MAX, TOKEN_MAX};
use homing_core::token::{
    Address, DecodeError, Decoded, Form, Token, decode_cookie, decode_envelope, decode_header, encode_cookie,
    encode_envelope, encode_header, unwrap_envelope,
};
use prost::Message as _;

use crate::input::Input;

/// A token as the references see it: address, expiry (zero: never), form.
type Read = Result<(Vec<u8>, u64, Form), DecodeError>;

/// The input as a cookie's value, and as the bytes inside one.
pub fn token_cookie(data: &[u8]) {
    check_cookie(data);
    check_cookie(&to_base64(data));
    check_cookie(&[b"\"", &to_base64(data)[..], b"\""].concat());
}

/// The input as a header's value, as the bytes inside one, as an envelope, and as the two parts of one.
pub fn token_header_envelope(data: &[u8]) {
    for value in [data, &to_base64(data)] {
        assert_eq!(seen(decode_header(value)), header(value, Form::Text), "header {}", value.escape_ascii());
    }
    check_envelope(data);
    let (address, value) = data.split_at(data.iter().position(|&byte| byte == 0).unwrap_or(data.len()));
    let value = value.get(1..).unwrap_or_default();
    check_envelope(&[&to_base64(address)[..], b";UV:", &to_base64(value)].concat());
}

/// Any address and expiry, encoded in all three ways and decoded again.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let expires = input.long();
    let cut = input.below(ADDRESS_MAX + 2);
    let text = input.bytes(cut);
    let value = input.rest();
    let Some(address) = Address::new(text) else {
        assert!(text.is_empty() || text.len() > ADDRESS_MAX);
        return;
    };
    assert_eq!(address.as_bytes(), text);

    let mut out = b"kept".to_vec();
    let token = Token { address, expires: Some(UnixSecs::new(expires)) };
    encode_cookie(&token, &mut out);
    let written = out.strip_prefix(b"kept").unwrap_or_default();
    assert!(written.len() <= TOKEN_MAX, "what is written can be read");
    let expected = match std::str::from_utf8(text) {
        Ok(_) => Ok((text.to_vec(), expires, Form::Message)),
        Err(_) => Err(DecodeError::NoToken),
    };
    assert_eq!(seen(decode_cookie(written)), expected, "{token:?}");

    let mut out = Vec::new();
    encode_header(&address, &mut out);
    let plain = if is_socket(text) || is_path(text) {
        Ok((text.to_vec(), 0, Form::Text))
    } else {
        Err(DecodeError::NoToken)
    };
    assert_eq!(seen(decode_header(&out)), plain, "{token:?}");

    out.clear();
    encode_envelope(&address, value, &mut out);
    let wrapped = match value {
        [] => Err(DecodeError::NoUpstreamValue),
        value if value.iter().any(|byte| b"\r\n\0".contains(byte)) => Err(DecodeError::UnsafeUpstreamValue),
        _ => plain.map(|(address, expires, _)| (address, expires, Form::Envelope)),
    };
    assert_eq!(seen(decode_envelope(&out)), wrapped, "{token:?} around {}", value.escape_ascii());
}

fn check_cookie(value: &[u8]) {
    let found = decode_cookie(value);
    assert_eq!(seen(found), cookie(value), "cookie {}", value.escape_ascii());
    let Ok(Decoded { token, .. }) = found else { return };
    let mut again = Vec::new();
    encode_cookie(&token, &mut again);
    let Ok(second) = decode_cookie(&again) else { panic!("{token:?} does not survive being written") };
    assert_eq!((second.token.address, second.token.expires), (token.address, token.expires));
}

fn check_envelope(value: &[u8]) {
    assert_eq!(seen(decode_envelope(value)), envelope(value), "envelope {}", value.escape_ascii());
    let mut out = b"kept".to_vec();
    let unwrapped = unwrap_envelope(value, &mut out);
    match upstream_value(value) {
        Ok((_, expected)) => {
            assert_eq!(unwrapped, Ok(()));
            assert_eq!(out, [b"kept", &expected[..]].concat());
        }
        Err(error) => {
            assert_eq!((unwrapped, &out[..]), (Err(error), &b"kept"[..]));
        }
    }
}

fn seen(decoded: Result<Decoded, DecodeError>) -> Read {
    decoded.map(|Decoded { token, form }| {
        (token.address.as_bytes().to_vec(), token.expires.map_or(0, UnixSecs::get), form)
    })
}

// The reference.

fn cookie(value: &[u8]) -> Read {
    let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    let bytes = unpacked(if quoted { &value[1..value.len() - 1] } else { value })?;
    if is_socket(&bytes) {
        return Ok((bytes, 0, Form::Legacy));
    }
    let message = Message::read(&bytes);
    compare_with_prost(&bytes, &message);
    match message.fields {
        Some((address, _)) if address.is_empty() => Err(DecodeError::NoAddress),
        Some((address, _)) if address.len() > ADDRESS_MAX => Err(DecodeError::AddressTooLong),
        Some((address, expires)) => Ok((address, expires, Form::Message)),
        None if is_path(&bytes) => Ok((bytes, 0, Form::Legacy)),
        None => Err(DecodeError::NoToken),
    }
}

fn header(value: &[u8], form: Form) -> Read {
    let bytes = unpacked(value)?;
    if is_socket(&bytes) || is_path(&bytes) { Ok((bytes, 0, form)) } else { Err(DecodeError::NoToken) }
}

fn envelope(value: &[u8]) -> Read {
    let (address, _) = upstream_value(value)?;
    header(&address, Form::Envelope)
}

/// The address part, still in base64, and the upstream's value.
fn upstream_value(value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
    let pieces: Vec<&[u8]> = value.split(|&byte| byte == b';').filter(|piece| !piece.is_empty()).collect();
    let [address, rest @ ..] = pieces.as_slice() else { return Err(DecodeError::Empty) };
    for piece in rest {
        if let Some(text) = piece.strip_prefix(b"UV:") {
            let bytes = from_base64(text).filter(|_| !text.is_empty()).ok_or(DecodeError::NoUpstreamValue)?;
            return match bytes.iter().any(|byte| b"\r\n\0".contains(byte)) {
                true => Err(DecodeError::UnsafeUpstreamValue),
                false => Ok((address.to_vec(), bytes)),
            };
        }
    }
    Err(DecodeError::NoUpstreamValue)
}

fn unpacked(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    match text.len() {
        0 => Err(DecodeError::Empty),
        len if len > TOKEN_MAX => Err(DecodeError::TooLong),
        _ => from_base64(text).ok_or(DecodeError::Base64),
    }
}

fn is_socket(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let port = text.rsplit(':').next().unwrap_or_default();
    text.parse::<SocketAddr>().is_ok() && (port == "0" || !port.starts_with('0'))
}

fn is_path(bytes: &[u8]) -> bool {
    bytes.len() >= 2
        && bytes.len() <= ADDRESS_MAX
        && (bytes[0] == b'/' || bytes[0] == b'@')
        && std::str::from_utf8(bytes).is_ok_and(|text| text.bytes().all(|byte| byte >= b' ' && byte != 0x7f))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Six bits at a time.
fn to_base64(bytes: &[u8]) -> Vec<u8> {
    let mut bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    while !bits.len().is_multiple_of(6) {
        bits.push(0);
    }
    let mut text: Vec<u8> = bits
        .chunks(6)
        .map(|six| ALPHABET[six.iter().fold(0, |number, &bit| number * 2 + usize::from(bit))])
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push(b'=');
    }
    text
}

/// Canonical base64 only: it is what the bytes would be written as.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let mut bits = Vec::new();
    for byte in text.get(..end)? {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits.extend((0..6).rev().map(|at| value >> at & 1));
    }
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|eight| eight.iter().fold(0, |number: u8, &bit| number << 1 | u8::from(bit == 1)))
        .collect();
    (to_base64(&bytes) == text).then_some(bytes)
}

/// A message of the wire format, read by the letter of its description; and what in it generated parsers
/// are known to take otherwise than Envoy's.
#[derive(Debug, Default)]
struct Message {
    fields: Option<(Vec<u8>, u64)>,
    /// A known field with another wire type, which prost refuses and Envoy skips; a group; a varint of more than 64
    /// bits, which prost refuses and Envoy cuts; a tag or length of more than five bytes, or a tag of more than 32
    /// bits.
    odd: bool,
}

impl Message {
    fn read(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        message.fields = message.top(bytes);
        message
    }

    fn top(&mut self, mut rest: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (mut address, mut expires) = (Vec::new(), 0);
        while !rest.is_empty() {
            let (field, wire) = self.tag(&mut rest)?;
            match (field, wire) {
                (1, 2) => {
                    address = self.run(&mut rest)?.to_vec();
                    std::str::from_utf8(&address).ok()?;
                }
                (2, 0) => expires = self.varint(&mut rest, 10)?,
                _ => {
                    self.odd |= field <= 2;
                    self.skip(field, wire, &mut rest, 1)?;
                }
            }
        }
        Some((address, expires))
    }

    fn tag(&mut self, rest: &mut &[u8]) -> Option<(u64, u64)> {
        let tag = self.varint(rest, 5)?;
        self.odd |= tag > u64::from(u32::MAX);
        let tag = tag % (1 << 32);
        (tag >> 3 != 0).then_some((tag >> 3, tag % 8))
    }

    fn run<'b>(&mut self, rest: &mut &'b [u8]) -> Option<&'b [u8]> {
        let length = usize::try_from(self.varint(rest, 5)?).ok()?;
        let (run, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        Some(run)
    }

    /// Little end first, seven bits a byte, at most `most` bytes.
    fn varint(&mut self, rest: &mut &[u8], most: usize) -> Option<u64> {
        let Some(last) = rest.iter().position(|byte| byte & 0x80 == 0) else {
            self.odd |= rest.len() >= most;
            return None;
        };
        if last >= most {
            self.odd = true;
            return None;
        }
        let (bytes, behind) = rest.split_at(last + 1);
        *rest = behind;
        let value = bytes.iter().rev().fold(0_u128, |value, byte| value << 7 | u128::from(byte & 0x7f));
        self.odd |= value > u128::from(u64::MAX);
        u64::try_from(value & u128::from(u64::MAX)).ok()
    }

    fn skip(&mut self, field: u64, wire: u64, rest: &mut &[u8], depth: usize) -> Option<()> {
        match wire {
            0 => drop(self.varint(rest, 10)?),
            1 => *rest = rest.get(8..)?,
            2 => drop(self.run(rest)?),
            3 => {
                self.odd = true;
                if depth > 100 {
                    return None;
                }
                loop {
                    match self.tag(rest)? {
                        (end, 4) if end == field => break,
                        (inner, wire) => self.skip(inner, wire, rest, depth + 1)?,
                    }
                }
            }
            5 => *rest = rest.get(4..)?,
            _ => {
                self.odd = true;
                return None;
            }
        }
        Some(())
    }
}

/// The message as generated code reads it.
#[derive(Clone, PartialEq, prost::Message)]
struct Generated {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(uint64, tag = "2")]
    expires: u64,
}

fn compare_with_prost(bytes: &[u8], message: &Message) {
    if message.odd {
        return;
    }
    let generated = Generated::decode(bytes).ok().map(|m| (m.address.into_bytes(), m.expires));
    assert_eq!(generated, message.fields, "prost reads {} differently", bytes.escape_ascii());
}
