//! Names, values and statuses that may be written to the wire. Each is checked once, when configuration
//! is read, so that an edit can never split a head (RFC 9110 §5.1, §5.5; RFC 9112 §5).

use core::fmt;

/// A field name in lower case, one RFC 9110 `token`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FieldName(Box<str>);

/// A field value: visible bytes, spaces and tabs, without surrounding white space.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FieldValue(Box<str>);

/// A final HTTP status that Homing may answer with: 200 to 599.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Status(u16);

/// Why a name, value or status cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldError {
    /// The name is empty.
    EmptyName,
    /// The name holds a byte that RFC 9110 §5.6.2 does not allow in a token.
    NameByte(u8),
    /// The value holds CR, LF, NUL or another control byte.
    ValueByte(u8),
    /// The status is not a final one (200 to 599).
    Status(u16),
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => write!(f, "a field name must not be empty"),
            Self::NameByte(byte) => write!(f, "a field name must not contain {:?}", char::from(*byte)),
            Self::ValueByte(byte) => write!(f, "a field value must not contain {:?}", char::from(*byte)),
            Self::Status(status) => write!(f, "{status} is not a final status between 200 and 599"),
        }
    }
}

impl core::error::Error for FieldError {}

impl FieldName {
    /// The request field that holds the client's cookies (RFC 6265 §4.2).
    pub(crate) fn cookie() -> Self {
        Self("cookie".into())
    }

    /// Checks `name` and stores it in lower case.
    pub fn new(name: &str) -> Result<Self, FieldError> {
        if name.is_empty() {
            return Err(FieldError::EmptyName);
        }
        match name.bytes().find(|&byte| !is_token_byte(byte)) {
            Some(byte) => Err(FieldError::NameByte(byte)),
            None => Ok(Self(name.to_ascii_lowercase().into())),
        }
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name`, as received, is this field.
    #[inline(always)]
    pub fn matches(&self, name: &[u8]) -> bool {
        let known = self.0.as_bytes();
        // Most are told apart by their length, and most of the others by their first letter.
        name.len() == known.len()
            && name.first().zip(known.first()).is_some_and(|(a, b)| (a ^ b) & 0x1f == 0)
            && is_same_name(name, known)
    }
}

impl FieldValue {
    /// Checks `value`; surrounding spaces and tabs are dropped.
    pub fn new(value: &str) -> Result<Self, FieldError> {
        let value = value.trim_matches([' ', '\t']);
        match value.bytes().find(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            Some(byte) => Err(FieldError::ValueByte(byte)),
            None => Ok(Self(value.into())),
        }
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Status {
    /// 503, the status of a session that cannot be served.
    pub const UNAVAILABLE: Self = Self(503);

    /// Checks that `status` is final.
    pub const fn new(status: u16) -> Result<Self, FieldError> {
        if matches!(status, 200..=599) { Ok(Self(status)) } else { Err(FieldError::Status(status)) }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a response with this status has no body whatever its fields say (RFC 9110 §6.4.1).
    pub const fn is_bodiless(self) -> bool {
        matches!(self.0, 204 | 304)
    }
}

/// Whether `byte` may appear in an RFC 9110 §5.6.2 `token`.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether `name`, as received, is `known`, which is in lower case. Field names have no case (RFC 9110 §5.1).
///
/// Up to sixteen bytes are compared as two words, of four bytes or eight, which overlap: what differs may only be the bit that
/// makes a letter lower case.
#[inline]
pub(crate) fn is_same_name(name: &[u8], known: &[u8]) -> bool {
    fn halves(bytes: &[u8]) -> Option<[u64; 2]> {
        let (front, back) = (bytes.first_chunk::<4>()?, bytes.last_chunk::<4>()?);
        Some([front, back].map(|half| u64::from(u32::from_le_bytes(*half))))
    }
    fn wholes(bytes: &[u8]) -> Option<[u64; 2]> {
        let (front, back) = (bytes.first_chunk::<8>()?, bytes.last_chunk::<8>()?);
        Some([front, back].map(|whole| u64::from_le_bytes(*whole)))
    }
    debug_assert!(!known.iter().any(u8::is_ascii_uppercase), "a known name is in lower case");
    if name.len() != known.len() {
        return false;
    }
    let words = match known.len() {
        4..8 => halves(name).zip(halves(known)),
        8..=16 => wholes(name).zip(wholes(known)),
        _ => return name.eq_ignore_ascii_case(known),
    };
    words.is_some_and(|([front, back], [known_front, known_back])| {
        ((front ^ known_front) & !cases(known_front)) | ((back ^ known_back) & !cases(known_back)) == 0
    })
}

/// The bit that may differ in each byte: that of the case, where the byte is a lower case letter. Additions to seven bits
/// carry into no other byte.
#[inline]
const fn cases(known: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let seven = known & (ONES * 0x7f);
    let reaches = seven + ONES * (0x80 - b'a' as u64);
    let exceeds = seven + ONES * (0x7f - b'z' as u64);
    (reaches & !exceeds & !known & (ONES * 0x80)) >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn names_and_values_that_would_split_a_head_are_refused() {
        assert_eq!(FieldName::new("a\r\nx-evil"), Err(FieldError::NameByte(b'\r')));
        assert_eq!(FieldName::new(":path"), Err(FieldError::NameByte(b':')));
        assert_eq!(FieldName::new(""), Err(FieldError::EmptyName));
        assert_eq!(FieldValue::new("a\nb"), Err(FieldError::ValueByte(b'\n')));
        assert_eq!(FieldValue::new(" a b\t").unwrap().as_str(), "a b");
        assert!(FieldName::new("X-Sess").unwrap().matches(b"x-SESS"));
    }

    #[test]
    fn only_final_statuses_can_be_answered() {
        assert!(Status::new(199).is_err());
        assert!(Status::new(600).is_err());
        assert!(Status::new(204).unwrap().is_bodiless());
    }

    #[test]
    fn names_are_the_same_in_any_case() {
        const SEED: u64 = 0x6e;
        let mut rng = Rng::seeded(SEED);
        let bytes = b"aAbzZ{`@[-_0 \x7f\x80\xe1\xc1\0";
        for round in 0..200_000 {
            let known: Vec<u8> = (0..rng.below(20))
                .map(|_| bytes[rng.below(bytes.len() as u32) as usize].to_ascii_lowercase())
                .collect();
            let mut name = known.clone();
            for byte in &mut name {
                match rng.below(if round % 2 == 0 { 3 } else { 40 }) {
                    0 => *byte ^= 0x20,
                    1 => *byte = byte.to_ascii_uppercase(),
                    _ => {}
                }
            }
            let expected = name.eq_ignore_ascii_case(&known);
            assert_eq!(
                is_same_name(&name, &known),
                expected,
                "seed {SEED:#x}, round {round}: {name:x?} {known:x?}"
            );
        }
        assert!(!is_same_name(b"host", b"hosts") && is_same_name(b"", b""));
    }
}
