//! One direction's bytes between two sockets.
//!
//! ```text
//! [ headroom | kept | live | spare ]
//!            ^      ^      ^       ^
//!         start  live_at  end   capacity
//! ```
//!
//! *Live* bytes were received and are still to be sent. *Kept* bytes were sent already and stay for a
//! replay on another link. Head edits move the front of the live bytes into the head room, so that an edited
//! head and the body behind it leave in one contiguous send. A window without a buffer is a valid, empty one:
//! an idle connection holds none.
//!
//! The shell owns the window. A completion runtime moves the whole window into the kernel and gets it
//! back; a readiness runtime borrows its spans. The core sees it only at rest.

use crate::limits::{HEADROOM, WINDOW_LARGE, WINDOW_SMALL};

/// A span of received bytes with room in front and behind. See the module text.
#[derive(Debug, Default)]
pub struct Window {
    buffer: Box<[u8]>,
    start: usize,
    live_at: usize,
    end: usize,
}

/// The two sizes a window's buffer can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// [`WINDOW_SMALL`] bytes: heads and small bodies.
    Small,
    /// [`WINDOW_LARGE`] bytes: large heads and bodies.
    Large,
}

impl Class {
    /// Bytes in a buffer of this class, head room included.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => WINDOW_SMALL,
            Self::Large => WINDOW_LARGE,
        }
    }
}

impl Window {
    /// An empty window without a buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a buffer is attached.
    pub fn has_buffer(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes received and not yet sent.
    #[inline]
    pub fn live(&self) -> &[u8] {
        self.buffer.get(self.live_at..self.end).unwrap_or_else(|| no_bytes())
    }

    /// The live bytes, for edits in place.
    #[inline]
    pub fn live_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.live_at..self.end).unwrap_or_else(|| no_bytes())
    }

    /// Whether nothing is live or kept.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Where received bytes go.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Bytes that can be received before the window is full.
    #[inline]
    pub fn spare_len(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Bytes by which the front of the live bytes can grow.
    #[inline]
    pub fn headroom(&self) -> usize {
        if self.kept_len() == 0 { self.live_at } else { 0 }
    }

    /// Bytes sent that are kept for a replay.
    #[inline]
    pub fn kept_len(&self) -> usize {
        self.live_at - self.start
    }

    /// Takes note that `count` bytes were received into the spare part.
    #[inline]
    pub fn commit(&mut self, count: usize) {
        debug_assert!(count <= self.spare_len());
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Appends `bytes`, as if they had been received; what does not fit is not taken. Returns the count taken.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.spare_len());
        if let (Some(to), Some(from)) = (self.spare_mut().get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.commit(count);
        count
    }

    /// Forgets the first `count` live bytes: they were sent, or are framing that is not passed on.
    /// Kept bytes in front of them are forgotten too.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.live_at);
        self.live_at = (self.live_at + count).min(self.end);
        self.start = self.live_at;
        self.settle();
    }

    /// Moves the first `count` live bytes to the kept part: they were sent and may be sent again.
    #[inline]
    pub fn keep(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.live_at);
        self.live_at = (self.live_at + count).min(self.end);
    }

    /// Makes the kept bytes live again, for a replay.
    pub fn rewind(&mut self) {
        self.live_at = self.start;
    }

    /// Forgets the kept bytes.
    #[inline]
    pub fn release_kept(&mut self) {
        self.start = self.live_at;
        self.settle();
    }

    /// Forgets all live bytes behind the first `count`: a body was rewritten and has become shorter.
    pub fn truncate(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.live_at);
        self.end = self.end.min(self.live_at + count);
        self.settle();
    }

    /// Drops everything, kept and live.
    pub fn clear(&mut self) {
        self.live_at = self.end;
        self.start = self.end;
        self.settle();
    }

    /// Replaces the first `count` live bytes by nothing but makes `growth` bytes of room in front of what follows.
    /// Used by head edits: moves the live front left by `growth`, into the head room.
    /// Returns false, and changes nothing, when the head room is too small.
    pub fn grow_front(&mut self, growth: usize) -> bool {
        if growth > self.headroom() {
            return false;
        }
        self.live_at -= growth;
        self.start = self.live_at;
        true
    }

    /// Moves the live bytes so that `headroom` bytes are free in front, if the buffer has that much room at all.
    /// Kept bytes are moved along. Costs a copy of the live bytes.
    pub fn compact(&mut self, headroom: usize) {
        let used = self.end - self.start;
        if used + headroom > self.buffer.len() || self.start == headroom {
            return;
        }
        self.buffer.copy_within(self.start..self.end, headroom);
        self.live_at = headroom + (self.live_at - self.start);
        self.end = headroom + used;
        self.start = headroom;
    }

    /// Attaches `buffer`, moving kept and live bytes into it; returns the old buffer (empty if there was none).
    /// The new buffer must not be smaller than the bytes in use plus [`HEADROOM`]; if it is, it is returned unused.
    pub fn attach(&mut self, mut buffer: Box<[u8]>) -> Box<[u8]> {
        let used = self.end - self.start;
        let Some(to) = buffer.get_mut(HEADROOM..HEADROOM + used) else { return buffer };
        to.copy_from_slice(self.buffer.get(self.start..self.end).unwrap_or_default());
        self.live_at = HEADROOM + (self.live_at - self.start);
        self.start = HEADROOM;
        self.end = HEADROOM + used;
        core::mem::replace(&mut self.buffer, buffer)
    }

    /// Gives the buffer back when nothing is live or kept.
    pub fn detach(&mut self) -> Option<Box<[u8]>> {
        if !self.is_empty() || !self.has_buffer() {
            return None;
        }
        (self.start, self.live_at, self.end) = (0, 0, 0);
        Some(core::mem::take(&mut self.buffer))
    }

    /// The class of the attached buffer.
    pub fn class(&self) -> Option<Class> {
        match self.buffer.len() {
            0 => None,
            WINDOW_SMALL => Some(Class::Small),
            _ => Some(Class::Large),
        }
    }

    /// An empty window starts over behind its head room.
    #[inline]
    fn settle(&mut self) {
        if self.is_empty() && self.has_buffer() {
            (self.start, self.live_at, self.end) = (HEADROOM, HEADROOM, HEADROOM);
        }
    }
}

/// What a span outside the buffer holds. There is none; said as a rare case, it costs nothing.
#[cold]
const fn no_bytes() -> &'static mut [u8] {
    &mut []
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let mut window = Window::new();
        window.attach(vec![0; WINDOW_SMALL].into());
        window
    }

    #[test]
    fn kept_bytes_come_back_on_rewind_and_go_on_release() {
        let mut window = window();
        window.push(b"GET / next");
        window.keep(6);
        assert_eq!(window.live(), b"next");
        window.rewind();
        assert_eq!(window.live(), b"GET / next");
        window.keep(6);
        window.release_kept();
        assert_eq!(window.kept_len(), 0);
        assert_eq!(window.live(), b"next");
        window.consume(4);
        assert_eq!(window.headroom(), HEADROOM);
    }

    #[test]
    fn a_buffer_is_only_given_back_empty() {
        let mut window = window();
        window.push(b"x");
        assert!(window.detach().is_none());
        window.consume(1);
        assert!(window.detach().is_some());
        assert!(!window.has_buffer());
        assert_eq!(window.spare_len(), 0);
    }

    #[test]
    fn attaching_a_larger_buffer_moves_the_bytes() {
        let mut window = window();
        window.push(b"keptlive");
        window.keep(4);
        let old = window.attach(vec![0; WINDOW_LARGE].into());
        assert_eq!(old.len(), WINDOW_SMALL);
        assert_eq!(window.live(), b"live");
        window.rewind();
        assert_eq!(window.live(), b"keptlive");
        assert_eq!(window.class(), Some(Class::Large));
    }

    #[test]
    fn compact_restores_the_head_room() {
        let mut window = window();
        window.push(b"0123456789");
        window.consume(4);
        window.compact(HEADROOM);
        assert_eq!(window.live(), b"456789");
        assert_eq!(window.headroom(), HEADROOM);
        assert!(window.grow_front(10));
        assert_eq!(window.live().len(), 16);
        assert!(!window.grow_front(HEADROOM));
    }
}
