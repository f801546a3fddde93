//! The responses that Homing writes itself.

use core::fmt;

use crate::field::Status;
use crate::window::Window;

use super::date::DATE_LEN;

/// A final response of our own, with a short plain-text body or none.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: Status,
    /// The body, in UTF-8. Not sent in answer to HEAD, nor with 204, 205 and 304.
    pub body: &'a [u8],
    /// The request was a HEAD: the head is as for GET and the body is left out (RFC 9110 §9.3.2).
    pub to_head: bool,
    /// What becomes of the connection.
    pub keep: Keep,
    /// The `date` field, from a [`DateCache`](super::DateCache).
    pub date: &'a [u8; DATE_LEN],
    /// Further lines, such as `retry-after` or `set-cookie`. Names and values were checked when they were made.
    pub lines: &'a [(&'a [u8], &'a [u8])],
}

/// What an answer says about its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// It is closed after the answer: `connection: close`.
    Close,
    /// It persists, and an HTTP/1.0 client must be told: `connection: keep-alive`.
    Say,
    /// It persists, as it does in HTTP/1.1 (RFC 9112 §9.3).
    Silent,
}

/// The window's spare room is too small for the answer; nothing was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer does not fit: clear the window or attach a larger buffer")
    }
}

impl core::error::Error for NoRoom {}

impl Answer<'_> {
    /// Bytes of the answer as sent.
    pub fn wire_len(&self) -> usize {
        let mut len = 0;
        self.pieces(|piece| len += piece.len());
        len
    }

    /// Appends the answer to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.pieces(|piece| out.extend_from_slice(piece));
    }

    /// Appends the answer to the live bytes of `window` and returns its length.
    ///
    /// # Errors
    /// [`NoRoom`] when it does not fit; nothing is written then.
    pub fn write_window(&self, window: &mut Window) -> Result<usize, NoRoom> {
        let len = self.wire_len();
        if window.spare_len() < len {
            return Err(NoRoom);
        }
        self.pieces(|piece| {
            window.push(piece);
        });
        Ok(len)
    }

    /// The answer, piece by piece.
    fn pieces(&self, mut put: impl FnMut(&[u8])) {
        put(b"HTTP/1.1 ");
        put(&decimal::<3>(usize::from(self.status.get())).0);
        put(b" ");
        put(reason(self.status.get()).as_bytes());
        // RFC 9110 §8.6: no content-length with 204; in a 304 it would describe the selected representation.
        // §15.3.6: a 205 has none but says so.
        let bodiless = self.status.is_bodiless();
        let body = if bodiless || self.status.get() == 205 { b"" } else { self.body };
        if !body.is_empty() {
            put(b"\r\ncontent-type: text/plain; charset=utf-8");
        }
        if !bodiless {
            let (digits, skip) = decimal::<20>(body.len());
            put(b"\r\ncontent-length: ");
            put(digits.get(skip..).unwrap_or_default());
        }
        put(b"\r\ndate: ");
        put(self.date);
        for (name, value) in self.lines {
            debug_assert!(memchr::memchr3(b'\r', b'\n', 0, value).is_none(), "a line must not split a head");
            put(b"\r\n");
            put(name);
            put(b": ");
            put(value);
        }
        match self.keep {
            Keep::Close => put(b"\r\nconnection: close"),
            Keep::Say => put(b"\r\nconnection: keep-alive"),
            Keep::Silent => {}
        }
        put(b"\r\n\r\n");
        if !self.to_head {
            put(body);
        }
    }
}

/// `number` right-aligned in `N` digits, and how many of them are leading zeros.
fn decimal<const N: usize>(mut number: usize) -> ([u8; N], usize) {
    let mut digits = [b'0'; N];
    let mut skip = N;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        skip -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    (digits, skip)
}

/// The reason phrase registered for `status`; empty for one that is not (a reason may be empty, RFC 9112 §4).
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        104 => "Upload Resumption Supported",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400..=499 => client_error(status),
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

const fn client_error(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fields, Method, ResponseFraming, imf_fixdate, parse_response};
    use super::*;
    use crate::clock::UnixSecs;
    use crate::limits::{FIELDS_MAX, WINDOW_SMALL};

    fn answer<'a>(status: u16, body: &'a [u8], date: &'a [u8; DATE_LEN]) -> Answer<'a> {
        let status = Status::new(status).unwrap();
        Answer { status, body, to_head: false, keep: Keep::Silent, date, lines: &[] }
    }

    fn text(answer: &Answer<'_>) -> String {
        let mut out = Vec::new();
        answer.write(&mut out);
        assert_eq!(out.len(), answer.wire_len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_written_as_configured() {
        let date = imf_fixdate(UnixSecs::new(784_111_777));
        let mut full = answer(503, b"no host", &date);
        full.keep = Keep::Close;
        full.lines = &[(b"retry-after", b"5"), (b"set-cookie", b"a=; Max-Age=0")];
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
            content-length: 7\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: 5\r\n\
            set-cookie: a=; Max-Age=0\r\nconnection: close\r\n\r\n";
        assert_eq!(text(&full), format!("{head}no host"));
        full.to_head = true;
        assert_eq!(text(&full), head);

        let date_line = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let empty = "content-length: 0\r\n";
        assert_eq!(
            text(&answer(404, b"", &date)),
            format!("HTTP/1.1 404 Not Found\r\n{empty}{date_line}\r\n\r\n")
        );
        assert_eq!(
            text(&answer(204, b"x", &date)),
            format!("HTTP/1.1 204 No Content\r\n{date_line}\r\n\r\n")
        );
        assert_eq!(
            text(&answer(304, b"x", &date)),
            format!("HTTP/1.1 304 Not Modified\r\n{date_line}\r\n\r\n")
        );
        assert_eq!(
            text(&answer(205, b"x", &date)),
            format!("HTTP/1.1 205 Reset Content\r\n{empty}{date_line}\r\n\r\n")
        );
        let mut old = answer(599, b"", &date);
        old.keep = Keep::Say;
        assert_eq!(
            text(&old),
            format!("HTTP/1.1 599 \r\n{empty}{date_line}\r\nconnection: keep-alive\r\n\r\n")
        );
    }

    #[test]
    fn every_answer_is_a_response_that_the_parser_takes() {
        let date = imf_fixdate(UnixSecs::new(0));
        for status in 200..=599 {
            let answer = answer(status, b"0123456789", &date);
            let out = text(&answer);
            let (head, body) = out.split_at(out.find("\r\n\r\n").unwrap() + 4);
            let mut slots = Fields::new();
            let parsed = parse_response(head.as_bytes(), &mut slots, Method::Get, FIELDS_MAX).unwrap();
            assert_eq!((parsed.status, parsed.reason()), (status, reason(status).as_bytes()));
            assert!(parsed.has_date && parsed.persists());
            match parsed.framing {
                ResponseFraming::Empty => assert_eq!(body, "", "{status}"),
                ResponseFraming::Fixed(length) => assert_eq!(length.get(), body.len() as u64, "{status}"),
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_is_written_whole_or_not_at_all() {
        let date = imf_fixdate(UnixSecs::new(0));
        let answer = answer(502, b"bad", &date);
        let mut window = Window::new();
        assert_eq!(answer.write_window(&mut window), Err(NoRoom));
        window.attach(vec![0; WINDOW_SMALL].into());
        assert_eq!(answer.write_window(&mut window), Ok(answer.wire_len()));
        assert_eq!(window.live(), text(&answer).as_bytes());
        window.push(&vec![b'x'; window.spare_len() - answer.wire_len() + 1]);
        let before = window.live().len();
        assert_eq!(answer.write_window(&mut window), Err(NoRoom));
        assert_eq!(window.live().len(), before);
    }
}
