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
}
