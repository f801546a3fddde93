//! How long a body is: decided once per head, by [`measure`], and never guessed (RFC 9112 §6).

use core::num::NonZeroU64;

use super::head::{HeadError, Version};
use super::request::Method;

/// How the body of a request ends. A request cannot end with its connection (RFC 9112 §6.3, item 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestFraming {
    /// There is no body.
    Empty,
    /// The body has this many bytes.
    Fixed(NonZeroU64),
    /// The body is chunked; [`Chunks`](super::Chunks) finds its end.
    Chunked,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseFraming {
    /// There is no body.
    Empty,
    /// The body has this many bytes.
    Fixed(NonZeroU64),
    /// The body is chunked; [`Chunks`](super::Chunks) finds its end.
    Chunked,
    /// The body ends when the peer closes; also what follows a 2xx answer to CONNECT.
    UntilClose,
}

/// The lines of a head that state a length, as the walk over its fields found them.
#[derive(Clone, Copy, Default)]
pub(super) struct LengthLines<'h> {
    content_length: Option<&'h [u8]>,
    transfer_encoding: Option<&'h [u8]>,
    repeated_length: bool,
    repeated_coding: bool,
    blank: bool,
}

/// What the length lines of a head say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Measure {
    Unstated,
    Fixed(u64),
    Chunked,
}

impl<'h> LengthLines<'h> {
    /// Notes the value of a `content-length` line; `tab`: there is one beside or in it.
    pub(super) fn content_length(&mut self, value: &'h [u8], tab: bool) {
        self.repeated_length |= self.content_length.is_some();
        self.content_length = Some(value);
        self.blank |= tab;
    }

    /// Notes the value of a `transfer-encoding` line; `tab`: there is one beside or in it.
    pub(super) fn transfer_encoding(&mut self, value: &'h [u8], tab: bool) {
        self.repeated_coding |= self.transfer_encoding.is_some();
        self.transfer_encoding = Some(value);
        self.blank |= tab;
    }
}

/// The one place where a message's length is decided, by the rules of RFC 9112 §6.3.
#[inline]
pub(super) fn measure(lines: &LengthLines<'_>, version: Version) -> Result<Measure, HeadError> {
    // A tab beside these values is legal white space (RFC 9110 §5.6.3), but servers disagree about it, and the
    // line is passed on as it came: a peer that does not see it would find another end of the body.
    if lines.blank {
        return Err(HeadError::FramingBlank);
    }
    match (lines.transfer_encoding, lines.content_length) {
        // §6.3 item 3: "ought to be handled as an error"; §6.1: the sender must not do this.
        (Some(_), Some(_)) => Err(HeadError::ContentLengthWithTransferEncoding),
        // §6.1: in HTTP/1.0 "MUST treat the message as if the framing is faulty".
        (Some(_), None) if version == Version::Http10 => Err(HeadError::TransferEncodingInHttp10),
        // §6.1: 501 for a coding that is not understood; §7.1: chunked is applied once, and last (§6.3 item 4).
        (Some(coding), None) if lines.repeated_coding || !coding.eq_ignore_ascii_case(b"chunked") => {
            Err(HeadError::TransferCoding)
        }
        // §6.3 item 4: chunked decides.
        (Some(_), None) => Ok(Measure::Chunked),
        // §6.3 item 5 lets a recipient merge equal lengths; merging needs an edit that both hops agree on.
        (None, Some(_)) if lines.repeated_length => Err(HeadError::ContentLengthRepeated),
        // §6.3 items 5 and 6.
        (None, Some(value)) => content_length(value).map(Measure::Fixed),
        (None, None) => Ok(Measure::Unstated),
    }
}

/// Applies the rules that hold for requests only.
pub(super) fn request(measure: Measure) -> RequestFraming {
    match measure {
        Measure::Fixed(length) => {
            NonZeroU64::new(length).map_or(RequestFraming::Empty, RequestFraming::Fixed)
        }
        Measure::Chunked => RequestFraming::Chunked,
        // §6.3 item 7: a request that states no length has no body.
        Measure::Unstated => RequestFraming::Empty,
    }
}

/// Applies the rules that hold for responses only. `to` is the method of the request that is answered.
pub(super) fn response(measure: Measure, status: u16, to: Method) -> ResponseFraming {
    match (status, to, measure) {
        // §6.3 item 1: these end with the head, whatever their fields say.
        (100..=199 | 204 | 304, _, _) | (_, Method::Head, _) => ResponseFraming::Empty,
        // §6.3 item 2: a tunnel begins; length fields are ignored.
        (200..=299, Method::Connect, _) => ResponseFraming::UntilClose,
        // §6.3 items 4 to 6.
        (_, _, Measure::Chunked) => ResponseFraming::Chunked,
        (_, _, Measure::Fixed(length)) => {
            NonZeroU64::new(length).map_or(ResponseFraming::Empty, ResponseFraming::Fixed)
        }
        // §6.3 item 8.
        (_, _, Measure::Unstated) => ResponseFraming::UntilClose,
    }
}

/// RFC 9110 §8.6: `1*DIGIT`. Signs, lists, fractions and other bases are not lengths.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() {
        return Err(HeadError::ContentLength);
    }
    value.iter().try_fold(0_u64, |length, &byte| {
        let digit = if byte.is_ascii_digit() { byte - b'0' } else { return Err(HeadError::ContentLength) };
        length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(digit)))
            .ok_or(HeadError::ContentLength)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Fields, parse_request, parse_response};
    use super::*;
    use crate::limits::FIELDS_MAX;

    fn of_request(version: &str, lines: &str) -> Result<RequestFraming, HeadError> {
        let head = format!("POST / {version}\r\nHost: a\r\n{lines}\r\n");
        parse_request(head.as_bytes(), &mut Fields::new(), FIELDS_MAX).map(|head| head.framing)
    }

    fn of_response(line: &str, lines: &str, to: Method) -> Result<ResponseFraming, HeadError> {
        let head = format!("{line}\r\n{lines}\r\n");
        parse_response(head.as_bytes(), &mut Fields::new(), to, FIELDS_MAX).map(|head| head.framing)
    }

    fn fixed(length: u64) -> RequestFraming {
        RequestFraming::Fixed(NonZeroU64::new(length).unwrap())
    }

    #[test]
    fn requests_state_their_length_as_rfc_9112_section_6_3_says() {
        for (lines, framing) in [
            ("", RequestFraming::Empty),
            ("Content-Length: 0\r\n", RequestFraming::Empty),
            ("Content-Length: 5\r\n", fixed(5)),
            ("content-LENGTH:5\r\n", fixed(5)),
            ("Content-Length:   5  \r\n", fixed(5)),
            ("Content-Length: 007\r\n", fixed(7)),
            ("Content-Length: 18446744073709551615\r\n", fixed(u64::MAX)),
            ("Transfer-Encoding: chunked\r\n", RequestFraming::Chunked),
            ("transfer-encoding:Chunked\r\n", RequestFraming::Chunked),
            // Fields that only look like the ones that count.
            ("Content-Lengthy: 5\r\nX-Content-Length: 5\r\nContent_Length: 6\r\n", RequestFraming::Empty),
            ("Transfer_Encoding: chunked\r\nTransfer-Encodin: gzip\r\n", RequestFraming::Empty),
        ] {
            assert_eq!(of_request("HTTP/1.1", lines), Ok(framing), "{lines:?}");
        }
    }

    #[test]
    fn lengths_that_could_be_read_in_two_ways_are_refused() {
        for (lines, error) in [
            ("Content-Length:\r\n", HeadError::ContentLength),
            ("Content-Length: +5\r\n", HeadError::ContentLength),
            ("Content-Length: -5\r\n", HeadError::ContentLength),
            ("Content-Length: 0x5\r\n", HeadError::ContentLength),
            ("Content-Length: 5.0\r\n", HeadError::ContentLength),
            ("Content-Length: 5 5\r\n", HeadError::ContentLength),
            ("Content-Length: 5, 5\r\n", HeadError::ContentLength),
            ("Content-Length: \"5\"\r\n", HeadError::ContentLength),
            ("Content-Length: \u{0665}\r\n", HeadError::ContentLength),
            ("Content-Length: 18446744073709551616\r\n", HeadError::ContentLength),
            ("Content-Length: 99999999999999999999999\r\n", HeadError::ContentLength),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::ContentLengthRepeated),
            ("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n", HeadError::ContentLengthRepeated),
            ("Content-Length:\t5\r\n", HeadError::FramingBlank),
            ("Content-Length: 5\t\r\n", HeadError::FramingBlank),
        ] {
            assert_eq!(of_request("HTTP/1.1", lines), Err(error), "{lines:?}");
            assert_eq!(of_response("HTTP/1.1 200 OK", lines, Method::Get), Err(error), "{lines:?}");
            assert_eq!(error.status(), 400);
        }
    }

    #[test]
    fn only_chunked_once_is_a_transfer_encoding() {
        for lines in [
            "Transfer-Encoding: \r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunkedx\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: 'chunked'\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: chunked\u{a0}\r\n",
            "Transfer-Encoding: chun ked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ] {
            assert_eq!(of_request("HTTP/1.1", lines), Err(HeadError::TransferCoding), "{lines:?}");
            let response = of_response("HTTP/1.1 200 OK", lines, Method::Get);
            assert_eq!(response, Err(HeadError::TransferCoding), "{lines:?}");
        }
        assert_eq!(HeadError::TransferCoding.status(), 501);
        for lines in ["Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding: chunked \t\r\n"] {
            assert_eq!(of_request("HTTP/1.1", lines), Err(HeadError::FramingBlank), "{lines:?}");
        }
        // Control bytes beside the value are no white space.
        for lines in ["Transfer-Encoding: \x0bchunked\r\n", "Transfer-Encoding: chunked\x0c\r\n"] {
            assert_eq!(of_request("HTTP/1.1", lines), Err(HeadError::FieldValue), "{lines:?}");
        }
        assert_eq!(of_request("HTTP/1.1", "Transfer-Encoding : chunked\r\n"), Err(HeadError::FieldName));
    }

    #[test]
    fn a_length_and_a_coding_do_not_go_together() {
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
            "Transfer-Encoding:\r\nContent-Length: x\r\n",
        ] {
            let error = HeadError::ContentLengthWithTransferEncoding;
            assert_eq!(of_request("HTTP/1.1", lines), Err(error), "{lines:?}");
            assert_eq!(of_response("HTTP/1.1 200 OK", lines, Method::Head), Err(error), "{lines:?}");
        }
        let lines = "Transfer-Encoding: chunked\r\n";
        assert_eq!(of_request("HTTP/1.0", lines), Err(HeadError::TransferEncodingInHttp10));
        let response = of_response("HTTP/1.0 200 OK", lines, Method::Get);
        assert_eq!(response, Err(HeadError::TransferEncodingInHttp10));
        assert_eq!(of_request("HTTP/1.0", "Content-Length: 5\r\n"), Ok(fixed(5)));
    }

    #[test]
    fn responses_end_as_rfc_9112_section_6_3_says() {
        let five = ResponseFraming::Fixed(NonZeroU64::new(5).unwrap());
        let length = "Content-Length: 5\r\n";
        let coding = "Transfer-Encoding: chunked\r\n";
        for (status, lines, to, framing) in [
            (200, length, Method::Get, five),
            (200, "Content-Length: 0\r\n", Method::Get, ResponseFraming::Empty),
            (200, coding, Method::Post, ResponseFraming::Chunked),
            (200, "", Method::Get, ResponseFraming::UntilClose),
            (404, "", Method::Other, ResponseFraming::UntilClose),
            (999, length, Method::Get, five),
            (200, length, Method::Head, ResponseFraming::Empty),
            (200, coding, Method::Head, ResponseFraming::Empty),
            (200, "", Method::Head, ResponseFraming::Empty),
            (204, "", Method::Get, ResponseFraming::Empty),
            (204, length, Method::Get, ResponseFraming::Empty),
            (304, length, Method::Get, ResponseFraming::Empty),
            (304, coding, Method::Get, ResponseFraming::Empty),
            (100, "", Method::Post, ResponseFraming::Empty),
            (101, "", Method::Get, ResponseFraming::Empty),
            (103, length, Method::Get, ResponseFraming::Empty),
            (205, length, Method::Get, five),
            (200, length, Method::Connect, ResponseFraming::UntilClose),
            (299, "", Method::Connect, ResponseFraming::UntilClose),
            (407, length, Method::Connect, five),
        ] {
            let line = format!("HTTP/1.1 {status} x");
            assert_eq!(of_response(&line, lines, to), Ok(framing), "{status} {lines:?} to {to:?}");
        }
    }
}
