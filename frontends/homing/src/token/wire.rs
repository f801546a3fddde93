//! The one place where the command meets the codec: the same names as the core's, so that either serves.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homing_core::clock::UnixSecs;
use homing_core::token::{Address, Token};

/// How a token was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// A cookie's two-field message.
    Message,
    /// A bare address.
    Legacy,
    /// An address in front of the upstream's own value.
    Envelope,
}

/// A token and how it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    pub(super) token: Token,
    pub(super) form: Form,
}

/// Reads a cookie's value.
pub(super) fn decode_cookie(value: &[u8]) -> Result<Decoded, String> {
    let bytes = decode(value)?;
    let is_address = core::str::from_utf8(&bytes)
        .is_ok_and(|text| text.starts_with('/') || text.parse::<SocketAddr>().is_ok());
    if is_address {
        return Ok(Decoded { token: Token { address: address(&bytes)?, expires: None }, form: Form::Legacy });
    }
    let nothing = "the bytes are neither a token message nor an address such as 10.0.0.1:80";
    let (text, expires) = message(&bytes).ok_or(nothing)?;
    let expires = (expires != 0).then_some(UnixSecs::new(expires));
    Ok(Decoded { token: Token { address: address(text)?, expires }, form: Form::Message })
}

/// Reads an envelope.
pub(super) fn decode_envelope(value: &[u8]) -> Result<Decoded, String> {
    let first = value.split(|&byte| byte == b';').find(|piece| !piece.is_empty()).unwrap_or_default();
    Ok(Decoded { form: Form::Envelope, ..decode_cookie(first)? })
}

/// The upstream's own value in an envelope, added to `out`.
pub(super) fn unwrap_envelope(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut pieces = value.split(|&byte| byte == b';').filter(|piece| !piece.is_empty()).skip(1);
    let inner =
        pieces.find_map(|piece| piece.strip_prefix(b"UV:")).ok_or("there is no `;UV:` with a value")?;
    out.extend(decode(inner)?);
    Ok(())
}

/// Writes a token as a cookie's value.
pub(super) fn encode_cookie(token: &Token, out: &mut Vec<u8>) {
    let text = token.address.as_bytes();
    let mut bytes = vec![0x0a];
    varint(text.len() as u64, &mut bytes);
    bytes.extend_from_slice(text);
    if let Some(expires) = token.expires.filter(|expires| expires.get() > 0) {
        bytes.push(0x10);
        varint(expires.get(), &mut bytes);
    }
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

/// Writes an address as a header's value.
pub(super) fn encode_header(address: &Address, out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(address.as_bytes()).as_bytes());
}

/// Writes an envelope around the upstream's own value.
pub(super) fn encode_envelope(address: &Address, upstream_value: &[u8], out: &mut Vec<u8>) {
    encode_header(address, out);
    out.extend_from_slice(b";UV:");
    out.extend_from_slice(STANDARD.encode(upstream_value).as_bytes());
}

fn decode(value: &[u8]) -> Result<Vec<u8>, String> {
    match STANDARD.decode(value) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) => Err("the value is empty".into()),
        Err(_) => Err("the value is not base64 (standard alphabet, full padding, unused bits zero)".into()),
    }
}

fn address(text: &[u8]) -> Result<Address, String> {
    if text.is_empty() {
        return Err("the message holds no address".into());
    }
    Address::new(text).ok_or_else(|| "the address is longer than a token may carry".into())
}

/// Address and expiry of a message; unknown fields are skipped, the last of a known one counts (SEMANTICS 2.6).
fn message(mut rest: &[u8]) -> Option<(&[u8], u64)> {
    let (mut address, mut expires) = (&b""[..], 0);
    while !rest.is_empty() {
        let tag = read_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (2, 0) => expires = read_varint(&mut rest)?,
            (_, 0) => drop(read_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 5) => rest = rest.get(4..)?,
            (number, 2) => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                if number == 1 {
                    core::str::from_utf8(bytes).ok()?;
                    address = bytes;
                }
            }
            _ => return None,
        }
    }
    Some((address, expires))
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= if shift < 64 { u64::from(byte & 0x7f) << shift } else { 0 };
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
