//! Head edits: noted while the head is read, then made in place in one go.
//!
//! ```text
//! before   [ head room                 | kept │removed│ kept │replaced│ kept │CRLF | body … ]
//! close up [ head room                          | kept   kept          kept │CRLF | body … ]
//! open     [ head room     | kept   kept │replacement│ kept │appended lines │CRLF | body … ]
//! ```
//!
//! First the removals close up towards the body, back to front; then what remains moves into the head room, front
//! to back, and leaves gaps for the inserts. The body stays where it is, and the edited head and the body leave
//! in one send.

use core::fmt;
use core::ops::Range;

use super::head::{Connection, ConnectionOption, Field, is, list, span_in};
use super::{RequestHead, ResponseHead};
use crate::field::FieldName;
use crate::limits::{FIELDS_MAX, HEADROOM, INSERT_MAX};
use crate::window::Window;

/// Edits of one head, in any order. Reusable: [`clear`](Self::clear) keeps the memory.
///
/// Spans count from the head's first byte. Edits that begin inside another one's span lose their text, and the spans
/// are merged; so removing a line twice, or replacing part of a line that is also removed, does no harm.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<Edit>,
    /// The texts of the replacements, one behind the other.
    texts: Vec<u8>,
    /// Whole lines for the end of the head.
    lines: Vec<u8>,
}

/// Why edits were not made. The window is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EditError {
    /// The edited head and what is behind it do not fit the window's buffer; a larger one helps.
    NoRoom,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the edited head does not fit: attach a larger buffer to the window")
    }
}

impl core::error::Error for EditError {}

/// `span` of the head becomes `text` of [`Edits::texts`].
#[derive(Clone, Debug)]
struct Edit {
    span: Range<usize>,
    text: Range<usize>,
}

impl Edits {
    /// No edits, with room for as many as a head can need.
    pub fn new() -> Self {
        Self {
            edits: Vec::with_capacity(FIELDS_MAX),
            texts: Vec::with_capacity(INSERT_MAX),
            lines: Vec::with_capacity(INSERT_MAX),
        }
    }

    /// Forgets all edits.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.texts.clear();
        self.lines.clear();
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.lines.is_empty()
    }

    /// Removes the whole line of `field`, its line end included. `field` is one of `head`'s.
    pub fn remove_line(&mut self, head: &[u8], field: &Field<'_>) {
        let start = span_in(head, field.name).start;
        // Not value.end + 2: the parser trims white space off the value.
        let from = span_in(head, field.value).end.max(start);
        let rest = head.get(from..).unwrap_or_default();
        let Some(line_feed) = memchr::memchr(b'\n', rest) else { return };
        let text = self.texts.len()..self.texts.len();
        self.edits.push(Edit { span: start..from + line_feed + 1, text });
    }

    /// Removes every line called `name`, in any case.
    pub fn remove_named(&mut self, head: &[u8], fields: &[Field<'_>], name: &[u8]) {
        for field in fields.iter().filter(|field| is(field, name)) {
            self.remove_line(head, field);
        }
    }

    /// Puts `with` in the place of `span`.
    pub fn replace(&mut self, span: Range<usize>, with: &[u8]) {
        self.replace_with(span, |text| text.extend_from_slice(with));
    }

    /// Puts what `write` appends in the place of `span`.
    pub fn replace_with(&mut self, span: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.texts.len();
        write(&mut self.texts);
        let text = start..self.texts.len();
        debug_assert!(self.texts.get(start..).is_none_or(is_harmless), "an edit must not split a head");
        self.edits.push(Edit { span, text });
    }

    /// Adds a line at the end of the head.
    pub fn append_line(&mut self, name: &[u8], value: &[u8]) {
        self.append_with(name, |line| line.extend_from_slice(value));
    }

    /// Adds a line at the end of the head, with the value that `value` appends: no temporary is needed for one that
    /// is put together from pieces.
    pub fn append_with(&mut self, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        let start = self.lines.len();
        value(&mut self.lines);
        debug_assert!(self.lines.get(start..).is_none_or(is_harmless), "an edit must not split a head");
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Adds a line at the end of the head that is written already, its line end included, and has `fill` change it.
    #[inline]
    pub(crate) fn append_written<const LEN: usize>(
        &mut self,
        line: &[u8; LEN],
        fill: impl FnOnce(&mut [u8; LEN]),
    ) {
        self.lines.extend_from_slice(line);
        let Some(line) = self.lines.last_chunk_mut() else { return };
        fill(line);
        debug_assert!(line.strip_suffix(b"\r\n").is_some_and(is_harmless), "an edit must not split a head");
    }

    /// Removes what a request says to this hop only (RFC 9110 §7.6.1): `connection` and the fields it names,
    /// `keep-alive`, `proxy-connection`, `te`, `upgrade`, `http2-settings`. With `keep_upgrade` the `upgrade` lines stay, and
    /// `connection: upgrade` is written afresh; a `te` that lists `trailers` becomes just that.
    ///
    /// `session` is the field that carries the session. It cannot be named away, nor can what else the server must
    /// see: the host, framing, cookies, credentials and forwarding fields.
    pub fn hop_by_hop_request(
        &mut self,
        head: &RequestHead<'_>,
        keep_upgrade: bool,
        session: Option<&FieldName>,
    ) {
        let keep_upgrade = keep_upgrade && head.connection.upgrade;
        self.hop_by_hop(head.bytes, head.fields, &head.connection, keep_upgrade, session);
        // RFC 9110 §10.1.4: who sends `te` lists it in `connection`.
        match (keep_upgrade, head.connection.te_trailers) {
            (false, false) => return,
            (true, false) => self.append_line(b"connection", b"upgrade"),
            (false, true) => self.append_line(b"connection", b"te"),
            (true, true) => self.append_line(b"connection", b"upgrade, te"),
        }
        if head.connection.te_trailers {
            self.append_line(b"te", b"trailers");
        }
    }

    /// Removes what a response says to this hop only, as [`hop_by_hop_request`](Self::hop_by_hop_request) does.
    /// With `keep_upgrade` (a 101 that is passed on) the `upgrade` lines stay and `connection: upgrade` is
    /// written afresh. The `upgrade` lines of a 426 stay in any case: RFC 9110 §15.5.22 requires them.
    pub fn hop_by_hop_response(
        &mut self,
        head: &ResponseHead<'_>,
        keep_upgrade: bool,
        session: Option<&FieldName>,
    ) {
        let keep_upgrade = keep_upgrade || head.status == 426;
        self.hop_by_hop(head.bytes, head.fields, &head.connection, keep_upgrade, session);
        if keep_upgrade && head.upgrade.is_some() {
            self.append_line(b"connection", b"upgrade");
        }
        // RFC 9112 §6.1, RFC 9110 §8.6: neither field is sent with 1xx and 204.
        if matches!(head.status, 100..=199 | 204) {
            self.remove_named(head.bytes, head.fields, b"transfer-encoding");
            self.remove_named(head.bytes, head.fields, b"content-length");
        }
    }

    /// Makes the edits on the first `head_len` live bytes of `window` and returns the length of the new head.
    /// The edits stay noted. Kept bytes must have been released: there is no head room in front of them.
    ///
    /// # Errors
    /// [`EditError::NoRoom`], with the window's live bytes unchanged, when the buffer is too small.
    pub fn apply(&mut self, window: &mut Window, head_len: usize) -> Result<usize, EditError> {
        debug_assert_eq!(window.kept_len(), 0, "a head is edited before it is sent");
        if self.is_empty() {
            return Ok(head_len);
        }
        if self.edits.is_empty() && self.appended(window, head_len) {
            return Ok(head_len + self.lines.len());
        }
        let (removed, inserted) = self.settle(head_len);
        let new_len = head_len - removed + inserted;
        make_room(window, inserted.saturating_sub(removed))?;

        if let Some(head) = window.live_mut().get_mut(..head_len) {
            self.close_up(head);
        }
        if removed > inserted {
            window.consume(removed - inserted);
        } else if !window.grow_front(inserted - removed) {
            // `make_room` saw to it.
            return Err(EditError::NoRoom);
        }
        if let Some(head) = window.live_mut().get_mut(..new_len) {
            self.open(head, inserted);
        }
        Ok(new_len)
    }

    /// Where nothing stands behind the head, lines are added without moving it. False: something does, or they do not fit.
    fn appended(&self, window: &mut Window, head_len: usize) -> bool {
        const END: &[u8] = b"\r\n";
        if window.live().len() != head_len || window.spare_len() < self.lines.len() {
            return false;
        }
        window.truncate(head_len.saturating_sub(END.len()));
        window.push(&self.lines) == self.lines.len() && window.push(END) == END.len()
    }

    #[inline]
    fn hop_by_hop(
        &mut self,
        head: &[u8],
        fields: &[Field<'_>],
        connection: &Connection,
        keep_upgrade: bool,
        session: Option<&FieldName>,
    ) {
        if connection.hop_lines {
            self.hop_lines(head, fields, connection, keep_upgrade, session);
        }
    }

    #[cold]
    fn hop_lines(
        &mut self,
        head: &[u8],
        fields: &[Field<'_>],
        connection: &Connection,
        keep_upgrade: bool,
        session: Option<&FieldName>,
    ) {
        for field in fields {
            let leave = match field.name.len() {
                2 => is(field, b"te"),
                7 => is(field, b"upgrade") && !keep_upgrade,
                10 => is(field, b"connection") || is(field, b"keep-alive"),
                14 => is(field, b"http2-settings"),
                16 => is(field, b"proxy-connection"),
                _ => false,
            };
            if leave {
                self.remove_line(head, field);
            }
        }
        if connection.nominates {
            self.nominated(head, fields, session);
        }
    }

    /// Removes the fields that `connection` lines name. The names are walked over once and few, so that a long line
    /// of them costs no more than other bytes do.
    fn nominated(&mut self, head: &[u8], fields: &[Field<'_>], session: Option<&FieldName>) {
        let lines = fields.iter().filter(|field| is(field, b"connection"));
        for option in lines.flat_map(|line| list(line.value)).map(ConnectionOption::of) {
            let ConnectionOption::Field(name) = option else { continue };
            for field in fields.iter().filter(|field| is(field, name) && !is_protected(field, session)) {
                self.remove_line(head, field);
            }
        }
    }

    /// Sorts and merges the edits. Returns how many bytes they remove and insert.
    fn settle(&mut self, head_len: usize) -> (usize, usize) {
        // The final empty line stays, whatever a caller noted.
        let last = head_len.saturating_sub(2);
        for edit in &mut self.edits {
            debug_assert!(
                edit.span.start <= edit.span.end && edit.span.end <= last,
                "an edit outside the head"
            );
            edit.span.end = edit.span.end.min(last);
            edit.span.start = edit.span.start.min(edit.span.end);
        }
        // Where the span is the same, the place of the text says which was noted first; an empty text does not move the
        // next one, but it ends in front of it.
        self.edits
            .sort_unstable_by_key(|edit| (edit.span.start, edit.span.end, edit.text.start, edit.text.end));
        self.edits.dedup_by(|next, edit| {
            let inside = next.span.start < edit.span.end;
            if inside {
                edit.span.end = edit.span.end.max(next.span.end);
            }
            inside
        });
        let (removed, texts) = self
            .edits
            .iter()
            .fold((0, 0), |(removed, texts), edit| (removed + edit.span.len(), texts + edit.text.len()));
        (removed, texts + self.lines.len())
    }

    /// Moves what is not removed to the end of `head`, back to front.
    fn close_up(&self, head: &mut [u8]) {
        let (mut from, mut to) = (head.len(), head.len());
        for edit in self.edits.iter().rev() {
            to -= from - edit.span.end;
            shift(head, edit.span.end..from, to);
            from = edit.span.start;
        }
        shift(head, 0..from, to - from);
    }

    /// Moves what is kept, which begins at `from`, to the front of `head`, front to back, and fills in the texts.
    fn open(&self, head: &mut [u8], mut from: usize) {
        let (mut to, mut done) = (0, 0);
        for edit in &self.edits {
            let kept = edit.span.start - done;
            shift(head, from..from + kept, to);
            (from, to, done) = (from + kept, to + kept, edit.span.end);
            put(head, &mut to, self.texts.get(edit.text.clone()).unwrap_or_default());
        }
        // All that is left is kept, and the lines go in front of its last two bytes.
        let end = head.len().saturating_sub(2);
        shift(head, from..end, to);
        to += end - from;
        put(head, &mut to, &self.lines);
    }
}

/// Whether a `connection` line cannot name this field away. Routing, framing, credentials and the session are
/// meant for the server; RFC 9110 §7.6.1 forbids senders to name such fields, and a client that does so wants the
/// server to see another request than the proxy did. The name is ignored, as for a field that is not there.
fn is_protected(field: &Field<'_>, session: Option<&FieldName>) -> bool {
    let name = field.name;
    session.is_some_and(|session| session.matches(name))
        || [
            b"authorization".as_slice(),
            b"content-length",
            b"cookie",
            b"date",
            b"forwarded",
            b"host",
            b"set-cookie",
            b"transfer-encoding",
            b"upgrade",
            b"via",
            b"x-forwarded-for",
            b"x-forwarded-host",
            b"x-forwarded-proto",
        ]
        .iter()
        .any(|protected| is(field, protected))
}

/// Sees to it that the front of the live bytes can grow by `growth`.
fn make_room(window: &mut Window, growth: usize) -> Result<(), EditError> {
    for headroom in [HEADROOM, growth] {
        if window.headroom() < growth && headroom >= growth {
            window.compact(headroom);
        }
    }
    if window.headroom() < growth { Err(EditError::NoRoom) } else { Ok(()) }
}

/// Moves `span` to `to`. All callers stay inside `bytes`.
fn shift(bytes: &mut [u8], span: Range<usize>, to: usize) {
    debug_assert!(span.start <= span.end && span.end <= bytes.len() && to + span.len() <= bytes.len());
    if span.start != to && !span.is_empty() {
        bytes.copy_within(span, to);
    }
}

fn put(bytes: &mut [u8], to: &mut usize, text: &[u8]) {
    if let Some(place) = bytes.get_mut(*to..*to + text.len()) {
        place.copy_from_slice(text);
    }
    *to += text.len();
}

/// Whether `text` can stand inside a line.
fn is_harmless(text: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, text).is_none()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Fields, Method, parse_request, parse_response};
    use super::*;
    use crate::limits::WINDOW_SMALL;
    use crate::rng::Rng;

    /// A window whose live bytes are `message`, with `headroom` bytes in front.
    fn window(message: &[u8], headroom: usize) -> Window {
        let mut window = Window::new();
        window.attach(vec![0; WINDOW_SMALL].into());
        let front = (HEADROOM - headroom).min(message.len());
        assert!(window.grow_front(front));
        window.live_mut().copy_from_slice(&message[..front]);
        assert_eq!(window.push(&message[front..]), message.len() - front);
        window
    }

    /// `head` with `edits` made; a body behind it must not change.
    pub(in super::super) fn applied(edits: &mut Edits, head: &[u8]) -> Vec<u8> {
        let mut window = window(&[head, b"body"].concat(), HEADROOM);
        let len = edits.apply(&mut window, head.len()).unwrap();
        assert_eq!(&window.live()[len..], b"body");
        window.live()[..len].to_vec()
    }

    fn hop_by_hop(lines: &str, keep_upgrade: bool) -> String {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut edits = Edits::new();
        let session = FieldName::new("x-session").unwrap();
        let mut slots = Fields::new();
        let parsed = parse_request(head.as_bytes(), &mut slots, FIELDS_MAX).unwrap();
        edits.hop_by_hop_request(&parsed, keep_upgrade, Some(&session));
        let edited = String::from_utf8(applied(&mut edits, head.as_bytes())).unwrap();
        edited.strip_prefix("GET / HTTP/1.1\r\nHost: h\r\n").unwrap().strip_suffix("\r\n").unwrap().to_owned()
    }

    #[test]
    fn what_is_meant_for_this_hop_is_removed_rfc_9110_section_7_6_1() {
        for (lines, left) in [
            ("A: b\r\n", "A: b\r\n"),
            ("Connection: close\r\nA: b\r\n", "A: b\r\n"),
            ("A: b\r\nConnection:keep-alive \t \r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n", "A: b\r\n"),
            ("Connection: X-A, b\r\nX-A: 1\r\nX-AB: 2\r\nx-a: 3\r\nB:\r\n", "X-AB: 2\r\n"),
            ("X-A: 1\r\nConnection: close\r\nConnection: x-a\r\n", ""),
            ("Upgrade: websocket\r\nConnection: upgrade\r\n", ""),
            ("TE: gzip\r\n", ""),
            (
                "TE: gzip\r\nTE: trailers;q=1, trailers\r\nA: b\r\n",
                "A: b\r\nconnection: te\r\nte: trailers\r\n",
            ),
            ("Connection: TE\r\nTE: trailers\r\n", "connection: te\r\nte: trailers\r\n"),
        ] {
            assert_eq!(hop_by_hop(lines, false), left, "{lines:?}");
        }
        let upgrade = "Connection: Upgrade, X\r\nUpgrade: websocket\r\nX: y\r\n";
        assert_eq!(hop_by_hop(upgrade, true), "Upgrade: websocket\r\nconnection: upgrade\r\n");
        let both = "Connection: Upgrade, TE\r\nUpgrade: a\r\nTE: trailers\r\n";
        assert_eq!(hop_by_hop(both, true), "Upgrade: a\r\nconnection: upgrade, te\r\nte: trailers\r\n");
        // Without `connection: upgrade` there is no upgrade to keep.
        assert_eq!(hop_by_hop("Upgrade: websocket\r\n", true), "");
    }

    #[test]
    fn what_the_server_must_see_cannot_be_named_away() {
        let lines = "Cookie: a=b\r\nX-Session: t\r\nContent-Length: 3\r\nX-Forwarded-For: 1.2.3.4\r\n";
        let named =
            format!("Connection: host, cookie, X-SESSION, content-length, x-forwarded-for\r\n{lines}");
        assert_eq!(hop_by_hop(&named, false), lines);
        assert_eq!(
            hop_by_hop("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", false),
            "Transfer-Encoding: chunked\r\n"
        );
    }

    #[test]
    fn responses_lose_their_hop_lines_too() {
        for (head, keep_upgrade, edited) in [
            (
                "HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nSet-Cookie: a=b\r\nX-A: 1\r\nKeep-Alive: 5\r\n\r\n",
                false,
                "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\n",
            ),
            (
                "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                true,
                "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            ),
            (
                "HTTP/1.1 426 U\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
                false,
                "HTTP/1.1 426 U\r\nUpgrade: x\r\nContent-Length: 0\r\nconnection: upgrade\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
                false,
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ),
            ("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", false, "HTTP/1.1 204 N\r\n\r\n"),
            ("HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n", false, "HTTP/1.1 204 N\r\n\r\n"),
            (
                "HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n",
                false,
                "HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n",
            ),
        ] {
            let mut slots = Fields::new();
            let parsed = parse_response(head.as_bytes(), &mut slots, Method::Get, FIELDS_MAX).unwrap();
            let mut edits = Edits::new();
            edits.hop_by_hop_response(&parsed, keep_upgrade, None);
            let found = applied(&mut edits, head.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), edited);
        }
    }

    #[test]
    fn edits_that_overlap_do_no_harm() {
        let head = b"GET /abc HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n\r\n";
        let mut slots = Fields::new();
        let parsed = parse_request(head, &mut slots, FIELDS_MAX).unwrap();
        let mut edits = Edits::new();
        edits.remove_line(head, &parsed.fields[1]);
        edits.replace(span_in(head, parsed.fields[1].value), b"lost");
        edits.remove_line(head, &parsed.fields[1]);
        edits.replace(4..8, b"/first");
        edits.replace(4..8, b"/second");
        edits.replace(8..8, b"?x");
        edits.remove_named(head, parsed.fields, b"c");
        edits.remove_named(head, parsed.fields, b"absent");
        assert_eq!(applied(&mut edits, head), b"GET /first?x HTTP/1.1\r\nHost: h\r\n\r\n");
        edits.clear();
        assert!(edits.is_empty());
        assert_eq!(applied(&mut edits, head), head);
    }

    /// With more edits than an unstable sort leaves in place when they are equal.
    #[test]
    fn of_equal_spans_the_first_edit_counts_even_if_it_is_empty() {
        let head = b"GET /abc HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        let mut edits = Edits::new();
        edits.replace(29..30, b"");
        for _ in 0..40 {
            edits.replace(29..30, b"late");
            edits.replace(28..28, b"");
        }
        assert_eq!(applied(&mut edits, head), b"GET /abc HTTP/1.1\r\nHost: h\r\nA b\r\n\r\n".as_slice());
    }

    #[test]
    fn a_head_that_outgrows_its_head_room_moves_and_one_that_fits_nowhere_is_left_alone() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let value = vec![b'v'; 3 * HEADROOM];
        let mut edits = Edits::new();
        edits.append_line(b"x", &value);
        let expected = [&head[..25], b"x: ", &value, b"\r\n\r\nbody"].concat();

        let mut small = window(&[&head[..], b"body"].concat(), 10);
        let len = edits.apply(&mut small, head.len()).unwrap();
        assert_eq!(len, expected.len() - 4);
        assert_eq!(small.live(), expected);

        let mut message = head.to_vec();
        message.resize(WINDOW_SMALL - HEADROOM, b'b');
        let mut full = window(&message, HEADROOM);
        assert_eq!(edits.apply(&mut full, head.len()), Err(EditError::NoRoom));
        assert_eq!(full.live(), message);
        full.attach(vec![0; crate::limits::WINDOW_LARGE].into());
        let len = edits.apply(&mut full, head.len()).unwrap();
        assert_eq!(full.live()[..len], expected[..len]);
        assert_eq!(full.live()[len..], message[head.len()..]);
    }

    #[test]
    fn lines_are_added_behind_a_head_that_stands_alone_and_else_in_front_of_it() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let expected = b"GET / HTTP/1.1\r\nHost: h\r\na: b\r\n\r\n";
        let mut edits = Edits::new();
        edits.append_line(b"a", b"b");
        for (behind, moves) in [(&b""[..], false), (b"body", true)] {
            let mut window = window(&[head, behind].concat(), HEADROOM);
            let before = window.headroom();
            assert_eq!(edits.apply(&mut window, head.len()), Ok(expected.len()));
            assert_eq!(window.live(), [expected, behind].concat());
            assert_eq!(window.headroom() < before, moves);
        }
        let mut long = head.to_vec();
        long.splice(head.len() - 4..head.len() - 4, vec![b'h'; WINDOW_SMALL - HEADROOM - head.len()]);
        let mut full = window(&long, HEADROOM);
        assert_eq!(full.spare_len(), 0);
        assert_eq!(edits.apply(&mut full, long.len()), Ok(long.len() + 6));
        assert!(full.live().ends_with(b"hhh\r\na: b\r\n\r\n"));
    }

    /// A line of a random head, whose parts the naive edit changes one by one.
    struct Line {
        name: String,
        blank: &'static str,
        value: Vec<u8>,
    }

    impl Line {
        fn random(rng: &mut Rng, index: usize) -> Self {
            let blank = [" ", "", "  \t"][rng.below(3) as usize];
            Self { name: format!("n{index}"), blank, value: text(rng, 40) }
        }

        /// The line with another value. Blanks around an empty value all stand in front of it.
        fn with(&self, value: &[u8]) -> Vec<u8> {
            let blanks = self.blank.repeat(2);
            let (before, after) =
                blanks.split_at(if self.value.is_empty() { blanks.len() } else { self.blank.len() });
            [self.name.as_bytes(), b":", before.as_bytes(), value, after.as_bytes(), b"\r\n"].concat()
        }
    }

    /// At most `most` letters.
    fn text(rng: &mut Rng, most: u32) -> Vec<u8> {
        (0..rng.below(most + 1)).map(|_| b"abcdefgh"[rng.below(8) as usize]).collect()
    }

    /// Notes one random edit of `line`, which is `field` of `head`, and returns what the line becomes.
    fn edit_line(rng: &mut Rng, edits: &mut Edits, head: &[u8], field: &Field<'_>, line: &Line) -> Vec<u8> {
        let span = span_in(head, field.value);
        let new = text(rng, 60);
        match rng.below(5) {
            0 => {
                edits.remove_line(head, field);
                Vec::new()
            }
            1 => {
                edits.replace(span, &new);
                edits.remove_line(head, field);
                edits.remove_named(head, core::slice::from_ref(field), line.name.as_bytes());
                Vec::new()
            }
            2 => {
                edits.replace(span.start..span.start, &new);
                line.with(&[&new[..], &line.value].concat())
            }
            3 => {
                edits.replace(span, &new);
                line.with(&new)
            }
            _ => line.with(&line.value),
        }
    }

    #[test]
    fn editing_in_place_equals_editing_lines() {
        const SEED: u64 = 0x000e_d175;
        const FRONT: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n";
        let mut rng = Rng::seeded(SEED);
        let mut edits = Edits::new();
        for round in 0..20_000 {
            let lines: Vec<Line> =
                (0..=rng.below(12)).map(|index| Line::random(&mut rng, index as usize)).collect();
            let mut head = FRONT.to_vec();
            head.extend(lines.iter().flat_map(|line| line.with(&line.value)));
            head.extend(b"\r\n");

            edits.clear();
            let mut slots = Fields::new();
            let parsed = parse_request(&head, &mut slots, FIELDS_MAX).unwrap();
            // Edits are noted in any order.
            let mut order: Vec<usize> = (0..lines.len()).collect();
            order.sort_by_cached_key(|_| rng.bits());
            let mut outcome = vec![Vec::new(); lines.len()];
            for index in order {
                let field = &parsed.fields[index + 1];
                outcome[index] = edit_line(&mut rng, &mut edits, &head, field, &lines[index]);
            }
            let mut expected = [FRONT.to_vec(), outcome.concat()].concat();
            for _ in 0..rng.below(3) {
                let value = text(&mut rng, 500);
                edits.append_line(b"new", &value);
                expected.extend([b"new: ", &value[..], b"\r\n"].concat());
            }
            expected.extend(b"\r\n");

            let body = if rng.below(2) == 0 { Vec::new() } else { text(&mut rng, 300) };
            let headroom = rng.below(1 + HEADROOM as u32) as usize;
            let mut window = window(&[&head[..], &body].concat(), headroom);
            let len = edits.apply(&mut window, head.len()).unwrap();
            assert_eq!(len, expected.len(), "seed {SEED:#x}, round {round}");
            expected.extend(&body);
            assert_eq!(
                String::from_utf8_lossy(window.live()),
                String::from_utf8_lossy(&expected),
                "seed {SEED:#x}, round {round}"
            );
        }
    }
}
