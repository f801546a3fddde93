//! Response heads.

use super::framing::{self, Measure, ResponseFraming};
use super::head::{Connection, Field, HeadError, Slots, Survey, Version};
use super::request::Method;
use crate::limits::FIELDS_MAX;

/// A response head that passed every check. It borrows the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'h> {
    /// The whole head, final empty line included. Edits count from its first byte.
    pub bytes: &'h [u8],
    /// The status, 100 to 999. Clients treat what they do not know by its first digit (RFC 9110 §15).
    pub status: u16,
    /// The reason phrase as received, possibly empty.
    pub reason: &'h [u8],
    /// The version.
    pub version: Version,
    /// The field lines, in order.
    pub fields: &'h [Field<'h>],
    /// How the body ends.
    pub framing: ResponseFraming,
    /// What is said about the connection. `close` is also set when what follows the head is in doubt.
    pub connection: Connection,
    /// The value of the first `upgrade` line.
    pub upgrade: Option<&'h [u8]>,
    /// There is a `date` line; a proxy adds one where it is missing (RFC 9110 §6.6.1).
    pub has_date: bool,
}

impl ResponseHead<'_> {
    /// Whether another response will follow this one: 1xx, except 101 (RFC 9110 §15.2).
    pub const fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Whether the connection can carry another response after this one. A body that ends with the connection ends it.
    pub const fn persists(&self) -> bool {
        self.connection.persists(self.version) && !matches!(self.framing, ResponseFraming::UntilClose)
    }
}

/// Whether no HTTP/1 response can begin with these bytes, so that waiting for more is pointless.
pub fn cannot_be_response(bytes: &[u8]) -> bool {
    !bytes.iter().zip(b"HTTP/1.").all(|(got, expected)| got == expected)
}

/// Parses one response head; `to` is the method of the request it answers.
///
/// `bytes` is exactly the head, as [`head_end`](super::head_end) measured it. At most `fields_max` field lines
/// are taken.
///
/// # Errors
/// What is wrong with the head. The client is answered [`HeadError::UPSTREAM_STATUS`].
pub fn parse_response<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut Slots<'b>,
    to: Method,
    fields_max: usize,
) -> Result<ResponseHead<'h>, HeadError> {
    // An empty line in front of a status line is not skipped: RFC 9112 §2.2 allows that for requests only.
    if bytes.is_empty() || cannot_be_response(bytes) {
        return Err(if bytes.starts_with(b"HTTP/") { HeadError::Version } else { HeadError::StatusLine });
    }
    let mut parsed = httparse::Response::new(&mut []);
    let slots = slots.get_mut(..fields_max.min(FIELDS_MAX)).unwrap_or_default();
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, slots) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(httparse::Status::Complete(_)) => return Err(HeadError::BareLineFeed),
        Ok(httparse::Status::Partial) => return Err(HeadError::LineEnd),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Err(error) => return Err(HeadError::of(error, bytes, HeadError::StatusLine)),
    }
    let version = Version::of(parsed.version);
    let fields: &'h [Field<'b>] = parsed.headers;
    // RFC 9110 §15: statuses below 100 are invalid.
    let status = parsed.code.filter(|&code| code >= 100).ok_or(HeadError::StatusLine)?;

    let mut survey = Survey::of(bytes, fields, version)?;
    let measure = framing::measure(&survey.lengths, version)?;
    // RFC 9112 §6.1: no transfer encoding with 1xx and 204. Those end with their head whatever they say (§6.3
    // item 1), but a server that says so may send chunks all the same: nothing after them can be trusted.
    if measure == Measure::Chunked && matches!(status, 100..=199 | 204) {
        survey.connection.close = true;
    }
    Ok(ResponseHead {
        bytes,
        status,
        reason: reason(bytes),
        version,
        fields,
        framing: framing::response(measure, status, to),
        connection: survey.connection,
        upgrade: survey.upgrade,
        has_date: survey.date,
    })
}

/// The reason phrase of a status line that was parsed already. The parser hides one with bytes above ASCII.
fn reason(bytes: &[u8]) -> &[u8] {
    const FRONT: usize = "HTTP/1.1 200 ".len();
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    line.get(FRONT..).unwrap_or_default()
}
