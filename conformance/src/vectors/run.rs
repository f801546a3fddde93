//! Runs a vector through the core in memory: every repetition is a new connection to the same worker, so that the
//! rotation goes on; the clock stands at the vector's `now` and moves with the hosts' delays.

use std::collections::BTreeMap;
use std::time::Duration;

use homing_core::clock::UnixSecs;
use homing_core::route::{Action, Session};
use homing_core::stats::Outcome;

use super::setup::Setup;
use super::{Behaviour, Fields, Saw, Text, Vector};
use crate::memory::{Act, Door, Lab};
use crate::message::{Progress, Request, read_response};

/// The address at which nobody listened when the vectors were recorded.
pub const DEAD: &str = "127.0.0.1:21190";
/// How far the clock moves between looks, and how often it is looked.
const PACE: (Duration, u32) = (Duration::from_millis(100), 300);

/// What Homing did with all repetitions.
#[derive(Debug)]
pub struct Run {
    /// One per repetition.
    pub repeats: Vec<Repeat>,
    /// Envoy's counters, derived from the outcomes. None: Envoy has none here.
    pub counters: Option<BTreeMap<&'static str, u64>>,
    /// Whether each repetition has a record of its own and came to its end without the clocks moving. Then it can be
    /// run with real sockets, where nobody moves the clocks.
    pub is_immediate: bool,
}

/// What Homing did with one repetition.
#[derive(Debug)]
pub struct Repeat {
    /// The final response; none: the connection just closed.
    pub response: Option<Response>,
    /// Statuses of interim responses.
    pub interim: Vec<u16>,
    /// The tries, in order: the host and the request as it received it. Refused connections are not among them.
    pub tries: Vec<(String, Saw)>,
    /// The core's own record.
    pub outcome: Outcome,
}

/// A final response as the client got it.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Field lines in order.
    pub fields: Fields,
    /// The body, without framing; cut short if the connection was.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether it is an answer of Homing's own: those carry no `server`, and the vectors' listeners put one on all others.
    pub fn is_own(&self) -> bool {
        !self.fields.iter().any(|(name, _)| name.0.eq_ignore_ascii_case(b"server"))
    }
}

impl Repeat {
    /// The host that answered, or should have.
    pub fn host(&self) -> Option<&str> {
        self.tries.last().map(|(host, _)| host.as_str())
    }
}

/// The seed of all that is free in a vector's run.
pub fn seed(vector: &Vector) -> u64 {
    vector.id.bytes().fold(1, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Runs all repetitions of a vector.
pub fn run(vector: &Vector, setup: &Setup) -> Run {
    let behaviour = vector.upstream_behaviour.clone();
    let mut tries: BTreeMap<String, usize> = BTreeMap::new();
    let upstream = move |host: &str, request: &Request| {
        let count = tries.entry(request.field("x-vec-id").unwrap_or_default().to_owned()).or_default();
        let answer = answer(behaviour.of_try(host, *count), host, &request.method);
        *count += 1;
        answer
    };
    let mut lab = Lab::new(setup.snapshot.clone(), seed(vector)).with(upstream);
    lab.door(DEAD, Door::Refusing);
    let count = vector.observed.repeats.len().max(1);
    let start = lab.now().tick;
    let repeats: Vec<Repeat> = (0..count).map(|at| repetition(vector, at, &mut lab)).collect();
    let is_immediate = lab.now().tick == start && lab.outcomes().len() == count;
    let counted = setup.is_counted(session_of(vector, setup));
    let counters = counted.then(|| {
        let mut counters = BTreeMap::new();
        for counter in repeats.iter().filter_map(|repeat| repeat.outcome.envoy_counter()) {
            *counters.entry(counter.as_str()).or_insert(0) += 1;
        }
        counters
    });
    Run { repeats, counters, is_immediate }
}

fn repetition(vector: &Vector, at: usize, lab: &mut Lab) -> Repeat {
    let (recorded, asked) = (lab.outcomes().len(), lab.requests().len());
    lab.set_wall(UnixSecs::new(vector.now));
    let client = lab.client();
    let segments = request_bytes(vector, at);
    let method = segments.first().and_then(|bytes| bytes.split(|&byte| byte == b' ').next());
    let to_head = method == Some(b"HEAD");
    for segment in segments {
        lab.client_send(client, segment);
        lab.run();
    }
    for _ in 0..PACE.1 {
        if lab.client_is_half_closed(client) || is_answered(lab.client_received(client), to_head) {
            break;
        }
        lab.advance(PACE.0);
    }
    let (interim, response) =
        received(lab.client_received(client), to_head, lab.client_is_half_closed(client));
    lab.client_close(client);
    lab.run();
    let saw = |(host, request): &(String, Request)| (host.clone(), Saw::from(request));
    let records = lab.outcomes();
    let outcome = records.get(recorded).map(|record| record.outcome).unwrap_or_default();
    // A pipelined second request is not looked at.
    let pipelined = records.len() > recorded + 1;
    let tries = if pipelined { outcome.tries.into() } else { usize::MAX };
    let tries = lab.requests().iter().skip(asked).take(tries).map(saw).collect();
    Repeat { response, interim, tries, outcome }
}

/// Whether a whole final response has come. `to_head`: the request was one of HEAD.
pub fn is_answered(mut bytes: &[u8], to_head: bool) -> bool {
    while let Ok(Progress::Done(response, used)) = read_response(bytes, to_head, false) {
        if !response.is_interim() {
            return true;
        }
        bytes = bytes.get(used..).unwrap_or_default();
    }
    false
}

/// The statuses of interim responses, and the final response as far as it came. `ended`: no more will come.
pub fn received(bytes: &[u8], to_head: bool, ended: bool) -> (Vec<u16>, Option<Response>) {
    let (mut interim, mut rest) = (Vec::new(), bytes);
    loop {
        let (response, used) = match read_response(rest, to_head, ended) {
            Ok(Progress::Done(response, used)) => (response, used),
            Ok(Progress::Head(response)) => (response, rest.len()),
            Ok(Progress::Partial) | Err(_) => return (interim, None),
        };
        if !response.is_interim() {
            let fields = texts(&response.fields);
            return (interim, Some(Response { status: response.status, fields, body: response.body }));
        }
        interim.push(response.status);
        rest = rest.get(used..).unwrap_or_default();
    }
}

/// Field lines as bytes: the reader gives one character for each.
fn texts(fields: &[(String, String)]) -> Fields {
    let text = |text: &str| Text(text.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect());
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

impl From<&Request> for Saw {
    fn from(request: &Request) -> Self {
        let fields = texts(&[(String::new(), request.target.clone())]);
        let path = fields.into_iter().next().map(|(_, target)| target).unwrap_or_default();
        Self {
            method: request.method.clone(),
            path,
            headers: texts(&request.fields),
            body: Text(request.body.clone()),
        }
    }
}

/// What a host does with one request.
pub fn answer(behaviour: &Behaviour, host: &str, method: &str) -> Vec<Act> {
    let mut acts = Vec::new();
    if let Some(seconds) = behaviour.delay {
        acts.push(Act::Delay(Duration::from_secs_f64(seconds).as_millis().try_into().unwrap_or(u64::MAX)));
    }
    if behaviour.reset.is_some() {
        acts.push(Act::Reset);
        return acts;
    }
    acts.push(Act::Bytes(response_bytes(behaviour, host, method)));
    if behaviour.raw.is_some() && behaviour.close != Some(false) {
        acts.push(Act::CloseSend);
    }
    acts
}

/// The bytes on the wire of one repetition, in segments.
pub fn request_bytes(vector: &Vector, repetition: usize) -> Vec<Vec<u8>> {
    let Some(request) = &vector.request else { return Vec::new() };
    let id = format!("{}#{repetition}", vector.id);
    let with_id = |text: &Text| replace(&text.0, b"@VEC@", id.as_bytes());
    match (&request.raw, &request.raw_segments) {
        (Some(raw), _) => vec![with_id(raw)],
        (None, Some(segments)) => segments.iter().map(with_id).collect(),
        (None, None) => {
            let host = request.host.as_deref().unwrap_or("t.example");
            let mut bytes = format!("{} ", request.method).into_bytes();
            bytes.extend_from_slice(&request.path.0);
            bytes.extend(format!(" HTTP/1.1\r\nhost: {host}\r\nx-vec-id: {id}\r\n").into_bytes());
            for (name, value) in &request.headers {
                bytes.extend([&name.0, &b": "[..], &value.0, b"\r\n"].concat());
            }
            if let Some(body) = &request.body {
                bytes.extend(format!("content-length: {}\r\n", body.0.len()).into_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend(request.body.iter().flat_map(|body| body.0.iter().copied()));
            vec![bytes]
        }
    }
}

/// What a host sends for one request.
pub fn response_bytes(behaviour: &Behaviour, host: &str, method: &str) -> Vec<u8> {
    if let Some(raw) = &behaviour.raw {
        return raw.0.clone();
    }
    let status = behaviour.status.unwrap_or(200);
    let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    for (name, value) in &behaviour.headers {
        bytes.extend([&name.0, &b": "[..], &value.0, b"\r\n"].concat());
    }
    bytes.extend(format!("x-be: {host}\r\n").into_bytes());
    match &behaviour.chunks {
        Some(chunks) => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in chunks {
                bytes.extend(format!("{:x}\r\n", chunk.0.len()).into_bytes());
                bytes.extend([&chunk.0, &b"\r\n"[..]].concat());
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        None if matches!(status, 100..=199 | 204 | 304) => bytes.extend_from_slice(b"\r\n"),
        None => {
            bytes.extend_from_slice(b"content-length: 2\r\n\r\n");
            if method != "HEAD" {
                bytes.extend_from_slice(b"ok");
            }
        }
    }
    bytes
}

/// The session settings that count for the vector's request.
pub fn session_of(vector: &Vector, setup: &Setup) -> Session {
    let listener = setup.snapshot.listeners.first();
    let route = listener.and_then(|listener| listener.routes.find(b"t.example", &path_of(vector)));
    match route.map(|(_, route)| &route.action) {
        Some(Action::Forward(forward)) => {
            forward.clusters.iter().find_map(|entry| entry.session).unwrap_or(forward.session)
        }
        _ => Session::None,
    }
}

/// The path that the vector's request asks for, without its query.
pub fn path_of(vector: &Vector) -> Vec<u8> {
    let bytes = request_bytes(vector, 0).concat();
    let target = bytes.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    let path = target.splitn(4, |&byte| byte == b'/').nth(3).filter(|_| !target.starts_with(b"/"));
    let path = path.map_or_else(|| target.to_vec(), |path| [b"/", path].concat());
    path.split(|&byte| byte == b'?').next().unwrap_or_default().to_vec()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
