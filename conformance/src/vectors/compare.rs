//! What differs between Envoy's recorded behaviour and Homing's.

use std::collections::BTreeMap;
use std::fmt;

use homing_core::affinity::Miss;
use homing_core::stats::{Fate, Outcome};

use super::run::{Repeat, Response, Run};
use super::setup::Refusal;
use super::{Fields, Mode, Observed, Saw, Text, Vector};
use crate::projection::{self, Origin};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Homing does not take the configuration, and Envoy does.
    Rejected(Refusal),
    /// Homing takes a configuration that Envoy does not.
    Accepted,
    /// The status, zero where the connection just closed.
    Status {
        /// Envoy's.
        envoy: u16,
        /// Homing's.
        homing: u16,
    },
    /// The statuses of interim responses.
    Interim {
        /// Envoy's.
        envoy: Vec<u16>,
        /// Homing's.
        homing: Vec<u16>,
    },
    /// The host that got the request.
    Host {
        /// Envoy's.
        envoy: Option<String>,
        /// Homing's.
        homing: Option<String>,
    },
    /// Who chose the host: the token, the balancer, nobody.
    Choice {
        /// Envoy's way.
        envoy: String,
        /// The outcome's dotted name.
        homing: &'static str,
    },
    /// A line of the response.
    ResponseLine(Line),
    /// The response's body.
    Body {
        /// Envoy's.
        envoy: Text,
        /// Homing's.
        homing: Text,
    },
    /// A line of the request as the host saw it.
    RequestLine(Line),
    /// Another part of the request as the host saw it.
    Request {
        /// Which part.
        part: &'static str,
        /// Envoy's.
        envoy: Text,
        /// Homing's.
        homing: Text,
    },
    /// Envoy's counters.
    Counters {
        /// Envoy's.
        envoy: BTreeMap<String, u64>,
        /// Those derived from Homing's outcomes.
        homing: BTreeMap<String, u64>,
    },
}

/// A field line that only one of the two has.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Who has it.
    pub side: Side,
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: Text,
}

/// One of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Envoy alone.
    Envoy,
    /// Homing alone.
    Homing,
}

/// Compares a run with what was recorded. No difference: the vector is in the class *same*.
pub fn compare(vector: &Vector, run: &Run) -> Vec<Difference> {
    let mut found = Vec::new();
    for (at, repeat) in run.repeats.iter().enumerate() {
        let mut differences = Vec::new();
        repetition(vector, at, repeat, &mut differences);
        for difference in differences {
            if !found.contains(&difference) {
                found.push(difference);
            }
        }
    }
    if let Some(first) = run.repeats.first() {
        request(&vector.observed, first, &mut found);
    }
    counters(&vector.observed, run, &mut found);
    found
}

fn repetition(vector: &Vector, at: usize, repeat: &Repeat, found: &mut Vec<Difference>) {
    let observed = &vector.observed;
    let statuses = observed.repeat_statuses.as_ref();
    let envoy = statuses.and_then(|all| all.get(at).copied()).or(observed.status).unwrap_or(0);
    let homing = repeat.response.as_ref().map_or(0, |response| response.status);
    if envoy != homing {
        found.push(Difference::Status { envoy, homing });
    }
    let interim: Vec<u16> = observed.interim.iter().map(|(status, _)| *status).collect();
    if interim != repeat.interim {
        found.push(Difference::Interim { envoy: interim, homing: repeat.interim.clone() });
    }
    host(vector, at, repeat, found);
    if let (Some(response), true) = (&repeat.response, envoy == homing) {
        answer(vector, repeat, response, found);
    }
}

/// Who chose the host, as the vectors name it.
fn chosen(observed: &Observed) -> &str {
    observed.chosen_by.as_deref().unwrap_or("unknown")
}

fn host(vector: &Vector, at: usize, repeat: &Repeat, found: &mut Vec<Difference>) {
    let observed = &vector.observed;
    let envoy = observed.repeats.get(at).cloned().flatten();
    let homing = repeat.host().map(str::to_owned);
    let agrees = match (chosen(observed), &envoy, &homing) {
        ("token" | "single-host", envoy, homing) => envoy == homing,
        (_, None, None) => true,
        (_, Some(_), Some(homing)) => vector.known_hosts().any(|host| host == homing),
        _ => false,
    };
    if !agrees {
        found.push(Difference::Host { envoy, homing });
    }
    let outcome = &repeat.outcome;
    let chosen_alike = match chosen(observed) {
        "token" => outcome.fate == Fate::Pinned,
        "lb" => outcome.fate != Fate::Pinned,
        "none" => outcome.fate != Fate::Pinned || vector.mode == Mode::Hcm,
        _ => true,
    };
    if !chosen_alike {
        found.push(Difference::Choice { envoy: chosen(observed).to_owned(), homing: outcome.reason() });
    }
    // Each host that a session was tried at must be the token's first, as recorded.
    if let Some(tries) = observed.attempts.as_ref().and_then(|all| all.get(at))
        && let (Some(envoy), Some((homing, _))) = (tries.first(), repeat.tries.first())
        && chosen(observed).starts_with("token")
        && envoy != homing
    {
        found.push(Difference::Host { envoy: Some(envoy.clone()), homing: Some(homing.clone()) });
    }
}

fn answer(vector: &Vector, repeat: &Repeat, response: &Response, found: &mut Vec<Difference>) {
    let observed = &vector.observed;
    let envoys_own = observed
        .log
        .as_ref()
        .and_then(|log| log.details.as_deref())
        .is_none_or(|details| details != "via_upstream");
    let origin = if envoys_own && response.is_own() { Origin::Proxy } else { Origin::Upstream };
    let to = repeat.host().or(vector.observed.upstream.as_deref()).unwrap_or_default();
    let mut envoy = projection::response(origin, &transplanted(observed, to));
    let mut homing = projection::response(origin, &response.fields);
    // The balancer may happen to choose the very host that the token names; then there is nothing to write.
    let named = vector.token.as_ref().and_then(|token| token.address.as_deref());
    let by_chance = |host: Option<&str>| host.is_some() && host == named && chosen(observed) != "token";
    if by_chance(repeat.host()) != by_chance(observed.upstream.as_deref()) {
        for side in [&mut envoy, &mut homing] {
            side.retain(|(name, _)| name.0 != b"set-cookie");
        }
    }
    lines(&envoy, &homing, found, Difference::ResponseLine);
    if origin == Origin::Upstream && observed.body.0 != response.body {
        found.push(Difference::Body { envoy: observed.body.clone(), homing: Text(response.body.clone()) });
    }
}

/// The recorded response as it had been, had `to` answered instead of the recorded host.
fn transplanted(observed: &Observed, to: &str) -> Fields {
    let Some(from) = observed.upstream.as_deref() else { return observed.response_headers.clone() };
    let session = observed.response_header_name.as_ref();
    let value = |name: &Text, value: &Text| {
        if name.0 == b"x-be" {
            return Text(to.as_bytes().to_vec());
        }
        if name.0 == b"set-cookie" {
            return Text(token::cookie_with(&value.0, from, to));
        }
        if session.is_some_and(|session| name.0.eq_ignore_ascii_case(&session.0)) {
            return Text(token::value_with(&value.0, from, to));
        }
        value.clone()
    };
    observed.response_headers.iter().map(|line| (line.0.clone(), value(&line.0, &line.1))).collect()
}

/// Lines that only one side has; of those that both have, the order among one name.
fn lines(envoy: &Fields, homing: &Fields, found: &mut Vec<Difference>, of: impl Fn(Line) -> Difference) {
    let mut rest = homing.clone();
    let mut push = |side, (name, value): &(Text, Text)| {
        let name = String::from_utf8_lossy(&name.0).into_owned();
        found.push(of(Line { side, name, value: value.clone() }));
    };
    let mut common = Vec::new();
    for line in envoy {
        match rest.iter().position(|other| other == line) {
            Some(at) => common.push(rest.remove(at)),
            None => push(Side::Envoy, line),
        }
    }
    for line in &rest {
        push(Side::Homing, line);
    }
    // Both are sorted by name, so that what is left of a difference is an order among one name.
    let ordered = homing.iter().filter(|line| common.contains(line));
    for (one, other) in common.iter().zip(ordered) {
        if one != other {
            push(Side::Homing, other);
        }
    }
}

fn request(observed: &Observed, repeat: &Repeat, found: &mut Vec<Difference>) {
    let (Some(envoy), Some((_, homing))) = (&observed.upstream_saw, repeat.tries.last()) else { return };
    let text = |text: &str| Text(text.as_bytes().to_vec());
    let parts = [
        ("method", text(&envoy.method), text(&homing.method)),
        ("path", envoy.path.clone(), homing.path.clone()),
        ("body", envoy.body.clone(), homing.body.clone()),
    ];
    for (part, envoy, homing) in parts {
        if envoy != homing {
            found.push(Difference::Request { part, envoy, homing });
        }
    }
    let seen = |saw: &Saw| projection::request(&saw.headers);
    lines(&seen(envoy), &seen(homing), found, Difference::RequestLine);
}

fn counters(observed: &Observed, run: &Run, found: &mut Vec<Difference>) {
    let Some(homing) = &run.counters else { return };
    let mut envoy = BTreeMap::new();
    for (name, count) in &observed.stats_delta_over_repeats {
        let name = name.rsplit('.').next().unwrap_or_default();
        *envoy.entry(name.to_owned()).or_insert(0) += count;
    }
    let homing: BTreeMap<String, u64> =
        homing.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    if envoy != homing {
        found.push(Difference::Counters { envoy, homing });
    }
}

impl Vector {
    /// The hosts that may answer.
    pub fn known_hosts(&self) -> impl Iterator<Item = &str> {
        let recorded = self.observed.repeats.iter().flatten();
        self.hosts.iter().chain(recorded).map(String::as_str)
    }
}

impl Run {
    /// What Homing did, in a few words; the same for every seed.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for repeat in &self.repeats {
            let status =
                repeat.response.as_ref().map_or("closed".to_owned(), |found| found.status.to_string());
            let minted = if repeat.outcome.minted { " minted" } else { "" };
            let part = format!("{status} {}{minted}", described(&repeat.outcome));
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.sort_unstable();
        parts.join(" | ")
    }
}

/// The dotted name, or how a request ended that had no decision.
fn described(outcome: &Outcome) -> &'static str {
    match (outcome.reason(), outcome.miss) {
        ("unmanaged" | "undecided", _) => outcome.ending.as_str(),
        ("unplaced", Some(Miss::Malformed)) => "unplaced malformed",
        (reason, _) => reason,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(refusal) => write!(f, "refused: {refusal}"),
            Self::Accepted => write!(f, "accepted"),
            Self::Status { envoy, homing } => write!(f, "status {envoy} → {homing}"),
            Self::Interim { envoy, homing } => write!(f, "interim {envoy:?} → {homing:?}"),
            Self::Host { envoy, homing } => write!(f, "host {envoy:?} → {homing:?}"),
            Self::Choice { envoy, homing } => write!(f, "chosen by {envoy} → {homing}"),
            Self::ResponseLine(line) => write!(f, "response {line}"),
            Self::Body { envoy, homing } => write!(f, "body {envoy:?} → {homing:?}"),
            Self::RequestLine(line) => write!(f, "request {line}"),
            Self::Request { part, envoy, homing } => write!(f, "request {part} {envoy:?} → {homing:?}"),
            Self::Counters { envoy, homing } => write!(f, "counters {envoy:?} → {homing:?}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Envoy => "Envoy only",
            Side::Homing => "Homing only",
        };
        write!(f, "{side} {}: {}", self.name, self.value.0.escape_ascii())
    }
}

pub(super) use token::{base64, unbase64};

/// The token forms, written anew from `README.md`: an expectation must not come from the code under test.
mod token {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(in crate::vectors) fn base64(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for group in bytes.chunks(3) {
            let mut bits = 0_u32;
            for at in 0..3 {
                bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
            }
            for digit in 0..4 {
                let index = (bits >> (18 - 6 * digit) & 63) as usize;
                out.push(if digit <= group.len() { ALPHABET[index] } else { b'=' });
            }
        }
        out
    }

    /// The bytes; padding is not looked at.
    pub(in crate::vectors) fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (mut bits, mut held) = (0_u32, 0);
        for byte in text.iter().filter(|&&byte| byte != b'=') {
            let digit = ALPHABET.iter().position(|known| known == byte)?;
            bits = bits << 6 | u32::try_from(digit).ok()?;
            held += 6;
            if held >= 8 {
                held -= 8;
                out.push(u8::try_from(bits >> held & 0xff).ok()?);
            }
        }
        Some(out)
    }

    /// `set-cookie` with the token of `to` where the token of `from` stood; its expiry stays.
    pub(super) fn cookie_with(line: &[u8], from: &str, to: &str) -> Vec<u8> {
        let Some(open) = line.iter().position(|&byte| byte == b'"') else { return line.to_vec() };
        let Some(length) = line[open + 1..].iter().position(|&byte| byte == b'"') else {
            return line.to_vec();
        };
        let (start, end) = (open + 1, open + 1 + length);
        let Some(message) = unbase64(&line[start..end]) else { return line.to_vec() };
        let tagged = |address: &str| {
            let length = u8::try_from(address.len()).unwrap_or(u8::MAX);
            [&[0x0a, length], address.as_bytes()].concat()
        };
        let Some(rest) = message.strip_prefix(tagged(from).as_slice()) else { return line.to_vec() };
        let token = base64(&[tagged(to).as_slice(), rest].concat());
        [&line[..start], &token, &line[end..]].concat()
    }

    /// A header's or an envelope's value with the address of `to` where that of `from` stood.
    pub(super) fn value_with(value: &[u8], from: &str, to: &str) -> Vec<u8> {
        match value.strip_prefix(base64(from.as_bytes()).as_slice()) {
            Some(rest) if rest.is_empty() || rest.starts_with(b";UV:") => {
                [base64(to.as_bytes()).as_slice(), rest].concat()
            }
            _ => value.to_vec(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_recorded_line_is_moved_to_another_host() {
            let line = b"sess=\"Cg8xMjcuMC4wLjE6MjExMDIQ8fGO2AY=\"; Max-Age=60; HttpOnly";
            let moved = cookie_with(line, "127.0.0.1:21102", "127.0.0.1:21103");
            assert_eq!(
                moved.escape_ascii().to_string(),
                "sess=\\\"Cg8xMjcuMC4wLjE6MjExMDMQ8fGO2AY=\\\"; Max-Age=60; HttpOnly"
            );
            assert_eq!(cookie_with(line, "127.0.0.1:21109", "x"), line);
            assert_eq!(value_with(b"MTI3;UV:eA==", "127", "128"), b"MTI4;UV:eA==");
            assert_eq!(value_with(b"MTI3x", "127", "128"), b"MTI3x");
            assert_eq!(base64(b"ab"), b"YWI=");
            assert_eq!(unbase64(b"YWI=").as_deref(), Some(&b"ab"[..]));
        }
    }
}
