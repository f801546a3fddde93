//! The envelope's text: `base64(address);UV:base64(value)` (conformance §1.6).

use super::{DecodeError, base64};

/// The longest upstream value that is wrapped, in bytes. It bounds what one response edit can write; a longer value is
/// passed on as it is. Unwrapping knows no such bound, since another proxy may have wrapped more.
pub const ENVELOPE_VALUE_MAX: usize = 2048;

/// What stands between the address and the upstream's value.
pub(super) const MARK: &[u8] = b";UV:";

/// An envelope whose upstream value is known to be good; its address is not looked at yet.
pub(super) struct Envelope<'a> {
    /// In base64, or what stands in its place.
    pub(super) address: &'a [u8],
    value: &'a [u8],
}

/// Takes an envelope apart: the first piece that is not empty is the address, the first later one that begins with `UV:`
/// the value. A value that is empty or no base64 spoils the whole envelope, even with another `UV:` behind (env-069).
pub(super) fn open(value: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut pieces = value.split(|&byte| byte == b';').filter(|piece| !piece.is_empty());
    let address = pieces.next().ok_or(DecodeError::Empty)?;
    let value = pieces
        .find_map(|piece| piece.strip_prefix(b"UV:"))
        .filter(|value| !value.is_empty())
        .ok_or(DecodeError::NoUpstreamValue)?;
    match base64::decoded_all(value, |bytes| !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
        Some(true) => Ok(Envelope { address, value }),
        Some(false) => Err(DecodeError::UnsafeUpstreamValue),
        None => Err(DecodeError::NoUpstreamValue),
    }
}

impl Envelope<'_> {
    /// Writes the upstream's value to the end of `out`.
    pub(super) fn unwrap_into(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if base64::decode_into(self.value, out) { Ok(()) } else { Err(DecodeError::NoUpstreamValue) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(value: &[u8]) -> Result<String, DecodeError> {
        let mut out = Vec::new();
        open(value)?.unwrap_into(&mut out)?;
        Ok(out.escape_ascii().to_string())
    }

    #[test]
    fn the_first_piece_is_the_address_and_a_later_one_the_value() {
        let good: [(&[u8], &str, &[u8]); 8] = [
            (b"MTI3;UV:c2lk", "sid", b"MTI3"),
            (b";MTI3;UV:c2lk", "sid", b"MTI3"),            // env-059
            (b"MTI3;;UV:c2lk", "sid", b"MTI3"),            // env-061
            (b"MTI3;foo:bar;UV:c2lk", "sid", b"MTI3"),     // env-063
            (b"MTI3;UV:c2lk;foo", "sid", b"MTI3"),         // env-065
            (b"MTI3;UV:c2lk;UV:b3RoZXI=", "sid", b"MTI3"), // env-067
            (b"MTI3 ;UV:c2lk", "sid", b"MTI3 "),           // env-053
            (b"MTI3;UV:Y2Fm6Q==", "caf\\xe9", b"MTI3"),    // env-091
        ];
        for (value, expected, address) in good {
            assert_eq!(unwrapped(value).as_deref(), Ok(expected), "{}", value.escape_ascii());
            assert_eq!(open(value).unwrap().address, address);
        }
    }

    #[test]
    fn anything_else_is_no_envelope() {
        let bad: [&[u8]; 14] = [
            b"MTI3",                      // env-037
            b"MTI3;",                     // env-039
            b"MTI3;UV:",                  // env-041
            b"MTI3;UV:!!!!",              // env-043
            b"MTI3;UV:c2lkMQ",            // env-045
            b"MTI3;uv:c2lk",              // env-047
            b"MTI3; UV:c2lk",             // env-049
            b"MTI3;UV: c2lk",             // env-051
            b"MTI3;UV=c2lk",              // env-055
            b"UV:c2lk;MTI3",              // env-057
            b"MTI3;UV:!!!!;UV:c2lk",      // env-069
            b"UV:c2lk",                   // env-075
            b"\"MTI3;UV:c2lk\"",          // env-083
            b"MTI3;UV:b25l,MTI3;UV:dHdv", // env-103
        ];
        for value in bad {
            assert_eq!(unwrapped(value), Err(DecodeError::NoUpstreamValue), "{}", value.escape_ascii());
        }
        for value in [&b""[..], b";", b";;"] {
            assert_eq!(unwrapped(value), Err(DecodeError::Empty)); // env-077, env-079
        }
    }

    /// env-093 to env-101: Envoy answers 503 to these.
    #[test]
    fn a_value_that_would_split_a_head_is_refused() {
        for value in [&b"MTI3;UV:YQ0KeC1ldmlsOiAx"[..], b"MTI3;UV:YQBi", b"MTI3;UV:YQpi", b"MTI3;UV:c2lkCg=="]
        {
            assert_eq!(unwrapped(value), Err(DecodeError::UnsafeUpstreamValue));
        }
    }
}
