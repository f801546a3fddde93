//! Plain heads, in one pass: every head that a well-behaved peer sends.
//!
//! What is not plain (bare LF, a folded line, a tab, a control byte, a head that is not whole yet) is none of this file's
//! business: it is left to the parser, which knows what is wrong. So nothing is accepted here that the parser refuses, and nothing
//! is read differently; the fuzz targets of heads hold both to one strict reference.
//!
//! ```text
//! GET /path HTTP/1.1 CR LF        request_line │ status_line
//! name: value CR LF               fields: one walk finds where a line ends, checks it, and tells what it means
//! CR LF
//! ```

use core::ops::Range;

use super::head::{Field, Fields, Survey, Version};
use super::wide::{self, Unprintable};
use crate::field::is_token_byte;
use crate::limits::FIELDS_MAX;

/// Which bytes names and methods are made of.
static TOKEN: [bool; 256] = table(Set::Token);
/// Which bytes a `reg-name` is made of, percent escapes aside: unreserved and sub-delims (RFC 3986 §3.2.2).
pub(super) static NAME: [bool; 256] = table(Set::Name);

/// The parts of a first line, and where the next line begins.
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b [u8],
    pub(super) target: &'b [u8],
    pub(super) version: Version,
    pub(super) end: usize,
}

/// The parts of a first line, and where the next line begins.
pub(super) struct StatusLine {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) end: usize,
}

/// RFC 9112 §3: `method SP target SP version CRLF`.
#[inline]
pub(super) fn request_line(bytes: &[u8]) -> Option<RequestLine<'_>> {
    let mut method_len = wide::name_len(bytes);
    if bytes.get(method_len) != Some(&b' ') {
        method_len = token_len(bytes, method_len);
    }
    let (method, [b' ', rest @ ..]) = bytes.split_at_checked(method_len)? else { return None };
    let (target, rest) = rest.split_at_checked(target_len(rest))?;
    let (version, rest) = rest.strip_prefix(b" ")?.split_first_chunk()?;
    let version = version_of(version).filter(|_| rest.first_chunk() == Some(b"\r\n"))?;
    let end = method.len() + 1 + target.len() + 11;
    (!method.is_empty() && !target.is_empty()).then_some(RequestLine { method, target, version, end })
}

/// RFC 9112 §4: `version SP status SP [reason] CRLF`, the last space optional.
#[inline]
pub(super) fn status_line(bytes: &[u8]) -> Option<StatusLine> {
    let (version, rest) = bytes.split_first_chunk()?;
    let version = version_of(version)?;
    let [b' ', a @ b'1'..=b'9', b, c, behind @ ..] = rest else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(a)? * 100 + digit(b)? * 10 + digit(c)?;
    // A reason is short.
    let reason_len = behind.iter().position(u8::is_ascii_control)?;
    let (reason, rest) = behind.split_at_checked(reason_len)?;
    let is_good = matches!(reason, [] | [b' ', ..]) && rest.first_chunk() == Some(b"\r\n");
    let end = "HTTP/1.1 200".len() + reason_len + 2;
    is_good.then_some(StatusLine { version, status, end })
}

/// The version called `name`. Compared as a whole and not byte by byte, as a pattern would be.
#[inline]
fn version_of(name: &[u8; 8]) -> Option<Version> {
    if name == b"HTTP/1.1" {
        return Some(Version::Http11);
    }
    (name == b"HTTP/1.0").then_some(Version::Http10)
}

/// Reads the lines from `at` up to the empty one into `fields`, at most `max`, and surveys them. Returns where the head
/// ends.
#[inline]
pub(super) fn fields<'b>(
    bytes: &'b [u8],
    at: usize,
    max: usize,
    fields: &mut Fields<'b>,
    survey: &mut Survey<'b>,
) -> Option<usize> {
    let mut lines = Lines::new(bytes, at);
    loop {
        let Range { start, end } = lines.next()?;
        if start == end {
            return (fields.len() <= max).then_some(lines.at);
        }
        let (name, value) = named(bytes.get(start..end)?, bytes.get(start..)?)?;
        survey.note(name, value, false);
        // Asked here and not of `max`, so that the compiler sees that there is room.
        if fields.spilled() || fields.len() >= FIELDS_MAX {
            return None;
        }
        fields.push(Field { name, value });
    }
}

/// The lines of a head, one after another.
struct Lines<'b> {
    bytes: &'b [u8],
    /// Where the next one begins.
    at: usize,
    unprintable: Unprintable<'b>,
}

impl<'b> Lines<'b> {
    #[inline(always)]
    fn new(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at, unprintable: Unprintable::new(bytes, at) }
    }

    /// Where the next line is, without its end. Its first control byte is its CRLF. A tab is allowed (RFC 9110 §5.5), but
    /// hardly anybody sends one. `None`: there is another one, or the line is not whole.
    #[inline(always)]
    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let end = self.unprintable.next()?;
            let behind = self.bytes.get(end..)?;
            if behind.first_chunk::<2>() == Some(b"\r\n") {
                let start = core::mem::replace(&mut self.at, end + 2);
                self.unprintable.skip();
                return Some(start..end);
            }
            // The line feed of the line before is told first of its block, where it could not be skipped.
            let is_line_feed = end < self.at;
            // What is above ASCII belongs to the line.
            if !is_line_feed && behind.first().is_none_or(u8::is_ascii) {
                return None;
            }
        }
    }
}

/// A line's name and value. `from` is all that was received from the line's beginning on, so that a whole lane of it can be
/// looked at; the name ends in the line all the same, since neither CR nor LF is one of its bytes.
#[inline(always)]
fn named<'b>(line: &'b [u8], from: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
    let len = wide::name_len(from);
    if len > 0
        && let Some((front, value)) = line.split_at_checked(len + 2)
        && let Some((name, mark)) = front.split_last_chunk()
        && mark == b": "
        && is_trimmed(value)
    {
        return Some((name, value));
    }
    unusual(line, len)
}

/// Whether there is a value, without spaces around it.
#[inline(always)]
fn is_trimmed(value: &[u8]) -> bool {
    value.first().is_some_and(|&byte| byte != b' ') && value.last() != Some(&b' ')
}

/// The same for a line whose name has a rare byte at `rare`, if it goes on there, or that has not one space behind the colon.
#[cold]
fn unusual(line: &[u8], rare: usize) -> Option<(&[u8], &[u8])> {
    match line.split_at_checked(token_len(line, rare))? {
        ([], _) => None,
        // RFC 9112 §5.1: the value is what stands between the spaces.
        (name, [b':', value @ ..]) => Some((name, value.trim_ascii())),
        _ => None,
    }
}

/// How many bytes from the front can be a target's.
#[inline(always)]
fn target_len(bytes: &[u8]) -> usize {
    let len = wide::target_len(bytes);
    let behind = bytes.get(len..).unwrap_or_default();
    len + behind.iter().position(|&byte| !byte.is_ascii_graphic() || byte == b'#').unwrap_or(behind.len())
}

/// How long the token in front is; it has a rare byte at `rare`, if it goes on there.
#[cold]
fn token_len(bytes: &[u8], rare: usize) -> usize {
    let behind = bytes.get(rare..).unwrap_or_default();
    rare + behind.iter().position(|&byte| !is_in(byte, &TOKEN)).unwrap_or(behind.len())
}

/// Whether `byte` is in `table`.
#[inline]
pub(super) fn is_in(byte: u8, table: &[bool; 256]) -> bool {
    table.get(usize::from(byte)).copied().unwrap_or(false)
}

/// What a table is made from.
enum Set {
    Token,
    Name,
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn table(set: Set) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = match set {
            Set::Token => is_token_byte(byte),
            Set::Name => {
                let marks = b"-._~!$&'()*+,;=";
                let mut at = 0;
                while at < marks.len() && marks[at] != byte {
                    at += 1;
                }
                byte.is_ascii_alphanumeric() || at < marks.len()
            }
        };
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Method, head_end, parse_request, parse_response, plain_request, plain_response};
    use super::*;
    use crate::limits::FIELDS_MAX;

    const REQUEST: &[u8] = b"GET /a?b=c%20d HTTP/1.1\r\nHost: a.example:80\r\nAccept: text/html \r\n\
        Cookie: sid=\"abc\"; x=y\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello";
    const RESPONSE: &[u8] =
        b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: s\xe9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";

    /// What is plain is read as the parser reads it; returns whether it was.
    fn agree(bytes: &[u8]) -> bool {
        let (mut plain_fields, mut fields) = (Fields::new(), Fields::new());
        let end = head_end(bytes, 0);
        let length = end.unwrap_or(bytes.len());
        let context = bytes.escape_ascii();
        let request = plain_request(bytes, &mut plain_fields, FIELDS_MAX).map(|head| format!("{head:?}"));
        let parsed = parse_request(&bytes[..length], &mut fields, FIELDS_MAX).map(|head| format!("{head:?}"));
        assert!(request.is_none() || request == parsed.ok(), "{context}");
        let (mut plain_fields, mut fields) = (Fields::new(), Fields::new());
        let response = plain_response(bytes, &mut plain_fields, Method::Get, FIELDS_MAX);
        let response = response.map(|head| format!("{head:?}"));
        let parsed = parse_response(&bytes[..length], &mut fields, Method::Get, FIELDS_MAX);
        assert!(response.is_none() || response == parsed.ok().map(|head| format!("{head:?}")), "{context}");
        request.is_some() || response.is_some()
    }

    #[test]
    fn ordinary_heads_are_plain_and_no_part_of_one_is() {
        for head in [REQUEST, RESPONSE] {
            let end = head_end(head, 0).unwrap();
            for cut in 0..=head.len() {
                assert_eq!(agree(&head[..cut]), cut >= end, "{cut} bytes");
            }
        }
    }

    #[test]
    fn every_byte_in_every_place_is_read_as_the_parser_reads_it() {
        let mut plain = 0;
        for head in [REQUEST, RESPONSE] {
            for place in 0..head_end(head, 0).unwrap() {
                for byte in 0..=u8::MAX {
                    let mut other = head.to_vec();
                    other[place] = byte;
                    plain += u32::from(agree(&other));
                    other.insert(place, byte);
                    plain += u32::from(agree(&other));
                }
                let mut other = head.to_vec();
                other.remove(place);
                plain += u32::from(agree(&other));
            }
        }
        assert!(plain > 10_000, "{plain} of the changed heads are plain");
    }

    #[test]
    fn a_line_ends_where_it_ends_wherever_that_is_in_a_block() {
        let mut plain = 0;
        for length in 0..200 {
            let value = vec![b'v'; length];
            for odd in [&b""[..], b"\xe9", b"\xe9\xe9", b"\x7f", b"\t", b"\r", b"\n", b"\xe9\r\n", b"\r\n"] {
                for behind in [&b""[..], b" ", b"w"] {
                    let head =
                        [b"GET / HTTP/1.1\r\nHost: h\r\nA: ", &value[..], odd, behind, b"\r\nB: c\r\n\r\n"];
                    plain += u32::from(agree(&head.concat()));
                }
            }
        }
        assert!(plain > 1000, "{plain} of the heads are plain");
    }

    #[test]
    fn what_was_read_before_more_bytes_came_is_forgotten() {
        let (mut fields, mut of_response) = (Fields::new(), Fields::new());
        for cut in 0..=REQUEST.len() {
            if let Some(head) = plain_request(&REQUEST[..cut], &mut fields, FIELDS_MAX) {
                assert_eq!(head.fields.len(), 5);
            }
        }
        for cut in 0..=RESPONSE.len() {
            if let Some(head) = plain_response(&RESPONSE[..cut], &mut of_response, Method::Get, FIELDS_MAX) {
                assert_eq!(head.fields.len(), 3);
            }
        }
        assert_eq!((fields.len(), of_response.len()), (5, 3));
    }

    #[test]
    fn more_fields_than_allowed_are_not_plain() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        assert!(plain_request(head, &mut Fields::new(), 2).is_some());
        assert!(plain_request(head, &mut Fields::new(), 1).is_none());
    }
}
