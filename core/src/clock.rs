//! The two clocks, as two types that do not mix.
//!
//! [`Tick`] is monotonic and drives timers; [`UnixSecs`] is wall time and decides whether a token has
//! expired. Neither can be read here: a shell passes both in.

use core::time::Duration;

/// A point in monotonic time, in milliseconds since an origin the shell picks.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tick(u64);

impl Tick {
    /// The far future: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The tick `millis` milliseconds after the shell's origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the shell's origin.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// This tick plus `wait`; without a limit, [`Tick::NEVER`].
    #[inline]
    pub fn after(self, wait: impl Into<Wait>) -> Self {
        Self(self.0.saturating_add(wait.into().0))
    }

    /// Milliseconds that passed since `earlier`, or zero when `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long something may take, in milliseconds of monotonic time: a [`Duration`] made ready for [`Tick::after`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Wait(u64);

impl Wait {
    /// No limit, which is longer than any.
    pub const FOREVER: Self = Self(u64::MAX);
}

/// Zero means "no limit". Parts of a millisecond do not count.
impl From<Duration> for Wait {
    #[inline]
    fn from(duration: Duration) -> Self {
        if duration.is_zero() {
            return Self::FOREVER;
        }
        u64::try_from(duration.as_millis()).map_or(Self::FOREVER, Self)
    }
}

/// Wall time in whole seconds since the Unix epoch. Tokens carry it, so that any number of proxies agree.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixSecs(u64);

impl UnixSecs {
    /// The moment `secs` seconds after the epoch.
    pub const fn new(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since the epoch.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Both clocks, read once by the shell and handed to the core together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic time, for timers.
    pub tick: Tick,
    /// Wall time, for token expiry and the `date` field.
    pub wall: UnixSecs,
}
