//! The ring's set-up flags, and whether this machine allows them.

use std::fmt;
use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::UnixStream;
use monoio::{IoUringDriver, RuntimeBuilder};

/// Entries of the submission queue; more than fit are submitted in several turns.
const ENTRIES: u32 = 1024;

/// How the kernel hands completions over. Without one of these io_uring interrupts the worker for every completion and
/// is slower than epoll (docs/decisions/0002).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ring {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`: when the worker asks. Linux 6.1.
    Deferred,
    /// `COOP_TASKRUN`: when the worker enters the kernel anyway. Linux 5.19.
    Cooperative,
}

/// Why a ring cannot be used here.
#[derive(Debug)]
pub enum RingError {
    /// The kernel or a seccomp filter refuses to set it up.
    Setup(io::Error),
    /// It was set up, but an operation on a socket failed.
    Operation(io::Error),
}

impl Ring {
    /// The name used in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Cooperative => "cooperative",
        }
    }

    /// The first Linux version that has it.
    pub const fn kernel(self) -> &'static str {
        match self {
            Self::Deferred => "6.1",
            Self::Cooperative => "5.19",
        }
    }

    pub(crate) fn builder(self) -> RuntimeBuilder<IoUringDriver> {
        let mut ring = io_uring::IoUring::builder();
        match self {
            Self::Deferred => ring.setup_single_issuer().setup_defer_taskrun(),
            Self::Cooperative => ring.setup_coop_taskrun(),
        };
        RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring)
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "io_uring cannot be set up: {error}"),
            Self::Operation(error) => write!(f, "io_uring refuses socket operations: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

/// Sets a real ring up on a thread of its own and passes a byte through a socket pair with it.
///
/// # Errors
/// What the kernel said: typically `ENOSYS` or `EINVAL` (too old), `EPERM` (seccomp, or `kernel.io_uring_disabled`).
pub fn probe(ring: Ring) -> Result<(), RingError> {
    let attempt = std::thread::spawn(move || {
        let mut runtime = ring.builder().build().map_err(RingError::Setup)?;
        runtime.block_on(pass_a_byte()).map_err(RingError::Operation)
    });
    // A panic inside the runtime (it unwraps submissions) is a refusal too.
    attempt.join().unwrap_or_else(|_| Err(RingError::Operation(io::ErrorKind::Unsupported.into())))
}

async fn pass_a_byte() -> io::Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    one.write(vec![b'x']).await.0?;
    let (count, bytes) = other.read(vec![0; 8]).await;
    if count? == 1 && bytes.first() == Some(&b'x') { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_yes_or_why_not() {
        for ring in [Ring::Deferred, Ring::Cooperative] {
            if let Err(error) = probe(ring) {
                assert!(error.to_string().starts_with("io_uring "), "{error}");
            }
        }
    }
}
