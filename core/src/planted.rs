//! Five bugs, for the test of a test: the live differential must find each of them (`conformance/live/planted.py`).
//!
//! They exist only with the feature `planted`, which no other build asks for; without it `Bug::is_in` is `false` when
//! compiled. They are mistakes that a reader of the format could make, and none fails loudly.

/// A mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bug {
    /// The expiry's 64 bits are taken as unsigned, so that what is long over never ends.
    UnsignedExpiry = 1,
    /// Of a repeated address the first one counts.
    FirstAddress = 2,
    /// An address need not be UTF-8.
    AnyBytes = 3,
    /// A cookie's path holds all that begins with it: `/app` holds `/apple`.
    LoosePath = 4,
    /// A session whose host is barred is refused with the status for a missing one.
    BarredAsGone = 5,
}

/// The bug that is in; zero: none.
#[cfg(feature = "planted")]
static CHOSEN: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Lets the bug of this number in, for the whole process; any other number lets none in.
#[cfg(feature = "planted")]
pub fn choose(number: u8) {
    CHOSEN.store(number, core::sync::atomic::Ordering::Relaxed);
}

impl Bug {
    #[cfg(feature = "planted")]
    pub(crate) fn is_in(self) -> bool {
        CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == self as u8
    }

    #[cfg(not(feature = "planted"))]
    #[inline]
    pub(crate) const fn is_in(self) -> bool {
        let _ = self;
        false
    }
}
