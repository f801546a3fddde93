//! What request and response heads have in common: where they end, their fields, and why they are refused.

use core::fmt;
use core::ops::Range;
use std::sync::LazyLock;

use memchr::{memchr, memmem};
use smallvec::SmallVec;

use super::framing::LengthLines;
use crate::field::{is_same_name, is_token_byte};
use crate::limits::{FIELDS_MAX, NOMINATIONS_MAX};

/// One field line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'b> {
    /// The name as received.
    pub name: &'b [u8],
    /// The value without the white space around it.
    pub value: &'b [u8],
}

/// The fields of one head, on the stack: there is room for [`FIELDS_MAX`], which costs nothing before it is used.
pub type Fields<'b> = SmallVec<[Field<'b>; FIELDS_MAX]>;

/// The protocol version of a message. Others are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// The version as it stands in a first line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    pub(super) const fn of(minor: Option<u8>) -> Self {
        if matches!(minor, Some(0)) { Self::Http10 } else { Self::Http11 }
    }
}

/// What a head says about its connection (RFC 9110 §7.6.1, RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connection {
    /// `connection: close`.
    pub close: bool,
    /// `connection: keep-alive`, explicitly.
    pub keep_alive: bool,
    /// `connection: upgrade` with an `upgrade` line, in HTTP/1.1 (RFC 9110 §7.8 has it ignored in HTTP/1.0), that does
    /// not list `h2c`: a peer may ignore an upgrade, and behind this one requests would pass that nobody routes, pins or
    /// logs. RFC 9113 §3.1 has withdrawn it.
    pub upgrade: bool,
    /// `te` lists `trailers` (RFC 9110 §10.1.4).
    pub te_trailers: bool,
    /// The head has lines that are meant for the next hop only.
    pub(super) hop_lines: bool,
    /// A `connection` line names fields beyond the well-known ones.
    pub(super) nominates: bool,
    /// `connection` lists `upgrade`.
    upgrade_option: bool,
}

impl Connection {
    /// Whether the connection can carry another message after this one, by RFC 9112 §9.3: `close` wins,
    /// HTTP/1.1 persists, HTTP/1.0 persists when it says so.
    pub const fn persists(&self, version: Version) -> bool {
        !self.close && (matches!(version, Version::Http11) || self.keep_alive)
    }
}

/// The length of the head at the front of `bytes`, its final empty line included; `None` while it is unfinished.
///
/// `scanned` bytes were searched by earlier calls, so that a head which arrives byte by byte costs no more than
/// one that arrives whole. A head whose lines end in bare LF ends too, so that it can be refused at once.
pub fn head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    // The longest end is three bytes, of which two may have been searched already.
    let from = scanned.saturating_sub(2).min(bytes.len());
    let fresh = bytes.get(from..)?;
    if let Some(at) = EMPTY_LINE.find(fresh) {
        return Some(from + at + 3);
    }
    // RFC 9112 §2.2 lets a recipient accept bare LF. The parser refuses it, but only once the head ends.
    memmem::find(fresh, b"\n\n").map(|at| from + at + 2)
}

/// Preparing the search costs as much as the search itself, so it is done once.
static EMPTY_LINE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\n\r\n"));

/// Why a head that fills all its room without an end is refused.
pub fn overlong(bytes: &[u8]) -> HeadError {
    if memchr(b'\n', bytes).is_some() { HeadError::TooLarge } else { HeadError::TargetTooLong }
}

/// Where `part`, a slice of `whole`, lies in it. An empty range at the front if it does not.
#[inline]
pub fn span_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        _ => 0..0,
    }
}

/// The value of the first line called `name`, in any case.
pub fn field<'h>(fields: &[Field<'h>], name: &[u8]) -> Option<&'h [u8]> {
    fields.iter().find(|field| is(field, name)).map(|field| field.value)
}

/// The members of a comma-separated list, without white space around them; empty ones are skipped (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether `field` is called `name`, in any case.
#[inline]
pub(super) fn is(field: &Field<'_>, name: &[u8]) -> bool {
    field.name.len() == name.len() && field.name.eq_ignore_ascii_case(name)
}

/// Whether a member of an `upgrade` line means HTTP/2 in the clear, of whatever version.
fn is_h2c(protocol: &[u8]) -> bool {
    protocol
        .split(|&byte| byte == b'/')
        .next()
        .is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// One member of a `connection` line (RFC 9110 §7.6.1).
#[derive(Clone, Copy)]
pub(super) enum ConnectionOption<'h> {
    Close,
    /// The name of a field that is meant for this hop only.
    Field(&'h [u8]),
    KeepAlive,
    Te,
    Upgrade,
}

impl<'h> ConnectionOption<'h> {
    pub(super) fn of(option: &'h [u8]) -> Self {
        match option.len() {
            2 if option.eq_ignore_ascii_case(b"te") => Self::Te,
            5 if option.eq_ignore_ascii_case(b"close") => Self::Close,
            7 if option.eq_ignore_ascii_case(b"upgrade") => Self::Upgrade,
            10 if option.eq_ignore_ascii_case(b"keep-alive") => Self::KeepAlive,
            _ => Self::Field(option),
        }
    }
}

/// Copies what the parser found.
pub(super) fn take_parsed<'b>(parsed: &[httparse::Header<'b>], fields: &mut Fields<'b>) {
    fields.clear();
    fields.extend(parsed.iter().map(|header| Field { name: header.name.as_bytes(), value: header.value }));
}

/// What one walk over the fields finds out.
#[derive(Default)]
pub(super) struct Survey<'h> {
    pub(super) lengths: LengthLines<'h>,
    pub(super) connection: Connection,
    pub(super) host: Option<&'h [u8]>,
    pub(super) upgrade: Option<&'h [u8]>,
    pub(super) hosts: usize,
    pub(super) expect_continue: bool,
    pub(super) date: bool,
    /// There is a field by which a proxy makes itself known: `x-request-id`, `x-forwarded-for`, `x-forwarded-proto`.
    pub(super) marked: bool,
    /// An `upgrade` line lists HTTP/2 in the clear.
    h2c: bool,
    nominations: usize,
}

impl<'h> Survey<'h> {
    /// Walks over the fields of `head`, as the parser read them. Refuses line ends other than CRLF, which it lets through.
    pub(super) fn of(head: &'h [u8], fields: &[Field<'h>], version: Version) -> Result<Self, HeadError> {
        let mut survey = Self::default();
        for field in fields {
            // RFC 9112 §2.2: the line in front of this one ends in CRLF.
            let name = span_in(head, field.name);
            if head.get(..name.start).is_none_or(|front| !front.ends_with(b"\r\n")) {
                return Err(HeadError::BareLineFeed);
            }
            let line = head.get(name.end..).unwrap_or_default();
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
            survey.note(field.name, field.value, memchr(b'\t', line).is_some());
        }
        if !head.ends_with(b"\r\n\r\n") {
            return Err(HeadError::BareLineFeed);
        }
        survey.complete(version)?;
        Ok(survey)
    }

    /// All fields were noted: what they say together.
    #[inline]
    pub(super) fn complete(&mut self, version: Version) -> Result<(), HeadError> {
        if self.nominations > NOMINATIONS_MAX {
            return Err(HeadError::TooManyNominations);
        }
        // Written only if true, which is rare: what has just been written byte by byte is not read as a whole soon.
        let connection = &mut self.connection;
        if self.nominations > 0 {
            connection.nominates = true;
        }
        if connection.upgrade_option && self.upgrade.is_some() && !self.h2c && version == Version::Http11 {
            connection.upgrade = true;
        }
        Ok(())
    }

    /// Takes note of one field; `tab`: there is one beside or in its value. By length and first letter first: most fields are
    /// told apart without looking at the rest.
    #[inline(always)]
    pub(super) fn note(&mut self, name: &[u8], value: &'h [u8], tab: bool) {
        let initials = INITIALS.get(name.len() % INITIALS.len()).copied().unwrap_or(0);
        if name.first().is_some_and(|first| initials >> (first & 0x1f) & 1 != 0) {
            self.note_some(name, value, tab);
        }
    }

    /// Takes note of one that may be in [`NOTED`]. Few are, so this must not cost the others registers.
    #[cold]
    fn note_some(&mut self, name: &[u8], value: &'h [u8], tab: bool) {
        let Some(noted) = Noted::of(name) else { return };
        match noted {
            Noted::Connection => self.connection(value),
            Noted::ContentLength => self.lengths.content_length(value, tab),
            Noted::Date => self.date = true,
            Noted::Expect => self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            Noted::Hop => self.connection.hop_lines = true,
            Noted::Host => {
                self.hosts += 1;
                self.host = Some(value);
            }
            Noted::Mark => self.marked = true,
            Noted::Te => self.te(value),
            Noted::TransferEncoding => self.lengths.transfer_encoding(value, tab),
            Noted::Upgrade => self.upgrade(value),
        }
    }

    #[inline(never)]
    fn connection(&mut self, value: &[u8]) {
        let connection = &mut self.connection;
        connection.hop_lines = true;
        for option in list(value).map(ConnectionOption::of) {
            match option {
                ConnectionOption::Close => connection.close = true,
                ConnectionOption::Field(_) => self.nominations += 1,
                ConnectionOption::KeepAlive => connection.keep_alive = true,
                ConnectionOption::Te => {}
                ConnectionOption::Upgrade => connection.upgrade_option = true,
            }
        }
    }

    #[inline(never)]
    fn upgrade(&mut self, value: &'h [u8]) {
        self.connection.hop_lines = true;
        self.upgrade = self.upgrade.or(Some(value));
        self.h2c |= list(value).any(is_h2c);
    }

    #[inline(never)]
    fn te(&mut self, value: &[u8]) {
        self.connection.hop_lines = true;
        self.connection.te_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    }
}

/// What a survey takes note of.
#[derive(Clone, Copy)]
enum Noted {
    Connection,
    ContentLength,
    Date,
    Expect,
    /// Meant for this hop, whatever it says.
    Hop,
    Host,
    /// By which a proxy makes itself known.
    Mark,
    Te,
    TransferEncoding,
    Upgrade,
}

/// Makes [`NOTED`] and [`Noted::of`] of one list, so that no name is in one of them only: a name that is not in the first is
/// passed over before the second is asked.
macro_rules! noted {
    ($($name:literal => $noted:ident,)*) => {
        /// The names of which a survey takes note.
        const NOTED: &[(&str, Noted)] = &[$(($name, Noted::$noted)),*];

        impl Noted {
            /// What a field called `name`, in any case, is noted as.
            #[inline]
            fn of(name: &[u8]) -> Option<Self> {
                $(if is_same_name(name, $name.as_bytes()) {
                    return Some(Self::$noted);
                })*
                None
            }
        }
    };
}

// The most frequent first.
noted! {
    "host" => Host,
    "content-length" => ContentLength,
    "date" => Date,
    "connection" => Connection,
    "transfer-encoding" => TransferEncoding,
    "x-forwarded-for" => Mark,
    "x-forwarded-proto" => Mark,
    "x-request-id" => Mark,
    "upgrade" => Upgrade,
    "te" => Te,
    "keep-alive" => Hop,
    "expect" => Expect,
    "proxy-connection" => Hop,
    "http2-settings" => Hop,
}

/// For each length, with which letters the names of that length in [`NOTED`] begin, a bit for each.
static INITIALS: [u32; 32] = initials();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn initials() -> [u32; 32] {
    let mut initials = [0; 32];
    let mut nth = 0;
    while nth < NOTED.len() {
        let name = NOTED[nth].0.as_bytes();
        initials[name.len()] |= 1 << (name[0] & 0x1f);
        nth += 1;
    }
    initials
}

/// Why a head is refused. The connection cannot be used further: what follows the head is not known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HeadError {
    /// The authority of an absolute-form or authority-form target is not `host [":" port]` (RFC 9110 §4.2).
    Authority,
    /// A line ends in LF without CR (RFC 9112 §2.2).
    BareLineFeed,
    /// A content length is not one decimal number that fits 64 bits (RFC 9110 §8.6).
    ContentLength,
    /// There is more than one content length, equal or not (RFC 9112 §6.3).
    ContentLengthRepeated,
    /// There are a content length and a transfer encoding (RFC 9112 §6.1).
    ContentLengthWithTransferEncoding,
    /// A field name is empty, is not a token, is followed by white space, or has no colon (RFC 9112 §5).
    FieldName,
    /// A field value holds a control byte or a bare CR (RFC 9110 §5.5).
    FieldValue,
    /// A tab stands beside a content length or transfer encoding.
    FramingBlank,
    /// The host is not `uri-host [":" port]` (RFC 9110 §7.2).
    Host,
    /// An HTTP/1.1 request has no host line (RFC 9112 §3.2).
    HostMissing,
    /// There is more than one host line (RFC 9112 §3.2).
    HostRepeated,
    /// A CR is not followed by LF (RFC 9112 §2.2).
    LineEnd,
    /// A field is folded over two lines (RFC 9112 §5.2).
    ObsoleteFold,
    /// The request line is not `method SP target SP version` (RFC 9112 §3).
    RequestLine,
    /// The status line is not `version SP status SP [reason]` (RFC 9112 §4).
    StatusLine,
    /// The target holds a byte that no URI has, or a fragment (RFC 9112 §3.2).
    Target,
    /// The target is in none of the four forms, or in one that its method does not take (RFC 9112 §3.2).
    TargetForm,
    /// The request line does not fit the head's room (RFC 9112 §3).
    TargetTooLong,
    /// The head does not fit its room.
    TooLarge,
    /// There are more field lines than allowed.
    TooManyFields,
    /// The connection lines name more fields than allowed.
    TooManyNominations,
    /// A transfer encoding is not exactly `chunked` (RFC 9112 §6.1, §7).
    TransferCoding,
    /// An HTTP/1.0 message has a transfer encoding (RFC 9112 §6.1).
    TransferEncodingInHttp10,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110 §2.5).
    Version,
}

impl HeadError {
    /// What a client is answered when an upstream's head is refused (RFC 9110 §15.6.3).
    pub const UPSTREAM_STATUS: u16 = 502;

    /// The status that answers a request with this error; for a response it is [`Self::UPSTREAM_STATUS`].
    pub const fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// A stable name for metrics, logs and tests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::BareLineFeed => "bare_line_feed",
            Self::ContentLength => "content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::ContentLengthWithTransferEncoding => "content_length_with_transfer_encoding",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::FramingBlank => "framing_blank",
            Self::Host => "host",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::LineEnd => "line_end",
            Self::ObsoleteFold => "obsolete_fold",
            Self::RequestLine => "request_line",
            Self::StatusLine => "status_line",
            Self::Target => "target",
            Self::TargetForm => "target_form",
            Self::TargetTooLong => "target_too_long",
            Self::TooLarge => "too_large",
            Self::TooManyFields => "too_many_fields",
            Self::TooManyNominations => "too_many_nominations",
            Self::TransferCoding => "transfer_coding",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::Version => "version",
        }
    }

    /// What was expected instead.
    const fn expected(self) -> &'static str {
        match self {
            Self::Authority | Self::Host => {
                "a host name or address, optionally with a port, and no user name"
            }
            Self::BareLineFeed | Self::LineEnd => "every line to end in CRLF",
            Self::ContentLength => "one decimal number",
            Self::ContentLengthRepeated => "one content-length line",
            Self::ContentLengthWithTransferEncoding => "either a content length or a transfer encoding",
            Self::FieldName => "a token directly followed by a colon",
            Self::FieldValue => "no control bytes",
            Self::FramingBlank => "no tab beside content-length and transfer-encoding values",
            Self::HostMissing | Self::HostRepeated => "exactly one host line",
            Self::ObsoleteFold => "each field on one line",
            Self::RequestLine => "\"method target version\"",
            Self::StatusLine => "\"version status reason\" with a status of 100 or more",
            Self::Target => "visible ASCII without '#'",
            Self::TargetForm => "a path, a full http URI, or '*' for OPTIONS",
            Self::TargetTooLong => "a request line that fits the limit on head bytes",
            Self::TooLarge => "a head that fits the limit on head bytes",
            Self::TooManyFields => "fewer field lines",
            Self::TooManyNominations => "fewer connection options",
            Self::TransferCoding => "chunked, once",
            Self::TransferEncodingInHttp10 => "a content length in HTTP/1.0",
            Self::Version => "HTTP/1.0 or HTTP/1.1",
        }
    }

    /// Translates a parser error in the fields of `head`; `first_line` names one in its first line.
    #[cold]
    pub(super) fn of(error: httparse::Error, head: &[u8], first_line: Self) -> Self {
        match error {
            httparse::Error::HeaderName if is_folded(head) => Self::ObsoleteFold,
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue => Self::FieldValue,
            httparse::Error::NewLine => Self::LineEnd,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => first_line,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message head is refused ({}): expected {}", self.as_str(), self.expected())
    }
}

impl core::error::Error for HeadError {}

/// Whether the first line of `head` that is no field line begins with white space.
fn is_folded(head: &[u8]) -> bool {
    let is_field = |line: &[u8]| match line.split_at_checked(memchr(b':', line).unwrap_or(0)) {
        Some((name, _)) => !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte)),
        None => false,
    };
    head.split(|&byte| byte == b'\n')
        .skip(1)
        .find(|line| !is_field(line))
        .is_some_and(|line| line.starts_with(b" ") || line.starts_with(b"\t"))
}

#[cfg(test)]
mod tests {
    use super::super::framing;
    use super::*;

    #[test]
    fn every_name_is_noted() {
        let noted = |name: &str, value: &'static str| {
            let mut survey = Survey::default();
            survey.note(name.as_bytes(), value.as_bytes(), false);
            survey
        };
        let none: fn(&Survey<'_>) -> bool = |survey| {
            survey.connection == Connection::default()
                && (survey.hosts, survey.host, survey.upgrade, survey.nominations) == (0, None, None, 0)
                && !(survey.expect_continue || survey.date || survey.marked || survey.h2c)
                && framing::measure(&survey.lengths, Version::Http11) == Ok(framing::Measure::Unstated)
        };
        for &(name, of) in NOTED {
            let value = match of {
                Noted::Expect => "100-continue",
                Noted::TransferEncoding => "chunked",
                _ => "1",
            };
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                assert!(!none(&noted(&name, value)), "{name} is not noted");
                assert!(none(&noted(&format!("{name}y"), value)), "{name}y is noted");
                assert!(
                    none(&noted(name.get(1..).unwrap(), value)),
                    "{name} is noted without its first letter"
                );
            }
        }
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        assert_eq!(head_end(b"", 0), None);
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n", 0), None);
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r", 0), None);
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r\n", 0), Some(18));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\r\n\r\n", 0), Some(24));
        // RFC 9112 §2.2: bare line feeds end a head too, so that it can be refused.
        assert_eq!(head_end(b"GET / HTTP/1.1\nA: b\n\n", 0), Some(21));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\n\r\n", 0), Some(23));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\n", 0), Some(23));
    }

    #[test]
    fn a_head_that_dribbles_in_ends_where_a_whole_one_does() {
        for head in [
            &b"GET / HTTP/1.1\r\nA: b\r\n\r\n"[..],
            b"GET / HTTP/1.1\nA: b\n\n",
            b"GET / HTTP/1.1\r\nA: b\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n\n",
        ] {
            for scanned in 0..head.len() {
                assert_eq!(head_end(&head[..scanned], 0), None);
                assert_eq!(head_end(head, scanned), Some(head.len()), "{scanned} scanned of {head:?}");
            }
        }
    }

    #[test]
    fn an_endless_first_line_is_told_from_endless_fields() {
        assert_eq!(overlong(b"GET /aaaaaaaaaaaaaa").status(), 414);
        assert_eq!(overlong(b"GET / HTTP/1.1\r\nA: aaaaaaaa").status(), 431);
    }

    #[test]
    fn lists_skip_what_is_empty() {
        let members: Vec<_> = list(b" a ,, b\t,c d,").collect();
        assert_eq!(members, [&b"a"[..], b"b", b"c d"]);
        assert_eq!(list(b" \t").count(), 0);
    }

    #[test]
    fn spans_are_found_and_foreign_slices_are_not() {
        let whole = b"0123456789".as_slice();
        assert_eq!(span_in(whole, &whole[3..5]), 3..5);
        assert_eq!(span_in(whole, &whole[10..]), 10..10);
        let (front, back) = whole.split_at(4);
        assert_eq!(span_in(back, front), 0..0);
        assert_eq!(span_in(front, back), 0..0);
    }

    #[test]
    fn persistence_follows_rfc_9112_section_9_3() {
        let connection = |close, keep_alive| Connection { close, keep_alive, ..Connection::default() };
        assert!(connection(false, false).persists(Version::Http11));
        assert!(connection(false, true).persists(Version::Http10));
        assert!(!connection(false, false).persists(Version::Http10));
        assert!(!connection(true, true).persists(Version::Http11));
        assert!(!connection(true, true).persists(Version::Http10));
    }
}
