//! Request heads: the method, the target in its four forms, and which host is meant.

use core::mem::MaybeUninit;
use core::ops::Range;

use memchr::{memchr, memchr3};

use super::framing::{self, RequestFraming};
use super::head::{Connection, Field, Fields, HeadError, Survey, Version, span_in, take_parsed};
use super::{plain, wide};
use crate::field::is_token_byte;
use crate::limits::{EMPTY_LINES_MAX, FIELDS_MAX};

/// The method of a request. Methods are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    /// `CONNECT`.
    Connect,
    /// `DELETE`.
    Delete,
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `OPTIONS`.
    Options,
    /// `PATCH`.
    Patch,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `TRACE`.
    Trace,
    /// Any other token. Nothing is assumed about it.
    Other,
}

impl Method {
    /// The method called `name`.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        // Compared as a whole, and first: most requests have it.
        if name == b"GET" { Self::Get } else { Self::of_other(name) }
    }

    const fn of_other(name: &[u8]) -> Self {
        match name {
            b"CONNECT" => Self::Connect,
            b"DELETE" => Self::Delete,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// Whether the client asks for no change (RFC 9110 §9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending the request twice has the effect of sending it once (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// A request head that passed every check. It borrows the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead<'h> {
    /// The whole head, final empty line included. Edits count from its first byte.
    pub bytes: &'h [u8],
    /// The method.
    pub method: Method,
    /// The method as received.
    pub method_text: &'h [u8],
    /// The target as received.
    pub target: &'h [u8],
    /// The version; a proxy sends its own (RFC 9112 §2.3).
    pub version: Version,
    /// The field lines, in order.
    pub fields: &'h [Field<'h>],
    /// How the body ends.
    pub framing: RequestFraming,
    /// The host that is meant, with its port: the target's authority if it has one, else the host line.
    /// `None` only in HTTP/1.0. It may be empty (RFC 9110 §7.2).
    pub host: Option<&'h [u8]>,
    /// The raw path with its query; `*` for a server-wide OPTIONS; empty for CONNECT.
    pub path: &'h [u8],
    /// The target is in absolute form: its authority won over the host line (RFC 9112 §3.2.2), and the request is to be
    /// passed on with [`path`](Self::path) for a target and [`host`](Self::host) in its host line.
    pub absolute: bool,
    /// What is said about the connection.
    pub connection: Connection,
    /// The value of the first `upgrade` line.
    pub upgrade: Option<&'h [u8]>,
    /// The client waits for a `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// There are fields by which a proxy in front makes itself known.
    pub(crate) marked: bool,
}

impl RequestHead<'_> {
    /// Where the version stands in the head.
    pub fn version_span(&self) -> Range<usize> {
        let start = span_in(self.bytes, self.target).end + 1;
        start..start + self.version.as_str().len()
    }

    /// Whether the connection can carry another request after this one.
    pub const fn persists(&self) -> bool {
        self.connection.persists(self.version)
    }
}

/// How many empty lines, of two bytes each, stand in front of the request line; at most [`EMPTY_LINES_MAX`], of which
/// `skipped` were skipped already. RFC 9112 §2.2 has at least one skipped: old clients send one behind a body.
pub fn leading_empty_lines(bytes: &[u8], skipped: usize) -> usize {
    // Nearly always; the count below would say the same.
    if bytes.first() != Some(&b'\r') {
        return 0;
    }
    let most = EMPTY_LINES_MAX.saturating_sub(skipped);
    bytes.chunks_exact(2).take(most).take_while(|line| line == b"\r\n").count()
}

/// Whether no request can begin with these bytes (a TLS hello, say), so that waiting for more is pointless.
/// An empty line may still be skipped.
pub fn cannot_be_request(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&byte| !is_token_byte(byte) && byte != b'\r')
}

/// Reads the request head at the front of `bytes`, if it is whole, plain and without fault: most are, and cost one pass.
/// `None` says nothing about it; [`head_end`](super::head_end) and [`parse_request`] do.
///
/// `fields` is cleared; at most `fields_max` field lines are taken.
pub fn plain_request<'h, 'b: 'h>(
    bytes: &'b [u8],
    fields: &'h mut Fields<'b>,
    fields_max: usize,
) -> Option<RequestHead<'h>> {
    fields.clear();
    let line = plain::request_line(bytes)?;
    let mut survey = Survey::default();
    let end = plain::fields(bytes, line.end, fields_max.min(FIELDS_MAX), fields, &mut survey)?;
    survey.complete(line.version).ok()?;
    let line = Line { method: line.method, target: line.target, version: line.version };
    judge(bytes.get(..end)?, line, fields, &survey).ok()
}

/// Parses one request head.
///
/// `bytes` is exactly the head, as [`head_end`](super::head_end) measured it, without leading empty lines. `fields` is
/// cleared; at most `fields_max` field lines are taken.
///
/// # Errors
/// What is wrong with the head, with the status that answers it.
pub fn parse_request<'h, 'b: 'h>(
    bytes: &'b [u8],
    fields: &'h mut Fields<'b>,
    fields_max: usize,
) -> Result<RequestHead<'h>, HeadError> {
    if bytes.first().is_none_or(|&byte| !is_token_byte(byte)) {
        return Err(HeadError::RequestLine);
    }
    let mut parsed = httparse::Request::new(&mut []);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let slots = slots.get_mut(..fields_max.min(FIELDS_MAX)).unwrap_or_default();
    match parsed.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        // The parser found an end that is not the CRLF one.
        Ok(httparse::Status::Complete(_)) => return Err(HeadError::BareLineFeed),
        Ok(httparse::Status::Partial) => return Err(HeadError::LineEnd),
        Err(error) => return Err(HeadError::of(error, bytes, first_line_error(bytes))),
    }
    let line = Line {
        method: parsed.method.unwrap_or_default().as_bytes(),
        target: parsed.path.unwrap_or_default().as_bytes(),
        version: Version::of(parsed.version),
    };
    take_parsed(parsed.headers, fields);
    let survey = Survey::of(bytes, fields, line.version)?;
    // The parser lets bytes above ASCII and fragments through; RFC 3986 has neither in a request target.
    if !line.target.is_ascii() || memchr(b'#', line.target).is_some() {
        return Err(HeadError::Target);
    }
    judge(bytes, line, fields, &survey)
}

/// A request line.
#[derive(Clone, Copy)]
struct Line<'h> {
    method: &'h [u8],
    target: &'h [u8],
    version: Version,
}

/// What a head that was read comes to.
#[inline(always)]
fn judge<'h>(
    bytes: &'h [u8],
    line: Line<'h>,
    fields: &'h [Field<'h>],
    survey: &Survey<'h>,
) -> Result<RequestHead<'h>, HeadError> {
    let Line { method: method_text, target, version } = line;
    let method = Method::of(method_text);
    let aim = aim(method, target)?;
    let host = effective_host(survey, aim.authority, version)?;
    Ok(RequestHead {
        bytes,
        method,
        method_text,
        target,
        version,
        fields,
        framing: framing::request(framing::measure(&survey.lengths, version)?),
        host,
        path: aim.path,
        absolute: aim.authority.is_some() && method != Method::Connect,
        connection: survey.connection,
        upgrade: survey.upgrade,
        // RFC 9110 §10.1.1: an HTTP/1.0 client cannot wait for it.
        expect_continue: survey.expect_continue && version == Version::Http11,
        marked: survey.marked,
    })
}

/// A target, taken apart.
struct Aim<'h> {
    authority: Option<&'h [u8]>,
    path: &'h [u8],
}

/// Tells the four forms of a target apart (RFC 9112 §3.2).
#[inline]
fn aim(method: Method, target: &[u8]) -> Result<Aim<'_>, HeadError> {
    match target {
        [b'/', ..] if method != Method::Connect => Ok(Aim { authority: None, path: target }),
        _ => rare_aim(method, target),
    }
}

/// The same for all but the origin form.
#[cold]
fn rare_aim(method: Method, target: &[u8]) -> Result<Aim<'_>, HeadError> {
    match (method, target) {
        (Method::Connect, authority) if has_port(authority) && is_authority(authority) => {
            Ok(Aim { authority: Some(authority), path: b"" })
        }
        (Method::Connect, _) => Err(HeadError::Authority),
        (Method::Options, b"*") => Ok(Aim { authority: None, path: target }),
        _ => absolute_form(method, target),
    }
}

fn absolute_form(method: Method, target: &[u8]) -> Result<Aim<'_>, HeadError> {
    let rest = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (front, rest) = target.split_at_checked(scheme.len())?;
            front.eq_ignore_ascii_case(scheme).then_some(rest)
        })
        .ok_or(HeadError::TargetForm)?;
    let (authority, path) = match memchr3(b'/', b'?', b'\\', rest) {
        Some(end) => rest.split_at(end),
        None => (rest, b"".as_slice()),
    };
    // RFC 9110 §4.2.1: a host is needed; §4.2.4: a user name is an error.
    if authority.is_empty() || !is_authority(authority) {
        return Err(HeadError::Authority);
    }
    match path {
        // RFC 9112 §3.2.4: an absolute OPTIONS without a path means the server.
        [] if method == Method::Options => Ok(Aim { authority: Some(authority), path: b"*" }),
        [] => Ok(Aim { authority: Some(authority), path: b"/" }),
        [b'/', ..] => Ok(Aim { authority: Some(authority), path }),
        // A query right behind the host: no origin-form of it is part of the received bytes.
        _ => Err(HeadError::TargetForm),
    }
}

/// RFC 9112 §3.2: one host line, a valid one, unless the version is older; §3.2.2: the target's authority wins.
fn effective_host<'h>(
    survey: &Survey<'h>,
    authority: Option<&'h [u8]>,
    version: Version,
) -> Result<Option<&'h [u8]>, HeadError> {
    match (survey.hosts, survey.host) {
        (2.., _) => Err(HeadError::HostRepeated),
        (0, _) if version == Version::Http11 => Err(HeadError::HostMissing),
        (_, Some(host)) if !host.is_empty() && !is_authority(host) => Err(HeadError::Host),
        (_, host) => Ok(authority.or(host)),
    }
}

/// Whether `text` is `uri-host [":" port]` (RFC 3986 §3.2.2, §3.2.3), without a user name.
fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = memchr(b']', literal) else { return false };
        let (address, rest) = literal.split_at(end);
        if !is_ip6(address) {
            return false;
        }
        (address, rest.strip_prefix(b"]").unwrap_or_default())
    } else if wide::is_host_name(text) {
        return true;
    } else {
        text.split_at(name_len(text))
    };
    !host.is_empty() && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

fn is_ip6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

/// How many bytes from the front are an RFC 3986 `reg-name`: unreserved, sub-delims, and complete percent escapes.
fn name_len(text: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let rest = text.get(len..).unwrap_or_default();
        len += rest.iter().position(|&byte| !plain::is_in(byte, &plain::NAME)).unwrap_or(rest.len());
        match text.get(len..) {
            Some([b'%', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => len += 3,
            _ => return len,
        }
    }
}

/// A port may be empty (RFC 3986 §3.2.3) but not larger than 65535.
fn is_port(port: &[u8]) -> bool {
    port.iter()
        .try_fold(0_u16, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
        .is_some()
}

/// CONNECT needs a port (RFC 9110 §9.3.6).
fn has_port(authority: &[u8]) -> bool {
    authority.last().is_some_and(u8::is_ascii_digit)
        && authority.iter().rev().find(|byte| !byte.is_ascii_digit()) == Some(&b':')
}

/// What is wrong with a first line that the parser refuses: another version, or no request line at all.
#[cold]
fn first_line_error(bytes: &[u8]) -> HeadError {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else { return HeadError::BareLineFeed };
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        // HTTP/0.9 knew this one form.
        (Some(b"GET"), Some([b'/', ..]), None, None) => HeadError::Version,
        (Some(_), Some(_), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !matches!((major, minor), (b'1', b'0' | b'1')) =>
        {
            HeadError::Version
        }
        _ => HeadError::RequestLine,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edits, head_end};
    use super::*;
    use crate::rng::Rng;

    fn refused(head: &[u8]) -> HeadError {
        match parse_request(head, &mut Fields::new(), FIELDS_MAX) {
            Err(error) => error,
            Ok(head) => panic!("{:?} must be refused", String::from_utf8_lossy(head.bytes)),
        }
    }

    /// Parses a head and shows it to `look`.
    fn look<T>(head: &[u8], look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        match parse_request(head, &mut Fields::new(), FIELDS_MAX) {
            Ok(parsed) => look(&parsed),
            Err(error) => panic!("{:?}: {error}", String::from_utf8_lossy(head)),
        }
    }

    fn with_target(method: &str, target: &str) -> Vec<u8> {
        format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
    }

    #[test]
    fn a_plain_request_is_read() {
        let head = b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nAccept:  */* \r\nEmpty:\r\n\r\n";
        look(head, |head| {
            assert_eq!((head.method, head.method_text), (Method::Get, &b"GET"[..]));
            assert_eq!((head.target, head.path), (&b"/a/b?c=d"[..], &b"/a/b?c=d"[..]));
            assert_eq!(head.version, Version::Http11);
            assert_eq!(head.host, Some(&b"example.org:8080"[..]));
            assert_eq!(head.framing, RequestFraming::Empty);
            assert_eq!(super::super::field(head.fields, b"ACCEPT"), Some(&b"*/*"[..]));
            assert_eq!(super::super::field(head.fields, b"empty"), Some(&b""[..]));
            assert_eq!(super::super::field(head.fields, b"absent"), None);
            assert_eq!(&head.bytes[head.version_span()], b"HTTP/1.1");
            assert!(head.persists() && !head.absolute && !head.expect_continue);
        });
    }

    #[test]
    fn methods_are_tokens_and_case_sensitive_rfc_9110_section_9_1() {
        for (text, method, safe, idempotent) in [
            ("GET", Method::Get, true, true),
            ("HEAD", Method::Head, true, true),
            ("OPTIONS", Method::Options, true, true),
            ("TRACE", Method::Trace, true, true),
            ("PUT", Method::Put, false, true),
            ("DELETE", Method::Delete, false, true),
            ("POST", Method::Post, false, false),
            ("PATCH", Method::Patch, false, false),
            ("get", Method::Other, false, false),
            ("PURGE", Method::Other, false, false),
            ("M-SEARCH", Method::Other, false, false),
        ] {
            look(&with_target(text, "/"), |head| {
                assert_eq!((head.method, head.method_text), (method, text.as_bytes()));
                assert_eq!((method.is_safe(), method.is_idempotent()), (safe, idempotent), "{text}");
            });
        }
        for text in ["", "G@T", "GE(T", "\u{e9}", "GET\0"] {
            assert_eq!(refused(&with_target(text, "/")), HeadError::RequestLine, "{text:?}");
        }
    }

    #[test]
    fn request_lines_are_strict_rfc_9112_section_3() {
        for (line, error) in [
            ("GET  / HTTP/1.1", HeadError::RequestLine),
            ("GET /  HTTP/1.1", HeadError::RequestLine),
            ("GET / HTTP/1.1 ", HeadError::LineEnd),
            ("GET\t/ HTTP/1.1", HeadError::RequestLine),
            (" GET / HTTP/1.1", HeadError::RequestLine),
            ("GET / x HTTP/1.1", HeadError::RequestLine),
            ("GET / http/1.1", HeadError::RequestLine),
            ("GET / HTTP/1.1x", HeadError::LineEnd),
            ("GET / HTTP/11.1", HeadError::RequestLine),
            ("GET / HTTP/1", HeadError::RequestLine),
            ("GET", HeadError::RequestLine),
            ("HTTP/1.1 200 OK", HeadError::RequestLine),
            // Versions that are known, but not spoken.
            ("GET /", HeadError::Version),
            ("GET / HTTP/0.9", HeadError::Version),
            ("GET / HTTP/1.2", HeadError::Version),
            ("GET / HTTP/2.0", HeadError::Version),
            ("PRI * HTTP/2.0", HeadError::Version),
        ] {
            assert_eq!(refused(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), error, "{line:?}");
        }
        assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\n").status(), 505);
        assert_eq!(refused(b""), HeadError::RequestLine);
        assert_eq!(refused(b"\r\n\r\n"), HeadError::RequestLine);
        assert_eq!(refused(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), HeadError::RequestLine);
    }

    #[test]
    fn the_four_forms_of_a_target_rfc_9112_section_3_2() {
        for (method, target, host, path) in [
            ("GET", "/", "h", "/"),
            ("GET", "/?", "h", "/?"),
            ("GET", "//x/../y;z", "h", "//x/../y;z"),
            ("GET", "/%00\"<>|", "h", "/%00\"<>|"),
            ("GET", "/http://x/", "h", "/http://x/"),
            ("OPTIONS", "*", "h", "*"),
            ("OPTIONS", "/x", "h", "/x"),
            ("GET", "http://a.example/b?c", "a.example", "/b?c"),
            ("GET", "HTTP://a.example:80/", "a.example:80", "/"),
            ("GET", "https://a.example", "a.example", "/"),
            ("GET", "http://[::1]:8080/x", "[::1]:8080", "/x"),
            ("OPTIONS", "http://a.example:8001", "a.example:8001", "*"),
            ("CONNECT", "a.example:443", "a.example:443", ""),
            ("CONNECT", "[2001:db8::1]:443", "[2001:db8::1]:443", ""),
        ] {
            look(&with_target(method, target), |head| {
                assert_eq!(head.host, Some(host.as_bytes()), "{method} {target}");
                assert_eq!(head.path, path.as_bytes(), "{method} {target}");
                assert_eq!(head.absolute, host != "h" && method != "CONNECT");
            });
        }
        for (method, target, error) in [
            ("GET", "*", HeadError::TargetForm),
            ("GET", "x", HeadError::TargetForm),
            ("GET", "?x", HeadError::TargetForm),
            ("GET", "a.example:80", HeadError::TargetForm),
            ("GET", "ftp://a.example/", HeadError::TargetForm),
            ("GET", "http:/a.example/", HeadError::TargetForm),
            ("GET", "http://a.example?x", HeadError::TargetForm),
            ("GET", "http://a.example\\@b/", HeadError::TargetForm),
            ("GET", "http://", HeadError::Authority),
            ("GET", "http:///x", HeadError::Authority),
            ("GET", "http://:80/", HeadError::Authority),
            ("GET", "http://user@a.example/", HeadError::Authority),
            ("GET", "http://user:pass@a.example/", HeadError::Authority),
            ("GET", "http://a.example:65536/", HeadError::Authority),
            ("GET", "http://[::1/", HeadError::Authority),
            ("GET", "/a#b", HeadError::Target),
            ("GET", "http://a.example/#", HeadError::Target),
            ("GET", "/\u{e9}", HeadError::Target),
            ("CONNECT", "/", HeadError::Authority),
            ("CONNECT", "a.example", HeadError::Authority),
            ("CONNECT", "a.example:", HeadError::Authority),
            ("CONNECT", "443", HeadError::Authority),
        ] {
            assert_eq!(refused(&with_target(method, target)), error, "{method} {target}");
        }
        for byte in (0..=b' ').chain([0x7f]) {
            let head = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
            assert_eq!(refused(&head).status(), 400, "byte {byte:#04x} in a target");
        }
    }

    #[test]
    fn one_valid_host_is_needed_rfc_9112_section_3_2() {
        for host in [
            "",
            "a",
            "a.example:80",
            "a.example:",
            "A_b~c",
            "1.2.3.4:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]:1",
            "%41.example",
            "a!$&'()*+,;=",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            look(head.as_bytes(), |head| assert_eq!(head.host, Some(host.as_bytes())));
        }
        for host in [
            ":80",
            "a b",
            "a/b",
            "a@b",
            "user@a",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "a<b",
            "[::1",
            "::1",
            "[::1]80",
            "[]",
            "[v1.a]",
            "[::1%eth0]",
            "a:b",
            "a:-1",
            "a:65536",
            "a:80:80",
            "%4",
            "%zz",
            "a%",
            "\u{e9}",
            "a[",
            "{a}",
            "a\tb",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(refused(head.as_bytes()), HeadError::Host, "{host:?}");
        }
        assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), HeadError::HostMissing);
        assert_eq!(refused(b"GET http://a/ HTTP/1.1\r\n\r\n"), HeadError::HostMissing);
        assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), HeadError::HostRepeated);
        assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), HeadError::HostRepeated);
        assert_eq!(refused(b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n"), HeadError::Host);
        look(b"GET / HTTP/1.0\r\n\r\n", |head| assert_eq!(head.host, None));
        look(b"GET http://a/ HTTP/1.0\r\n\r\n", |head| assert_eq!(head.host, Some(&b"a"[..])));
        look(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", |head| assert_eq!(head.host, Some(&b"a"[..])));
    }

    #[test]
    fn fields_and_line_ends_are_strict_rfc_9112_sections_2_2_and_5() {
        for (lines, error) in [
            (&b"A : b\r\n"[..], HeadError::FieldName),
            (b"A\t: b\r\n", HeadError::FieldName),
            (b": b\r\n", HeadError::FieldName),
            (b"no colon\r\n", HeadError::FieldName),
            (b"word\r\n", HeadError::FieldName),
            (b"A(b): c\r\n", HeadError::FieldName),
            (b"A\xe9: c\r\n", HeadError::FieldName),
            (b"A\0: c\r\n", HeadError::FieldName),
            (b"A: b\r\n folded\r\n", HeadError::ObsoleteFold),
            (b"A: b\r\n\tfolded: x\r\n", HeadError::ObsoleteFold),
            (b"A: b\0c\r\n", HeadError::FieldValue),
            (b"A: b\rc\r\n", HeadError::FieldValue),
            (b"A: b\r\r\n", HeadError::FieldValue),
            (b"A: b\n", HeadError::BareLineFeed),
            (b"A: b\nC: d\r\n", HeadError::BareLineFeed),
            (b"A:\nC: d\r\n", HeadError::BareLineFeed),
            (b"A: b\r\n\rC: d\r\n", HeadError::LineEnd),
        ] {
            let head = [b"GET / HTTP/1.1\r\nHost: h\r\n", lines, b"\r\n"].concat();
            assert_eq!(refused(&head), error, "{:?}", String::from_utf8_lossy(&head));
            assert_eq!(error.status(), 400);
        }
        for head in [
            &b"GET / HTTP/1.1\nHost: h\r\n\r\n"[..],
            b"GET / HTTP/1.1\nHost: h\n\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\n",
            b"GET / HTTP/1.1\r\nHost: h\n\r\n",
            b"GET / HTTP/1.0\n\n",
            b"GET / HTTP/1.0\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(refused(head), HeadError::BareLineFeed, "{:?}", String::from_utf8_lossy(head));
        }
        // Every control byte but the tab, wherever the parser's wide steps meet it.
        for byte in 0..=u8::MAX {
            for place in 0..70 {
                let padding = vec![b'x'; place];
                let head =
                    [b"GET / HTTP/1.1\r\nHost: h\r\nA: ", &padding[..], &[byte], &padding, b"\r\n\r\n"]
                        .concat();
                let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                let passes = parse_request(&head, &mut Fields::new(), FIELDS_MAX).is_ok();
                assert_eq!(passes, allowed, "byte {byte:#04x} at {place}");
            }
        }
    }

    #[test]
    fn field_lines_are_counted() {
        let head =
            |count: usize| ["GET / HTTP/1.1\r\nHost: h\r\n", &"A: b\r\n".repeat(count - 1), "\r\n"].concat();
        look(head(FIELDS_MAX).as_bytes(), |head| assert_eq!(head.fields.len(), FIELDS_MAX));
        let error = refused(head(FIELDS_MAX + 1).as_bytes());
        assert_eq!((error, error.status()), (HeadError::TooManyFields, 431));
        let few = parse_request(head(3).as_bytes(), &mut Fields::new(), 2).map(|_| ());
        assert_eq!(few, Err(HeadError::TooManyFields));
        assert!(parse_request(head(2).as_bytes(), &mut Fields::new(), 2).is_ok());
    }

    #[test]
    fn what_is_said_about_the_connection() {
        let connection = |version: &str, lines: &str| {
            let head = format!("GET / {version}\r\nHost: h\r\n{lines}\r\n");
            look(head.as_bytes(), |head| (head.connection, head.persists()))
        };
        assert!(connection("HTTP/1.1", "").1);
        assert!(!connection("HTTP/1.1", "Connection: foo , CLOSE\r\n").1);
        assert!(!connection("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n").1);
        assert!(connection("HTTP/1.1", "Connection: closed\r\nProxy-Connection: close\r\n").1);
        assert!(connection("HTTP/1.0", "Connection: Keep-Alive\r\n").1);
        assert!(!connection("HTTP/1.0", "Keep-Alive: timeout=5\r\n").1);
        // RFC 9110 §7.8: an upgrade needs both fields, and HTTP/1.1.
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        assert!(connection("HTTP/1.1", upgrade).0.upgrade);
        assert!(!connection("HTTP/1.0", upgrade).0.upgrade);
        assert!(!connection("HTTP/1.1", "Upgrade: websocket\r\n").0.upgrade);
        assert!(!connection("HTTP/1.1", "Connection: upgrade\r\n").0.upgrade);
        assert!(connection("HTTP/1.1", "TE: gzip, Trailers\r\n").0.te_trailers);
        assert!(!connection("HTTP/1.1", "TE: gzip;q=0.5\r\n").0.te_trailers);

        let expects = |version: &str, value: &str| {
            let head = format!("POST / {version}\r\nHost: h\r\nExpect: {value}\r\n\r\n");
            look(head.as_bytes(), |head| head.expect_continue)
        };
        assert!(expects("HTTP/1.1", "100-Continue"));
        assert!(!expects("HTTP/1.0", "100-continue"));
        assert!(!expects("HTTP/1.1", "200-ok"));

        let many = "x,".repeat(crate::limits::NOMINATIONS_MAX + 1);
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: {many}\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), HeadError::TooManyNominations);
    }

    #[test]
    fn empty_lines_are_skipped_and_other_protocols_noticed_rfc_9112_section_2_2() {
        assert_eq!(leading_empty_lines(b"GET", 0), 0);
        assert_eq!(leading_empty_lines(b"\r", 0), 0);
        assert_eq!(leading_empty_lines(b"\r\nGET", 0), 1);
        assert_eq!(leading_empty_lines(b"\r\n\r\n\r", 0), 2);
        assert_eq!(leading_empty_lines(b"\nGET", 0), 0);
        assert_eq!(leading_empty_lines(&b"\r\n".repeat(50), 0), EMPTY_LINES_MAX);
        assert_eq!(leading_empty_lines(&b"\r\n".repeat(50), 1), EMPTY_LINES_MAX - 1);
        assert_eq!(leading_empty_lines(b"\r\nGET", EMPTY_LINES_MAX), 0);
        for (bytes, hopeless) in [
            (&b""[..], false),
            (b"G", false),
            (b"\r", false),
            (b"\x16\x03\x01\x02\x00", true),
            (b"\x00", true),
            (b"\n", true),
            (b" GET", true),
        ] {
            assert_eq!(cannot_be_request(bytes), hopeless, "{bytes:?}");
        }
    }

    /// A valid head with a few bytes changed, added or taken away.
    fn mutated(rng: &mut Rng) -> Vec<u8> {
        const HEADS: [&[u8]; 3] = [
            b"GET /a?b=c HTTP/1.1\r\nHost: a.example:80\r\nConnection: keep-alive, X\r\nTE: trailers\r\nX: y\r\n\r\n",
            b"POST http://[::1]:80/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            b"PUT / HTTP/1.0\r\nContent-Length: 12\r\nUpgrade: x\r\nConnection: upgrade\r\nKeep-Alive: 5\r\n\r\n",
        ];
        const SPICE: &[u8] = b"\r\n\t :,;#@[]%*\x00\x7f\xff0";
        let mut head = HEADS[rng.below(3) as usize].to_vec();
        for _ in 0..rng.below(4) {
            let at = rng.below(u32::try_from(head.len()).unwrap()) as usize;
            match rng.below(3) {
                0 => head[at] = SPICE[rng.below(SPICE.len() as u32) as usize],
                1 => head.insert(at, SPICE[rng.below(SPICE.len() as u32) as usize]),
                _ => {
                    head.remove(at);
                }
            }
        }
        head
    }

    #[test]
    fn mutated_heads_never_panic_and_edit_cleanly() {
        const SEED: u64 = 0x4ead;
        let mut rng = Rng::seeded(SEED);
        let mut edits = Edits::new();
        let (mut parsed, mut refused) = (0, 0);
        for round in 0..100_000 {
            let head = mutated(&mut rng);
            let Some(end) = head_end(&head, 0) else { continue };
            let mut slots = Fields::new();
            match parse_request(&head[..end], &mut slots, FIELDS_MAX) {
                Ok(head) => {
                    parsed += 1;
                    let text = head.bytes.split(|&byte| byte == b'\n');
                    let lines = text.filter(|line| !line.is_empty() && !line.ends_with(b"\r")).count();
                    assert_eq!(lines, 0, "seed {SEED:#x}, round {round}: a bare LF passed");
                    edits.clear();
                    edits.hop_by_hop_request(&head, false, None);
                }
                Err(error) => {
                    refused += 1;
                    assert!(matches!(error.status(), 400 | 501 | 505), "{error}");
                }
            }
        }
        assert!(parsed > 10_000 && refused > 10_000, "seed {SEED:#x}: {parsed} parsed, {refused} refused");
    }

    #[test]
    fn any_segmentation_gives_the_same_verdict() {
        const SEED: u64 = 0x05e9;
        let verdict = |head: &[u8]| parse_request(head, &mut Fields::new(), FIELDS_MAX).map(|_| head.len());
        let mut rng = Rng::seeded(SEED);
        for round in 0..20_000 {
            let stream = [mutated(&mut rng), mutated(&mut rng)].concat();
            let whole = head_end(&stream, 0).map(|end| verdict(&stream[..end]));
            let (mut scanned, mut dribbled) = (0, None);
            while scanned < stream.len() && dribbled.is_none() {
                let received = (scanned + 1 + rng.below(30) as usize).min(stream.len());
                dribbled = head_end(&stream[..received], scanned).map(|end| verdict(&stream[..end]));
                scanned = received;
            }
            assert_eq!(
                dribbled,
                whole,
                "seed {SEED:#x}, round {round}: {:?}",
                String::from_utf8_lossy(&stream)
            );
        }
    }
}
