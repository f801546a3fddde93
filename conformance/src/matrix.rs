//! The HTTP matrix: hostile and odd HTTP/1.x, each case with what Homing must do and the section that says so.
//!
//! ```text
//!  case ─ send, canary ─▶ proxy ─▶ upstream: records whole requests, plays the case's response
//!  client ◀── received ── proxy ◀──┘
//!                │                        seen
//!                └────────▶ verdict ◀─────┘   must be the case's
//! ```
//!
//! Behind the bytes of every case goes a *canary*, an ordinary request that ends the connection. It is answered if, and
//! only if, the proxy knew where the case ended; after a refusal it must never be seen by the upstream. So that every case
//! ends by itself, and nothing waits for a time-out.
//!
//! The cases are in `matrix/cases.jsonl`; the README beside this crate describes their form.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::message::{Progress, Request, Response, read_response};
use crate::vectors::Text;

/// The cases as text, one JSON object a line.
pub const TEXT: &str = include_str!("../matrix/cases.jsonl");

/// The request that goes behind every case.
pub const CANARY: &[u8] = b"GET /canary HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
/// What the upstream answers the canary. `X-Up` tells the upstream's responses from the proxy's own.
const CANARY_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nX-Up: canary\r\nContent-Length: 6\r\n\r\ncanary";
const ANSWER_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nX-Up: 1\r\nContent-Length: 2\r\n\r\n";

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `group/name`.
    pub name: String,
    /// The RFC and its section.
    pub rfc: String,
    /// What is odd about it, for people.
    pub note: String,
    /// What Homing must do: steps, separated by commas.
    pub verdict: String,
    /// What the client sends.
    pub send: Text,
    /// The whole requests that the upstream must see, without the canary: `METHOD target body`.
    #[serde(default)]
    pub seen: Vec<Text>,
    /// Fields of the first of them, lines of one name joined. `None`: absent. `*`: there.
    #[serde(default)]
    pub fields: BTreeMap<String, Option<String>>,
    /// Fields of the first final response, likewise.
    #[serde(default)]
    pub got: BTreeMap<String, Option<String>>,
    /// The bodies of the responses, the canary's left out.
    pub bodies: Option<Vec<String>>,
    /// The methods of the requests, where one of them is HEAD.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What the upstream answers to anything but the canary; an ordinary 200 otherwise.
    pub upstream: Option<Text>,
    /// The upstream closes behind its answer.
    #[serde(default)]
    pub upstream_closes: bool,
    /// The fault lies behind the head, which the upstream may have got: its link is closed, not used again.
    #[serde(default)]
    pub late: bool,
    /// The upstream sends more than its response. What comes later than the response itself can only be told from an
    /// answer to the next request once the link was still for a moment.
    #[serde(default)]
    pub stray: bool,
    /// The canary goes behind the case. Without it, the client closes its sending side instead.
    #[serde(default = "yes")]
    pub canary: bool,
}

const fn yes() -> bool {
    true
}

/// What was seen of a case when its connection was over.
#[derive(Debug, Default)]
pub struct Observed {
    /// Every byte the client received.
    pub received: Vec<u8>,
    /// The connection ended in a reset.
    pub reset: bool,
    /// The whole requests that came to the upstream, in order, the canary included.
    pub requests: Vec<Request>,
}

/// All cases, in the order of the file.
///
/// # Errors
/// Names the line that cannot be read, and why.
pub fn all() -> Result<Vec<Case>, String> {
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("cases.jsonl line {}: {error}", at + 1))
    };
    TEXT.lines().enumerate().map(parse).collect()
}

impl Case {
    /// The part of the name before the slash.
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Everything the client sends.
    pub fn sent(&self) -> Vec<u8> {
        let mut bytes = self.send.0.clone();
        if self.canary {
            bytes.extend_from_slice(CANARY);
        }
        bytes
    }

    /// What the upstream answers to `request`.
    pub fn answer(&self, request: &Request) -> Vec<u8> {
        if is_canary(request) {
            return CANARY_ANSWER.to_vec();
        }
        match &self.upstream {
            Some(text) => text.0.clone(),
            None if request.method == "HEAD" => ANSWER_HEAD.to_vec(),
            None => [ANSWER_HEAD, b"ok"].concat(),
        }
    }

    /// Whether the upstream speaks another protocol behind its answer, and sends back what it gets.
    pub fn switches(&self, request: &Request) -> bool {
        let answer = self.answer(request);
        answer.windows(13).any(|text| text.starts_with(b"HTTP/1.") && text.ends_with(b" 101 "))
    }

    /// Whether the upstream closes behind its answer.
    pub fn closes(&self, request: &Request) -> bool {
        self.upstream_closes && !is_canary(request)
    }

    /// Whether the client must close its sending side for the connection to end.
    pub fn client_ends(&self) -> bool {
        !self.canary
    }

    /// What is wrong with `observed`; empty: nothing.
    pub fn faults(&self, observed: &Observed) -> Vec<String> {
        let mut faults = Vec::new();
        let reading = Reading::of(self, observed);
        if reading.verdict != self.verdict {
            faults.push(format!(
                "verdict {:?}, and not {:?}; received {:?}",
                reading.verdict,
                self.verdict,
                latin1(&observed.received)
            ));
        }
        let (canaries, requests): (Vec<_>, Vec<_>) = observed.requests.iter().partition(|one| is_canary(one));
        if canaries.len() != usize::from(reading.canary) {
            faults.push(format!("the upstream saw {} canaries", canaries.len()));
        }
        let seen: Vec<_> = requests.iter().map(|request| summary(request)).collect();
        let expected: Vec<_> = self.seen.iter().map(|text| latin1(&text.0)).collect();
        if seen != expected {
            faults.push(format!("the upstream saw {seen:?}, and not {expected:?}"));
        }
        if let Some(request) = requests.first() {
            check_fields("upstream's", &self.fields, |name| request.all(name), &mut faults);
        }
        if let Some(response) = reading.finals.first() {
            check_fields("client's", &self.got, |name| response.all(name), &mut faults);
        }
        if let Some(bodies) = &self.bodies {
            let found: Vec<_> = reading.finals.iter().map(|response| latin1(&response.body)).collect();
            if &found != bodies {
                faults.push(format!("bodies {found:?}, and not {bodies:?}"));
            }
        }
        if reading.verdict.contains("refused") && reading.last.as_deref() != Some("close") {
            faults.push("a refusal that does not say connection: close".to_owned());
        }
        faults
    }
}

/// What a client made of what it received.
#[derive(Default)]
struct Reading {
    verdict: String,
    /// The canary was answered.
    canary: bool,
    /// The final responses, the canary's left out.
    finals: Vec<Response>,
    /// The `connection` field of the last one.
    last: Option<String>,
}

impl Reading {
    fn of(case: &Case, observed: &Observed) -> Self {
        let mut reading = Self::default();
        let mut steps: Vec<String> = Vec::new();
        let mut rest = observed.received.as_slice();
        let mut forwarded = 0;
        let requests = observed.requests.iter().filter(|request| !is_canary(request)).count();
        while !rest.is_empty() {
            let to_head = case.methods.get(reading.finals.len()).is_some_and(|method| method == "HEAD");
            let (response, used) = match read_response(rest, to_head, true) {
                Ok(Progress::Done(response, used)) => (response, used),
                Ok(Progress::Head(_)) => {
                    steps.push("cut".to_owned());
                    break;
                }
                Ok(Progress::Partial) | Err(_) => {
                    steps.push("garbage".to_owned());
                    break;
                }
            };
            rest = rest.get(used..).unwrap_or_default();
            let status = response.status;
            if response.is_interim() {
                steps.push(format!("interim {status}"));
                continue;
            }
            let ends_here = rest.is_empty();
            match response.field("x-up") {
                Some("canary") => {
                    reading.canary = true;
                    if !ends_here {
                        steps.push("bytes behind the canary".to_owned());
                    }
                    break;
                }
                Some("1") if status == 101 => {
                    steps.push(if rest == CANARY { "tunnelled" } else { "tunnelled otherwise" }.to_owned());
                    reading.finals.push(response);
                    break;
                }
                Some("1") => {
                    forwarded += 1;
                    let stated = ["content-length", "transfer-encoding"];
                    let until_close = stated.iter().all(|name| response.field(name).is_none());
                    let cut = ends_here && observed.reset && until_close;
                    steps.push(match status {
                        _ if cut => "cut".to_owned(),
                        200 => "forwarded".to_owned(),
                        _ => format!("forwarded {status}"),
                    });
                }
                Some(_) => steps.push("smuggled".to_owned()),
                None if matches!(status, 502 | 504) && requests > forwarded => {
                    forwarded += 1;
                    steps.push(format!("replaced {status}"));
                }
                None if ends_here => steps.push(format!("refused {status}")),
                None => steps.push(format!("answered {status}")),
            }
            reading.last = response.field("connection").map(str::to_owned);
            reading.finals.push(response);
        }
        let settled = steps.last().is_some_and(|step| {
            ["refused", "cut", "tunnelled", "garbage"].iter().any(|kind| step.starts_with(kind))
        });
        if steps.is_empty() && !reading.canary {
            // A response that is broken off before its first byte: the client sees a reset, as it does later.
            let cut = observed.reset && case.canary;
            steps.push(if cut { "cut" } else { "dropped" }.to_owned());
        } else if !settled && !reading.canary {
            steps.push("closed".to_owned());
        }
        reading.verdict = steps.join(", ");
        reading
    }
}

fn check_fields<'f>(
    whose: &str,
    expected: &BTreeMap<String, Option<String>>,
    lines: impl Fn(&str) -> Vec<&'f str>,
    faults: &mut Vec<String>,
) {
    for (name, value) in expected {
        let found = lines(name);
        let found = (!found.is_empty()).then(|| found.join(", "));
        let right = if value.as_deref() == Some("*") { found.is_some() } else { &found == value };
        if !right {
            faults.push(format!("the {whose} field {name} is {found:?}, and not {value:?}"));
        }
    }
}

/// `METHOD target body`.
fn summary(request: &Request) -> String {
    let text = format!("{} {} {}", request.method, request.target, latin1(&request.body));
    if request.body.is_empty() { text.trim_end().to_owned() } else { text }
}

fn is_canary(request: &Request) -> bool {
    request.method == "GET" && request.target == "/canary"
}

/// One character for each byte.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
