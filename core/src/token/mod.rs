//! Bytes to token and back. A token is the whole session state: the text of the host's address and, in a cookie,
//! the moment at which it stops counting.
//!
//! Three values carry one, all in base64 ([`decode_cookie`], [`decode_header`], [`decode_envelope`]). None is signed:
//! whoever can write one can choose a host. Nothing here allocates.

mod base64;
mod envelope;
mod message;
mod text;

use core::fmt;

use crate::clock::UnixSecs;
use crate::limits::{ADDRESS_MAX, TOKEN_MAX};

pub use envelope::ENVELOPE_VALUE_MAX;

/// A host address as text, held by value.
#[derive(Clone, Copy)]
pub struct Address {
    len: u8,
    bytes: [u8; ADDRESS_MAX],
}

/// What a usable session field says.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// The host's address text.
    pub address: Address,
    /// When the token stops counting; `None`: never. The wire's 64 bits are signed, so a value above `i64::MAX` is a
    /// time before 1970 and long past (SEMANTICS 2.6).
    pub expires: Option<UnixSecs>,
}

/// How a token was written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Form {
    /// A cookie's two-field message.
    Message,
    /// A cookie's bare address, as Envoy wrote it before tokens could expire.
    Legacy,
    /// A header's bare address.
    Text,
    /// An address in front of the upstream's own value.
    Envelope,
}

/// A token and how it was written.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// The token.
    pub token: Token,
    /// How it was written.
    pub form: Form,
}

/// Why a value is no token. Closed; a [`crate::affinity::Miss`] tells only absent from malformed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DecodeError {
    /// The value is empty.
    Empty,
    /// The value is longer than [`TOKEN_MAX`].
    TooLong,
    /// The value is not base64 in the standard alphabet with full padding.
    Base64,
    /// The bytes are neither a message nor an address text.
    NoToken,
    /// The message holds no address.
    NoAddress,
    /// The message's address is longer than [`ADDRESS_MAX`].
    AddressTooLong,
    /// An envelope without a usable upstream value behind `;UV:`.
    NoUpstreamValue,
    /// An envelope whose upstream value holds CR, LF or NUL and so cannot be a field value.
    UnsafeUpstreamValue,
}

/// Reads a cookie's value, in double quotes or not (SEMANTICS 2.5 step 4 and 2.6).
///
/// Two things differ from Envoy 1.40. An `ip:port` text is recognised before the message reader can take its bytes for
/// unknown fields (pb-205 to pb-210 and a twentieth of all IPv4 addresses: there the session is silently lost). And
/// bytes that are neither a message nor an address are no token, while Envoy takes them for the address of a host that
/// never comes, which a strict session answers with 503 until the client drops the cookie (pb-054, pb-230, ...).
#[inline]
pub fn decode_cookie(value: &[u8]) -> Result<Decoded, DecodeError> {
    let mut scratch = base64::Scratch::new();
    let bytes = scratch.decode(unquoted(value))?;
    if text::is_socket(bytes) {
        return Ok(Decoded { token: Token::forever(bytes)?, form: Form::Legacy });
    }
    match message::read(bytes) {
        Some(message) if message.address.is_empty() => Err(DecodeError::NoAddress),
        Some(message) => {
            let address = Address::new(message.address).ok_or(DecodeError::AddressTooLong)?;
            let expires = (message.expires != 0).then_some(UnixSecs::new(message.expires));
            Ok(Decoded { token: Token { address, expires }, form: Form::Message })
        }
        None if text::is_path(bytes) => Ok(Decoded { token: Token::forever(bytes)?, form: Form::Legacy }),
        None => Err(DecodeError::NoToken),
    }
}

/// Reads a header's value: an address in base64 (SEMANTICS 3.1).
///
/// Other bytes are no token; Envoy takes them for the address of a host that never comes (hdr-010, hdr-040, hdr-042).
pub fn decode_header(value: &[u8]) -> Result<Decoded, DecodeError> {
    let mut scratch = base64::Scratch::new();
    let bytes = scratch.decode(value)?;
    if text::is_socket(bytes) || text::is_path(bytes) {
        return Ok(Decoded { token: Token::forever(bytes)?, form: Form::Text });
    }
    Err(DecodeError::NoToken)
}

/// Reads an envelope: an address in base64, `;UV:` and the upstream's own value in base64 (SEMANTICS 4.2).
pub fn decode_envelope(value: &[u8]) -> Result<Decoded, DecodeError> {
    open_envelope(value)?
}

/// Writes the upstream's own value out of an envelope to the end of `out`; its address need not be good.
/// Envoy answers 503 to a value with CR, LF or NUL (env-093 to env-102); here it is an error like any other.
pub fn unwrap_envelope(value: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    envelope::open(value)?.unwrap_into(out)
}

/// Writes a token as a cookie's value, without quotes, to the end of `out`.
/// An expiry of zero reads as "never" and is left out (SEMANTICS 2.1).
pub fn encode_cookie(token: &Token, out: &mut Vec<u8>) {
    let message = message::Written::new(token.address.as_bytes(), token.expires.map_or(0, UnixSecs::get));
    base64::encode_into(message.as_bytes(), out);
}

/// Writes an address as a header's value to the end of `out`.
pub fn encode_header(address: &Address, out: &mut Vec<u8>) {
    base64::encode_into(address.as_bytes(), out);
}

/// Writes an envelope around `upstream_value` to the end of `out`. An empty value is wrapped too, though nobody will
/// unwrap it again: so does Envoy (env-007).
pub fn encode_envelope(address: &Address, upstream_value: &[u8], out: &mut Vec<u8>) {
    base64::encode_into(address.as_bytes(), out);
    out.extend_from_slice(envelope::MARK);
    base64::encode_into(upstream_value, out);
}

/// As [`decode_envelope`], but tells an envelope with a bad address (the inner error) from what is no envelope.
pub(crate) fn open_envelope(value: &[u8]) -> Result<Result<Decoded, DecodeError>, DecodeError> {
    let envelope = envelope::open(value)?;
    Ok(decode_header(envelope.address).map(|decoded| Decoded { form: Form::Envelope, ..decoded }))
}

/// The length of the longest value that [`encode_cookie`] writes.
pub(crate) const COOKIE_VALUE_MAX: usize = base64::encoded_len(message::MESSAGE_MAX);
/// The length of the longest value that [`encode_header`] writes.
pub(crate) const HEADER_VALUE_MAX: usize = base64::encoded_len(ADDRESS_MAX);
/// The length of the longest value that [`encode_envelope`] writes for a value of at most [`ENVELOPE_VALUE_MAX`].
pub(crate) const ENVELOPE_MAX: usize =
    HEADER_VALUE_MAX + envelope::MARK.len() + base64::encoded_len(ENVELOPE_VALUE_MAX);

const _: () = assert!(
    COOKIE_VALUE_MAX <= TOKEN_MAX && HEADER_VALUE_MAX <= TOKEN_MAX,
    "what is minted must be readable"
);

impl Address {
    /// Copies `text`; `None` when it is empty or longer than [`ADDRESS_MAX`].
    #[inline]
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; ADDRESS_MAX];
        bytes.get_mut(..text.len()).filter(|to| !to.is_empty())?.copy_from_slice(text);
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl Eq for Address {}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Token {
    /// Whether the token has stopped counting; in the very second it names it still counts (exp-002).
    #[inline]
    pub fn is_expired(&self, now: UnixSecs) -> bool {
        let now = i64::try_from(now.get()).unwrap_or(i64::MAX);
        self.expires.is_some_and(|expires| now > expires.get().cast_signed())
    }

    /// The whole seconds for which the token will still count; `None`: for ever.
    #[inline]
    pub fn remaining_secs(&self, now: UnixSecs) -> Option<u64> {
        if self.is_expired(now) {
            return Some(0);
        }
        self.expires.map(|expires| expires.get().saturating_sub(now.get()))
    }

    fn forever(address: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { address: Address::new(address).ok_or(DecodeError::AddressTooLong)?, expires: None })
    }
}

impl Form {
    /// The name used in output and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Legacy => "legacy",
            Self::Text => "text",
            Self::Envelope => "envelope",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the value is empty"),
            Self::TooLong => write!(f, "the value is longer than the {TOKEN_MAX} bytes that are looked at"),
            Self::Base64 => {
                write!(f, "the value is not base64 (standard alphabet, full padding, unused bits zero)")
            }
            Self::NoToken => {
                write!(f, "the bytes are neither a token message nor an address such as 10.0.0.1:80")
            }
            Self::NoAddress => write!(f, "the message holds no address"),
            Self::AddressTooLong => write!(f, "the address is longer than {ADDRESS_MAX} bytes"),
            Self::NoUpstreamValue => {
                write!(f, "there is no usable upstream value; expected ADDRESS;UV:VALUE in base64")
            }
            Self::UnsafeUpstreamValue => {
                write!(f, "the upstream value holds CR, LF or NUL, which no field value may")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Takes exactly one pair of double quotes away (SEMANTICS 2.5 step 4).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}
