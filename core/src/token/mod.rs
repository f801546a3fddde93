//! Bytes to token and back. A token is the whole session state: the text of the host's address and, in a cookie,
//! the moment at which it stops counting.
//!
//! Four values carry one, all in base64 ([`decode_cookie`], [`decode_header`], [`decode_envelope`], [`decode_sse`]). None is
//! signed:
//! whoever can write one can choose a host. Nothing here allocates.

mod base64;
mod envelope;
mod message;
mod sse;
mod text;

use core::fmt;
use core::ops::Range;

use crate::clock::UnixSecs;
use crate::limits::{ADDRESS_MAX, TOKEN_MAX};
use crate::planted::Bug;

pub use self::base64::Scratch;
pub use envelope::ENVELOPE_VALUE_MAX;
pub use sse::SSE_SUFFIX_MAX;

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
    /// time before 1970 and long past (conformance §1.3).
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
    /// An address behind the upstream's own value, in a URL.
    Sse,
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
    /// The address behind a value in a URL is not base64 in the alphabet of URLs without padding.
    Base64Url,
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
    /// A value in a URL without a dot and an address behind the upstream's own.
    NoSuffix,
}

/// Reads a cookie's value, in double quotes or not (conformance §1.4, §1.7).
///
/// Two things differ from Envoy 1.40. An `ip:port` text is recognised before the message reader can take its bytes for
/// unknown fields (pb-205 to pb-210 and a twentieth of all IPv4 addresses: there the session is silently lost). And
/// bytes that are neither a message nor an address are no token, while Envoy takes them for the address of a host that
/// never comes, which a strict session answers with 503 until the client drops the cookie (pb-054, pb-230, ...).
pub fn decode_cookie(value: &[u8]) -> Result<Decoded, DecodeError> {
    let room = &mut Scratch::new();
    read_cookie(value, room)?.decoded(room)
}

/// Reads a header's value: an address in base64 (conformance §1.5).
///
/// Other bytes are no token; Envoy takes them for the address of a host that never comes (hdr-010, hdr-040, hdr-042).
pub fn decode_header(value: &[u8]) -> Result<Decoded, DecodeError> {
    let room = &mut Scratch::new();
    read_header(value, room)?.decoded(room)
}

/// Reads an envelope: an address in base64, `;UV:` and the upstream's own value in base64 (conformance §1.6).
pub fn decode_envelope(value: &[u8]) -> Result<Decoded, DecodeError> {
    let room = &mut Scratch::new();
    read_envelope(value, room)??.decoded(room)
}

/// Writes the upstream's own value out of an envelope to the end of `out`; its address need not be good.
/// Envoy answers 503 to a value with CR, LF or NUL (env-093 to env-102); here it is an error like any other.
pub fn unwrap_envelope(value: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    envelope::open(value)?.unwrap_into(out)
}

/// Reads a value in a URL: the upstream's own, a dot, and an address in the base64 of URLs, without padding.
pub fn decode_sse(value: &[u8]) -> Result<Decoded, DecodeError> {
    let room = &mut Scratch::new();
    read_sse(value, room)?.decoded(room)
}

/// The upstream's own part of a value in a URL that [`decode_sse`] reads; `None`: there is no usable address in it.
pub fn sse_value(value: &[u8]) -> Option<&[u8]> {
    let (own, _) = sse::open(value).ok()?;
    decode_sse(value).is_ok().then_some(own)
}

/// Writes what goes behind the upstream's value in a URL to the end of `out`: at most [`SSE_SUFFIX_MAX`] bytes that no
/// URL needs to encode.
pub fn encode_sse_suffix(address: &Address, out: &mut Vec<u8>) {
    sse::encode_into(address.as_bytes(), out);
}

/// Writes a token as a cookie's value, without quotes, to the end of `out`.
/// An expiry of zero reads as "never" and is left out (conformance §1.3).
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

/// A token that still lies where it was decoded: neither a miss nor a host is found by copying it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Where in the room: not empty, and of at most [`ADDRESS_MAX`] bytes.
    address: Range<usize>,
    pub(crate) expires: Option<UnixSecs>,
    form: Form,
}

/// As [`decode_cookie`].
#[inline]
pub(crate) fn read_cookie(value: &[u8], room: &mut Scratch) -> Result<Reading, DecodeError> {
    let bytes = room.decode(unquoted(value))?;
    if text::is_socket(bytes) {
        return Reading::new(0..bytes.len(), None, Form::Legacy);
    }
    match message::read(bytes) {
        Some(message) => {
            let expires = (message.expires != 0).then_some(UnixSecs::new(message.expires));
            Reading::new(message.address, expires, Form::Message)
        }
        None if text::is_path(bytes) => Reading::new(0..bytes.len(), None, Form::Legacy),
        None => Err(DecodeError::NoToken),
    }
}

/// As [`decode_header`].
pub(crate) fn read_header(value: &[u8], room: &mut Scratch) -> Result<Reading, DecodeError> {
    let bytes = room.decode(value)?;
    if text::is_socket(bytes) || text::is_path(bytes) {
        return Reading::new(0..bytes.len(), None, Form::Text);
    }
    Err(DecodeError::NoToken)
}

/// As [`decode_envelope`], but tells an envelope with a bad address (the inner error) from what is no envelope.
pub(crate) fn read_envelope(
    value: &[u8],
    room: &mut Scratch,
) -> Result<Result<Reading, DecodeError>, DecodeError> {
    let envelope = envelope::open(value)?;
    Ok(read_header(envelope.address, room).map(|reading| Reading { form: Form::Envelope, ..reading }))
}

/// As [`decode_sse`].
pub(crate) fn read_sse(value: &[u8], room: &mut Scratch) -> Result<Reading, DecodeError> {
    let (_, address) = sse::open(value)?;
    let bytes = room.decode_url(address).map_err(|error| match error {
        DecodeError::Empty => DecodeError::NoSuffix,
        error => error,
    })?;
    if text::is_socket(bytes) || text::is_path(bytes) {
        return Reading::new(0..bytes.len(), None, Form::Sse);
    }
    Err(DecodeError::NoToken)
}

/// The length of the longest value that [`encode_cookie`] writes.
pub(crate) const COOKIE_VALUE_MAX: usize = base64::encoded_len(message::MESSAGE_MAX);
/// The length of the longest value that [`encode_header`] writes.
pub(crate) const HEADER_VALUE_MAX: usize = base64::encoded_len(ADDRESS_MAX);
/// The length of the longest value that [`encode_envelope`] writes for a value of at most [`ENVELOPE_VALUE_MAX`].
pub(crate) const ENVELOPE_MAX: usize =
    HEADER_VALUE_MAX + envelope::MARK.len() + base64::encoded_len(ENVELOPE_VALUE_MAX);

const _: () = assert!(
    COOKIE_VALUE_MAX <= TOKEN_MAX && HEADER_VALUE_MAX <= TOKEN_MAX && SSE_SUFFIX_MAX <= TOKEN_MAX,
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
        has_passed(self.expires, now)
    }

    /// The whole seconds for which the token will still count; `None`: for ever.
    #[inline]
    pub fn remaining_secs(&self, now: UnixSecs) -> Option<u64> {
        remaining_secs(self.expires, now)
    }
}

impl Reading {
    #[inline]
    fn new(address: Range<usize>, expires: Option<UnixSecs>, form: Form) -> Result<Self, DecodeError> {
        match address.len() {
            0 => Err(DecodeError::NoAddress),
            1..=ADDRESS_MAX => Ok(Self { address, expires, form }),
            _ => Err(DecodeError::AddressTooLong),
        }
    }

    /// The address text, in the room where it was read.
    #[inline]
    pub(crate) fn address<'r>(&self, room: &'r Scratch) -> &'r [u8] {
        room.part(&self.address)
    }

    fn decoded(self, room: &Scratch) -> Result<Decoded, DecodeError> {
        let address = Address::new(self.address(room)).ok_or(DecodeError::NoAddress)?;
        Ok(Decoded { token: Token { address, expires: self.expires }, form: self.form })
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
            Self::Sse => "sse",
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
            Self::Base64Url => {
                write!(f, "what stands behind the last dot is not URL-safe base64 without padding")
            }
            Self::NoToken => {
                write!(f, "the bytes are neither a token message nor an address such as 10.0.0.1:80")
            }
            Self::NoAddress => write!(f, "the message holds no address"),
            Self::AddressTooLong => write!(f, "the address is longer than {ADDRESS_MAX} bytes"),
            Self::NoUpstreamValue => {
                write!(f, "there is no usable upstream value; expected ADDRESS;UV:VALUE in base64")
            }
            Self::NoSuffix => {
                write!(f, "there is no address behind the upstream's value; expected VALUE.ADDRESS")
            }
            Self::UnsafeUpstreamValue => {
                write!(f, "the upstream value holds CR, LF or NUL, which no field value may")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Whether a token that expires then has expired now.
#[inline]
pub(crate) fn has_passed(expires: Option<UnixSecs>, now: UnixSecs) -> bool {
    let now = i64::try_from(now.get()).unwrap_or(i64::MAX);
    if Bug::UnsignedExpiry.is_in() {
        return expires.is_some_and(|expires| now.cast_unsigned() > expires.get());
    }
    expires.is_some_and(|expires| now > expires.get().cast_signed())
}

/// As [`Token::remaining_secs`].
pub(crate) fn remaining_secs(expires: Option<UnixSecs>, now: UnixSecs) -> Option<u64> {
    if has_passed(expires, now) {
        return Some(0);
    }
    expires.map(|expires| expires.get().saturating_sub(now.get()))
}

/// Takes exactly one pair of double quotes away (conformance §1.7).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn in_base64(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        base64::encode_into(bytes, &mut out);
        out
    }

    fn cookie(bytes: &[u8]) -> Result<(String, Form), DecodeError> {
        decode_cookie(&in_base64(bytes)).map(|decoded| (decoded.token.address.to_string(), decoded.form))
    }

    fn header(bytes: &[u8]) -> Result<(String, Form), DecodeError> {
        decode_header(&in_base64(bytes)).map(|decoded| (decoded.token.address.to_string(), decoded.form))
    }

    #[test]
    fn a_cookie_holds_a_message_or_the_old_form() {
        let message = |address: &str| Ok((address.to_owned(), Form::Message));
        let legacy = |address: &str| Ok((address.to_owned(), Form::Legacy));
        assert_eq!(cookie(b"\x0a\x0f127.0.0.1:21102"), message("127.0.0.1:21102")); // pb-001
        assert_eq!(cookie(b"\x0a\x09localhost"), message("localhost")); // addr-019: a message may name anything
        assert_eq!(cookie(b"127.0.0.1:21102"), legacy("127.0.0.1:21102")); // pb-203
        assert_eq!(cookie(b"[::1]:80"), legacy("[::1]:80")); // pb-225
        assert_eq!(cookie(b"/run/b.sock"), legacy("/run/b.sock"));
        assert_eq!(cookie(b"@b"), Err(DecodeError::NoAddress)); // a message of one unknown field
        assert_eq!(cookie(b"@upstream"), legacy("@upstream"));
    }

    /// pb-205 to pb-210: these texts are valid messages of unknown fields.
    #[test]
    fn an_address_text_is_recognised_before_the_message_reader_eats_it() {
        for text in ["9.9.9.9:1", "10.0.0.1:80", "10.0.0.1:8080"] {
            let eaten = message::read(text.as_bytes());
            assert_eq!(eaten, Some(message::Message { address: 0..0, expires: 0 }), "{text} is no collision");
            assert_eq!(cookie(text.as_bytes()), Ok((text.to_owned(), Form::Legacy)));
        }
        // pb-239 is eaten too, but a text without a port never was a token: no address, as in Envoy.
        assert_eq!(cookie(b"127.0.0.1"), Err(DecodeError::NoAddress));
    }

    #[test]
    fn bytes_of_neither_kind_are_no_token() {
        // pb-054, pb-172, pb-229 to pb-237, b64-058
        let rubbish: [&[u8]; 8] = [
            b"\x0a\x0f127.0.0.1:21102\x80\x80\x80\x80\x10\x01",
            b"\x0a\x0f1",
            b"hello",
            b"127.0.0.1:21102\n",
            b"127.0.0.1:21102 ",
            b"127.0.0.1:21102;99999999999",
            b"localhost:21102",
            b"\0\0\0",
        ];
        for bytes in rubbish {
            assert_eq!(cookie(bytes), Err(DecodeError::NoToken), "{}", bytes.escape_ascii());
        }
        assert_eq!(cookie(b"\x0a\x00"), Err(DecodeError::NoAddress)); // pb-005
        assert_eq!(cookie(b"\x10\x05"), Err(DecodeError::NoAddress)); // pb-009
        assert_eq!(decode_cookie(b"").unwrap_err(), DecodeError::Empty);
        assert_eq!(decode_cookie(b"\"\"").unwrap_err(), DecodeError::Empty); // ckparse-061
    }

    #[test]
    fn exactly_one_pair_of_quotes_is_taken_away() {
        let good: [&[u8]; 2] = [b"CgEx", b"\"CgEx\""]; // ckparse-001, ckparse-003
        let bad: [&[u8]; 6] = [b"\"CgEx", b"CgEx\"", b"'CgEx'", b"\"\"CgEx\"\"", b"\" CgEx \"", b"\""];
        assert!(good.iter().all(|value| decode_cookie(value).is_ok()));
        assert!(bad.iter().all(|value| decode_cookie(value).unwrap_err() == DecodeError::Base64));
    }

    /// pb-199 to pb-202 are longer and tokens to Envoy.
    #[test]
    fn a_value_is_looked_at_up_to_a_bound() {
        let padded = |unknown: usize| {
            let mut bytes = b"\x0a\x0f127.0.0.1:21102".to_vec();
            bytes.extend((0..unknown).flat_map(|_| [0x18, 1]));
            in_base64(&bytes)
        };
        let longest = padded((TOKEN_MAX / 4 * 3 - 17) / 2);
        assert_eq!(longest.len(), TOKEN_MAX);
        assert!(decode_cookie(&longest).is_ok());
        assert_eq!(decode_cookie(&padded(2000)).unwrap_err(), DecodeError::TooLong);
        let long_address = [&b"\x0a\x81\x01"[..], &[b'a'; 129]].concat();
        assert_eq!(cookie(&long_address), Err(DecodeError::AddressTooLong));
    }

    #[test]
    fn a_header_holds_an_address_only() {
        assert_eq!(header(b"127.0.0.1:21102"), Ok(("127.0.0.1:21102".into(), Form::Text))); // hdr-003
        assert_eq!(header(b"[::1]:80"), Ok(("[::1]:80".into(), Form::Text)));
        assert_eq!(header(b"/run/b.sock"), Ok(("/run/b.sock".into(), Form::Text)));
        assert_eq!(header(b"\x0a\x0f127.0.0.1:21102"), Err(DecodeError::NoToken)); // hdr-009
        assert_eq!(header(b"127.0.0.1:21102\n"), Err(DecodeError::NoToken)); // hdr-039
        assert_eq!(decode_header(b"127.0.0.1:21102").unwrap_err(), DecodeError::Base64); // hdr-037
        assert_eq!(decode_header(b"\"MTI3LjAuMC4xOjIxMTAy\"").unwrap_err(), DecodeError::Base64);
    }

    #[test]
    fn an_envelope_is_opened_and_closed() {
        let value = b"MTI3LjAuMC4xOjIxMTAy;UV:c2lk"; // env-029
        let decoded = decode_envelope(value).unwrap();
        assert_eq!(
            (decoded.token.address.as_bytes(), decoded.form),
            (&b"127.0.0.1:21102"[..], Form::Envelope)
        );
        let mut out = b"x".to_vec();
        unwrap_envelope(value, &mut out).unwrap();
        assert_eq!(out, b"xsid");
        out.clear();
        encode_envelope(&decoded.token.address, b"sid", &mut out);
        assert_eq!(out, value);
        assert_eq!(decode_envelope(b"!!!!;UV:c2lk").unwrap_err(), DecodeError::Base64); // env-071
        assert!(unwrap_envelope(b"!!!!;UV:c2lk", &mut out).is_ok());
    }

    #[test]
    fn a_value_in_a_url_is_opened_and_closed() {
        let value = b"abc.MTI3LjAuMC4xOjIxMTAy";
        let decoded = decode_sse(value).unwrap();
        assert_eq!((decoded.token.address.as_bytes(), decoded.form), (&b"127.0.0.1:21102"[..], Form::Sse));
        assert_eq!(decoded.token.expires, None);
        let mut out = b"abc".to_vec();
        encode_sse_suffix(&decoded.token.address, &mut out);
        assert_eq!(out, value);
        assert_eq!(sse_value(value), Some(&b"abc"[..]));
        let refused = |value: &[u8]| decode_sse(value).unwrap_err();
        assert_eq!(refused(b""), DecodeError::Empty);
        assert_eq!(refused(b"abc"), DecodeError::NoSuffix);
        assert_eq!(refused(b"abc."), DecodeError::NoSuffix);
        assert_eq!(refused(b"abc.MTI3LjAuMC4xOjIxMTA="), DecodeError::Base64Url);
        assert_eq!(refused(b"abc.aGVsbG8"), DecodeError::NoToken);
        assert_eq!(refused(&[b"abc.", &[b'A'; TOKEN_MAX + 1][..]].concat()), DecodeError::TooLong);
        assert_eq!(sse_value(b"abc.aGVsbG8"), None);
        // No socket's path is so long.
        let long = [b"/".to_vec(), vec![b'a'; ADDRESS_MAX]].concat();
        let mut suffix = b"abc".to_vec();
        sse::encode_into(&long, &mut suffix);
        assert_eq!(refused(&suffix), DecodeError::NoToken);
        assert_eq!(sse_value(&suffix), None);
    }

    #[test]
    fn what_is_encoded_decodes_again() {
        let mut rng = Rng::seeded(5);
        let mut out = Vec::new();
        for round in 0..1000 {
            let [a, b, c, d, ..] = rng.bits().to_le_bytes();
            let address = Address::new(format!("{a}.{b}.{c}.{d}:{}", rng.below(65_536)).as_bytes()).unwrap();
            let expires = (rng.below(2) == 0).then(|| UnixSecs::new(1 + (rng.bits() >> 2)));
            out.clear();
            encode_cookie(&Token { address, expires }, &mut out);
            let read = decode_cookie(&out).unwrap();
            assert_eq!(
                (read.token.address, read.token.expires, read.form),
                (address, expires, Form::Message),
                "{round}"
            );
            out.clear();
            encode_header(&address, &mut out);
            assert_eq!(decode_header(&out).unwrap().token.address, address, "{round}");
            let value: Vec<u8> = (0..=rng.below(3000)).map(|_| 1 + rng.below(255) as u8).collect();
            let safe = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
            out.clear();
            encode_envelope(&address, &value, &mut out);
            let mut unwrapped = Vec::new();
            assert_eq!(unwrap_envelope(&out, &mut unwrapped).is_ok(), safe, "{round}");
            assert!(!safe || unwrapped == value, "{round}");
        }
    }

    /// exp-001 to exp-058, as classes.
    #[test]
    fn a_token_counts_until_the_second_it_names() {
        let now = UnixSecs::new(1_795_406_005);
        let expired = |expires: u64| {
            let address = Address::new(b"1").unwrap();
            Token { address, expires: Some(UnixSecs::new(expires)) }.is_expired(now)
        };
        let past = [now.get() - 1, now.get() - 60, 1, 100_000, 1 << 63, (1 << 63) + now.get() + 60, u64::MAX];
        let future =
            [now.get(), now.get() + 1, 1 << 31, 1 << 32, 1 << 62, i64::MAX.cast_unsigned(), now.get() * 1000];
        assert!(past.iter().all(|&at| expired(at)));
        assert!(!future.iter().any(|&at| expired(at) && at >= now.get()));
        let explicit_zero = decode_cookie(&in_base64(b"\x0a\x011\x10\x00")).unwrap(); // exp-025
        assert_eq!(explicit_zero.token.expires, None);
        assert_eq!(explicit_zero.token.remaining_secs(now), None);
        let token = Token { expires: Some(UnixSecs::new(now.get() + 7)), ..explicit_zero.token };
        assert_eq!(token.remaining_secs(now), Some(7));
        assert_eq!(Token { expires: Some(UnixSecs::new(u64::MAX)), ..token }.remaining_secs(now), Some(0));
    }
}
