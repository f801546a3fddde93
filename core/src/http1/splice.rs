//! Rewriting an event stream in its window: data are taken out of the upstream's framing, get the session's address put
//! in where [`sse`](super::sse) says, and leave in a framing of our own, since the length changes.
//!
//! ```text
//! before   [ room                  | held │ framing │ data … │ framing │ data … | spare ]
//! after    [ … │ size │ held and data, with what was put in │CRLF│ held │ rest  | spare ]
//!                └───────────── to be sent ─────────────────────┘
//! ```
//!
//! The front moves into the room before the live bytes and everything behind it closes up, so that one chunk leaves in
//! one contiguous send, whatever the upstream's chunks were. *Held* bytes are data that may not leave yet. *Rest* is
//! there only when the room ran out, and goes next. Chunk extensions and trailers are not passed on (RFC 9112
//! §7.1.1, §7.1.2: they belong to the coding that is taken off).

use super::chunked::{ChunkError, Piece};
use super::sse::{EndpointFate, Scanner};
use crate::limits::HEADROOM;
use crate::window::Window;

/// Longest text that is put in.
pub const INSERT_LONGEST: usize = 192;

/// The largest size of a chunk that a window holds, and its line end.
const SIZE_LINE: usize = 5 + CRLF.len();
const CRLF: &[u8] = b"\r\n";
/// RFC 9112 §7.1: the last chunk and an empty trailer section.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Room in front of the live bytes without which nothing can be done.
const ROOM_NEEDED: usize = SIZE_LINE + INSERT_LONGEST + CRLF.len() + LAST_CHUNK.len();

const _: () = assert!(ROOM_NEEDED <= HEADROOM, "a window with its head room restored must do");
const _: () = assert!(crate::limits::WINDOW_LARGE < 0x10_0000, "a chunk's size has five digits");

/// One event stream on its way through a window.
#[derive(Debug)]
pub struct Splicer {
    scanner: Scanner,
    insert: [u8; INSERT_LONGEST],
    insert_len: usize,
    /// The client gets chunks; else the stream ends with the connection.
    chunked: bool,
    /// So many bytes behind the held ones are known to be data.
    known: usize,
    /// The upstream's last byte was passed on, and our own end behind it.
    ended: bool,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// More may come.
    Ongoing,
    /// The upstream broke off: what is held leaves, without an end behind it.
    Broken,
}

/// What a pass came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passed {
    /// So many live bytes are to be sent.
    pub ready: usize,
    /// Something was put in.
    pub inserted: bool,
}

impl Default for Splicer {
    fn default() -> Self {
        Self {
            scanner: Scanner::new(),
            insert: [0; INSERT_LONGEST],
            insert_len: 0,
            chunked: false,
            known: 0,
            ended: false,
        }
    }
}

impl Splicer {
    /// Begins a stream. `insert` is put behind the session's value in each `endpoint` event; false: it is longer than
    /// [`INSERT_LONGEST`], and nothing has begun. `chunked` says how the client sees the stream's end.
    pub fn begin(&mut self, insert: &[u8], chunked: bool) -> bool {
        let Some(to) = self.insert.get_mut(..insert.len()) else { return false };
        to.copy_from_slice(insert);
        self.insert_len = insert.len();
        self.scanner = Scanner::new();
        self.chunked = chunked;
        self.known = 0;
        self.ended = false;
        true
    }

    /// Whether everything has left, our own end included.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// So many live bytes in front were looked at already and are held.
    pub const fn held(&self) -> usize {
        self.scanner.held()
    }

    /// What became of the last `endpoint` event; `None`: there was none yet.
    pub const fn fate(&self) -> Option<EndpointFate> {
        self.scanner.fate()
    }

    /// Whether the window's head room has to be restored before [`Splicer::pass`].
    pub fn needs_room(window: &Window) -> bool {
        window.headroom() < ROOM_NEEDED
    }

    /// Rewrites what has come since the last pass, of which nothing must be left to be sent. Without the room that
    /// [`Splicer::needs_room`] asks for, nothing happens. `next` tells data from
    /// framing and knows where the body ends.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn pass(
        &mut self,
        window: &mut Window,
        parameter: &[u8],
        pass: Pass,
        mut next: impl FnMut(&[u8]) -> Result<Piece, ChunkError>,
    ) -> Result<Passed, ChunkError> {
        let room = window.headroom().min(HEADROOM);
        if self.ended || !window.grow_front(room) {
            return Ok(Passed { ready: 0, inserted: false });
        }
        let size_line = if self.chunked { SIZE_LINE } else { 0 };
        let mut tape = Tape { bytes: window.live_mut(), read: room, written: size_line };
        let mut inserted = 0;
        tape.keep(self.scanner.held());
        let (over, all) = loop {
            // As long as this holds, no byte is written over one that is yet to be read.
            if SIZE_LINE + inserted + self.insert_len + CRLF.len() + LAST_CHUNK.len() > room {
                break (false, false);
            }
            if self.known > 0 {
                let data = tape.unread().get(..self.known).unwrap_or_default();
                let scanned = self.scanner.scan(data, parameter);
                self.known -= scanned.taken;
                tape.keep(scanned.taken);
                if let Some(back) = scanned.insert {
                    let insert = self.insert.get(..self.insert_len).unwrap_or_default();
                    tape.insert(back, insert);
                    inserted += insert.len();
                }
                continue;
            }
            match next(tape.unread())? {
                Piece::Framing(count) => tape.skip(count),
                Piece::Data(count) => self.known = count,
                Piece::More => break (false, true),
                Piece::Done => break (true, true),
            }
        };
        if over || (all && pass == Pass::Broken) {
            self.scanner.finish();
        }
        self.ended = over;
        let held = self.scanner.held();
        let mut front = size_line;
        let data = tape.written - held - front;
        if self.chunked && data > 0 {
            front -= tape.write_size(front, data);
            tape.insert(held, CRLF);
        }
        if self.chunked && over {
            tape.insert(0, LAST_CHUNK);
        }
        let ready = tape.written - held - front;
        let live = tape.close_up();
        window.truncate(live);
        window.consume(front);
        Ok(Passed { ready, inserted: inserted > 0 })
    }
}

/// Bytes that are read ahead of where they are written.
struct Tape<'w> {
    bytes: &'w mut [u8],
    read: usize,
    written: usize,
}

impl Tape<'_> {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    fn skip(&mut self, count: usize) {
        self.read += count;
    }

    /// Writes the next `count` bytes read.
    fn keep(&mut self, count: usize) {
        let from = self.read..self.read + count;
        if self.read != self.written && from.end <= self.bytes.len() {
            self.bytes.copy_within(from, self.written);
        }
        self.read += count;
        self.written += count;
    }

    /// Writes `text` in front of the last `back` bytes written. The caller has seen to it that there is room.
    fn insert(&mut self, back: usize, text: &[u8]) {
        let at = self.written - back;
        let moved = at + text.len();
        if self.written + text.len() > self.bytes.len() {
            return;
        }
        self.bytes.copy_within(at..self.written, moved);
        if let Some(to) = self.bytes.get_mut(at..moved) {
            to.copy_from_slice(text);
        }
        self.written += text.len();
    }

    /// Writes the size line of a chunk so that it ends at `end`, and returns its length.
    fn write_size(&mut self, end: usize, size: usize) -> usize {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let mut at = end - CRLF.len();
        if let Some(to) = self.bytes.get_mut(at..end) {
            to.copy_from_slice(CRLF);
        }
        let mut left = size;
        while left > 0 {
            at -= 1;
            if let (Some(to), Some(&digit)) = (self.bytes.get_mut(at), HEX.get(left % 16)) {
                *to = digit;
            }
            left /= 16;
        }
        end - at
    }

    /// Moves what was not read to where it was written last. Returns the length of it all.
    fn close_up(&mut self) -> usize {
        let rest = self.bytes.len().saturating_sub(self.read);
        self.keep(rest);
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::super::Chunks;
    use super::*;
    use crate::limits::{SSE_HELD_MAX, WINDOW_SMALL};

    struct Stream {
        window: Window,
        splicer: Splicer,
        chunks: Chunks,
    }

    impl Stream {
        fn new(chunked: bool) -> Self {
            let mut window = Window::new();
            window.attach(vec![0; WINDOW_SMALL].into());
            let mut splicer = Splicer::default();
            assert!(splicer.begin(b".HOME", chunked));
            Self { window, splicer, chunks: Chunks::new() }
        }

        /// What leaves when these bytes have come.
        fn comes(&mut self, bytes: &str, pass: Pass) -> String {
            assert_eq!(self.window.push(bytes.as_bytes()), bytes.len());
            let Self { window, splicer, chunks } = self;
            if Splicer::needs_room(window) {
                window.compact(HEADROOM);
            }
            let passed = splicer.pass(window, b"s", pass, |bytes| chunks.next(bytes)).unwrap();
            let left = window.live()[..passed.ready].to_vec();
            window.consume(passed.ready);
            String::from_utf8(left).unwrap()
        }
    }

    #[test]
    fn what_may_leave_leaves_in_one_chunk_and_what_is_held_waits() {
        let mut stream = Stream::new(true);
        assert_eq!(
            stream.comes("6\r\nevent:\r\n9;a=b\r\n endpoint\r", Pass::Ongoing),
            "f\r\nevent: endpoint\r\n"
        );
        assert_eq!(stream.comes("\n10\r\n\ndata: ?s=abc&d=\r\n", Pass::Ongoing), "d\r\n\ndata: ?s=abc\r\n");
        assert_eq!(stream.splicer.held(), 3);
        assert_eq!(stream.comes("", Pass::Ongoing), "", "nothing new is no news");
        assert_eq!(stream.comes("2\r\n\n\n\r\n", Pass::Ongoing), "a\r\n.HOME&d=\n\n\r\n");
        assert_eq!(stream.splicer.fate(), Some(EndpointFate::Rewritten));
        assert_eq!(stream.comes("0\r\nt: 1\r\n", Pass::Ongoing), "");
        assert_eq!(stream.comes("\r\nnext", Pass::Ongoing), "0\r\n\r\n");
        assert!(stream.splicer.has_ended());
        assert_eq!(stream.window.live(), b"next", "what belongs to nobody is still there");
    }

    #[test]
    fn a_stream_without_chunks_for_the_client_leaves_bare() {
        let mut stream = Stream::new(false);
        let all = "1e\r\nevent: endpoint\ndata: ?s=abc\n\n\r\n0\r\n\r\n";
        assert_eq!(stream.comes(all, Pass::Ongoing), "event: endpoint\ndata: ?s=abc.HOME\n\n");
        assert!(stream.splicer.has_ended());
    }

    #[test]
    fn what_is_held_leaves_without_an_end_when_the_upstream_breaks_off() {
        let mut stream = Stream::new(true);
        let part = "1c\r\nevent: endpoint\ndata: ?s=a&\n\r\n";
        assert_eq!(stream.comes(part, Pass::Ongoing), "1a\r\nevent: endpoint\ndata: ?s=a\r\n");
        assert_eq!(stream.comes("", Pass::Broken), "2\r\n&\n\r\n");
        assert!(!stream.splicer.has_ended());
        assert_eq!(stream.splicer.fate(), Some(EndpointFate::Unfinished));
    }

    #[test]
    fn a_window_has_room_for_what_is_held_and_for_more() {
        let mut stream = Stream::new(true);
        let body = format!("event: endpoint\ndata: ?s=a&{}", "y".repeat(SSE_HELD_MAX - 1));
        stream.comes(&format!("{:x}\r\n{body}\r\n", body.len()), Pass::Ongoing);
        assert_eq!(stream.splicer.held(), SSE_HELD_MAX);
        stream.window.compact(HEADROOM);
        assert!(stream.window.spare_len() > 0 && !Splicer::needs_room(&stream.window));
    }

    #[test]
    fn an_insert_that_is_too_long_is_not_begun() {
        assert!(!Splicer::default().begin(&[b'x'; INSERT_LONGEST + 1], true));
        assert!(Splicer::default().begin(&[b'x'; INSERT_LONGEST], true));
        const { assert!(crate::token::SSE_SUFFIX_MAX <= INSERT_LONGEST) };
    }
}
