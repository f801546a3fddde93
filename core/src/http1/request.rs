//! Request heads: the method, the target in its four forms, and which host is meant.

use memchr::{memchr, memchr3};

use super::framing::{self, RequestFraming};
use super::head::{Connection, Field, HeadError, Slots, Survey, Version};
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
    pub const fn of(name: &[u8]) -> Self {
        match name {
            b"CONNECT" => Self::Connect,
            b"DELETE" => Self::Delete,
            b"GET" => Self::Get,
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
    /// The target has an authority of its own, which wins over the host line (RFC 9112 §3.2.2).
    pub absolute: bool,
    /// What is said about the connection.
    pub connection: Connection,
    /// The value of the first `upgrade` line.
    pub upgrade: Option<&'h [u8]>,
    /// The client waits for a `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
}

impl RequestHead<'_> {
    /// Whether the connection can carry another request after this one.
    pub const fn persists(&self) -> bool {
        self.connection.persists(self.version)
    }
}

/// How many bytes of empty lines stand in front of the request line, at most [`EMPTY_LINES_MAX`] lines.
/// RFC 9112 §2.2 has at least one skipped: old clients send one behind a body.
pub fn leading_empty_lines(bytes: &[u8]) -> usize {
    2 * bytes.chunks_exact(2).take(EMPTY_LINES_MAX).take_while(|line| line == b"\r\n").count()
}

/// Whether no request can begin with these bytes (a TLS hello, say), so that waiting for more is pointless.
/// An empty line may still be skipped.
pub fn cannot_be_request(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&byte| !is_token_byte(byte) && byte != b'\r')
}

/// Parses one request head.
///
/// `bytes` is exactly the head, as [`head_end`](super::head_end) measured it, without leading empty lines.
/// At most `fields_max` field lines are taken.
///
/// # Errors
/// What is wrong with the head, with the status that answers it.
pub fn parse_request<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut Slots<'b>,
    fields_max: usize,
) -> Result<RequestHead<'h>, HeadError> {
    if bytes.first().is_none_or(|&byte| !is_token_byte(byte)) {
        return Err(HeadError::RequestLine);
    }
    let mut parsed = httparse::Request::new(&mut []);
    let slots = slots.get_mut(..fields_max.min(FIELDS_MAX)).unwrap_or_default();
    match parsed.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        // The parser found an end that is not the CRLF one.
        Ok(httparse::Status::Complete(_)) => return Err(HeadError::BareLineFeed),
        Ok(httparse::Status::Partial) => return Err(HeadError::LineEnd),
        Err(error) => return Err(HeadError::of(error, bytes, first_line_error(bytes))),
    }
    let version = Version::of(parsed.version);
    let method_text = parsed.method.unwrap_or_default().as_bytes();
    let target = parsed.path.unwrap_or_default().as_bytes();
    let fields: &'h [Field<'b>] = parsed.headers;

    let survey = Survey::of(bytes, fields, version)?;
    let method = Method::of(method_text);
    let aim = aim(method, target)?;
    let host = effective_host(&survey, aim.authority, version)?;
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
        absolute: aim.authority.is_some(),
        connection: survey.connection,
        upgrade: survey.upgrade,
        // RFC 9110 §10.1.1: an HTTP/1.0 client cannot wait for it.
        expect_continue: survey.expect_continue && version == Version::Http11,
    })
}

/// A target, taken apart.
struct Aim<'h> {
    authority: Option<&'h [u8]>,
    path: &'h [u8],
}

/// Tells the four forms of a target apart (RFC 9112 §3.2).
fn aim(method: Method, target: &[u8]) -> Result<Aim<'_>, HeadError> {
    // The parser lets bytes above ASCII and fragments through; RFC 3986 has neither in a request target.
    if !target.is_ascii() || memchr(b'#', target).is_some() {
        return Err(HeadError::Target);
    }
    match (method, target) {
        (Method::Connect, authority) if has_port(authority) && is_authority(authority) => {
            Ok(Aim { authority: Some(authority), path: b"" })
        }
        (Method::Connect, _) => Err(HeadError::Authority),
        (_, [b'/', ..]) => Ok(Aim { authority: None, path: target }),
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
    } else {
        let (host, rest) = text.split_at(memchr(b':', text).unwrap_or(text.len()));
        if !is_name(host) {
            return false;
        }
        (host, rest)
    };
    !host.is_empty() && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

fn is_ip6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

/// RFC 3986 `reg-name`: unreserved, sub-delims, and complete percent escapes.
fn is_name(host: &[u8]) -> bool {
    let mut rest = host;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
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
    let line = line.strip_suffix(b"\r").unwrap_or(line);
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
