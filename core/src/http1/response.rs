//! Response heads.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::framing::{self, Measure, ResponseFraming};
use super::head::{Connection, Field, Fields, HeadError, Survey, Version, take_parsed};
use super::plain;
use super::request::Method;
use crate::limits::FIELDS_MAX;

/// A response head that passed every check. It borrows the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'h> {
    /// The whole head, final empty line included. Edits count from its first byte.
    pub bytes: &'h [u8],
    /// The status, 100 to 999. Clients treat what they do not know by its first digit (RFC 9110 §15).
    pub status: u16,
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
    /// The reason phrase as received, possibly empty.
    pub fn reason(&self) -> &[u8] {
        const FRONT: usize = "HTTP/1.1 200 ".len();
        let line = self.bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
        line.get(FRONT..).unwrap_or_default()
    }

    /// Where the version stands in the head.
    pub const fn version_span(&self) -> Range<usize> {
        0..self.version.as_str().len()
    }

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

/// Reads the response head at the front of `bytes`, if it is whole, plain and without fault: most are, and cost one
/// pass. `None` says nothing about it; [`head_end`](super::head_end) and [`parse_response`] do.
///
/// `fields` is cleared; at most `fields_max` field lines are taken. `to` is the method of the request it answers.
pub fn plain_response<'h, 'b: 'h>(
    bytes: &'b [u8],
    fields: &'h mut Fields<'b>,
    to: Method,
    fields_max: usize,
) -> Option<ResponseHead<'h>> {
    fields.clear();
    let line = plain::status_line(bytes)?;
    let mut survey = Survey::default();
    let end = plain::fields(bytes, line.end, fields_max.min(FIELDS_MAX), fields, &mut survey)?;
    survey.complete(line.version).ok()?;
    judge(bytes.get(..end)?, line.version, line.status, fields, &survey, to).ok()
}

/// Parses one response head; `to` is the method of the request it answers.
///
/// `bytes` is exactly the head, as [`head_end`](super::head_end) measured it. `fields` is cleared; at most `fields_max`
/// field lines are taken.
///
/// # Errors
/// What is wrong with the head. The client is answered [`HeadError::UPSTREAM_STATUS`].
pub fn parse_response<'h, 'b: 'h>(
    bytes: &'b [u8],
    fields: &'h mut Fields<'b>,
    to: Method,
    fields_max: usize,
) -> Result<ResponseHead<'h>, HeadError> {
    // An empty line in front of a status line is not skipped: RFC 9112 §2.2 allows that for requests only.
    if bytes.is_empty() || cannot_be_response(bytes) {
        return Err(if bytes.starts_with(b"HTTP/") { HeadError::Version } else { HeadError::StatusLine });
    }
    let mut parsed = httparse::Response::new(&mut []);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
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
    // RFC 9110 §15: statuses below 100 are invalid.
    let status = parsed.code.filter(|&code| code >= 100).ok_or(HeadError::StatusLine)?;
    take_parsed(parsed.headers, fields);
    judge(bytes, version, status, fields, &Survey::of(bytes, fields, version)?, to)
}

/// What a head that was read comes to.
#[inline(always)]
fn judge<'h>(
    bytes: &'h [u8],
    version: Version,
    status: u16,
    fields: &'h [Field<'h>],
    survey: &Survey<'h>,
    to: Method,
) -> Result<ResponseHead<'h>, HeadError> {
    let measure = framing::measure(&survey.lengths, version)?;
    // RFC 9112 §6.1: no transfer encoding with 1xx and 204. Those end with their head whatever they say (§6.3
    // item 1), but a server that says so may send chunks all the same: nothing after them can be trusted.
    let mut connection = survey.connection;
    connection.close |= measure == Measure::Chunked && matches!(status, 100..=199 | 204);
    Ok(ResponseHead {
        bytes,
        status,
        version,
        fields,
        framing: framing::response(measure, status, to),
        connection,
        upgrade: survey.upgrade,
        has_date: survey.date,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn refused(head: &[u8]) -> HeadError {
        match parse_response(head, &mut Fields::new(), Method::Get, FIELDS_MAX) {
            Err(error) => error,
            Ok(head) => panic!("{:?} must be refused", String::from_utf8_lossy(head.bytes)),
        }
    }

    fn look<T>(head: &[u8], look: impl FnOnce(&ResponseHead<'_>) -> T) -> T {
        match parse_response(head, &mut Fields::new(), Method::Get, FIELDS_MAX) {
            Ok(parsed) => look(&parsed),
            Err(error) => panic!("{:?}: {error}", String::from_utf8_lossy(head)),
        }
    }

    #[test]
    fn status_lines_rfc_9112_section_4() {
        for (line, status, reason) in [
            (&b"HTTP/1.1 200 OK"[..], 200, &b"OK"[..]),
            (b"HTTP/1.1 404 Not Found here", 404, b"Not Found here"),
            (b"HTTP/1.0 503 ", 503, b""),
            (b"HTTP/1.1 204", 204, b""),
            (b"HTTP/1.1 418 th\xe9i\xe8re", 418, b"th\xe9i\xe8re"),
            (b"HTTP/1.1 999 ?", 999, b"?"),
            (b"HTTP/1.1 100 x", 100, b"x"),
        ] {
            let head = [line, b"\r\nDate: x\r\n\r\n"].concat();
            look(&head, |head| {
                assert_eq!((head.status, head.reason(), head.has_date), (status, reason, true));
                assert_eq!(&head.bytes[head.version_span()], head.version.as_str().as_bytes());
            });
            look(&[line, b"\r\n\r\n"].concat(), |head| assert!(!head.has_date));
        }
        for (line, error) in [
            ("HTTP/1.1 20 x", HeadError::StatusLine),
            ("HTTP/1.1 2000 x", HeadError::StatusLine),
            ("HTTP/1.1 099 x", HeadError::StatusLine),
            ("HTTP/1.1 000 x", HeadError::StatusLine),
            ("HTTP/1.1  200 x", HeadError::StatusLine),
            ("HTTP/1.1 -20 x", HeadError::StatusLine),
            ("HTTP/1.1 200\tx", HeadError::StatusLine),
            ("HTTP/1.1 200 a\rb", HeadError::StatusLine),
            ("HTTP/1.1 200 a\0b", HeadError::StatusLine),
            ("\r\nHTTP/1.1 200 x", HeadError::StatusLine),
            ("ICY 200 OK", HeadError::StatusLine),
            ("HTTP/1.2 200 OK", HeadError::Version),
            ("HTTP/2.0 200 OK", HeadError::Version),
            ("HTTP/2 200 OK", HeadError::Version),
        ] {
            assert_eq!(refused(format!("{line}\r\nA: b\r\n\r\n").as_bytes()), error, "{line:?}");
        }
        assert_eq!(refused(b""), HeadError::StatusLine);
    }

    #[test]
    fn fields_and_line_ends_are_as_strict_as_in_requests() {
        for (head, error) in [
            (&b"HTTP/1.1 200 OK\nA: b\r\n\r\n"[..], HeadError::BareLineFeed),
            (b"HTTP/1.1 200 OK\r\nA: b\n\n", HeadError::BareLineFeed),
            (b"HTTP/1.1 200 OK\n\n", HeadError::BareLineFeed),
            (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", HeadError::FieldName),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", HeadError::ObsoleteFold),
            (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", HeadError::FieldValue),
        ] {
            assert_eq!(refused(head), error, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn interim_responses_and_persistence() {
        for (status, interim) in
            [(100, true), (101, false), (102, true), (103, true), (199, true), (200, false)]
        {
            let head = format!("HTTP/1.1 {status} x\r\n\r\n");
            look(head.as_bytes(), |head| assert_eq!(head.is_interim(), interim, "{status}"));
        }
        let persists = |head: &str| {
            look(head.as_bytes(), |parsed| {
                assert_eq!(parsed.bytes, head.as_bytes());
                parsed.persists()
            })
        };
        assert!(persists("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(persists("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!persists("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(!persists("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"));
        assert!(!persists("HTTP/1.1 200 OK\r\n\r\n"), "the body ends with the connection");
        assert!(persists("HTTP/1.1 204 No Content\r\n\r\n"));
        // RFC 9112 §6.1: such a server may send chunks behind the head all the same.
        assert!(!persists("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn what_cannot_become_a_response_is_noticed_early() {
        for (bytes, hopeless) in [
            ("", false),
            ("HTTP", false),
            ("HTTP/1.", false),
            ("HTTP/1.1 2", false),
            ("SSH-2.0", true),
            ("HTTP/2", true),
        ] {
            assert_eq!(cannot_be_response(bytes.as_bytes()), hopeless, "{bytes:?}");
        }
    }

    #[test]
    fn random_heads_never_panic() {
        const SEED: u64 = 0x5ead;
        let mut rng = Rng::seeded(SEED);
        let valid =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, close\r\nX: y\r\nDate: z\r\n\r\n";
        let mut refused = 0;
        for _ in 0..100_000 {
            let mut head = valid.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(u32::try_from(head.len()).unwrap()) as usize;
                head[at] = rng.bits().to_le_bytes()[0];
            }
            refused += u32::from(parse_response(&head, &mut Fields::new(), Method::Get, FIELDS_MAX).is_err());
        }
        assert!((10_000..90_000).contains(&refused), "seed {SEED:#x}: {refused}");
    }
}
