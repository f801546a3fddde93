//! The chunked coding (RFC 9112 §7.1): finding the end of a body without copying it.
//!
//! ```text
//!                        ┌──────────────── DataLf ◀─LF─ DataCr ◀─CR─┐
//!                        ▼                                          │
//! Size ─hex─▶ Digits ─CR──────▶ SizeLf ─LF─▶ (size > 0) Data ───────┘
//!               └─';'─▶ Extension ─CR─▲  └─▶ (size = 0) LineStart ─CR─▶ EndLf ─LF─▶ Done
//!                                                       │   ▲
//!                                                     token  └─LF─ LineLf ◀─CR─┐
//!                                                       └─▶ Name ─':'─▶ Value ─┘
//! ```
//!
//! Strict on purpose: a size line that two hops read differently is a request that only one of them sees.

use core::fmt;

use crate::field::is_token_byte;
use crate::limits::{CHUNK_EXTENSION_MAX, TRAILERS_MAX};

/// Where in a chunked body the next byte stands. Any segmentation of the body leads to the same answer.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    state: State,
    /// Data bytes of the current chunk that are still to come.
    left: u64,
    /// Digits, extension bytes or trailer bytes seen so far, as the state says.
    seen: usize,
}

/// What the next bytes of a chunked body are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece {
    /// This many bytes are sizes, extensions, line ends or trailers. At least one.
    Framing(usize),
    /// This many bytes are data. At least one.
    Data(usize),
    /// All bytes are taken and the body goes on.
    More,
    /// The body is over. Bytes that are not taken belong to the next message.
    Done,
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scan {
    /// Bytes that belong to this body.
    pub taken: usize,
    /// The body is over.
    pub done: bool,
}

/// Why a body is not a chunked one. Nothing behind the error can be trusted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChunkError {
    /// Data are not followed by CRLF.
    DataEnd,
    /// An extension holds a control byte.
    Extension,
    /// An extension is longer than [`CHUNK_EXTENSION_MAX`].
    ExtensionTooLong,
    /// A CR is not followed by LF.
    LineEnd,
    /// A size is not hexadecimal, or is followed by something other than `;` or CRLF.
    Size,
    /// A size has more than 16 digits.
    SizeTooLong,
    /// A trailer line is not a field line.
    Trailer,
    /// The trailer section is longer than [`TRAILERS_MAX`].
    TrailersTooLong,
}

impl ChunkError {
    /// A stable name for metrics, logs and tests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataEnd => "chunk_data_end",
            Self::Extension => "chunk_extension",
            Self::ExtensionTooLong => "chunk_extension_too_long",
            Self::LineEnd => "chunk_line_end",
            Self::Size => "chunk_size",
            Self::SizeTooLong => "chunk_size_too_long",
            Self::Trailer => "chunk_trailer",
            Self::TrailersTooLong => "chunk_trailers_too_long",
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::DataEnd => "CRLF after as many bytes as the chunk size says",
            Self::Extension => "no control bytes",
            Self::ExtensionTooLong => "a shorter chunk extension",
            Self::LineEnd => "every line to end in CRLF",
            Self::Size => "hexadecimal digits, then ';' or CRLF",
            Self::SizeTooLong => "at most 16 hexadecimal digits",
            Self::Trailer => "a token, a colon and a value without control bytes",
            Self::TrailersTooLong => "a shorter trailer section",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chunked body is refused ({}): expected {}", self.as_str(), self.expected())
    }
}

impl core::error::Error for ChunkError {}

impl Chunks {
    /// At the front of a body.
    pub const fn new() -> Self {
        Self { state: State::Size, left: 0, seen: 0 }
    }

    /// Whether the body is over.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next piece off the front of `bytes`; the caller passes the rest in the next call.
    ///
    /// # Errors
    /// What is wrong with the body.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, ChunkError> {
        match self.state {
            State::Done => Ok(Piece::Done),
            _ if bytes.is_empty() => Ok(Piece::More),
            State::Data => {
                // What exceeds the address space is certainly more than what is here.
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                Ok(Piece::Data(count))
            }
            _ => self.framing(bytes).map(Piece::Framing),
        }
    }

    /// Takes all of `bytes` that belong to this body, to pass them on as they are.
    ///
    /// # Errors
    /// What is wrong with the body.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, ChunkError> {
        let mut rest = bytes;
        loop {
            match self.next(rest)? {
                Piece::Framing(count) | Piece::Data(count) => rest = rest.get(count..).unwrap_or_default(),
                Piece::More => return Ok(Scan { taken: bytes.len(), done: false }),
                Piece::Done => return Ok(Scan { taken: bytes.len() - rest.len(), done: true }),
            }
        }
    }

    /// Takes framing bytes until data begin, the body is over or `bytes` end.
    fn framing(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.state = self.step(byte)?;
            if matches!(self.state, State::Data | State::Done) {
                return Ok(index + 1);
            }
        }
        Ok(bytes.len())
    }

    /// Where one framing byte leads.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size, _) => {
                (self.left, self.seen) = (0, 0);
                self.digit(byte)
            }
            // RFC 9112 §7.1.1 has white space in front of `;` only for old senders ("bad white space"). Where
            // hops disagree about it they disagree about the size, so it is refused.
            (State::Digits, b';') => {
                self.seen = 0;
                Ok(State::Extension)
            }
            (State::Digits | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Digits, _) => self.digit(byte),
            (State::Extension, _) => self.extension(byte),
            (State::SizeLf, b'\n') if self.left > 0 => Ok(State::Data),
            (State::SizeLf, b'\n') => {
                self.seen = 0;
                Ok(State::LineStart)
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::DataCr | State::DataLf, _) => Err(ChunkError::DataEnd),
            (State::LineStart | State::Name | State::Value | State::LineLf | State::EndLf, _) => {
                self.trailer(byte)
            }
            (State::SizeLf, _) => Err(ChunkError::LineEnd),
            // `next` counts data, and takes nothing once the body is over.
            (State::Data | State::Done, _) => Err(ChunkError::DataEnd),
        }
    }

    /// RFC 9112 §7.1: `1*HEXDIG`, and "recipients MUST anticipate" sizes that overflow.
    fn digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        let value = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
        self.seen += 1;
        if self.seen > 16 {
            return Err(ChunkError::SizeTooLong);
        }
        self.left = self.left << 4 | u64::from(value);
        Ok(State::Digits)
    }

    /// Extensions pass (RFC 9112 §7.1.1), bounded: they are the peer's bytes on the next hop's account.
    fn extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.seen += 1;
        if self.seen > CHUNK_EXTENSION_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        if is_text(byte) { Ok(State::Extension) } else { Err(ChunkError::Extension) }
    }

    /// RFC 9112 §7.1.2: the trailer section is field lines, ended by an empty one.
    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.seen += 1;
        if self.seen > TRAILERS_MAX {
            return Err(ChunkError::TrailersTooLong);
        }
        match (self.state, byte) {
            (State::LineStart, b'\r') => Ok(State::EndLf),
            (State::LineStart | State::Name, _) if is_token_byte(byte) => Ok(State::Name),
            (State::Name, b':') => Ok(State::Value),
            (State::Value, b'\r') => Ok(State::LineLf),
            (State::Value, _) if is_text(byte) => Ok(State::Value),
            (State::LineLf, b'\n') => Ok(State::LineStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::LineLf | State::EndLf, _) => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Trailer),
        }
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

/// See the diagram above. Each state is named after what the next byte is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size,
    Digits,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    Name,
    Value,
    LineLf,
    EndLf,
    Done,
}

/// Tab, space, visible and high bytes: what a field value may hold (RFC 9110 §5.5).
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Data bytes, and how the body ends: the count of its bytes or the error.
    type Answer = (Vec<u8>, Result<Option<usize>, ChunkError>);

    fn whole(body: &[u8]) -> Answer {
        in_parts(body, |_| usize::MAX)
    }

    /// Feeds `body` in parts of at most `part(bytes left)` bytes.
    fn in_parts(body: &[u8], mut part: impl FnMut(usize) -> usize) -> Answer {
        let (mut chunks, mut data, mut at) = (Chunks::new(), Vec::new(), 0);
        loop {
            let end = (at + part(body.len() - at).clamp(1, body.len().max(1))).min(body.len());
            let mut given = &body[at..end];
            loop {
                match chunks.next(given) {
                    Ok(Piece::Framing(count)) => given = &given[count..],
                    Ok(Piece::Data(count)) => {
                        data.extend(&given[..count]);
                        given = &given[count..];
                    }
                    Ok(Piece::More) => break,
                    Ok(Piece::Done) => return (data, Ok(Some(end - given.len()))),
                    Err(error) => return (data, Err(error)),
                }
            }
            assert!(given.is_empty(), "More must mean that all is taken");
            if end == body.len() {
                return (data, Ok(None));
            }
            at = end;
        }
    }

    #[test]
    fn bodies_that_rfc_9112_section_7_1_allows_pass() {
        for (body, data) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"1\r\na\r\n0a\r\n0123456789\r\n00\r\n\r\n", b"a0123456789"),
            (b"A;x=1;y=\"a b\"\r\n0123456789\r\n0;end\r\n\r\n", b"0123456789"),
            (b"000000000000000F\r\n0123456789abcde\r\n0\r\n\r\n", b"0123456789abcde"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (b"1\r\na\r\n0\r\nx-sum: 1\r\nempty:\r\nhigh: \xff\r\n\r\n", b"a"),
        ] {
            assert_eq!(whole(body), (data.to_vec(), Ok(Some(body.len()))), "{body:?}");
            let mut next = body.to_vec();
            next.extend(b"GET / HTTP/1.1\r\n");
            assert_eq!(whole(&next).1, Ok(Some(body.len())), "the next message is not touched");
            assert_eq!(Chunks::new().scan(&next), Ok(Scan { taken: body.len(), done: true }));
        }
    }

    #[test]
    fn bodies_that_hops_read_differently_are_refused() {
        for (body, error) in [
            (&b"\r\n"[..], ChunkError::Size),
            (b";x\r\n", ChunkError::Size),
            (b"g\r\n", ChunkError::Size),
            (b"0x5\r\nhello\r\n", ChunkError::Size),
            (b"-1\r\n", ChunkError::Size),
            (b"+5\r\nhello\r\n", ChunkError::Size),
            (b" 5\r\nhello\r\n", ChunkError::Size),
            (b"5 \r\nhello\r\n", ChunkError::Size),
            (b"5 ;x\r\nhello\r\n", ChunkError::Size),
            (b"5\t\r\nhello\r\n", ChunkError::Size),
            (b"5\nhello\r\n", ChunkError::Size),
            (b"5_0\r\n", ChunkError::Size),
            (b"5\rhello", ChunkError::LineEnd),
            (b"5\r\r\n", ChunkError::LineEnd),
            (b"10000000000000000\r\n", ChunkError::SizeTooLong),
            (b"00000000000000005\r\nhello\r\n", ChunkError::SizeTooLong),
            (b"5;x\nhello\r\n", ChunkError::Extension),
            (b"5;x\0\r\nhello\r\n", ChunkError::Extension),
            (b"5;x\x7f\r\nhello\r\n", ChunkError::Extension),
            (b"5;x\rhello\r\n", ChunkError::LineEnd),
            (b"5\r\nhello0\r\n\r\n", ChunkError::DataEnd),
            (b"5\r\nhello\n0\r\n\r\n", ChunkError::DataEnd),
            (b"5\r\nhello\r0\r\n\r\n", ChunkError::DataEnd),
            (b"5\r\nhello!\r\n0\r\n\r\n", ChunkError::DataEnd),
            (b"0\r\n\n", ChunkError::Trailer),
            (b"0\r\n\r\r", ChunkError::LineEnd),
            (b"0\r\nno-colon\r\n\r\n", ChunkError::Trailer),
            (b"0\r\n: empty\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nspace : x\r\n\r\n", ChunkError::Trailer),
            (b"0\r\n folded\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nx: a\r\n folded\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nx: a\nb: c\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nx: a\rb\r\n\r\n", ChunkError::LineEnd),
            (b"0\r\nx: \0\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", ChunkError::Trailer),
        ] {
            assert_eq!(whole(body).1, Err(error), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_largest_size_is_counted_and_not_wrapped() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.next(b"ffffffffffffffff\r\nabc"), Ok(Piece::Framing(18)));
        assert_eq!(chunks.next(b"abc"), Ok(Piece::Data(3)));
        assert_eq!(chunks.left, u64::MAX - 3);
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension =
            |count: usize| [b"1;".to_vec(), vec![b'x'; count], b"\r\na\r\n0\r\n\r\n".to_vec()].concat();
        let body = extension(CHUNK_EXTENSION_MAX);
        assert_eq!(whole(&body).1, Ok(Some(body.len())));
        assert_eq!(whole(&extension(CHUNK_EXTENSION_MAX + 1)).1, Err(ChunkError::ExtensionTooLong));

        let trailers = |count: usize| [b"0\r\nx:".to_vec(), vec![b'x'; count], b"\r\n\r\n".to_vec()].concat();
        let body = trailers(TRAILERS_MAX - 6);
        assert_eq!(whole(&body).1, Ok(Some(body.len())));
        assert_eq!(whole(&trailers(TRAILERS_MAX - 5)).1, Err(ChunkError::TrailersTooLong));
    }

    #[test]
    fn any_segmentation_gives_the_same_answer() {
        const SEED: u64 = 0x0c_4a11;
        let mut rng = Rng::seeded(SEED);
        let mut ends = [0_u32; 3];
        for round in 0..20_000 {
            let mut body = Vec::new();
            for _ in 0..rng.below(4) {
                let data: Vec<u8> = (0..=rng.below(40)).map(|_| rng.bits().to_le_bytes()[0]).collect();
                let extension = [";a", ";b=\"c\"", ""][rng.below(3) as usize];
                body.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n");
            body.extend(["", "x: y\r\n", "a:\r\nb: c\r\n"][rng.below(3) as usize].bytes());
            body.extend(b"\r\nnext");
            for _ in 0..rng.below(3) {
                let at = rng.below(u32::try_from(body.len()).unwrap()) as usize;
                body[at] = b"\r\n;:0af \x00\xff"[rng.below(10) as usize];
            }
            body.truncate(body.len() - rng.below(6) as usize);

            let expected = whole(&body);
            let parts = in_parts(&body, |_| rng.below(9) as usize + 1);
            assert_eq!(parts, expected, "seed {SEED:#x}, round {round}: {body:?}");
            let scanned = Chunks::new().scan(&body);
            match (&expected.1, scanned) {
                (Ok(Some(end)), Ok(scan)) => assert_eq!(scan, Scan { taken: *end, done: true }),
                (Ok(None), Ok(scan)) => assert_eq!(scan, Scan { taken: body.len(), done: false }),
                (Err(error), Err(found)) => assert_eq!(*error, found),
                other => panic!("seed {SEED:#x}, round {round}: {other:?}"),
            }
            ends[match expected.1 {
                Ok(Some(_)) => 0,
                Ok(None) => 1,
                Err(_) => 2,
            }] += 1;
        }
        assert!(ends.iter().all(|&count| count > 500), "each kind of end must be met: {ends:?}");
    }

    #[test]
    fn random_bytes_never_panic() {
        const SEED: u64 = 0x0c_4a12;
        let mut rng = Rng::seeded(SEED);
        for _ in 0..100_000 {
            let mut chunks = Chunks::new();
            for _ in 0..4 {
                let bytes = rng.bits().to_le_bytes();
                let text: Vec<u8> = bytes.iter().map(|&byte| b"01f\r\n;:a"[usize::from(byte & 7)]).collect();
                let given: &[u8] = if bytes[0] & 8 == 0 { &bytes } else { &text };
                if let Ok(scan) = chunks.scan(given) {
                    assert!(scan.taken <= given.len());
                    assert_eq!(scan.done, chunks.is_done());
                } else {
                    break;
                }
            }
        }
    }
}
