//! The rows of `DIVERGENCES.md` as checks: which row explains a difference, and only if Homing does what the row says.
//!
//! A row is a claim about both sides. Each check below states what Envoy was seen to do *and* what Homing must do
//! instead; a difference that no row explains fails the suite, and so does a row that explains none.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use homing_core::affinity::{Miss, PolicyError, RefusalReason};
use homing_core::field::FieldError;
use homing_core::limits::TOKEN_MAX;
use homing_core::stats::{Ending, Fate, Move, Scope};

use super::compare::{Difference, Line, Side};
use super::run::{Repeat, Run};
use super::setup::Refusal;
use super::{Mode, Vector};

/// The ledger itself.
pub const TEXT: &str = include_str!("../../DIVERGENCES.md");

/// The row that explains a difference.
pub fn row(vector: &Vector, run: Option<&Run>, difference: &Difference) -> Option<u16> {
    match (difference, run) {
        (Difference::Rejected(refusal), _) => configuration(refusal),
        (Difference::Accepted, _) | (_, None) => None,
        (difference, Some(run)) => {
            let case = Case { vector, run };
            case.line(difference)
                .or_else(|| case.counters(difference))
                .or_else(|| case.decision().filter(|_| is_consequence(difference)))
                .or_else(|| case.http(difference))
        }
    }
}

/// What a line of a row may begin with.
const KEYS: [&str; 5] = ["Vectors", "Tests", "Envoy", "Homing", "Why"];

/// One row of the ledger.
#[derive(Debug)]
pub struct Entry {
    /// Its number; zero: it has none, which is an error.
    pub number: u16,
    /// What it is about, as a statement of what Homing does.
    pub title: &'static str,
    /// The heading above it.
    pub section: &'static str,
    keys: Vec<(&'static str, String)>,
}

impl Entry {
    /// The text behind a key: `Vectors`, `Tests`, `Envoy`, `Homing`, `Why`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, text)| text.as_str())
    }
}

/// The rows of the ledger, in order.
pub fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = "";
    for line in TEXT.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        if let Some((number, title)) = line.strip_prefix("### ").and_then(|rest| rest.split_once(". ")) {
            entries.push(Entry { number: number.parse().unwrap_or(0), title, section, keys: Vec::new() });
            continue;
        }
        let Some(entry) = entries.last_mut() else { continue };
        let item = line.strip_prefix("- ").unwrap_or_default();
        match KEYS.into_iter().find_map(|key| Some((key, item.strip_prefix(key)?.strip_prefix(": ")?))) {
            Some((key, text)) => entry.keys.push((key, text.to_owned())),
            None if line.starts_with("  ") => {
                if let Some((_, text)) = entry.keys.last_mut() {
                    text.extend([" ", line.trim()]);
                }
            }
            None => {}
        }
    }
    entries
}

/// The ledger with the given vectors in its lines `Vectors`.
pub fn with_vectors(rows: &BTreeMap<u16, Vec<String>>) -> String {
    let mut out = String::new();
    let mut number = 0;
    let mut skipping = false;
    for line in TEXT.lines() {
        if let Some((heading, _)) = line.strip_prefix("### ").and_then(|rest| rest.split_once(". ")) {
            number = heading.parse().unwrap_or(0);
        }
        skipping = line.starts_with("- Vectors: ") || (skipping && line.starts_with("  "));
        if line.starts_with("- Vectors: ") {
            let ids = rows.get(&number).map(|ids| named(ids)).unwrap_or_default();
            wrap(&format!("- Vectors: {ids}"), "  ", &mut out);
        } else if !skipping {
            out.extend([line, "\n"]);
        }
    }
    out
}

/// The ids in a form to read: as ranges, or, where those would fill a page, how many there are of each topic.
pub fn named(ids: &[String]) -> String {
    let ranges = ranges(ids);
    if ranges.len() <= RANGES_MAX {
        return ranges.join(", ");
    }
    let mut topics: Vec<(&str, &str, usize)> = Vec::new();
    for id in ids {
        let topic = |id: &str| id.rsplit_once('-').map(|(topic, _)| topic.to_owned());
        match topics.last_mut() {
            Some((first, last, count)) if topic(first) == topic(id) => (*last, *count) = (id, *count + 1),
            _ => topics.push((id, id, 1)),
        }
    }
    let written = |(first, last, count)| format!("{count} of {first} to {last}");
    format!(
        "{}; all in `vectors/divergence.txt`",
        topics.into_iter().map(written).collect::<Vec<_>>().join(", ")
    )
}

/// More ranges than this are not to be read.
const RANGES_MAX: usize = 40;

/// Runs of consecutive ids in a short form: `pb-066 to pb-068`. The ids must be in order.
fn ranges(ids: &[String]) -> Vec<String> {
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if follows(last, id) => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let written = |(first, last): (&str, &str)| match first == last {
        true => first.to_owned(),
        false => format!("{first} to {last}"),
    };
    runs.into_iter().map(written).collect()
}

fn follows(one: &str, next: &str) -> bool {
    let split = |id: &str| {
        id.rsplit_once('-').and_then(|(topic, number)| Some((topic.to_owned(), number.parse::<u32>().ok()?)))
    };
    split(one).zip(split(next)).is_some_and(|(one, next)| one.0 == next.0 && one.1 + 1 == next.1)
}

/// Adds a paragraph with lines of at most 120 characters, the second and later ones after `indent`.
pub(super) fn wrap(text: &str, indent: &str, out: &mut String) {
    let mut width = 0;
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > 120 {
            out.extend(["\n", indent]);
            width = indent.len();
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
    }
    out.push('\n');
}

/// Why Homing refuses a configuration that Envoy takes.
fn configuration(refusal: &Refusal) -> Option<u16> {
    match refusal {
        Refusal::Policy(PolicyError::CookieName(_)) => Some(20),
        Refusal::Policy(PolicyError::CookiePrefix { .. }) => Some(21),
        Refusal::Policy(PolicyError::CookiePath(_)) => Some(22),
        Refusal::Policy(PolicyError::AttributeReserved(_)) => Some(23),
        Refusal::Policy(PolicyError::AttributeName(_) | PolicyError::AttributeValue(_)) => Some(24),
        Refusal::Field(FieldError::NameByte(_)) => Some(25),
        Refusal::Policy(PolicyError::FieldReserved(_)) => Some(26),
        Refusal::Field(FieldError::Status(_)) => Some(27),
        Refusal::Policy(PolicyError::InsertTooLong(_)) => Some(28),
        _ => None,
    }
}

/// Whether a difference follows from another decision about the session.
fn is_consequence(difference: &Difference) -> bool {
    match difference {
        Difference::Status { .. }
        | Difference::Host { .. }
        | Difference::Choice { .. }
        | Difference::Counters { .. }
        | Difference::Body { .. } => true,
        Difference::ResponseLine(line) => {
            matches!(line.name.as_str(), "set-cookie" | "x-be" | "content-length" | "content-type")
        }
        _ => false,
    }
}

/// A vector and what Homing did.
struct Case<'c> {
    vector: &'c Vector,
    run: &'c Run,
}

impl Case<'_> {
    fn every(&self, holds: impl Fn(&Repeat) -> bool) -> bool {
        !self.run.repeats.is_empty() && self.run.repeats.iter().all(holds)
    }

    fn chosen(&self, way: &str) -> bool {
        self.vector.observed.chosen_by.as_deref() == Some(way)
    }

    /// Whether Envoy answered so.
    fn status_is(&self, status: u16) -> bool {
        self.vector.observed.status == Some(status)
    }

    fn flags(&self) -> &str {
        let log = self.vector.observed.log.as_ref();
        log.and_then(|log| log.flags.as_deref()).unwrap_or_default()
    }

    fn raw_contains(&self, text: &[u8]) -> bool {
        let raw = self.vector.request.as_ref().and_then(|request| request.raw.as_ref());
        raw.is_some_and(|raw| raw.0.windows(text.len()).any(|window| window == text))
    }

    fn first_line(&self) -> &[u8] {
        let raw = self.vector.request.as_ref().and_then(|request| request.raw.as_ref());
        raw.and_then(|raw| raw.0.split(|&byte| byte == b'\n').next()).unwrap_or_default()
    }

    /// Another decision about the session.
    fn decision(&self) -> Option<u16> {
        let is_placed = |repeat: &Repeat, miss| {
            repeat.outcome.fate == Fate::Placed
                && repeat.outcome.miss == Some(miss)
                && status(repeat) == 200
                && repeat.host().is_some()
        };
        let malformed = self.every(|repeat| is_placed(repeat, Miss::Malformed));
        let minted = self.every(|repeat| repeat.outcome.minted);
        let pinned = self.every(|repeat| repeat.outcome.fate == Fate::Pinned && !repeat.outcome.minted);
        let strict = self.every(|repeat| repeat.outcome.strict);
        match self.vector.mode {
            Mode::Cookie if pinned && self.chosen("lb") && self.cookies_of_the_name() > 1 => Some(1),
            Mode::Cookie if self.chosen("lb") && self.names_a_socket() && self.every(is_gone) => Some(2),
            Mode::Cookie | Mode::Header if malformed && minted && strict && self.is_refused_by_envoy() => {
                Some(3)
            }
            Mode::Cookie if malformed && minted && self.chosen("token") && self.has_long_value() => Some(4),
            Mode::Envelope if malformed && self.status_is(503) && self.passes_unchanged() => Some(5),
            Mode::Routing if !strict && self.flags() == "UF" && self.every(has_moved_on) => Some(7),
            Mode::Routing if strict && self.was_retried_by_envoy() && self.stays() => Some(8),
            Mode::Routing if pinned && self.is_weighted() => Some(9),
            Mode::Routing if self.was_retried_by_envoy() && self.every(is_retried_elsewhere) => Some(10),
            _ => None,
        }
    }

    /// Lines that follow from no decision about the session.
    fn line(&self, difference: &Difference) -> Option<u16> {
        match difference {
            Difference::ResponseLine(Line { side: Side::Envoy, name, .. }) => {
                let is_token = name == "set-cookie" || name == "x-sess";
                let failed = self.every(|repeat| !repeat.outcome.minted && is_failure(repeat.outcome.ending));
                match name.as_str() {
                    _ if is_token && failed => Some(6),
                    "x-hop" => Some(46),
                    "location" => Some(31),
                    "transfer-encoding" if self.ends_with_connection() => Some(49),
                    _ => None,
                }
            }
            Difference::ResponseLine(Line { side: Side::Homing, name, value }) => {
                (name == "location" && value.0.starts_with(b"/")).then_some(31)
            }
            Difference::RequestLine(Line { side, name, value }) => {
                match (side, name.as_str(), value.0.as_slice()) {
                    (Side::Envoy, "content-length", b"0") => Some(35),
                    (Side::Homing, "expect", b"100-continue") => Some(43),
                    (Side::Envoy, "x-forwarded-proto", b"http")
                    | (Side::Homing, "x-forwarded-proto", b"https") => Some(47),
                    (Side::Envoy, "host", b"dflt") | (Side::Homing, "host", b"c3") => Some(48),
                    _ => None,
                }
            }
            Difference::Interim { envoy, homing } => match (envoy.as_slice(), homing.as_slice()) {
                ([], [100 | 103]) => Some(32),
                ([100], []) => Some(43),
                _ => None,
            },
            _ => None,
        }
    }

    /// Counters that differ though the decision does not.
    fn counters(&self, difference: &Difference) -> Option<u16> {
        let Difference::Counters { envoy, homing } = difference else { return None };
        let count = |counters: &BTreeMap<String, u64>, name| counters.get(name).copied().unwrap_or(0);
        let all = self.run.repeats.len() as u64;
        let by_chance = count(envoy, "failed_open") + count(envoy, "routed") == all
            && count(homing, "failed_open") == all
            && self.every(|repeat| repeat.outcome.miss == Some(Miss::Barred) || was_moved(repeat));
        let refused = self.every(|repeat| {
            repeat.outcome.fate == Fate::Refused(RefusalReason::ConnectFailed) && status(repeat) == 503
        });
        let unwrapped = self.vector.mode == Mode::Envelope || self.vector.topic() == "fail";
        match () {
            () if by_chance => Some(11),
            () if unwrapped
                && self
                    .every(|repeat| repeat.outcome.miss == Some(Miss::Absent) && !repeat.outcome.minted)
                && count(envoy, "routed") == all =>
            {
                Some(12)
            }
            () if count(envoy, "no_session") == all
                && homing.is_empty()
                && self.every(|repeat| repeat.outcome.scope == Scope::Unmanaged) =>
            {
                Some(14)
            }
            () if refused && self.flags() == "UF" && count(homing, "failed_closed") == all => Some(13),
            () => None,
        }
    }

    /// HTTP itself.
    fn http(&self, difference: &Difference) -> Option<u16> {
        let turned_away = matches!(difference, Difference::Host { homing: None, .. })
            || matches!(difference, Difference::Choice { homing: "unmanaged", .. })
            || matches!(difference, Difference::Counters { homing, .. } if homing.is_empty());
        let served = matches!(difference, Difference::Host { envoy: None, .. });
        let statuses = match difference {
            Difference::Status { envoy, homing } => Some((*envoy, *homing)),
            _ => None,
        };
        let every_status = |expected: u16| self.every(|repeat| status(repeat) == expected);
        match statuses {
            Some((503, 502)) if self.every(|repeat| repeat.outcome.ending == Ending::UpstreamReset) => {
                Some(30)
            }
            Some((200, 400)) if self.has_bad_line_end() => Some(33),
            Some((200, 503 | 404 | 302)) if self.is_grpc() && self.every(is_gone) => Some(34),
            Some((426, _)) if self.first_line().ends_with(b" HTTP/1.0\r") => Some(36),
            Some((426 | 0, 505)) => Some(37),
            Some((404, 200)) if self.raw_contains(b":8080") => Some(38),
            Some((404, 400)) => Some(39),
            Some((404, 405)) if self.first_line().starts_with(b"CONNECT ") => Some(40),
            Some((400, 200)) if self.has_unusual_method() => Some(41),
            Some((431, 414)) => Some(44),
            Some((200, 502)) if self.every(|repeat| repeat.outcome.ending == Ending::UpstreamMalformed) => {
                Some(45)
            }
            Some(_) => None,
            None if turned_away && self.has_bad_line_end() && every_status(400) => Some(33),
            None if served && self.first_line().ends_with(b" HTTP/1.0\r") && every_status(200) => Some(36),
            None if served && self.raw_contains(b":8080") && every_status(200) => Some(38),
            None if served && self.has_unusual_method() && every_status(200) => Some(41),
            None => None,
        }
    }

    /// Whether the host's response has no framing of its own.
    fn ends_with_connection(&self) -> bool {
        let raw = self.vector.upstream_behaviour.raw.as_ref().map(|raw| raw.0.as_slice()).unwrap_or_default();
        raw.starts_with(b"HTTP/1.1 200 OK\r\n\r\n")
    }

    /// How many cookies of the session's name the request has, by their `=`.
    fn cookies_of_the_name(&self) -> usize {
        let lines = self.sent("cookie");
        lines.iter().map(|line| line.windows(5).filter(|part| part == b"sess=").count()).sum()
    }

    /// The values of the request's lines of this name.
    fn sent(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.vector.request.iter().flat_map(|request| &request.headers);
        lines
            .filter(|(known, _)| known.0.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.0.as_slice())
            .collect()
    }

    /// Whether the token's bytes are an address with a port, and nothing else.
    fn names_a_socket(&self) -> bool {
        let lines = self.sent("cookie");
        let Some(value) = lines.first().and_then(|line| line.strip_prefix(b"sess=")) else { return false };
        let bytes = super::compare::unbase64(value).unwrap_or_default();
        std::str::from_utf8(&bytes).is_ok_and(|text| text.parse::<SocketAddr>().is_ok())
    }

    fn is_refused_by_envoy(&self) -> bool {
        self.chosen("none") && self.flags() == "UH"
    }

    fn has_long_value(&self) -> bool {
        self.sent("cookie").iter().any(|line| line.len() > TOKEN_MAX)
    }

    /// Whether each host saw the session header as the client sent it.
    fn passes_unchanged(&self) -> bool {
        let sent = self.sent("x-env");
        self.every(|repeat| {
            repeat.tries.iter().all(|(_, saw)| {
                let lines = saw.headers.iter().filter(|(name, _)| name.0.eq_ignore_ascii_case(b"x-env"));
                lines.map(|(_, value)| value.0.as_slice()).eq(sent.iter().copied())
            })
        })
    }

    fn was_retried_by_envoy(&self) -> bool {
        self.vector.observed.chosen_by.as_deref().is_some_and(|way| way.contains("on retr"))
    }

    /// Whether a strict session stays with its host, and the client learns how that one failed.
    fn stays(&self) -> bool {
        let slow = self.vector.upstream_behaviour.by_host.values().any(|host| host.delay.is_some());
        let expected = match self.vector.upstream_behaviour.reset {
            Some(_) => 502,
            None if slow => 504,
            None => 503,
        };
        self.every(|repeat| {
            let hosts = || repeat.tries.iter().map(|(host, _)| host);
            let one_host = hosts().zip(hosts().skip(1)).all(|(one, next)| one == next);
            let fate = repeat.outcome.fate;
            let pinned = matches!(fate, Fate::Pinned | Fate::Refused(RefusalReason::ConnectFailed));
            pinned && one_host && status(repeat) == expected && !repeat.outcome.minted
        })
    }

    fn is_weighted(&self) -> bool {
        ["wA", "wB"].iter().all(|name| self.vector.clusters.contains_key(*name))
    }

    /// A folded line, a bare LF, a bare CR.
    fn has_bad_line_end(&self) -> bool {
        let request = self.vector.request.as_ref();
        let bytes = request.and_then(|request| request.raw.as_ref()).map(|raw| raw.0.as_slice());
        let bytes = bytes.unwrap_or_default();
        bytes.iter().enumerate().any(|(at, &byte)| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            let after = bytes.get(at + 1);
            match byte {
                b'\n' => before != Some(&b'\r') || matches!(after, Some(b' ' | b'\t')),
                b'\r' => after != Some(&b'\n'),
                _ => false,
            }
        })
    }

    fn is_grpc(&self) -> bool {
        self.sent("content-type").iter().any(|value| value.starts_with(b"application/grpc"))
    }

    fn has_unusual_method(&self) -> bool {
        [b"get ".as_slice(), b"FOOBAR ", b"QUERY "].iter().any(|method| self.first_line().starts_with(method))
    }
}

fn status(repeat: &Repeat) -> u16 {
    repeat.response.as_ref().map_or(0, |response| response.status)
}

fn is_gone(repeat: &Repeat) -> bool {
    repeat.outcome.fate == Fate::Refused(RefusalReason::Gone) && repeat.host().is_none()
}

fn has_moved_on(repeat: &Repeat) -> bool {
    repeat.outcome.fate == Fate::Moved(Move::ConnectFailed) && status(repeat) == 200 && repeat.outcome.minted
}

fn was_moved(repeat: &Repeat) -> bool {
    matches!(repeat.outcome.fate, Fate::Moved(Move::Retried | Move::Reset))
}

fn is_retried_elsewhere(repeat: &Repeat) -> bool {
    let hosts = || repeat.tries.iter().map(|(host, _)| host);
    repeat.outcome.fate == Fate::Moved(Move::Retried)
        && status(repeat) == 200
        && hosts().zip(hosts().skip(1)).all(|(one, next)| one != next)
}

fn is_failure(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::ConnectFailed | Ending::UpstreamReset | Ending::UpstreamMalformed | Ending::UpstreamTimeout
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_ids_make_a_range() {
        let ids = ["a-001", "a-002", "a-003", "a-005", "b-006", "b-007"].map(str::to_owned);
        assert_eq!(ranges(&ids), ["a-001 to a-003", "a-005", "b-006 to b-007"]);
    }

    #[test]
    fn every_row_says_who_does_what_and_why() {
        let entries = entries();
        assert!(entries.len() > 30, "{}", entries.len());
        let mut last = 0;
        for entry in &entries {
            assert!(entry.number > last, "row {} {:?} is out of order", entry.number, entry.title);
            last = entry.number;
            for key in ["Envoy", "Homing", "Why"] {
                let text = entry.get(key).unwrap_or_default();
                assert!(!text.is_empty(), "row {} lacks its line {key}", entry.number);
            }
        }
    }
}
