//! Lending windows and descriptors to the kernel, and taking them back: `unsafe` code, each block with its proof.
//!
//! A completion runtime needs a buffer for as long as the operation runs, so the whole window moves into the operation
//! and comes back with its result. Nobody else can touch it meanwhile, as nobody else has it.
#![expect(unsafe_code, reason = "an io_uring operation works on raw pointers and descriptors")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use homing_core::window::Window;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::net::TcpStream;

/// A window whose spare part receives.
pub(crate) struct Spare(pub(crate) Window);

/// A window whose first `len` live bytes are sent.
pub(crate) struct Live {
    pub(crate) window: Window,
    pub(crate) len: usize,
}

/// The descriptor of a stream that lives beside it: in the same struct (`Link`), or in the same function for as long as
/// it is looked at (`busy`, whose `Conn` has no destructor and is not used once the halves have gone).
#[derive(Debug)]
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    /// The caller keeps the stream it took `fd` from for as long as it keeps this.
    pub(crate) fn of(fd: RawFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is open whenever this is called: the callers of `of` keep the stream that owns the descriptor beside
        // it (`busy`; `connected`, which hands both on to a `Link`), nobody else is given one, and none of them has a
        // destructor that would look at it after the stream's. The borrow cannot outlive `self`.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Closes a stream that no operation of the ring has, which monoio checks. Dropped, it would be closed by an operation of the
/// ring, and that one be called back: 2 % of a connection with one request.
pub(crate) fn close_now(stream: TcpStream) {
    // SAFETY: the descriptor is open, and `into_raw_fd` has just given up its only owner. So it is in monoio 0.2.4, which is
    // why Cargo.toml asks for exactly that one (docs/decisions/0017).
    drop(unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) });
}

// SAFETY: the pointer leads into the window's boxed buffer, whose address does not change when the window moves; the
// buffer stays allocated while `self` lives, since nothing here replaces it; `bytes_total` is the length of the slice that
// the pointer was taken from; and the bytes there are initialised (window buffers are allocated zeroed).
unsafe impl IoBufMut for Spare {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.spare_mut().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.spare_len()
    }

    unsafe fn set_init(&mut self, _count: usize) {
        // The exchange commits what was received; there is nothing to note here.
    }
}

// SAFETY: the pointer leads into the window's boxed buffer, whose address does not change when the window moves, and
// which stays allocated and unchanged while `self` lives; `bytes_init` is never more than the live bytes it points at.
unsafe impl IoBuf for Live {
    fn read_ptr(&self) -> *const u8 {
        self.window.live().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len.min(self.window.live().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use homing_core::worker::WindowPool;

    #[test]
    fn what_is_lent_is_exactly_the_part_that_may_be_touched() {
        let mut window = Window::new();
        WindowPool::default().lend(&mut window);
        window.push(b"live bytes");
        let live = Live { window, len: 4 };
        assert_eq!((live.read_ptr(), live.bytes_init()), (live.window.live().as_ptr(), 4));
        let greedy = Live { len: 999, ..live };
        assert_eq!(greedy.bytes_init(), 10);
        let mut spare = Spare(greedy.window);
        let start = spare.write_ptr();
        assert_eq!(spare.bytes_total(), spare.0.spare_len());
        let moved = spare;
        let mut moved = Box::new(moved);
        assert_eq!(moved.write_ptr(), start, "moving a window moves no byte");
    }
}
