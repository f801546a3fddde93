//! Buffers at rest. A connection takes one when bytes come and gives it back when it is idle.

use crate::limits::{BUSY_CONNECTIONS, HEADROOM, IDLE_WINDOWS, WINDOW_SMALL};
use crate::window::{Class, Window};
use crate::worker::spares::Spares;

/// Most buffers of each class that are kept for reuse; what is given back beyond that is freed.
const KEPT: usize = 256;
/// So many small ones are made at once, so that they lie side by side: a single one that a crowd has left behind would keep
/// the pages of its neighbours from going back to the system.
const BATCH: usize = 8;

/// One worker's pool of window buffers.
#[derive(Debug)]
pub struct WindowPool {
    small: Spares<Box<[u8]>>,
    large: Spares<Box<[u8]>>,
    /// Buffers that connections hold.
    lent: usize,
    /// Busy connections, as the readiness shells keep it up to date. Zero where a wait takes a window (monoio): there
    /// [`IDLE_WINDOWS`] decides.
    pub busy: usize,
}

impl Default for WindowPool {
    fn default() -> Self {
        Self { small: Spares::new(KEPT), large: Spares::new(KEPT), lent: 0, busy: 0 }
    }
}

impl WindowPool {
    /// Makes sure that `window` has a buffer with room for at least one byte, if its class allows it at all.
    #[inline]
    pub fn lend(&mut self, window: &mut Window) {
        if !window.has_buffer() {
            let buffer = self.take(Class::Small);
            window.attach(buffer);
        } else if window.spare_len() == 0 {
            window.compact(HEADROOM);
        }
    }

    /// Moves the bytes of `window` into a large buffer. False: it had one already.
    pub fn promote(&mut self, window: &mut Window) -> bool {
        if window.class() == Some(Class::Large) {
            return false;
        }
        let buffer = self.take(Class::Large);
        let old = window.attach(buffer);
        self.give(old);
        true
    }

    /// Takes the buffer of an empty window back.
    #[inline]
    pub fn reclaim(&mut self, window: &mut Window) {
        if let Some(buffer) = window.detach() {
            self.give(buffer);
        }
    }

    /// Takes the buffer back, whatever is in it.
    pub fn retire(&mut self, window: &mut Window) {
        window.clear();
        self.reclaim(window);
    }

    /// So many buffers will not be given back: the kernel had them when their connections ended, and frees them with
    /// its operations.
    pub fn lost(&mut self, count: usize) {
        self.lent = self.lent.saturating_sub(count);
    }

    /// Whether so much is held that a connection between requests should hold nothing.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.lent > IDLE_WINDOWS || self.busy > BUSY_CONNECTIONS
    }

    /// Frees buffers that nobody has needed for a while. Called about once a second.
    pub(crate) fn slim(&mut self) {
        self.small.slim();
        self.large.slim();
    }

    fn take(&mut self, class: Class) -> Box<[u8]> {
        self.lent += 1;
        let pool = match class {
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        };
        pool.pop().unwrap_or_else(|| make(class, pool))
    }

    fn give(&mut self, buffer: Box<[u8]>) {
        if buffer.is_empty() {
            // The window had none.
            return;
        }
        self.lent = self.lent.saturating_sub(1);
        let pool = if buffer.len() == WINDOW_SMALL { &mut self.small } else { &mut self.large };
        pool.push(buffer);
    }
}

/// A new buffer. Small ones come with company.
#[cold]
fn make(class: Class, pool: &mut Spares<Box<[u8]>>) -> Box<[u8]> {
    let buffer = || vec![0; class.bytes()].into();
    if class == Class::Small {
        (1..BATCH).for_each(|_| pool.push(buffer()));
    }
    buffer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round() {
        let mut pool = WindowPool::default();
        let mut window = Window::new();
        pool.lend(&mut window);
        window.push(b"abc");
        assert!(pool.promote(&mut window));
        assert!(!pool.promote(&mut window));
        assert_eq!(window.live(), b"abc");
        assert_eq!(pool.small.len(), BATCH);
        pool.reclaim(&mut window);
        assert!(window.has_buffer(), "a window in use keeps its buffer");
        pool.retire(&mut window);
        assert_eq!(pool.large.len(), 1);
    }

    #[test]
    fn many_busy_connections_are_a_crowd_without_a_buffer() {
        let mut pool = WindowPool { busy: BUSY_CONNECTIONS, ..WindowPool::default() };
        assert!(!pool.is_crowded());
        pool.busy += 1;
        assert!(pool.is_crowded());
    }

    #[test]
    fn buffers_that_are_held_are_counted() {
        let mut pool = WindowPool::default();
        let mut windows: Vec<Window> = (0..=IDLE_WINDOWS).map(|_| Window::new()).collect();
        for window in &mut windows {
            assert!(!pool.is_crowded());
            pool.lend(window);
            pool.lend(window);
        }
        assert!(pool.is_crowded());
        // A larger one takes the place of a small one; a window without a buffer gives none back.
        pool.promote(&mut windows[0]);
        pool.reclaim(&mut Window::new());
        assert!(pool.is_crowded());
        pool.reclaim(&mut windows[0]);
        assert!(!pool.is_crowded());
        pool.lend(&mut windows[0]);
        assert!(pool.is_crowded());
        pool.lost(1);
        assert!(!pool.is_crowded());
    }
}
