//! Event streams (WHATWG HTML §9.2): finding the session's value in the URL of an `endpoint` event, so that something can
//! be put behind it. No byte is copied or changed here.
//!
//! ```text
//! lines    Mark ─▶ Start ─┬─ "event" ':' ─▶ the event's type, when it is exactly `endpoint`
//!          (BOM)     ▲    ├─ "data"  ':' ─▶ the URL ────────────────┐
//!                    │    ├─ anything else, a comment: skipped      │  of each a space behind the colon is dropped
//!                    │    └─ nothing: the event is over             │
//!                    └── CR LF, LF or CR ◀──────────────────────────┘
//!
//! URL      Path ─'?'─▶ Key ─"name="─▶ Value ─┬─'&', '#'───▶ Found      (as long as no byte of the value came, '&' leads to
//!                     ▲  │ else            ▲ └─space─▶ Tail            the next key)
//!                     '&'▼                 │  line ends and tabs count for nothing, as in the URL parsers of clients
//!                      Other            value byte        anything that is no URL ─▶ Over
//! ```
//!
//! The type may be said before or behind the data, and the last one counts, so that only the empty line tells whether an
//! event is an `endpoint`. Until then the bytes behind a session's value are *held*, and no others: a client does nothing
//! about an event before its empty line, so that nobody waits for longer than they would have to anyway. What is held is
//! at most [`SSE_HELD_MAX`] bytes; an event with more passes as it is.

use crate::limits::SSE_HELD_MAX;

const ENDPOINT: &[u8] = b"endpoint";
const EVENT: &[u8] = b"event";
const DATA: &[u8] = b"data";
/// The byte order mark that may begin a stream.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Where in a stream the next byte stands. Any segmentation of the stream leads to the same answer.
#[derive(Clone, Copy, Debug)]
pub struct Scanner {
    line: Line,
    url: Url,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The event's type so far is `endpoint`.
    is_endpoint: bool,
    /// More than may be held stands behind the value.
    is_too_long: bool,
    /// So many of the last bytes stand behind the value.
    held: usize,
    fate: Option<EndpointFate>,
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scanned {
    /// So many bytes were taken. All of them, unless something is to be put in.
    pub taken: usize,
    /// Something is to be put in so many bytes in front of where the scan stands: behind the value.
    pub insert: Option<usize>,
}

/// What became of an `endpoint` event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointFate {
    /// Its session's value got something put behind it.
    Rewritten,
    /// There is no session in it: no such parameter, no value, or no URL.
    NoSession,
    /// More than [`SSE_HELD_MAX`] bytes stand behind the value.
    TooLong,
    /// The stream ended before the event did.
    Unfinished,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// At the front of a stream.
    pub const fn new() -> Self {
        Self {
            line: Line::Mark(0),
            url: Url::Path,
            after_cr: false,
            is_endpoint: false,
            is_too_long: false,
            held: 0,
            fate: None,
        }
    }

    /// So many of the last bytes taken are to wait: something may yet be put in front of them. At most
    /// [`SSE_HELD_MAX`].
    #[inline]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// What became of the last `endpoint` event; `None`: there was none yet.
    pub const fn fate(&self) -> Option<EndpointFate> {
        self.fate
    }

    /// Takes bytes up to the next place where something is to be put in; the caller passes the rest in the next call.
    /// `parameter` is the name of the session's parameter, at most [`crate::limits::PARAMETER_MAX`] bytes.
    pub fn scan(&mut self, bytes: &[u8], parameter: &[u8]) -> Scanned {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.skips_line() {
                let run = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                if run > 0 {
                    self.after_cr = false;
                    self.hold(run);
                    at += run;
                    continue;
                }
            }
            let Some(&byte) = rest.first() else { break };
            at += 1;
            if let Some(back) = self.take(byte, parameter) {
                return Scanned { taken: at, insert: Some(back) };
            }
        }
        Scanned { taken: bytes.len(), insert: None }
    }

    /// The stream is over: what was held goes as it is, and so does an event without its empty line.
    pub fn finish(&mut self) {
        if self.is_endpoint {
            self.fate = Some(EndpointFate::Unfinished);
        }
        self.end_event();
    }

    /// Whether nothing in front of the next line end matters.
    const fn skips_line(&self) -> bool {
        match self.line {
            Line::Other => true,
            Line::Data => matches!(self.url, Url::Found | Url::Over),
            _ => false,
        }
    }

    /// Takes one byte. `Some`: so many bytes in front of the next one, something is to be put in.
    fn take(&mut self, byte: u8, parameter: &[u8]) -> Option<usize> {
        self.hold(1);
        let after_cr = core::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => None,
            b'\r' | b'\n' => self.end_line(),
            _ => {
                self.line = self.line.step(byte);
                if self.line == Line::Data {
                    self.step_url(byte, parameter);
                }
                None
            }
        }
    }

    fn end_line(&mut self) -> Option<usize> {
        match core::mem::replace(&mut self.line, Line::Start) {
            Line::Start | Line::Mark(0) => return self.dispatch(),
            Line::EventName(matched) if usize::from(matched) == EVENT.len() => self.is_endpoint = false,
            Line::EventColon => self.is_endpoint = false,
            Line::Event(matched) => self.is_endpoint = usize::from(matched) == ENDPOINT.len(),
            _ => {}
        }
        None
    }

    /// The empty line: what the event is, is known.
    fn dispatch(&mut self) -> Option<usize> {
        let back = self.is_endpoint.then_some(self.held).filter(|_| self.url.has_value());
        if self.is_endpoint {
            self.fate = Some(match back {
                Some(_) => EndpointFate::Rewritten,
                None if self.is_too_long => EndpointFate::TooLong,
                None => EndpointFate::NoSession,
            });
        }
        self.end_event();
        back
    }

    fn end_event(&mut self) {
        self.url = Url::Path;
        self.is_endpoint = false;
        self.is_too_long = false;
        self.held = 0;
    }

    /// Notes that so many more bytes stand behind the value, if there is one.
    fn hold(&mut self, count: usize) {
        if self.url.has_value() {
            self.held += count;
            if self.held > SSE_HELD_MAX {
                self.held = 0;
                self.is_too_long = true;
                self.url = Url::Over;
            }
        }
    }

    /// Takes a byte of the data, which is no line end.
    fn step_url(&mut self, byte: u8, parameter: &[u8]) {
        // The URL parsers of clients drop these, as they drop line ends (WHATWG URL §4.4).
        if byte == b'\t' {
            return;
        }
        self.url = match (self.url, byte) {
            (Url::Found, _) => Url::Found,
            (Url::Over, _) => Url::Over,
            (Url::Value, b'&' | b'#') => Url::Found,
            (_, b'#') => Url::Over,
            (Url::Path, b'?') | (Url::Key(_) | Url::Other | Url::NoValue, b'&') => Url::Key(0),
            (Url::Path, _) => Url::Path,
            (Url::Other, _) => Url::Other,
            (Url::Key(matched), _) => match parameter.get(usize::from(matched)) {
                Some(&expected) if expected == byte => Url::Key(matched + 1),
                None if byte == b'=' => Url::NoValue,
                _ => Url::Other,
            },
            // White space at the end is no part of a URL, in the middle there is none.
            (Url::Value | Url::Tail, b' ') => Url::Tail,
            (Url::NoValue | Url::Value, _) if is_url_byte(byte) => Url::Value,
            (Url::NoValue | Url::Value | Url::Tail, _) => Url::Over,
        };
        if matches!(self.url, Url::Value | Url::Over) {
            // What was held stands in front of another byte of the value now, or of nothing that counts.
            self.held = 0;
        }
    }
}

/// What a line is so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    /// So many bytes of the byte order mark, at the front of the stream.
    Mark(u8),
    /// Nothing.
    Start,
    /// So many bytes of `event`.
    EventName(u8),
    /// `event:`
    EventColon,
    /// The type: so many bytes of `endpoint`, or [`NO_MATCH`].
    Event(u8),
    /// So many bytes of `data`.
    DataName(u8),
    /// `data:`
    DataColon,
    /// `data: `
    DataSpace,
    /// Bytes of the URL.
    Data,
    /// Of no interest.
    Other,
}

/// More bytes than any name has.
const NO_MATCH: u8 = u8::MAX;

impl Line {
    /// Where a byte that ends no line leads.
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Mark(seen) if MARK.get(usize::from(seen)) == Some(&byte) => match seen {
                2 => Self::Start,
                _ => Self::Mark(seen + 1),
            },
            Self::Mark(0) | Self::Start => match byte {
                b'e' => Self::EventName(1),
                b'd' => Self::DataName(1),
                _ => Self::Other,
            },
            Self::Mark(_) | Self::Other => Self::Other,
            Self::EventName(matched) => match EVENT.get(usize::from(matched)) {
                Some(&expected) if expected == byte => Self::EventName(matched + 1),
                None if byte == b':' => Self::EventColon,
                _ => Self::Other,
            },
            Self::DataName(matched) => match DATA.get(usize::from(matched)) {
                Some(&expected) if expected == byte => Self::DataName(matched + 1),
                None if byte == b':' => Self::DataColon,
                _ => Self::Other,
            },
            Self::EventColon if byte == b' ' => Self::Event(0),
            Self::EventColon => Self::Event(0).step(byte),
            Self::Event(matched) => match ENDPOINT.get(usize::from(matched)) {
                Some(&expected) if expected == byte => Self::Event(matched + 1),
                _ => Self::Event(NO_MATCH),
            },
            Self::DataColon if byte == b' ' => Self::DataSpace,
            Self::DataColon | Self::DataSpace | Self::Data => Self::Data,
        }
    }
}

/// How far the URL has come, over all data lines of the event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Url {
    /// In front of the query.
    Path,
    /// So many bytes of the parameter's name, in front of its value.
    Key(u8),
    /// Inside another parameter.
    Other,
    /// Behind `name=`.
    NoValue,
    /// In the value, one byte at least.
    Value,
    /// In white space behind the value.
    Tail,
    /// Behind the parameter: the rest is of no interest.
    Found,
    /// There is nothing to be found any more.
    Over,
}

impl Url {
    const fn has_value(self) -> bool {
        matches!(self, Self::Value | Self::Tail | Self::Found)
    }
}

/// What may stand in a query (RFC 3986 §3.4), and the bytes above ASCII that clients encode.
const fn is_url_byte(byte: u8) -> bool {
    !matches!(byte, 0..=b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// What leaves when `stream` comes in parts of at most `part(bytes left)` bytes, with `+` put in; what leaves before
    /// the end; what became of the endpoint.
    fn in_parts(
        stream: &[u8],
        mut part: impl FnMut(usize) -> usize,
    ) -> (Vec<u8>, usize, Option<EndpointFate>) {
        let (mut scanner, mut out, mut at) = (Scanner::new(), Vec::new(), 0);
        while at < stream.len() {
            let end = stream.len().min(at + part(stream.len() - at).max(1));
            while at < end {
                let scanned = scanner.scan(&stream[at..end], b"s");
                out.extend(&stream[at..at + scanned.taken]);
                at += scanned.taken;
                assert!(scanned.insert.is_some() || at == end, "all is taken unless something is put in");
                if let Some(back) = scanned.insert {
                    out.insert(out.len() - back, b'+');
                    assert_eq!(scanner.held(), 0, "the event is over");
                }
                assert!(scanner.held() <= SSE_HELD_MAX);
            }
        }
        let free = out.len() - scanner.held();
        scanner.finish();
        assert_eq!(scanner.held(), 0);
        (out, free, scanner.fate())
    }

    /// `expected` is the stream with `+` where something is to be put in.
    #[track_caller]
    fn check(expected: &str, fate: Option<EndpointFate>) {
        let stream = expected.replace('+', "");
        for most in [usize::MAX, 1, 2, 3, 7] {
            let (out, _, found) = in_parts(stream.as_bytes(), |_| most);
            assert_eq!(String::from_utf8_lossy(&out), expected, "parts of {most}");
            assert_eq!(found, fate, "{expected:?}");
        }
    }

    const REWRITTEN: Option<EndpointFate> = Some(EndpointFate::Rewritten);
    const NO_SESSION: Option<EndpointFate> = Some(EndpointFate::NoSession);
    const UNFINISHED: Option<EndpointFate> = Some(EndpointFate::Unfinished);

    #[test]
    fn the_value_of_an_endpoint_event_is_found_under_all_line_ends() {
        for end in ["\n", "\r\n", "\r"] {
            for event in [
                "event: endpoint~data: /m?s=abc+~~",
                "data:/m?s=abc+~event:endpoint~~data: x~~",
                ": hello~event: endpoint~id: 7~data: /m?a=b&s=abc+&c=d~retry: 1~~",
                "data: first~~event: endpoint~data: http://h/m?s=abc+#s=1~~",
                "\u{feff}event: endpoint~data: /m?s=abc+~~event: message~data: ?s=1~~",
                "\u{feff}~~event: endpoint~data: /m?s=abc+~~",
            ] {
                check(&event.replace('~', end), REWRITTEN);
            }
        }
        check("event: endpoint\rdata: /m?s=abc+\r\n\n", REWRITTEN);
        check("event: endpoint\n\rdata: ?s=1\n\r", NO_SESSION);
        check("event: endpoint\r\ndata: /m?s=abc+\n\r\n", REWRITTEN);
        check("data: x\r\n\revent: endpoint\ndata: /m?s=abc+\r\r", REWRITTEN);
    }

    #[test]
    fn only_an_event_whose_last_type_is_endpoint_counts() {
        for stream in [
            "data: /m?s=abc\n\n",
            "event: message\ndata: /m?s=abc\n\n",
            "event: endpoints\ndata: /m?s=abc\n\n",
            "event: endpoin\ndata: /m?s=abc\n\n",
            "event: Endpoint\ndata: /m?s=abc\n\n",
            "event:  endpoint\ndata: /m?s=abc\n\n",
            "event: endpoint \ndata: /m?s=abc\n\n",
            "Event: endpoint\ndata: /m?s=abc\n\n",
            " event: endpoint\ndata: /m?s=abc\n\n",
            "events: endpoint\ndata: /m?s=abc\n\n",
            ":event: endpoint\ndata: /m?s=abc\n\n",
            "event: endpoint\nevent: message\ndata: /m?s=abc\n\n",
            "event: endpoint\nevent\ndata: /m?s=abc\n\n",
            "event: endpoint\nevent:\ndata: /m?s=abc\n\n",
            "event: endpoint\ndata: /m?s=abc\nevent: \n\n",
            "\u{feff}\u{feff}event: endpoint\ndata: /m?s=abc\n\n",
            "x\u{feff}event: endpoint\ndata: /m?s=abc\n\n",
        ] {
            check(stream, None);
        }
        check("event: message\nevent: endpoint\ndata: /m?s=abc+\n\n", REWRITTEN);
        check("event: endpoint\ndata: ?s=1+\n\nevent: endpoint\ndata: ?s=2+\n\n", REWRITTEN);
        check("event: endpoint\ndata: ?s=1+\n\ndata: ?s=2\n\n", REWRITTEN);
    }

    #[test]
    fn only_a_value_of_the_parameter_counts() {
        for data in [
            "data: /m",
            "data: /m?",
            "data: /m?s",
            "data: /m?s=",
            "data: /m?s=&x",
            "data: /m?xs=abc&sx=abc&S=abc",
            "data: /m?a=s=abc",
            "data: /s=abc",
            "data: /m#?s=abc",
            "data: {\"url\": \"/m?s=abc\"}",
            "data: /m?s=ab c",
            "data: /m?s= abc",
            "data: /m?s=abc d&x",
            "datas: /m?s=abc",
            "dat: /m?s=abc",
            "data : /m?s=abc",
            "id: /m?s=abc",
            ": data: /m?s=abc",
            "",
        ] {
            check(&format!("event: endpoint\n{data}\n\n"), NO_SESSION);
        }
        for data in [
            "data: /m?s=&s=abc+&s=def",
            "data: /m?xs=1&s=abc+",
            "data: /m?&&s=a=b?c/d+&&",
            "data: /m?s=%20\u{e9}+",
            "data: /m?s=abc+ ",
            "data:  /m?s=abc+",
            "data:\t/m?s=abc+\t \t",
        ] {
            check(&format!("event: endpoint\n{data}\n\n"), REWRITTEN);
        }
    }

    /// As the URL parsers of clients do it, which drop line ends and tabs.
    #[test]
    fn a_url_may_go_over_several_data_lines() {
        check("event: endpoint\ndata: /m\ndata: ?s=a\ndata\ndata: bc+\ndata: &x=1\n\n", REWRITTEN);
        check("data: /m?s\ndata: =a\tb\nevent: endpoint\n: comment\ndata:c+\nid: 1\ndata:\n\n", REWRITTEN);
        check("event: endpoint\ndata: /m?s=abc+\ndata\n\n", REWRITTEN);
        check("event: endpoint\ndata: /m?s=abc \ndata: d\n\n", NO_SESSION);
        check("event: endpoint\ndata: /m?s=abc+#\ndata: def\n\n", REWRITTEN);
    }

    #[test]
    fn an_event_without_its_empty_line_passes_as_it_is() {
        for stream in
            ["event: endpoint\ndata: /m?s=abc", "event: endpoint\ndata: /m?s=abc\n", "event: endpoint\r\n"]
        {
            check(stream, UNFINISHED);
        }
        check("data: /m?s=abc\nevent: endpoint", None);
        check("event: endpoint\rdata: /m?s=abc\r", UNFINISHED);
    }

    #[test]
    fn only_what_stands_behind_a_value_is_held_and_not_for_long() {
        let free = |stream: &str| in_parts(stream.as_bytes(), |_| 5).1;
        for stream in [
            "data: {\"a\": 1",
            "event: endpoint\n",
            ": ping",
            "event: endpoint\ndata: /m?s=abc",
            "data: /m?s=ab\ndata: c",
        ] {
            assert_eq!(free(stream), stream.len(), "{stream:?}");
        }
        assert_eq!(free("event: endpoint\ndata: /m?s=abc\n"), 30);
        assert_eq!(free("data: /m?s=abc&d=e\r\nid: 4"), 14);
        let filled = |count: usize| format!("event: endpoint\ndata: /m?s=abc+&x={}\n\n", "y".repeat(count));
        check(&filled(SSE_HELD_MAX - 5), REWRITTEN);
        check(&filled(SSE_HELD_MAX - 4).replace('+', ""), Some(EndpointFate::TooLong));
        // The next event is read as if nothing had been.
        check(&(filled(SSE_HELD_MAX).replace('+', "") + "event: endpoint\ndata: ?s=1+\n\n"), REWRITTEN);
        let long = filled(3 * SSE_HELD_MAX).replace('+', "");
        assert_eq!(free(&long[..long.len() - 2]), long.len() - 2);
    }

    #[test]
    fn any_segmentation_gives_the_same() {
        const SEED: u64 = 0x5e5e;
        let mut rng = Rng::seeded(SEED);
        let parts = [
            "event: endpoint\n",
            "event: endpoint\r\n",
            "data: /m?s=abc",
            "event:",
            "data:",
            "/m?s=",
            "abc",
            "&",
            "#",
            " ",
            "\t",
            "\n",
            "\n\n",
            "\r",
            "\r\n",
            "\n\n",
            "\u{feff}",
            ":",
            "id: 1",
            "x",
            "event: message\r",
        ];
        let mut found = 0;
        for round in 0..20_000 {
            let stream: String =
                (0..rng.below(14)).map(|_| parts[rng.below(parts.len() as u32) as usize]).collect();
            let whole = in_parts(stream.as_bytes(), |_| usize::MAX);
            let cut = in_parts(stream.as_bytes(), |_| 1 + rng.below(6) as usize);
            assert_eq!(whole, cut, "seed {SEED:#x}, round {round}, {stream:?}");
            found += usize::from(whole.0.len() > stream.len());
        }
        assert!(found > 50, "{found}");
    }
}
