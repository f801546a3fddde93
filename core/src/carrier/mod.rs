//! Where a token travels: in a cookie, in a header of our own, wrapped around the upstream's session header, or behind a
//! session's value in a URL. Finding it in a request, writing it into a response, and what the upstream gets to see of it.
//!
//! A carrier looks at one field line at a time and knows neither HTTP heads nor hosts.

mod cookie;
mod envelope;
mod header;
mod scope;
mod sse;

pub use cookie::Cookie;
pub use envelope::Envelope;
pub use header::Header;
pub use scope::Scope;
pub use sse::Sse;

/// What happens to one line of the request's session field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineEdit {
    /// It goes upstream as it is.
    Keep,
    /// It does not go upstream.
    Drop,
    /// It goes upstream with the value that was written to `out`.
    Write,
}

/// A line without the spaces and tabs around it, which belong to HTTP and not to the value (RFC 9110 §5.5).
pub(crate) fn trimmed(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    match (line.iter().position(|byte| !is_blank(byte)), line.iter().rposition(|byte| !is_blank(byte))) {
        (Some(first), Some(last)) => line.get(first..=last).unwrap_or_default(),
        _ => b"",
    }
}
