//! Base64 exactly as Envoy takes it: standard alphabet, full padding, unused bits zero (conformance §1.1; b64-*). In URLs
//! the URL-safe alphabet, without padding.

use core::fmt;
use core::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::DecodeError;
use crate::limits::TOKEN_MAX;

/// The bytes that the longest value decodes to.
const DECODED_MAX: usize = TOKEN_MAX / 4 * 3;

/// Room for one decoded value, so that decoding needs no heap. One is enough for all requests, one after another.
pub struct Scratch([u8; DECODED_MAX]);

impl Scratch {
    /// Empty room.
    pub const fn new() -> Self {
        Self([0; DECODED_MAX])
    }

    /// A part of what was decoded last.
    #[inline]
    pub(super) fn part(&self, place: &Range<usize>) -> &[u8] {
        self.0.get(place.clone()).unwrap_or_default()
    }

    /// Decodes a value of at most [`TOKEN_MAX`] bytes.
    #[inline]
    pub(super) fn decode(&mut self, text: &[u8]) -> Result<&[u8], DecodeError> {
        check_len(text)?;
        let len = decode_short(text, &mut self.0).ok_or(DecodeError::Base64)?;
        self.0.get(..len).ok_or(DecodeError::Base64)
    }

    /// As [`Scratch::decode`], in the alphabet of URLs.
    pub(super) fn decode_url(&mut self, text: &[u8]) -> Result<&[u8], DecodeError> {
        check_len(text)?;
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut self.0).map_err(|_| DecodeError::Base64Url)?;
        self.0.get(..len).ok_or(DecodeError::Base64Url)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What it holds is a session's, and only as long as the value was decoded to.
impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

#[inline]
fn check_len(text: &[u8]) -> Result<(), DecodeError> {
    match text.len() {
        0 => Err(DecodeError::Empty),
        len if len > TOKEN_MAX => Err(DecodeError::TooLong),
        _ => Ok(()),
    }
}

/// Decodes a text of at most [`TOKEN_MAX`] bytes, as [`STANDARD`] does, but sooner done with one as short as a token.
/// Returns how many bytes it decodes to.
fn decode_short(text: &[u8], out: &mut [u8; DECODED_MAX]) -> Option<usize> {
    let (quads, []) = text.as_chunks::<4>() else { return None };
    let ([whole @ .., last], (triples, _)) = (quads, out.as_chunks_mut::<3>()) else { return None };
    let mut seen = 0;
    for (quad, to) in whole.iter().zip(&mut *triples) {
        let (number, bits) = number(*quad);
        seen |= bits;
        let [_, triple @ ..] = number.to_be_bytes();
        *to = triple;
    }
    // `A` stands for zero bits.
    let (last, padding) = match *last {
        [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 2),
        [a, b, c, b'='] => ([a, b, c, b'A'], 1),
        last => (last, 0),
    };
    let (number, bits) = number(last);
    let [_, triple @ ..] = number.to_be_bytes();
    *triples.get_mut(whole.len())? = triple;
    // Where padding stands nothing may be left: neither a byte nor a bit of one.
    let left = number & ((1 << (8 * padding)) - 1);
    ((seen | bits) < STRANGE && left == 0).then_some(quads.len() * 3 - padding)
}

/// The number that four digits make, and all bits of the digits. With [`STRANGE`] among them one is no digit.
#[inline(always)]
fn number(quad: [u8; 4]) -> (u32, u32) {
    let [a, b, c, d] = quad.map(|byte| u32::from(DIGITS.get(usize::from(byte)).copied().unwrap_or(u8::MAX)));
    ((((a << 6 | b) << 6 | c) << 6) | d, a | b | c | d)
}

/// No digit has this bit.
const STRANGE: u32 = 0x40;
/// What each byte stands for.
static DIGITS: [u8; 256] = digits();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn digits() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = [u8::MAX; 256];
    let mut digit = 0;
    while digit < alphabet.len() as u8 {
        digits[alphabet[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
}

/// The length of `len` bytes in base64.
pub(super) const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// The length of `len` bytes in the base64 of URLs.
pub(super) const fn encoded_url_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

/// Writes `bytes` in the base64 of URLs to the end of `out`.
pub(super) fn encode_url_into(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded_url_len(bytes.len()), 0);
    let written = out.get_mut(start..).and_then(|room| URL_SAFE_NO_PAD.encode_slice(bytes, room).ok());
    out.truncate(start + written.unwrap_or(0));
}

/// Writes `bytes` in base64 to the end of `out`.
pub(super) fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded_len(bytes.len()), 0);
    let written = out.get_mut(start..).and_then(|room| STANDARD.encode_slice(bytes, room).ok());
    // The room is exactly what the text needs, so nothing is ever cut here.
    out.truncate(start + written.unwrap_or(0));
}

/// Decodes `text` of any length to the end of `out`; false: it is not base64, and `out` is as before.
pub(super) fn decode_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + text.len().div_ceil(4) * 3, 0);
    let written = out.get_mut(start..).and_then(|room| STANDARD.decode_slice(text, room).ok());
    out.truncate(start + written.unwrap_or(0));
    written.is_some()
}

const _: () = assert!(TOKEN_MAX.is_multiple_of(4), "a piece of a text ends between two quads");

/// Decodes `text` of any length piece by piece, without keeping it. `None`: it is not base64; else whether `accept`
/// took every piece.
pub(super) fn decoded_all(text: &[u8], accept: impl Fn(&[u8]) -> bool) -> Option<bool> {
    let mut scratch = Scratch::new();
    let mut accepted = true;
    let mut pieces = text.chunks(TOKEN_MAX).peekable();
    while let Some(piece) = pieces.next() {
        let bytes = scratch.decode(piece).ok()?;
        // Padding may only end the whole text, not a piece of it.
        if pieces.peek().is_some() && bytes.len() < DECODED_MAX {
            return None;
        }
        accepted &= accept(bytes);
    }
    Some(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        Scratch::new().decode(text.as_bytes()).ok().map(<[u8]>::to_vec)
    }

    /// The hand-written b64-* vectors, as classes.
    #[test]
    fn only_canonical_base64_decodes() {
        assert_eq!(decoded("AAAA").unwrap(), [0, 0, 0]);
        assert_eq!(decoded("AAA=").unwrap(), [0, 0]);
        assert_eq!(decoded("AA==").unwrap(), [0]);
        assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        let rubbish = [
            "",
            "=",
            "==",
            "===",
            "====",
            "A",
            "AA",
            "AAA",
            "AAA==",
            "AA=A",
            "A===",
            "=AAA",
            "AAAA=",
            "AAAA====",
            "AAB=",
            "AB==",
            "-_-_",
            "AA A",
            " AAAA",
            "AAAA ",
            "AAAA\n",
            "AAA%3D",
            "AA==AAAA",
            "AAA\u{e9}",
            "AAAA.",
            "A\0AA",
        ];
        for text in rubbish {
            assert_eq!(decoded(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_short_text_decodes_as_by_the_library() {
        const SEED: u64 = 0xb64;
        let mut rng = Rng::seeded(SEED);
        let mut good = 0;
        for round in 0..200_000 {
            let bytes: Vec<u8> = (0..1 + rng.below(40)).map(|_| rng.bits() as u8).collect();
            let mut text = Vec::new();
            encode_into(&bytes, &mut text);
            for _ in 0..rng.below(3) {
                let at = rng.below(text.len() as u32) as usize;
                match rng.below(4) {
                    0 => text[at] = rng.bits() as u8,
                    1 => text[at] = b'=',
                    2 => text.truncate(at.max(1)),
                    _ => *text.last_mut().unwrap() = b'=',
                }
            }
            let mut room = [0; 64];
            let expected = STANDARD.decode_slice(&text, &mut room).ok();
            let mut scratch = Scratch::new();
            let decoded = scratch.decode(&text).ok();
            let context = text.escape_ascii();
            assert_eq!(decoded, expected.map(|len| &room[..len]), "seed {SEED:#x}, round {round}: {context}");
            good += usize::from(decoded.is_some());
        }
        assert!((50_000..190_000).contains(&good), "{good}");
    }

    #[test]
    fn all_last_digits_decode_as_by_the_library() {
        for last in 0..=u16::MAX {
            let [third, fourth] = last.to_be_bytes();
            for [first, second] in [b"AA", b"AQ", b"A=", b"/+"] {
                let text = [b'Q', b'U', b'F', b'B', *first, *second, third, fourth];
                let mut room = [0; 8];
                let expected = STANDARD.decode_slice(text, &mut room).ok();
                let mut scratch = Scratch::new();
                assert_eq!(
                    scratch.decode(&text).ok(),
                    expected.map(|len| &room[..len]),
                    "{}",
                    text.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn a_text_of_any_length_is_judged_alike_whole_and_in_pieces() {
        let mut rng = Rng::seeded(11);
        let mut good = 0;
        for round in 0..2000 {
            let len = rng.below(1200) as usize;
            let bytes: Vec<u8> = (0..len).map(|_| rng.bits() as u8).collect();
            let mut text = Vec::new();
            encode_into(&bytes, &mut text);
            if round % 2 == 0 && !text.is_empty() {
                let at = rng.below(text.len() as u32) as usize;
                text[at] = b"=A+ "[rng.below(4) as usize];
            }
            let mut whole = b"x".to_vec();
            let is_good = decode_into(&text, &mut whole);
            assert_eq!(decoded_all(&text, |_| true).is_some(), is_good, "seed 11, round {round}");
            assert_eq!(whole.first(), Some(&b'x'));
            good += usize::from(is_good);
            if round % 2 == 1 {
                assert_eq!(whole.get(1..), Some(&*bytes));
            }
        }
        assert!((1000..2000).contains(&good), "{good}");
    }

    #[test]
    fn padding_inside_a_long_text_is_refused() {
        let mut text = vec![b'A'; TOKEN_MAX];
        text[TOKEN_MAX - 1] = b'=';
        assert_eq!(decoded_all(&text, |_| true), Some(true));
        text.extend(b"AAAA");
        assert_eq!(decoded_all(&text, |_| true), None);
    }
}
