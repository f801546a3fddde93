//! Every bound, with the relations between them. Configurable ones are in [`Limits`]; the rest are constants.
//!
//! Memory follows from them: a client connection holds at most [`CONNECTION_BUFFERS_MAX`] bytes of windows, and there are at
//! most [`Limits::connections`] of them over all workers. What comes on top does not grow with traffic: the windows that
//! each worker's pool keeps for reuse, its pipe, and the access log's batches (`docs/configuration.md`, "Memory").

use core::time::Duration;

/// Longest host address that a token may carry. A unix socket path is at most 107 bytes on Linux.
pub const ADDRESS_MAX: usize = 128;
/// Longest session field value that is looked at, in bytes before base64 decoding. A longer one is malformed.
pub const TOKEN_MAX: usize = 512;
/// Bytes kept free in front of the live bytes of a window, for heads that grow.
pub const HEADROOM: usize = 1024;
/// Size of the window every connection starts with.
pub const WINDOW_SMALL: usize = 16 * 1024;
/// Size of the window for large heads and bodies.
pub const WINDOW_LARGE: usize = 64 * 1024 + HEADROOM;
/// Most bytes that a shell moves from socket to socket at once, past the windows: as many as a large window takes back
/// from it when they cannot be sent.
pub const PASS_MAX: usize = WINDOW_LARGE - HEADROOM;
/// Most bytes of windows that one client connection holds: a large one for each direction. Connections to hosts have none
/// of their own.
pub const CONNECTION_BUFFERS_MAX: usize = 2 * WINDOW_LARGE;
/// While one worker's connections hold more windows than this, one that is between requests holds none: it is waited for
/// without a buffer, which costs a little more when the next request comes.
pub const IDLE_WINDOWS: usize = 128;
/// While more of one worker's connections than this are busy, or were half a second ago, one that is between requests rests
/// at once, which hands its link to the next one. For shells whose connections wait without a window; where a wait takes a
/// window, [`IDLE_WINDOWS`] comes first.
pub const BUSY_CONNECTIONS: usize = 1024;
/// Most field lines in a head.
pub const FIELDS_MAX: usize = 100;
/// Longest chunk extension that is passed on, per chunk.
pub const CHUNK_EXTENSION_MAX: usize = 1024;
/// Longest trailer section that is passed on.
pub const TRAILERS_MAX: usize = 8 * 1024;
/// Most empty lines that are skipped in front of a request line, however they come (RFC 9112 §2.2).
pub const EMPTY_LINES_MAX: usize = 4;
/// Most field names that the `connection` lines of one head may nominate for removal.
pub const NOMINATIONS_MAX: usize = 32;
/// Longest name of a query parameter that carries a session.
pub const PARAMETER_MAX: usize = 64;
/// Most bytes of an event stream that are held back: those between a session's value in a URL and the end of its event,
/// which says whether it is an `endpoint` event. One that goes on for longer passes as it is.
pub const SSE_HELD_MAX: usize = 4096;
/// Most bytes that configuration may add to one head (session field included).
pub const INSERT_MAX: usize = 4096;

const _: () = assert!(ADDRESS_MAX >= 108, "a unix socket path must fit");
const _: () =
    assert!(TOKEN_MAX >= (ADDRESS_MAX + 16) * 4 / 3 + 4, "the largest minted token must be readable");
const _: () = assert!(PARAMETER_MAX < u8::MAX as usize, "a match is counted in a byte");
const _: () = assert!(
    WINDOW_SMALL >= 2 * (HEADROOM + SSE_HELD_MAX),
    "what is held must leave room for what is to come"
);
const _: () =
    assert!(WINDOW_SMALL >= 2 * (HEADROOM + INSERT_MAX), "a window must hold more than its inserts");

/// The bounds and time-outs that configuration sets. Each has a safe default.
///
/// A zero duration means "no limit"; a zero count means "no cap" where the field says so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest request head, in bytes, first line and final empty line included. At most [`WINDOW_LARGE`] less head room.
    pub request_head_bytes: usize,
    /// Largest response head, in bytes.
    pub response_head_bytes: usize,
    /// Most field lines in a head, at most [`FIELDS_MAX`].
    pub fields: usize,
    /// Largest request body, in bytes; `None`: no cap.
    pub request_body_bytes: Option<u64>,
    /// Most downstream connections over all workers and listeners; further ones wait in the accept queue.
    pub connections: u32,
    /// Most upstream connections to one host per worker; zero: no cap.
    pub host_connections: u32,
    /// Most requests per worker that wait for a connection to one full host; further ones are answered 503.
    pub host_pending: u32,
    /// Most idle upstream connections kept per host and worker.
    pub host_idle: u32,
    /// A request head must be complete this long after its first byte (slow-loris).
    pub request_head_timeout: Duration,
    /// A request or response body may stand still this long.
    pub body_idle_timeout: Duration,
    /// An upstream connection must be made within this time.
    pub connect_timeout: Duration,
    /// A response head must arrive this long after the request was sent. Routes may override it.
    pub response_timeout: Duration,
    /// A connection without a request is closed after this time.
    pub keep_alive_timeout: Duration,
    /// An upgraded connection may stand still this long.
    pub tunnel_idle_timeout: Duration,
    /// An idle upstream connection is closed after this time.
    pub link_idle_timeout: Duration,
    /// A request waits this long for a connection to a full host.
    pub pending_timeout: Duration,
    /// After SIGTERM, requests in flight may run this long.
    pub drain_timeout: Duration,
    /// After an early answer, this many bytes of the request body are read and dropped to save the connection.
    pub discard_bytes: u64,
    /// After an answer that closes, the client's bytes are read and dropped this long, so that the answer is read.
    pub linger_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes: 60 * 1024,
            response_head_bytes: 60 * 1024,
            fields: FIELDS_MAX,
            request_body_bytes: None,
            connections: 50_000,
            host_connections: 0,
            host_pending: 1024,
            host_idle: 256,
            request_head_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(75),
            tunnel_idle_timeout: Duration::from_secs(3600),
            link_idle_timeout: Duration::from_secs(30),
            pending_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            discard_bytes: 256 * 1024,
            linger_timeout: Duration::from_secs(2),
        }
    }
}
