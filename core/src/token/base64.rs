//! Base64 exactly as Envoy takes it: standard alphabet, full padding, unused bits zero (conformance §1.1; b64-*). In URLs
//! the URL-safe alphabet, without padding.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};

use super::DecodeError;
use crate::limits::TOKEN_MAX;

/// The bytes that the longest value decodes to.
const DECODED_MAX: usize = TOKEN_MAX / 4 * 3;

/// Room for one decoded value, so that decoding needs no heap.
pub(crate) struct Scratch([u8; DECODED_MAX]);

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self([0; DECODED_MAX])
    }

    /// Decodes a value of at most [`TOKEN_MAX`] bytes.
    #[inline]
    pub(super) fn decode(&mut self, text: &[u8]) -> Result<&[u8], DecodeError> {
        self.decode_by(&STANDARD, text).map_err(|error| error.unwrap_or(DecodeError::Base64))
    }

    /// As [`Scratch::decode`], in the alphabet of URLs.
    pub(super) fn decode_url(&mut self, text: &[u8]) -> Result<&[u8], DecodeError> {
        self.decode_by(&URL_SAFE_NO_PAD, text).map_err(|error| error.unwrap_or(DecodeError::Base64Url))
    }

    /// The inner `None`: it is not base64.
    #[inline]
    fn decode_by(&mut self, engine: &GeneralPurpose, text: &[u8]) -> Result<&[u8], Option<DecodeError>> {
        match text.len() {
            0 => return Err(Some(DecodeError::Empty)),
            len if len > TOKEN_MAX => return Err(Some(DecodeError::TooLong)),
            _ => {}
        }
        let len = engine.decode_slice(text, &mut self.0).map_err(|_| None)?;
        self.0.get(..len).ok_or(None)
    }
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
