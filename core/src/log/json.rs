//! A record as one line of JSON, written straight behind the lines before it.
//!
//! There is a line for every request, so what does not change from line to line is written down beforehand, what rarely
//! needs escaping is looked through once and copied, and no general serialiser comes in between.

use super::{ADDRESS_KEPT, METHOD_KEPT, Record, TARGET_KEPT};
use crate::clock::UnixSecs;
use crate::stats::Stream;

/// Most bytes that one byte of a text can become: `\u001f`.
const ESCAPED: usize = 6;
/// Most bytes of a line that are neither texts nor the listener's name: keys, numbers, reasons.
const FRAME: usize = 512;
/// Most bytes of `{"time":` and a number, and some to spare.
const OPENING: usize = 64;

/// Writes the records of one worker as lines of JSON.
#[derive(Debug)]
pub struct JsonLines {
    /// What stands between the time and the client's address, by listener.
    listeners: Box<[Box<[u8]>]>,
    /// The second that `opening` was written for; `None`: it was not.
    second: Option<UnixSecs>,
    /// The beginning of a line, up to the listener.
    opening: Vec<u8>,
}

impl JsonLines {
    /// For listeners of these names, by id.
    pub fn new<'n>(listeners: impl IntoIterator<Item = &'n str>) -> Self {
        let listeners = listeners.into_iter().map(|name| {
            let mut part = Vec::new();
            part.extend_from_slice(b",\"listener\":\"");
            text(&mut part, name.as_bytes());
            part.extend_from_slice(b"\",\"client\":\"");
            part.into_boxed_slice()
        });
        Self { listeners: listeners.collect(), second: None, opening: Vec::with_capacity(OPENING) }
    }

    /// Most bytes that a line can have. Whoever keeps so many free in a buffer can add a line without an allocation.
    pub fn longest(&self) -> usize {
        let names = self.listeners.iter().map(|part| part.len()).max().unwrap_or(0);
        FRAME + names + ESCAPED * (METHOD_KEPT + TARGET_KEPT + 2 * ADDRESS_KEPT)
    }

    /// Adds the line of `record`, with its end, to `out`.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if self.second != Some(record.at) {
            self.begin(record.at);
        }
        let outcome = record.outcome;
        out.extend_from_slice(&self.opening);
        match self.listeners.get(record.listener.0 as usize) {
            Some(part) => out.extend_from_slice(part),
            None => out.extend_from_slice(b",\"listener\":\"\",\"client\":\""),
        }
        text(out, record.client);
        out.extend_from_slice(b"\",\"method\":\"");
        text(out, record.method);
        out.extend_from_slice(b"\",\"target\":\"");
        text(out, record.target);
        out.extend_from_slice(b"\",\"status\":");
        number(out, outcome.status.into());
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(outcome.reason().as_bytes());
        out.extend_from_slice(b"\",\"ending\":\"");
        out.extend_from_slice(outcome.ending.as_str().as_bytes());
        out.extend_from_slice(b"\",\"upstream\":\"");
        text(out, record.upstream);
        out.extend_from_slice(b"\",\"tries\":");
        number(out, outcome.tries.into());
        out.extend_from_slice(b",\"minted\":");
        truth(out, outcome.minted);
        // Only where an event stream could have been rewritten.
        if let Some(stream) = outcome.stream.map(Stream::as_str) {
            out.extend_from_slice(b",\"stream\":\"");
            out.extend_from_slice(stream.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"strict\":");
        truth(out, outcome.strict);
        out.extend_from_slice(b",\"received\":");
        number(out, record.received);
        out.extend_from_slice(b",\"sent\":");
        number(out, record.sent);
        out.extend_from_slice(b",\"ms\":");
        number(out, record.took_millis);
        out.extend_from_slice(b"}\n");
    }

    fn begin(&mut self, second: UnixSecs) {
        self.second = Some(second);
        self.opening.clear();
        self.opening.extend_from_slice(b"{\"time\":");
        number(&mut self.opening, second.get());
    }
}

/// Most bytes that [`dropped`] adds.
pub const DROPPED_MAX: usize = 40;

/// Adds the line that says how many records were lost since the last such line.
pub fn dropped(count: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"dropped\":");
    number(out, count);
    out.extend_from_slice(b"}\n");
}

#[inline]
fn truth(out: &mut Vec<u8>, is: bool) {
    if is {
        out.extend_from_slice(b"true");
    } else {
        out.extend_from_slice(b"false");
    }
}

#[inline]
fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        // Below ten, so nothing is cut off.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// The inside of a JSON string. What is not UTF-8 becomes U+FFFD.
#[inline]
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    // Without an early end, so that many bytes are looked at together.
    let is_plain = bytes.iter().fold(true, |plain, &byte| {
        let is_graphic = (b' '..0x7f).contains(&byte);
        plain & is_graphic & (byte != b'"') & (byte != b'\\')
    });
    if is_plain {
        out.extend_from_slice(bytes);
    } else {
        escape(out, bytes);
    }
}

#[cold]
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0x08 => out.extend_from_slice(b"\\b"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\n' => out.extend_from_slice(b"\\n"),
                0x0c => out.extend_from_slice(b"\\f"),
                b'\r' => out.extend_from_slice(b"\\r"),
                0..b' ' => {
                    let low = byte % 16;
                    let low = if low < 10 { b'0' + low } else { b'a' + low - 10 };
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + byte / 16, low]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::Miss;
    use crate::route::ListenerId;
    use crate::stats::{Ending, Fate, Move, Outcome, REASONS, Scope};

    #[test]
    fn a_line_has_all_keys_in_their_order() {
        let outcome = Outcome {
            scope: Scope::Active,
            fate: Fate::Placed,
            miss: Some(Miss::Expired),
            status: 200,
            tries: 1,
            minted: true,
            ..Outcome::default()
        };
        let record = Record {
            at: UnixSecs::new(1_795_000_000),
            took_millis: 12,
            listener: ListenerId(1),
            outcome: &outcome,
            received: 0,
            sent: 10,
            method: b"GET",
            target: b"/\"\xff\n\x1f",
            client: b"192.0.2.7",
            upstream: b"10.0.0.1:80",
        };
        let mut lines = JsonLines::new(["web", "a\"b"]);
        let mut out = Vec::new();
        lines.write(&record, &mut out);
        let stream = Outcome { stream: Some(Stream::Rewritten), ..outcome };
        let later =
            Record { at: UnixSecs::new(1_795_000_001), listener: ListenerId(9), outcome: &stream, ..record };
        lines.write(&later, &mut out);
        dropped(7, &mut out);
        let rest = "\"client\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/\\\"\u{fffd}\\n\\u001f\",\"status\":200,\
                    \"reason\":\"placed.expired\",\"ending\":\"complete\",\"upstream\":\"10.0.0.1:80\",\"tries\":1,\
                    \"minted\":true,";
        let end = "\"strict\":false,\"received\":0,\"sent\":10,\"ms\":12}\n";
        let expected = format!(
            "{{\"time\":1795000000,\"listener\":\"a\\\"b\",{rest}{end}\
             {{\"time\":1795000001,\"listener\":\"\",{rest}\"stream\":\"rewritten\",{end}\
             {{\"dropped\":7}}\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_longest_line_is_no_longer_than_was_said() {
        let outcome = Outcome {
            scope: Scope::Active,
            fate: Fate::Moved(Move::ConnectFailed),
            ending: Ending::UpstreamMalformed,
            status: u16::MAX,
            tries: u8::MAX,
            stream: Some(Stream::Unfinished),
            ..Outcome::default()
        };
        let record = Record {
            at: UnixSecs::new(u64::MAX),
            took_millis: u64::MAX,
            listener: ListenerId(0),
            outcome: &outcome,
            received: u64::MAX,
            sent: u64::MAX,
            method: &[1; METHOD_KEPT],
            target: &[1; TARGET_KEPT],
            client: &[1; ADDRESS_KEPT],
            upstream: &[1; ADDRESS_KEPT],
        };
        let mut lines = JsonLines::new(["a listener of some name"]);
        let mut out = Vec::with_capacity(lines.longest());
        let (capacity, opening) = (out.capacity(), lines.opening.capacity());
        lines.write(&record, &mut out);
        let rest = REASONS.iter().map(|reason| reason.len()).max().unwrap() - outcome.reason().len();
        assert!(out.len() + rest <= lines.longest(), "{} and {rest} of {}", out.len(), lines.longest());
        assert_eq!((out.capacity(), lines.opening.capacity()), (capacity, opening));
        let mut out = Vec::new();
        dropped(u64::MAX, &mut out);
        assert!(out.len() <= DROPPED_MAX, "{}", out.len());
    }
}
