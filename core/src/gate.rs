//! How many client connections there may be: one count for each listener, one for all, shared by all workers.
//!
//! A [`Permit`] is the right to serve one connection. It is taken before (or right after) the connection is accepted, and
//! dropping it gives it back, so that no count can go astray:
//!
//! ```text
//! connection waits ─ Control::admit ─┬─ Permit ─▶ served ─▶ dropped: the counts go down
//!                                    └─ Full ──▶ accepting pauses; the kernel's queue holds the connection
//! ```

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

/// The connections of one listener, or of all.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicU32,
}

/// Which cap leaves no room for another connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Full {
    /// That of [`Limits::connections`](crate::limits::Limits::connections), over all listeners.
    Total = 0,
    /// That of the listener.
    Listener = 1,
}

/// The right to serve one client connection; dropping it makes room for another.
#[derive(Debug)]
#[must_use = "the connection counts for as long as its permit lives"]
pub struct Permit {
    total: Arc<Gate>,
    listener: Arc<Gate>,
}

impl Gate {
    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `cap` already.
    fn enter(&self, cap: u32) -> bool {
        // One addition where a loop of exchanges would be needed to be exact at every instant: a worker that oversteps the
        // cap steps back, and may make another one wait for a tick that could just have entered.
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        if before < cap {
            return true;
        }
        self.leave();
        false
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Full {
    /// All, in the order of the counters.
    pub const ALL: [Self; 2] = [Self::Total, Self::Listener];

    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "connections",
            Self::Listener => "listener_connections",
        }
    }
}

impl Permit {
    /// A place in both, if there is room.
    pub(crate) fn take(
        total: &Arc<Gate>,
        total_cap: u32,
        listener: &Arc<Gate>,
        listener_cap: u32,
    ) -> Result<Self, Full> {
        let listener_cap = if listener_cap == 0 { u32::MAX } else { listener_cap };
        if !listener.enter(listener_cap) {
            return Err(Full::Listener);
        }
        if !total.enter(total_cap) {
            listener.leave();
            return Err(Full::Total);
        }
        Ok(Self { total: Arc::clone(total), listener: Arc::clone(listener) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.total.leave();
        self.listener.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cap_holds_and_a_permit_that_is_dropped_makes_room() {
        let (total, one, two) = (Arc::<Gate>::default(), Arc::<Gate>::default(), Arc::<Gate>::default());
        let first = Permit::take(&total, 3, &one, 1).unwrap();
        assert_eq!(Permit::take(&total, 3, &one, 1).unwrap_err(), Full::Listener);
        let others = [Permit::take(&total, 3, &two, 0).unwrap(), Permit::take(&total, 3, &two, 0).unwrap()];
        assert_eq!(Permit::take(&total, 3, &two, 0).unwrap_err(), Full::Total);
        assert_eq!((total.open(), one.open(), two.open()), (3, 1, 2), "who is refused leaves no trace");
        drop(first);
        let again = Permit::take(&total, 3, &one, 1).unwrap();
        assert_eq!((total.open(), one.open()), (3, 1));
        drop((again, others));
        assert_eq!((total.open(), one.open(), two.open()), (0, 0, 0));
    }

    #[test]
    fn a_cap_that_is_lowered_lets_nobody_in_until_enough_have_left() {
        let (total, listener) = (Arc::<Gate>::default(), Arc::<Gate>::default());
        let mut held: Vec<_> = (0..4).map(|_| Permit::take(&total, 9, &listener, 0).unwrap()).collect();
        for left in [3, 2] {
            assert!(Permit::take(&total, 2, &listener, 0).is_err());
            held.truncate(left);
        }
        assert!(Permit::take(&total, 2, &listener, 0).is_err());
        held.truncate(1);
        assert!(Permit::take(&total, 2, &listener, 0).is_ok());
    }
}
