//! The text of a session in a URL: the upstream's own value, a dot, and the address in URL-safe base64.
//!
//! ```text
//! sessionId=abc.MTAuMC4wLjE6ODA      the value `abc`, at the host 10.0.0.1:80
//! ```
//!
//! Letters, digits, `-` and `_` without padding, and a dot in front: what every URL library passes on as it is, also
//! one that takes a query apart and writes it anew. The standard alphabet's `+`, `/` and `=` would come back
//! percent-encoded, or as a space, and so would `;` and `~`. The *last* dot counts, since values may hold dots; so proxies
//! can stand in a row, each with its own address behind those of the proxies behind it.

use super::{DecodeError, base64};
use crate::limits::ADDRESS_MAX;

/// What stands between the upstream's value and the address.
const MARK: u8 = b'.';

/// The length of the longest suffix: the dot and the longest address.
pub const SSE_SUFFIX_MAX: usize = 1 + base64::encoded_url_len(ADDRESS_MAX);

/// Takes a value apart: the upstream's own, which is not empty, and the address in base64.
pub(super) fn open(value: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    if value.is_empty() {
        return Err(DecodeError::Empty);
    }
    let dot = memchr::memrchr(MARK, value).filter(|&dot| dot > 0).ok_or(DecodeError::NoSuffix)?;
    match value.split_at_checked(dot) {
        Some((own, [_, address @ ..])) => Ok((own, address)),
        _ => Err(DecodeError::NoSuffix),
    }
}

/// Writes what is appended to the upstream's value.
pub(super) fn encode_into(address: &[u8], out: &mut Vec<u8>) {
    out.push(MARK);
    base64::encode_url_into(address, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dot_parts_value_and_address() {
        assert_eq!(open(b"abc.MTI3"), Ok((&b"abc"[..], &b"MTI3"[..])));
        assert_eq!(open(b"a.b.MTI3"), Ok((&b"a.b"[..], &b"MTI3"[..])));
        assert_eq!(open(b"abc."), Ok((&b"abc"[..], &b""[..])));
        assert_eq!(open(b""), Err(DecodeError::Empty));
        for value in [&b"abc"[..], b".MTI3", b"."] {
            assert_eq!(open(value), Err(DecodeError::NoSuffix), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_suffix_is_made_of_bytes_that_urls_leave_alone() {
        let mut out = Vec::new();
        for address in [&[0xff; ADDRESS_MAX][..], b"10.0.0.1:80", b"?>?>"] {
            out.clear();
            encode_into(address, &mut out);
            assert!(out.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte)));
            assert!(out.len() <= SSE_SUFFIX_MAX);
        }
        out.clear();
        encode_into(&[7; ADDRESS_MAX], &mut out);
        assert_eq!(out.len(), SSE_SUFFIX_MAX);
    }
}
