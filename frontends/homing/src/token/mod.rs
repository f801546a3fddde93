//! `homing token`: reads and mints session tokens, for people who would otherwise pipe into `base64 -D` and squint.

use core::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use homing_core::affinity::Miss;
use homing_core::clock::UnixSecs;
use homing_core::field::FieldName;
use homing_core::hosts::Endpoint;
use homing_core::token::{self as wire, Address, DecodeError, Decoded, Form, Token};

use crate::config::duration;

/// How a token is to be written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Encoding {
    /// A cookie's value: address and expiry.
    #[default]
    Cookie,
    /// A header's value: the address alone.
    Header,
    /// A cookie's value as Envoy wrote it before cookies carried an expiry: the address alone.
    Legacy,
    /// A header's value in front of the upstream's own.
    Envelope,
}

/// A token to be minted.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The host's address.
    pub address: String,
    /// How to write it.
    pub encoding: Encoding,
    /// When it stops counting; `None`: never.
    pub expires: Option<UnixSecs>,
    /// The upstream's own value, for an envelope.
    pub session: Option<String>,
}

/// Wall time now.
pub fn now() -> UnixSecs {
    UnixSecs::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Describes the token in `given`: a bare value, `name="value"`, a whole `set-cookie` or `cookie` line, an envelope.
///
/// # Errors
/// Why there is none in it, and what becomes of the session.
pub fn describe(given: &str, now: UnixSecs) -> Result<String, String> {
    let mut first_error = None;
    for candidate in candidates(given) {
        match decode(candidate) {
            Ok(decoded) => return Ok(report(candidate, &decoded, now)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let error = first_error.unwrap_or(DecodeError::Empty);
    let miss = if error == DecodeError::Empty { Miss::Absent } else { Miss::Malformed };
    let verdict = format!("the session is placed anew (reason placed.{}), strict or not", miss.as_str());
    Err(format!("no token: {error}\nverdict:  {verdict}"))
}

/// Mints a token.
///
/// # Errors
/// What is wrong with the request for it.
pub fn mint(mint: &Mint) -> Result<String, String> {
    let address = endpoint(&mint.address)?.address_text();
    let address = Address::new(address.as_bytes()).ok_or("the address is longer than a token may carry")?;
    if mint.expires.is_some() && mint.encoding != Encoding::Cookie {
        return Err(
            "only a cookie's token carries an expiry; remove --ttl and --expires, or use --form cookie"
                .into(),
        );
    }
    let mut out = Vec::new();
    match (mint.encoding, &mint.session) {
        (Encoding::Cookie, None) => wire::encode_cookie(&Token { address, expires: mint.expires }, &mut out),
        (Encoding::Header | Encoding::Legacy, None) => wire::encode_header(&address, &mut out),
        (Encoding::Envelope, Some(session)) => wire::encode_envelope(&address, session.as_bytes(), &mut out),
        (Encoding::Envelope, None) => {
            return Err(
                "an envelope is wrapped around the upstream's own value; give it with --session".into()
            );
        }
        (_, Some(_)) => return Err("only an envelope holds the upstream's value; use --form envelope".into()),
    }
    String::from_utf8(out).map_err(|error| error.to_string())
}

/// A host's address as tokens carry it: no names, since no host is ever found by one.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse() {
        return Ok(Endpoint::Tcp(address));
    }
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(Endpoint::Unix(std::path::Path::new(path).into()));
    }
    Err(format!("{text:?} is not a host's address; write 10.0.0.1:80, [::1]:80 or the path of a socket"))
}

/// What in `given` may be a token, in order.
fn candidates(given: &str) -> Vec<&str> {
    let given = without_field_name(given.trim());
    if is_envelope(given) {
        return vec![unquoted(given)];
    }
    given
        .split(';')
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .map(|piece| unquoted(cookie_value(piece)))
        .collect()
}

/// The part behind `name=`. A `=` at the end of the text is padding, and a name holds no quotes.
fn cookie_value(pair: &str) -> &str {
    match pair.split_once('=') {
        Some((name, value)) if !value.trim_matches('=').is_empty() && FieldName::new(name).is_ok() => {
            value.trim()
        }
        _ => pair,
    }
}

/// Without `set-cookie:`, `x-session-id:` and the like.
fn without_field_name(line: &str) -> &str {
    match line.split_once(':') {
        Some((name, rest))
            if rest.starts_with(' ') && FieldName::new(name).is_ok() && !rest.trim().is_empty() =>
        {
            rest.trim()
        }
        _ => line,
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

fn is_envelope(text: &str) -> bool {
    text.split(';').skip(1).any(|piece| piece.starts_with("UV:"))
}

fn decode(value: &str) -> Result<Decoded, DecodeError> {
    let read = if is_envelope(value) { wire::decode_envelope } else { wire::decode_cookie };
    read(value.as_bytes())
}

fn report(value: &str, decoded: &Decoded, now: UnixSecs) -> String {
    let address = String::from_utf8_lossy(decoded.token.address.as_bytes()).into_owned();
    let mut text = String::new();
    let form = match decoded.form {
        Form::Message => "cookie (address and expiry)",
        Form::Legacy | Form::Text => {
            "bare address (a header session, or a cookie of Envoy from before cookies carried an expiry)"
        }
        Form::Envelope => "envelope (address, and the upstream's own value)",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "form:     {form}");
    let _ = writeln!(text, "address:  {}", address.escape_debug());
    if decoded.form == Form::Envelope {
        let mut inner = Vec::new();
        let _ = match wire::unwrap_envelope(value.as_bytes(), &mut inner) {
            Ok(()) => writeln!(text, "session:  {}", inner.escape_ascii()),
            Err(error) => writeln!(text, "session:  none ({error}); the field would go upstream as it is"),
        };
    }
    let (expiry, verdict) = expiry(decoded.token.expires, now);
    let _ = writeln!(text, "expires:  {expiry}");
    let canonical = endpoint(&address).is_ok_and(|endpoint| *endpoint.address_text() == *address);
    let verdict = if canonical {
        verdict
    } else {
        "no host is ever called so: the session is placed anew (reason placed.gone); strict: refused (refused.gone)"
            .into()
    };
    let _ = write!(text, "verdict:  {verdict}");
    text
}

/// What becomes of a session whose token is good, by the names that the access log uses.
const GOOD: &str = "good: the session goes to this host (reason pinned) if it is in the cluster and allowed; else it is \
                    placed anew (placed.gone, placed.barred), and refused when strict (refused.gone, refused.barred)";
/// A token that Envoy before 1.39 wrote carries seconds since boot; wall clocks passed this in 1973.
const UPTIME_MAX: u64 = 100_000_000;
/// Seconds never get so large within 3,000 years, milliseconds are.
const MILLIS_MIN: u64 = 100_000_000_000;

/// The expiry in words, and what would be thought of it.
fn expiry(expires: Option<UnixSecs>, now: UnixSecs) -> (String, String) {
    let Some(expires) = expires.map(UnixSecs::get) else {
        return ("never".into(), GOOD.into());
    };
    let anew = "the session is placed anew (reason placed.expired), strict or not";
    if i64::try_from(expires).is_err() {
        let words = format!("{expires}, which is below zero as the signed number it is read as");
        return (words, format!("expired: {anew}"));
    }
    let date = utc(expires);
    let now = now.get();
    if expires < now {
        let words = format!("{expires} = {date}, {} ago", span(now - expires));
        if expires < UPTIME_MAX {
            let uptime = span(expires);
            let verdict = format!(
                "expired: {anew}. It looks like seconds of uptime ({uptime}) written by an Envoy before 1.39, \
                 which counted from its machine's start instead of from 1970"
            );
            return (words, verdict);
        }
        return (words, format!("expired: {anew}"));
    }
    let words = format!("{expires} = {date}, in {}", span(expires - now));
    if expires >= MILLIS_MIN {
        return (words, format!("{GOOD}. It looks like milliseconds, but is read as seconds"));
    }
    (words, GOOD.into())
}

/// A length in its two largest units: `42 s`, `3 h`, `1 d 18 h`.
fn span(secs: u64) -> String {
    let units = [("y", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut rest = secs;
    let mut parts = Vec::new();
    for (unit, length) in units {
        let whole = rest / length;
        rest %= length;
        if whole > 0 {
            parts.push(format!("{whole} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

/// `2026-11-23 14:30:00 UTC`, by the proleptic Gregorian calendar.
fn utc(secs: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    if secs > LAST {
        return "after the year 9999".into();
    }
    let (mut days, time) = (secs / 86_400, secs % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", days + 1)
}

/// The expiry that `--ttl` stands for: whole seconds from now; a ttl below one second gives none, as in a cookie.
///
/// # Errors
/// When `ttl` is no duration.
pub fn after(ttl: &str, now: UnixSecs) -> Result<Option<UnixSecs>, String> {
    let ttl = duration::duration(ttl).map_err(|error| {
        format!("{ttl:?} is no duration: {error}; write a number with a unit, such as 60s, 1m30s or 2h")
    })?;
    let secs = ttl.as_secs();
    Ok((secs > 0).then(|| UnixSecs::new(now.get().saturating_add(secs))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "ChAxMC4wLjQzLjE3NTo4MDgwELerCQ==";
    const NOW: UnixSecs = UnixSecs::new(1_795_406_077);

    #[test]
    fn a_sample_with_uptime_seconds_reads_as_expired_and_says_why() {
        let text = describe(SAMPLE, NOW).unwrap();
        assert_eq!(
            text,
            "form:     cookie (address and expiry)\n\
             address:  10.0.43.175:8080\n\
             expires:  153015 = 1970-01-02 18:30:15 UTC, 56 y 324 d ago\n\
             verdict:  expired: the session is placed anew (reason placed.expired), strict or not. It looks like \
             seconds of uptime (1 d 18 h) written by an Envoy before 1.39, which counted from its machine's start \
             instead of from 1970"
        );
    }

    #[test]
    fn a_token_is_found_in_whatever_was_pasted() {
        for given in [
            SAMPLE.to_owned(),
            format!("\"{SAMPLE}\""),
            format!("sid={SAMPLE}"),
            format!("sid=\"{SAMPLE}\""),
            format!("set-cookie: sid=\"{SAMPLE}\"; Max-Age=60; Path=/; HttpOnly"),
            format!("Cookie: theme=dark; sid={SAMPLE}; lang=en"),
            format!("  x-session-id: {SAMPLE}\n"),
        ] {
            let text = describe(&given, NOW);
            assert!(text.as_ref().is_ok_and(|text| text.contains("10.0.43.175:8080")), "{given}: {text:?}");
        }
    }

    #[test]
    fn envelopes_show_the_upstreams_value() {
        let text = describe("MTI3LjAuMC4xOjIxMTAy;UV:b3JpZ2luLTE=", NOW).unwrap();
        assert!(text.contains("address:  127.0.0.1:21102\nsession:  origin-1\nexpires:  never"), "{text}");
    }

    #[test]
    fn what_is_no_token_says_why() {
        assert!(describe("", NOW).unwrap_err().contains("empty"));
        assert!(describe("sid=hello world", NOW).unwrap_err().contains("not base64"));
        assert!(describe("aGVsbG8=", NOW).unwrap_err().contains("neither"));
    }

    #[test]
    fn minted_tokens_read_back() {
        let request = |encoding, expires, session: Option<&str>| Mint {
            address: "[0:0::1]:80".into(),
            encoding,
            expires,
            session: session.map(Into::into),
        };
        let cookie = mint(&request(Encoding::Cookie, Some(UnixSecs::new(NOW.get() + 42)), None)).unwrap();
        let text = describe(&cookie, NOW).unwrap();
        assert!(text.contains("address:  [::1]:80\n") && text.contains(", in 42 s\n"), "{text}");
        let header = mint(&request(Encoding::Header, None, None)).unwrap();
        assert_eq!(header, mint(&request(Encoding::Legacy, None, None)).unwrap());
        assert!(describe(&header, NOW).unwrap().contains("expires:  never"));
        let envelope = mint(&request(Encoding::Envelope, None, Some("abc"))).unwrap();
        assert!(describe(&envelope, NOW).unwrap().contains("session:  abc"));
        assert!(mint(&request(Encoding::Header, Some(NOW), None)).unwrap_err().contains("--ttl"));
        assert!(mint(&request(Encoding::Envelope, None, None)).unwrap_err().contains("--session"));
        assert!(mint(&request(Encoding::Cookie, None, Some("abc"))).unwrap_err().contains("--form envelope"));
    }

    #[test]
    fn odd_expiries_are_explained() {
        let at = |secs| expiry(Some(UnixSecs::new(secs)), NOW);
        assert!(at(NOW.get()).1.starts_with("good"));
        assert!(at(NOW.get() - 1).0.ends_with("1 s ago"));
        assert!(at(NOW.get() * 1000).1.contains("milliseconds"));
        assert!(at(1 << 63).1.starts_with("expired"));
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(253_402_300_799), "9999-12-31 23:59:59 UTC");
        assert_eq!(utc(253_402_300_800), "after the year 9999");
    }

    #[test]
    fn spans_name_two_units_at_most() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(42), "42 s");
        assert_eq!(span(10_800), "3 h");
        assert_eq!(span(153_015), "1 d 18 h");
        assert_eq!(span(86_401), "1 d");
    }
}
