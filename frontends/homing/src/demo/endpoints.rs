//! What the demo upstream answers. Every answer carries `x-instance`, and every JSON body has `"instance"`.
//!
//! | path | answer |
//! |---|---|
//! | `/` | a page with the instance's name (`id="instance"`) and its visits (`id="visits"`) |
//! | `/headers` | the request's method, path and fields, and the address it came from, as JSON |
//! | `/status/N` | status N, 200 to 599 |
//! | `/bytes/N?seed=S` | N bytes that follow from the seed, with a length; at most 1 GiB |
//! | `/stream/N` | N lines of JSON, chunked; at most 100,000 |
//! | `/delay/N` | JSON after N seconds; a fraction is fine, at most 60 |
//! | `/sse?count=N&every=S` | an event every S seconds (default 1), N of them (default without end) |
//! | `/ws` | a WebSocket that answers each text with `<instance>: <text>` |
//! | `/post`, `/upload` | reads the body of a POST or PUT; JSON with its length, FNV-1a checksum and trailers |
//!
//! And the rude ones:
//!
//! | path | answer |
//! |---|---|
//! | `/close` | no length: the body ends with the connection |
//! | `/early` | 413 before any of the body is read, then a close |
//! | `/chunked-trailers` | two chunks and the trailers `x-checksum`, `x-instance-trailer` |
//! | `/interim` | 103 with a `link`, then 200 |
//! | `/reset` | a reset instead of an answer |
//! | `/slow-head/N` | the status line, N seconds of silence, then the rest |
//!
//! Bad usage is answered 400, or 404 for another path, with a sentence.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use homing_core::rng::Rng;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::socket::{Ending, Peer};

const BYTES_MAX: u64 = 1 << 30;
const LINES_MAX: u64 = 100_000;
const SECONDS_MAX: f64 = 60.0;
const BLOCK: u64 = 64 * 1024;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What an instance keeps from request to request.
#[derive(Debug)]
pub(super) struct Instance {
    name: Arc<str>,
    visits: AtomicU64,
}

type Body = BoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, Ending>;

/// The sentence for a request that makes no sense, with its status.
struct Misuse(StatusCode, String);

/// FNV-1a, 64 bits: enough to see that a body arrived whole, and one line in any language.
struct Checksum(u64);

impl Instance {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, visits: AtomicU64::new(0) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Answers one request, or says how its connection ends.
pub(super) async fn answer(instance: &Instance, peer: &Peer, request: Request<Incoming>) -> Answer {
    let done = route(instance, peer, request).await;
    let mut response = done.unwrap_or_else(|Misuse(status, sentence)| {
        Ok(with_type(status, TEXT, whole(format!("{sentence}\n"))))
    })?;
    // The name was checked when the instance started, so this always succeeds.
    if let Ok(name) = HeaderValue::from_str(&instance.name) {
        response.headers_mut().insert("x-instance", name);
    }
    Ok(response)
}

async fn route(instance: &Instance, peer: &Peer, request: Request<Incoming>) -> Result<Answer, Misuse> {
    let path = request.uri().path().to_owned();
    let (endpoint, argument) = match path.get(1..).unwrap_or_default().split_once('/') {
        Some((endpoint, argument)) => (endpoint, Some(argument)),
        None => (path.get(1..).unwrap_or_default(), None),
    };
    let name = instance.name();
    match (endpoint, argument) {
        ("", None) => Ok(Ok(page(instance))),
        ("headers", None) => Ok(Ok(headers(name, peer, &request))),
        ("status", Some(code)) => status(name, code).map(Ok),
        ("bytes", Some(count)) => random_bytes(count, request.uri()).map(Ok),
        ("stream", Some(count)) => lines(instance, count).map(Ok),
        ("delay", Some(wait)) => {
            let wait = seconds("delay", wait)?;
            tokio::time::sleep(wait).await;
            Ok(Ok(json_answer(StatusCode::OK, &json!({ "instance": name, "delay": wait.as_secs_f64() }))))
        }
        ("sse", None) => events(instance, request.uri()).map(Ok),
        ("ws", None) => web_socket(peer, request).map(Ok),
        ("post" | "upload", None) => upload(name, request).await,
        ("close", None) => {
            let body = format!("{name} ends this body with the connection\n");
            let head = format!("content-type: {TEXT}\r\nconnection: close\r\n");
            Ok(Err(raw(name, peer, &request, &head, &body, Ending::Close).await))
        }
        ("early", None) => {
            let body = json!({ "instance": name, "error": "answered before the body was read" });
            let mut response = json_answer(StatusCode::PAYLOAD_TOO_LARGE, &body);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(Ok(response))
        }
        ("chunked-trailers", None) => Ok(Err(trailers(name, peer, &request).await)),
        ("interim", None) => Ok(interim(name, peer, &request).await),
        ("reset", None) => Ok(Err(Ending::Reset)),
        ("slow-head", Some(wait)) => {
            let wait = seconds("slow-head", wait)?;
            Ok(Err(slow_head(name, peer, &request, wait).await))
        }
        _ => Err(Misuse(
            StatusCode::NOT_FOUND,
            format!(
                "{path:?} is no endpoint of this upstream; GET / lists them, numbers follow as in /status/418."
            ),
        )),
    }
}

fn page(instance: &Instance) -> Response<Body> {
    let visits = instance.visits.fetch_add(1, Ordering::Relaxed) + 1;
    let html = include_str!("page.html")
        .replace("{{instance}}", instance.name())
        .replace("{{visits}}", &visits.to_string());
    let mut response = with_type(StatusCode::OK, HTML, whole(html));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn headers(name: &str, peer: &Peer, request: &Request<Incoming>) -> Response<Body> {
    let body = json!({
        "instance": name,
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "peer": peer.socket.address(),
        "headers": fields(request.headers()),
    });
    json_answer(StatusCode::OK, &body)
}

/// The fields as an object; lines of one name are joined by a comma (RFC 9110 §5.2).
fn fields(map: &HeaderMap) -> Value {
    let value = |name| {
        let lines =
            map.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        lines.collect::<Vec<_>>().join(", ").into()
    };
    map.keys().map(|name| (name.to_string(), value(name))).collect::<serde_json::Map<_, _>>().into()
}

fn status(name: &str, code: &str) -> Result<Response<Body>, Misuse> {
    let code = number("status", code, 200, 599)?;
    let status =
        u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or_default();
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // These two have no body (RFC 9110 §15.3.5, §15.4.5).
        let mut response = Response::new(whole(""));
        *response.status_mut() = status;
        return Ok(response);
    }
    Ok(json_answer(status, &json!({ "instance": name, "status": code })))
}

/// Deterministic bytes: the same for every instance, so a test can compare two downloads.
fn random_bytes(count: &str, uri: &Uri) -> Result<Response<Body>, Misuse> {
    let count = number("bytes", count, 0, BYTES_MAX)?;
    let seed = query(uri, "seed").map_or(Ok(0), |seed| number("bytes?seed=", seed, 0, u64::MAX))?;
    let blocks = stream::unfold((Rng::seeded(seed), count), |(mut rng, left)| async move {
        let take = usize::try_from(left.min(BLOCK)).ok().filter(|&take| take > 0)?;
        // Blocks are whole words but for the last, so the bytes do not depend on the block size.
        let mut block: Vec<u8> = (0..take.div_ceil(8)).flat_map(|_| rng.bits().to_le_bytes()).collect();
        block.truncate(take);
        Some((Ok(Frame::data(Bytes::from(block))), (rng, left - take as u64)))
    });
    let mut response = with_type(StatusCode::OK, "application/octet-stream", StreamBody::new(blocks).boxed());
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    Ok(response)
}

fn lines(instance: &Instance, count: &str) -> Result<Response<Body>, Misuse> {
    let count = number("stream", count, 0, LINES_MAX)?;
    let lines = stream::unfold((Arc::clone(&instance.name), 0), move |(name, at)| async move {
        let line = format!("{}\n", json!({ "instance": &*name, "id": at }));
        (at < count).then(|| (Ok(Frame::data(Bytes::from(line))), (name, at + 1)))
    });
    Ok(with_type(StatusCode::OK, JSON, StreamBody::new(lines).boxed()))
}

/// Server-sent events; the first comes at once.
fn events(instance: &Instance, uri: &Uri) -> Result<Response<Body>, Misuse> {
    let count = query(uri, "count").map_or(Ok(u64::MAX), |count| number("sse?count=", count, 0, u64::MAX))?;
    let every =
        query(uri, "every").map_or(Ok(Duration::from_secs(1)), |every| seconds("sse?every=", every))?;
    let events = stream::unfold((Arc::clone(&instance.name), 0), move |(name, at)| async move {
        if at == count {
            return None;
        }
        if at > 0 {
            tokio::time::sleep(every).await;
        }
        let data = json!({ "instance": &*name, "id": at });
        let event = format!("id: {at}\nevent: tick\ndata: {data}\n\n");
        Some((Ok(Frame::data(Bytes::from(event))), (name, at + 1)))
    });
    let mut response = with_type(StatusCode::OK, "text/event-stream", StreamBody::new(events).boxed());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The opening handshake (RFC 6455 §4.2); the echo itself begins when hyper has let go of the connection.
fn web_socket(peer: &Peer, mut request: Request<Incoming>) -> Result<Response<Body>, Misuse> {
    let fields = request.headers();
    let has = |name, token: &str| {
        let lines = fields.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    let asks = request.method() == Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = fields.get(header::SEC_WEBSOCKET_KEY).filter(|_| asks);
    let accept = key.and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok());
    let Some(accept) = accept else {
        let sentence = "/ws takes a WebSocket handshake: GET, Upgrade: websocket, version 13 and a key.";
        return Err(Misuse(StatusCode::BAD_REQUEST, sentence.into()));
    };
    peer.upgrade(hyper::upgrade::on(&mut request));
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

async fn upload(name: &str, request: Request<Incoming>) -> Result<Answer, Misuse> {
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        let sentence = format!("{} takes a POST or a PUT with a body.", request.uri().path());
        return Err(Misuse(StatusCode::BAD_REQUEST, sentence));
    }
    let (mut checksum, mut length, mut trailers) = (Checksum::default(), 0, HeaderMap::new());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(Err(Ending::Close)) };
        match frame.into_data() {
            Ok(data) => {
                length += data.len();
                checksum.add(&data);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let body = json!({
        "instance": name,
        "bytes": length,
        "fnv1a64": checksum.to_string(),
        "trailers": fields(&trailers),
    });
    Ok(Ok(json_answer(StatusCode::OK, &body)))
}

/// Chunks and trailers past hyper, which sends trailers only to those who ask for them with `TE`.
async fn trailers(name: &str, peer: &Peer, request: &Request<Incoming>) -> Ending {
    let parts = [format!("{name} sends "), String::from("two chunks\n")];
    let mut checksum = Checksum::default();
    let mut body = String::new();
    for part in &parts {
        checksum.add(part.as_bytes());
        body += &format!("{:x}\r\n{part}\r\n", part.len());
    }
    body += &format!("0\r\nx-checksum: {checksum}\r\nx-instance-trailer: {name}\r\n\r\n");
    let head = format!(
        "content-type: {TEXT}\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum, x-instance-trailer\r\n"
    );
    raw(name, peer, request, &head, &body, Ending::KeepAlive).await
}

/// 103 goes past hyper, whose server cannot send it; the 200 is hyper's.
async fn interim(name: &str, peer: &Peer, request: &Request<Incoming>) -> Answer {
    // A 1.0 client cannot tell it from the answer (RFC 9110 §15.2).
    if request.version() == Version::HTTP_11 {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\n";
        peer.socket.write(hints.as_bytes()).await?;
    }
    Ok(json_answer(StatusCode::OK, &json!({ "instance": name, "interim": 103 })))
}

async fn slow_head(name: &str, peer: &Peer, request: &Request<Incoming>, wait: Duration) -> Ending {
    if let Err(ending) = peer.socket.write(b"HTTP/1.1 200 OK\r\n").await {
        return ending;
    }
    tokio::time::sleep(wait).await;
    let body = format!("{name} took its time\n");
    let head = format!(
        "x-instance: {name}\r\ncontent-type: {TEXT}\r\ncontent-length: {}\r\n{}\r\n",
        body.len(),
        connection(request),
    );
    let body = if request.method() == Method::HEAD { "" } else { &body };
    peer.socket
        .write(format!("{head}{body}").as_bytes())
        .await
        .map_or_else(|ending| ending, |()| after(request))
}

/// Writes a 200 past hyper, then ends as told, or closes when the client wants that or has more to send.
async fn raw(
    name: &str,
    peer: &Peer,
    request: &Request<Incoming>,
    head: &str,
    body: &str,
    ending: Ending,
) -> Ending {
    let connection = if head.contains("connection:") { "" } else { connection(request) };
    let body = if request.method() == Method::HEAD { "" } else { body };
    let answer = format!("HTTP/1.1 200 OK\r\nx-instance: {name}\r\n{head}{connection}\r\n{body}");
    match (peer.socket.write(answer.as_bytes()).await, ending) {
        (Ok(()), Ending::KeepAlive) => after(request),
        (Ok(()), ending) | (Err(ending), _) => ending,
    }
}

/// The `connection` line of an answer past hyper.
fn connection(request: &Request<Incoming>) -> &'static str {
    if matches!(after(request), Ending::KeepAlive) { "" } else { "connection: close\r\n" }
}

/// Whether the connection can go on after an answer past hyper: not with a body still to come, which would be taken
/// for the next request.
fn after(request: &Request<Incoming>) -> Ending {
    use hyper::body::Body;
    let fields = request.headers();
    let asks_close = fields.get_all(header::CONNECTION).iter().any(|line| {
        line.to_str().is_ok_and(|line| line.split(',').any(|item| item.trim().eq_ignore_ascii_case("close")))
    });
    if request.version() == Version::HTTP_11 && !asks_close && request.body().is_end_stream() {
        Ending::KeepAlive
    } else {
        Ending::Close
    }
}

/// `text` as a whole number from `least` to `most`.
fn number(what: &str, text: &str, least: u64, most: u64) -> Result<u64, Misuse> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        let sentence = format!("/{what} takes a whole number from {least} to {most}, not {text:?}.");
        Misuse(StatusCode::BAD_REQUEST, sentence)
    })
}

/// `text` as seconds, with a fraction if need be.
fn seconds(what: &str, text: &str) -> Result<Duration, Misuse> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        let sentence = format!("/{what} takes seconds from 0 to {SECONDS_MAX}, such as 0.5, not {text:?}.");
        Misuse(StatusCode::BAD_REQUEST, sentence)
    })
}

/// The value of the first `key=value` of the query.
fn query<'a>(uri: &'a Uri, key: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    with_type(status, JSON, whole(format!("{value:#}\n")))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
