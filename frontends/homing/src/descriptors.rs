//! The limit on open files. Each proxied connection takes two descriptors, and the usual soft limit of 1024 is
//! soon reached, so it is raised as far as the system allows.

use core::fmt;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// What became of the limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Descriptors {
    /// It was raised.
    Raised {
        /// What it was.
        from: rlim_t,
        /// What it is.
        to: rlim_t,
    },
    /// It already was as high as the system allows.
    Highest(rlim_t),
    /// The system refused.
    Refused {
        /// What it stays at, if that could be read.
        limit: Option<rlim_t>,
        /// Why.
        error: nix::Error,
    },
}

/// What a worker opens for itself on the runtime that takes most: poll or ring, what wakes it, the pipe for long bodies.
const WORKER: u64 = 5;
/// What a worker opens for one listener: monoio has it twice, once to wait in the ring.
const LISTENER: u64 = 2;
/// What the program opens beside its workers: two for signals, the access log, a file that is read again.
const PROGRAM: u64 = 4;

/// macOS refuses more than this although it calls its hard limit infinite (OPEN_MAX).
const OPEN_MAX: rlim_t = 10_240;

/// Raises the soft limit on open files to the hard one.
pub fn raise() -> Descriptors {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return Descriptors::Refused { limit: None, error },
    };
    let wanted = if cfg!(target_os = "macos") { hard.min(OPEN_MAX) } else { hard };
    if soft >= wanted {
        return Descriptors::Highest(soft);
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => Descriptors::Raised { from: soft, to: wanted },
        Err(error) => Descriptors::Refused { limit: Some(soft), error },
    }
}

/// How many are open.
pub fn in_use() -> u64 {
    // Where the system does not say, there are the three that every program has.
    let Ok(open) = std::fs::read_dir("/dev/fd") else { return 3 };
    // One of them is that of the directory.
    u64::try_from(open.count()).unwrap_or(u64::MAX).saturating_sub(1)
}

/// How many proxied connections fit `limit` when so many are open before the workers and listeners are.
pub fn connections(limit: rlim_t, in_use: u64, workers: usize, listeners: usize) -> u64 {
    let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
    let each = count(listeners).saturating_mul(LISTENER).saturating_add(WORKER);
    let own = count(workers).saturating_mul(each).saturating_add(in_use).saturating_add(PROGRAM);
    // One towards the client, one towards the host.
    limit.saturating_sub(own) / 2
}

impl Descriptors {
    /// The limit that holds now, if it is known.
    pub const fn limit(self) -> Option<rlim_t> {
        match self {
            Self::Raised { to, .. } => Some(to),
            Self::Highest(limit) => Some(limit),
            Self::Refused { limit, .. } => limit,
        }
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised { from, to } => write!(f, "raised the limit on open files from {from} to {to}"),
            Self::Highest(limit) => {
                write!(f, "the limit on open files is {limit}, as high as the system allows")
            }
            Self::Refused { limit: Some(limit), error } => write!(
                f,
                "could not raise the limit on open files above {limit}: {error}; raise it where homing is started \
                 (ulimit -n, or LimitNOFILE= in systemd)"
            ),
            Self::Refused { limit: None, error } => {
                write!(f, "could not read the limit on open files: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_raised_the_limit_is_the_highest() {
        let first = raise();
        assert!(!matches!(first, Descriptors::Refused { .. }), "{first}");
        let second = raise();
        assert_eq!(second, Descriptors::Highest(first.limit().unwrap()));
    }

    #[test]
    fn what_the_program_takes_itself_is_not_promised_to_connections() {
        assert_eq!(connections(100, 3, 1, 1), (100 - 3 - 4 - 7) / 2);
        assert_eq!(connections(1024, 3, 4, 3), (1024 - 3 - 4 - 44) / 2);
        assert_eq!(connections(20, 3, 4, 3), 0);
        assert!(in_use() >= 3);
    }
}
