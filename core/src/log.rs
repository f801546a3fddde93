//! The access log's fast side: one record per request, and in [`json`] the line that it makes. Where lines go is the
//! program's business.

pub mod json;

use crate::clock::UnixSecs;
use crate::route::ListenerId;
use crate::stats::Outcome;

/// Bytes of the method that are logged.
pub const METHOD_KEPT: usize = 16;
/// Bytes of the request target that are logged.
pub const TARGET_KEPT: usize = 112;
/// Bytes of an address text that are logged.
pub const ADDRESS_KEPT: usize = 64;

/// Takes the records of one worker. Must neither block nor allocate.
pub trait LogSink: Send {
    /// Takes one record.
    fn push(&mut self, record: &Record<'_>);

    /// Hands over what was taken so far. Called on every tick of the worker.
    fn flush(&mut self);
}

/// One request, as the log gets it. The texts are borrowed: whoever wants them later writes them down, once.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// When the request ended.
    pub at: UnixSecs,
    /// Milliseconds from the first byte of the request to the last of the response.
    pub took_millis: u64,
    /// Which listener took it.
    pub listener: ListenerId,
    /// The facts.
    pub outcome: &'r Outcome,
    /// Request body bytes passed on.
    pub received: u64,
    /// Response body bytes passed on.
    pub sent: u64,
    /// The method as received, cut at [`METHOD_KEPT`] bytes.
    pub method: &'r [u8],
    /// The target as received, cut at [`TARGET_KEPT`] bytes.
    pub target: &'r [u8],
    /// The client's address, cut at [`ADDRESS_KEPT`] bytes.
    pub client: &'r [u8],
    /// The upstream host's address text, cut at [`ADDRESS_KEPT`] bytes; empty: none was chosen.
    pub upstream: &'r [u8],
}

/// At most `N` bytes, held by value.
#[derive(Clone, Copy)]
pub struct Clip<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Clip<N> {
    /// The first bytes of `text`.
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; N];
        let len = text.len().min(N).min(255);
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), text.get(..len)) {
            to.copy_from_slice(from);
        }
        Self { len: u8::try_from(len).unwrap_or(0), bytes }
    }

    /// The bytes kept.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl<const N: usize> Default for Clip<N> {
    fn default() -> Self {
        Self { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> core::fmt::Debug for Clip<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_bytes().escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_keeps_the_front() {
        assert_eq!(Clip::<4>::new(b"abcdef").as_bytes(), b"abcd");
        assert_eq!(Clip::<4>::new(b"a").as_bytes(), b"a");
        assert_eq!(Clip::<4>::default().as_bytes(), b"");
    }
}
