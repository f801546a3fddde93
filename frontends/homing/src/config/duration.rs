//! Durations and sizes as people write them: `60s`, `500ms`, `1m30s`, `1.5s`; `64KiB`, `10MiB`.

use core::fmt;
use core::time::Duration;

/// The longest duration, in seconds: what Envoy takes for a cookie's ttl (cfg-016, cfg-017).
pub const LONGEST_SECS: u64 = 9_223_372_035;

/// Why a text is no duration or no size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnitError {
    /// Not of the form `<number><unit>…`, the larger units first and each at most once.
    Form,
    /// A number without a unit.
    NoUnit,
    /// Below zero.
    Negative,
    /// Larger than can be used.
    TooLarge,
}

/// Days, hours, minutes, seconds and milliseconds, with their length in nanoseconds.
const UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a duration: one or more numbers with the units `d`, `h`, `m`, `s`, `ms`, larger units first. A number
/// may have up to nine decimals, as protobuf's JSON form has them (`1.5s`).
///
/// # Errors
/// When the text has another form, or is longer than [`LONGEST_SECS`].
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    if text.starts_with('-') {
        return Err(UnitError::Negative);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    let mut allowed = UNITS.as_slice();
    loop {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = rest.get(number.len()..).unwrap_or_default();
        let unit = leading(rest, |c| c.is_ascii_alphabetic());
        rest = rest.get(unit.len()..).unwrap_or_default();
        if unit.is_empty() && !number.is_empty() {
            return Err(UnitError::NoUnit);
        }
        let position = allowed.iter().position(|(name, _)| *name == unit).ok_or(UnitError::Form)?;
        let (_, length) = allowed.get(position).ok_or(UnitError::Form)?;
        allowed = allowed.get(position + 1..).unwrap_or_default();
        nanos = nanos.checked_add(scaled(number, *length)?).ok_or(UnitError::TooLarge)?;
        if rest.is_empty() {
            break;
        }
    }
    let secs = u64::try_from(nanos / 1_000_000_000).map_err(|_| UnitError::TooLarge)?;
    if secs > LONGEST_SECS {
        return Err(UnitError::TooLarge);
    }
    // The remainder is below a second, so it fits.
    Ok(Duration::new(secs, u32::try_from(nanos % 1_000_000_000).unwrap_or_default()))
}

/// Reads a size: a whole number with the unit `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// When the text has another form or does not fit 64 bits.
pub fn size(text: &str) -> Result<u64, UnitError> {
    if text.starts_with('-') {
        return Err(UnitError::Negative);
    }
    let number = leading(text, |c| c.is_ascii_digit());
    let unit = text.get(number.len()..).unwrap_or_default();
    if number.is_empty() {
        return Err(UnitError::Form);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let (_, length) = SIZES.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Form)?;
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(*length).ok_or(UnitError::TooLarge)
}

/// A duration in the form that [`duration`] reads: `1m30s`, `500ms`, `0s`.
pub fn show(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    let mut text = String::new();
    for (unit, length) in UNITS {
        let whole = nanos / length;
        nanos %= length;
        if whole > 0 {
            text.push_str(&format!("{whole}{unit}"));
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// `number`, which may have decimals, times `length` nanoseconds.
fn scaled(number: &str, length: u128) -> Result<u128, UnitError> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return Err(UnitError::Form);
    }
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let fraction: u128 = decimals.parse().map_err(|_| UnitError::Form)?;
    let tenths = (0..decimals.len()).fold(1_u128, |power, _| power * 10);
    Ok(u128::from(whole) * length + fraction * length / tenths)
}

fn leading(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    text.split_at_checked(text.find(|c| !wanted(c)).unwrap_or(text.len())).map_or("", |(head, _)| head)
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it has another form",
            Self::NoUnit => "it lacks a unit",
            Self::Negative => "it is below zero",
            Self::TooLarge => "it is too large",
        })
    }
}

impl core::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_and_protobuf_write_them() {
        for (text, millis) in [
            ("60s", 60_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1.5s", 1_500),
            ("3600s", 3_600_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("0.000s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("0.000000001s"), Ok(Duration::from_nanos(1)));
        assert_eq!(duration("9223372035.999999999s").map(|d| d.as_secs()), Ok(LONGEST_SECS));
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("", UnitError::Form),
            ("s", UnitError::Form),
            ("60", UnitError::NoUnit),
            ("1m30", UnitError::NoUnit),
            ("-1s", UnitError::Negative),
            ("30s1m", UnitError::Form),
            ("1s1s", UnitError::Form),
            ("1 s", UnitError::NoUnit),
            ("1S", UnitError::Form),
            ("1.s", UnitError::Form),
            (".5s", UnitError::Form),
            ("1.2.3s", UnitError::Form),
            ("1.0000000001s", UnitError::Form),
            ("1µs", UnitError::NoUnit),
            ("9223372036s", UnitError::TooLarge),
            ("99999999999999999999s", UnitError::TooLarge),
            ("18446744073709551615d", UnitError::TooLarge),
        ] {
            assert_eq!(duration(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for millis in [0, 1, 999, 1000, 1500, 59_999, 60_000, 3_600_000, 86_400_000, 90_061_001] {
            let length = Duration::from_millis(millis);
            assert_eq!(duration(&show(length)), Ok(length));
        }
    }

    #[test]
    fn sizes_need_a_unit_and_fit_64_bits() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("64"), Err(UnitError::NoUnit));
        assert_eq!(size("64kb"), Err(UnitError::Form));
        assert_eq!(size("-1B"), Err(UnitError::Negative));
        assert_eq!(size("18446744073709551615GiB"), Err(UnitError::TooLarge));
    }
}
