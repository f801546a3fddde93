//! Heads: what is accepted against a strict reading of RFC 9112, and equal framing, host and connection for what is.

use std::net::Ipv6Addr;

use homing_core::http1::{
    Fields, HeadError, Method, RequestFraming, RequestHead, ResponseFraming, ResponseHead, Version,
    cannot_be_request, cannot_be_response, head_end, leading_empty_lines, parse_request, parse_response,
    plain_request, plain_response,
};
use homing_core::limits::{FIELDS_MAX, NOMINATIONS_MAX};
use homing_core::rng::Rng;

use crate::input::seed_of;

/// The input as a request head, and bytes behind it.
pub fn request_head(data: &[u8]) {
    let bytes = &data[2 * leading_empty_lines(data, 0)..];
    let expected = Head::read(bytes).and_then(|head| Request::of(&head).map(|request| (head, request)));
    let (Some(length), Some(early)) = ends(bytes) else {
        assert_eq!(ends(bytes), (None, None));
        assert!(expected.is_err(), "the reference sees an end");
        return;
    };
    if early != length {
        let parse = |end| parse_request(&bytes[..end], &mut Fields::new(), FIELDS_MAX).map(drop).err();
        assert_eq!(parse(early).map(HeadError::status), parse(length).map(HeadError::status));
        assert!(early < length && parse(early).is_some(), "parts of a head are taken for all of it");
    }
    let (mut fields, mut plain_fields) = (Fields::new(), Fields::new());
    let plain = plain_request(bytes, &mut plain_fields, FIELDS_MAX);
    match (parse_request(&bytes[..length], &mut fields, FIELDS_MAX), expected) {
        (Ok(found), Ok((head, request))) => {
            if let Some(plain) = &plain {
                assert_eq!(plain.bytes.len(), length, "two ends of one head");
                check_request(plain, &head, &request);
                assert_eq!(plain.connection, found.connection);
            }
            assert!(!cannot_be_request(bytes));
            assert_eq!(head.length, length, "two ends of one head");
            check_request(&found, &head, &request);
        }
        (Err(error), Err(_)) => {
            assert!((400..=505).contains(&error.status()));
            assert!(plain.is_none(), "a head that is refused is no plain one: {plain:?}");
        }
        (found, expected) => {
            panic!("{}: found {found:?}, expected {expected:?}", bytes[..length].escape_ascii())
        }
    }
}

/// The input as a response head, in answer to each kind of request.
pub fn response_head(data: &[u8]) {
    let head = Head::read(data);
    let (Some(length), Some(early)) = ends(data) else {
        assert_eq!(ends(data), (None, None));
        assert!(head.is_err(), "the reference sees an end");
        return;
    };
    if early != length {
        let parse = |end| parse_response(&data[..end], &mut Fields::new(), Method::Get, FIELDS_MAX).is_err();
        assert!(early < length && parse(early) && parse(length), "parts of a head are taken for all of it");
    }
    for to in [Method::Get, Method::Head, Method::Connect] {
        let expected = head.as_ref().map_err(|&why| why).and_then(|head| Response::of(head, to));
        let (mut fields, mut plain_fields) = (Fields::new(), Fields::new());
        let plain = plain_response(data, &mut plain_fields, to, FIELDS_MAX);
        match (parse_response(&data[..length], &mut fields, to, FIELDS_MAX), expected) {
            (Ok(found), Ok(response)) => {
                assert!(!cannot_be_response(data));
                let Ok(head) = &head else { panic!("a response without a head") };
                assert_eq!(head.length, length, "two ends of one head");
                check_response(&found, head, &response);
                if let Some(plain) = &plain {
                    assert_eq!(plain.bytes.len(), length, "two ends of one head");
                    check_response(plain, head, &response);
                    assert_eq!(plain.connection, found.connection);
                }
            }
            (Err(_), Err(_)) => assert!(plain.is_none(), "a head that is refused is no plain one: {plain:?}"),
            (found, expected) => {
                panic!("{}: found {found:?}, expected {expected:?}", data[..length].escape_ascii())
            }
        }
    }
}

/// Where the head ends if all bytes come at once, and if they come in parts. Bytes that are refused anyway may seem to
/// end earlier in parts: bare line feeds in front of the end end a head too.
fn ends(bytes: &[u8]) -> (Option<usize>, Option<usize>) {
    let mut rng = Rng::seeded(seed_of(bytes));
    let (mut at, mut scanned) = (0, 0);
    while at < bytes.len() {
        at = bytes.len().min(at + 1 + rng.below(9) as usize);
        let found = head_end(&bytes[..at], scanned);
        if found.is_some() {
            return (head_end(bytes, 0), found);
        }
        scanned = at;
    }
    (head_end(bytes, 0), None)
}

fn check_request(found: &RequestHead<'_>, head: &Head<'_>, request: &Request<'_>) {
    assert_eq!(found.method_text, request.method);
    assert_eq!(found.method, Method::of(request.method));
    assert_eq!(found.target, request.target);
    assert_eq!(found.path, request.path);
    assert_eq!(found.host, request.host);
    assert_eq!(found.absolute, request.absolute);
    assert_eq!(minor(found.version), head.minor);
    assert_eq!(&found.bytes[found.version_span()], found.version.as_str().as_bytes());
    check_fields(found.fields, head);
    let framing = match found.framing {
        RequestFraming::Empty => Length::Fixed(0),
        RequestFraming::Fixed(length) => Length::Fixed(length.get()),
        RequestFraming::Chunked => Length::Chunked,
    };
    assert_eq!(framing, request.length);
    assert_eq!(found.persists(), head.persists());
    let upgrade = head.minor == 1 && head.lists("connection", "upgrade") && head.count("upgrade") > 0;
    assert_eq!(found.connection.upgrade, upgrade);
    assert_eq!(found.upgrade, head.values("upgrade").next());
    let expects = head.values("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    assert_eq!(found.expect_continue, expects && head.minor == 1);
}

fn check_response(found: &ResponseHead<'_>, head: &Head<'_>, response: &Response) {
    assert_eq!(found.status, response.status);
    assert_eq!(minor(found.version), head.minor);
    check_fields(found.fields, head);
    let framing = match found.framing {
        ResponseFraming::Empty => Some(Length::Fixed(0)),
        ResponseFraming::Fixed(length) => Some(Length::Fixed(length.get())),
        ResponseFraming::Chunked => Some(Length::Chunked),
        ResponseFraming::UntilClose => None,
    };
    assert_eq!(framing, response.length);
    assert_eq!(found.has_date, head.count("date") > 0);
    if framing.is_none() || !head.persists() {
        assert!(!found.persists(), "a connection that must end goes on");
    }
}

fn check_fields(found: &[homing_core::http1::Field<'_>], head: &Head<'_>) {
    let found: Vec<_> = found.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(found, head.fields);
}

const fn minor(version: Version) -> u8 {
    match version {
        Version::Http10 => 0,
        Version::Http11 => 1,
    }
}

// The reference.

/// What both kinds of heads have in common.
#[derive(Debug)]
struct Head<'b> {
    first_line: &'b [u8],
    fields: Vec<(&'b [u8], &'b [u8])>,
    /// A tab stands somewhere in a line that says how long the body is.
    framing_tab: bool,
    minor: u8,
    length: usize,
}

#[derive(Debug)]
struct Request<'b> {
    method: &'b [u8],
    target: &'b [u8],
    path: &'b [u8],
    host: Option<&'b [u8]>,
    absolute: bool,
    length: Length,
}

#[derive(Debug)]
struct Response {
    status: u16,
    /// `None`: until the connection ends.
    length: Option<Length>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    Fixed(u64),
    Chunked,
}

type Refused = &'static str;

impl<'b> Head<'b> {
    /// RFC 9112 §2.1: lines that end in CRLF, up to the first empty one. No bare CR or LF (§2.2), no folded line (§5.2).
    fn read(bytes: &'b [u8]) -> Result<Self, Refused> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no end")?;
        let mut lines = Vec::new();
        let mut rest = &bytes[..end + 2];
        while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
            return Err("bare CR or LF");
        }
        let (first_line, lines) = lines.split_first().ok_or("no first line")?;
        let mut fields = Vec::new();
        let mut framing_tab = false;
        for line in lines {
            let colon = line.iter().position(|&byte| byte == b':').ok_or("no colon")?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().all(|&byte| is_tchar(byte)) {
                return Err("field name");
            }
            // RFC 9110 §5.5: visible and high bytes, spaces and tabs.
            if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err("field value");
            }
            framing_tab |= (name.eq_ignore_ascii_case(b"content-length")
                || name.eq_ignore_ascii_case(b"transfer-encoding"))
                && value.contains(&b'\t');
            fields.push((name, trimmed(value)));
        }
        if fields.len() > FIELDS_MAX {
            return Err("too many fields");
        }
        let head = Self { first_line, fields, framing_tab, minor: 0, length: end + 4 };
        let named = head.values("connection").flat_map(members);
        let hop = ["close", "keep-alive", "te", "upgrade"];
        if named.filter(|name| !hop.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()))).count()
            > NOMINATIONS_MAX
        {
            return Err("too many nominations");
        }
        // No method holds a slash, so only a status line begins so.
        let is_status = head.first_line.starts_with(b"HTTP/");
        let is_old = if is_status {
            head.first_line.starts_with(b"HTTP/1.0 ")
        } else {
            head.first_line.ends_with(b" HTTP/1.0")
        };
        let minor = u8::from(!is_old);
        Ok(Self { minor, ..head })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|&(_, value)| value)
    }

    fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    fn lists(&self, name: &str, member: &str) -> bool {
        self.values(name).flat_map(members).any(|one| one.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// RFC 9112 §9.3.
    fn persists(&self) -> bool {
        !self.lists("connection", "close") && (self.minor == 1 || self.lists("connection", "keep-alive"))
    }

    /// RFC 9112 §6.3, where it lets a recipient choose in the stricter way. `None`: nothing is said.
    fn stated_length(&self) -> Result<Option<Length>, Refused> {
        let lengths: Vec<_> = self.values("content-length").collect();
        let codings: Vec<_> = self.values("transfer-encoding").collect();
        if self.framing_tab {
            return Err("tab in framing");
        }
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([digits], []) => {
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err("content-length");
                }
                let number = String::from_utf8_lossy(digits).parse().map_err(|_| "content-length")?;
                Ok(Some(Length::Fixed(number)))
            }
            ([], [coding]) if self.minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Some(Length::Chunked))
            }
            _ => Err("framing"),
        }
    }
}

impl<'b> Request<'b> {
    fn of(head: &Head<'b>) -> Result<Self, Refused> {
        let words: Vec<&[u8]> = head.first_line.split(|&byte| byte == b' ').collect();
        let &[method, target, version] = words.as_slice() else { return Err("request line") };
        if method.is_empty() || !method.iter().all(|&byte| is_tchar(byte)) {
            return Err("method");
        }
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
            return Err("version");
        }
        // Any visible ASCII but a fragment: RFC 3986 has fewer, but what else clients send is harmless and common.
        if target.is_empty() || !target.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#') {
            return Err("target");
        }
        let (authority, path) = target_parts(method, target)?;
        if authority.is_some_and(|authority| !is_authority(authority)) {
            return Err("authority");
        }
        let hosts: Vec<_> = head.values("host").collect();
        match hosts.as_slice() {
            [] if head.minor == 0 => {}
            [host] if host.is_empty() || is_authority(host) => {}
            _ => return Err("host"),
        }
        Ok(Self {
            method,
            target,
            path,
            host: authority.or(hosts.first().copied()),
            absolute: authority.is_some() && method != b"CONNECT",
            length: head.stated_length()?.unwrap_or(Length::Fixed(0)),
        })
    }
}

/// RFC 9112 §3.2: the authority, and the path with its query.
fn target_parts<'b>(method: &[u8], target: &'b [u8]) -> Result<(Option<&'b [u8]>, &'b [u8]), Refused> {
    if method == b"CONNECT" {
        // RFC 9110 §9.3.6: the port is not optional.
        return match target.last() {
            Some(b'0'..=b'9') if target.contains(&b':') && !target.ends_with(b"]") => {
                let text = String::from_utf8_lossy(target);
                let port = text.rsplit(':').next().unwrap_or_default();
                match port.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => Ok((Some(target), b"")),
                    false => Err("port"),
                }
            }
            _ => Err("port"),
        };
    }
    if target[0] == b'/' || (target == b"*" && method == b"OPTIONS") {
        return Ok((None, target));
    }
    let text = String::from_utf8_lossy(target).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| text.starts_with(scheme));
    let rest = &target[scheme.ok_or("target form")?.len()..];
    let end = rest.iter().position(|byte| b"/?\\".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match path.first() {
        None if method == b"OPTIONS" => Ok((Some(authority), b"*")),
        None => Ok((Some(authority), b"/")),
        Some(b'/') => Ok((Some(authority), path)),
        Some(_) => Err("target form"),
    }
}

impl Response {
    fn of(head: &Head<'_>, to: Method) -> Result<Self, Refused> {
        let line = head.first_line;
        if !line.starts_with(b"HTTP/1.1 ") && !line.starts_with(b"HTTP/1.0 ") {
            return Err("version");
        }
        let code = line.get(9..12).filter(|code| code.iter().all(u8::is_ascii_digit)).ok_or("status")?;
        // RFC 9112 §4 has a space behind the status even without a reason; servers that leave it out are common.
        let reason = match &line[12..] {
            [] => b"",
            [b' ', reason @ ..] => reason,
            _ => return Err("status"),
        };
        if reason.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Err("reason");
        }
        let status = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        if status < 100 {
            return Err("status");
        }
        let stated = head.stated_length()?;
        let length = match (status, to) {
            (100..=199 | 204 | 304, _) | (_, Method::Head) => Some(Length::Fixed(0)),
            (200..=299, Method::Connect) => None,
            _ => stated,
        };
        Ok(Self { status, length })
    }
}

/// RFC 3986 §3.2.2 and §3.2.3, without a user name.
fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty()
            || port.parse::<u64>().is_ok_and(|port| port <= 65535)
            || is_zeroes_and_small(port));
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && is_reg_name(host),
    };
    is_host && is_port
}

/// A number with more leading zeroes than a `u64` has digits.
fn is_zeroes_and_small(port: &str) -> bool {
    let digits = port.trim_start_matches('0');
    digits.is_empty() || digits.parse::<u64>().is_ok_and(|port| port <= 65535)
}

fn is_reg_name(name: &str) -> bool {
    let mut pieces = name.split('%');
    let plain = |piece: &str| {
        piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte))
    };
    pieces.next().is_some_and(plain)
        && pieces.all(|piece| {
            piece.len() >= 2
                && piece.is_char_boundary(2)
                && piece[..2].bytes().all(|byte| byte.is_ascii_hexdigit())
                && plain(&piece[2..])
        })
}

/// RFC 9110 §5.6.1.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trimmed).filter(|member| !member.is_empty())
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
