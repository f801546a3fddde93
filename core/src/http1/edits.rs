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

use super::head::{Connection, Field, is, list, span_in};
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

    /// Bytes that the edits insert at most.
    pub fn inserted(&self) -> usize {
        self.texts.len() + self.lines.len()
    }

    /// Removes the whole line of `field`, its line end included. `field` is one of `head`'s.
    pub fn remove_line(&mut self, head: &[u8], field: &Field<'_>) {
        let start = span_in(head, field.name.as_bytes()).start;
        // Not value.end + 2: the parser trims white space off the value.
        let from = span_in(head, field.value).end.max(start);
        let rest = head.get(from..).unwrap_or_default();
        let Some(line_feed) = memchr::memchr(b'\n', rest) else { return };
        self.edits.push(Edit { span: start..from + line_feed + 1, text: 0..0 });
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

    /// Removes what a request says to this hop only (RFC 9110 §7.6.1): `connection` and the fields it names,
    /// `keep-alive`, `proxy-connection`, `te`, `upgrade`. With `keep_upgrade` the `upgrade` lines stay, and
    /// `connection: upgrade` is written afresh; a `te` that lists `trailers` becomes just that.
    ///
    /// `session` is the field that carries the session. It cannot be named away, nor can the others of
    /// [`is_protected`].
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

    /// Writes the target in origin form and the host that it meant (RFC 9112 §3.2.2). Nothing is done for a request
    /// whose target has no authority.
    pub fn origin_form(&mut self, head: &RequestHead<'_>) {
        let (true, Some(authority)) = (head.absolute, head.host) else { return };
        self.replace(span_in(head.bytes, head.target), head.path);
        match head.fields.iter().find(|field| is(field, b"host")) {
            Some(field) if field.value == authority => {}
            Some(field) => self.replace(span_in(head.bytes, field.value), authority),
            // HTTP/1.0, which is passed on as HTTP/1.1.
            None => self.append_line(b"host", authority),
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

    fn hop_by_hop(
        &mut self,
        head: &[u8],
        fields: &[Field<'_>],
        connection: &Connection,
        keep_upgrade: bool,
        session: Option<&FieldName>,
    ) {
        if !connection.hop_lines {
            return;
        }
        for field in fields {
            let leave = match field.name.len() {
                2 => is(field, b"te"),
                7 => is(field, b"upgrade") && !keep_upgrade,
                10 => is(field, b"connection") || is(field, b"keep-alive"),
                16 => is(field, b"proxy-connection"),
                _ => false,
            };
            if leave || (connection.nominates && is_nominated(field, fields, session)) {
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
        // Where the span is the same, the place of the text says which was noted first.
        self.edits.sort_unstable_by_key(|edit| (edit.span.start, edit.span.end, edit.text.start));
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
    let name = field.name.as_bytes();
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

/// Whether a `connection` line among `fields` names `field`.
fn is_nominated(field: &Field<'_>, fields: &[Field<'_>], session: Option<&FieldName>) -> bool {
    fields
        .iter()
        .filter(|line| is(line, b"connection"))
        .flat_map(|line| list(line.value))
        .any(|option| is(field, option))
        && !is_protected(field, session)
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
