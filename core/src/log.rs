//! The access log's fast side: fixed records, handed over in batches, formatted elsewhere.
//!
//! A worker fills a preallocated batch and swaps it against the emptied one of the reader. When the reader lags, records
//! are dropped and counted; a request never waits for the log.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use crate::clock::UnixSecs;
use crate::route::ListenerId;
use crate::stats::Outcome;

/// Records per batch.
const BATCH: usize = 512;
/// Bytes of the request target that are logged.
pub const TARGET_KEPT: usize = 112;
/// Bytes of an address text that are logged.
pub const ADDRESS_KEPT: usize = 64;

/// One request, as the log gets it.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When the request ended.
    pub at: UnixSecs,
    /// Milliseconds from the first byte of the request to the last of the response.
    pub took_millis: u64,
    /// Which listener took it.
    pub listener: ListenerId,
    /// The facts.
    pub outcome: Outcome,
    /// Request body bytes passed on.
    pub received: u64,
    /// Response body bytes passed on.
    pub sent: u64,
    /// The method as received.
    pub method: Clip<16>,
    /// The target as received, cut at [`TARGET_KEPT`] bytes.
    pub target: Clip<TARGET_KEPT>,
    /// The client's address.
    pub client: Clip<ADDRESS_KEPT>,
    /// The upstream host's address text; empty: none was chosen.
    pub upstream: Clip<ADDRESS_KEPT>,
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

/// The worker's end.
#[derive(Debug)]
pub struct LogWriter {
    batch: Vec<Record>,
    shared: Arc<Shared>,
}

/// The formatter's end.
#[derive(Debug)]
pub struct LogReader {
    batch: Vec<Record>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    full: Mutex<Vec<Record>>,
    dropped: AtomicU64,
}

/// A pair of ends for one worker.
pub fn channel() -> (LogWriter, LogReader) {
    let shared = Arc::new(Shared { full: Mutex::new(Vec::with_capacity(BATCH)), dropped: AtomicU64::new(0) });
    let writer = LogWriter { batch: Vec::with_capacity(BATCH), shared: Arc::clone(&shared) };
    (writer, LogReader { batch: Vec::with_capacity(BATCH), shared })
}

impl LogWriter {
    /// Takes a record; hands the batch over when it is full.
    #[inline]
    pub fn push(&mut self, record: Record) {
        if self.batch.len() == BATCH {
            self.flush();
        }
        if self.batch.len() == BATCH {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.batch.push(record);
        }
    }

    /// Hands over what there is, if the reader has taken the last batch. Called on every tick of the worker.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut full = match self.shared.full.try_lock() {
            Ok(full) => full,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if full.is_empty() {
            core::mem::swap(&mut *full, &mut self.batch);
        }
    }
}

impl LogReader {
    /// Takes the batch that was handed over, and the number of records dropped so far.
    pub fn take(&mut self) -> (&[Record], u64) {
        self.batch.clear();
        let mut full = self.shared.full.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::swap(&mut *full, &mut self.batch);
        drop(full);
        (&self.batch, self.shared.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16) -> Record {
        Record {
            at: UnixSecs::new(0),
            took_millis: 0,
            listener: ListenerId(0),
            outcome: Outcome { status, ..Outcome::default() },
            received: 0,
            sent: 0,
            method: Clip::new(b"GET"),
            target: Clip::new(&[b'/'; 500]),
            client: Clip::default(),
            upstream: Clip::default(),
        }
    }

    #[test]
    fn batches_change_hands_and_a_lagging_reader_costs_records_not_time() {
        let (mut writer, mut reader) = channel();
        writer.push(record(200));
        writer.flush();
        for _ in 0..BATCH + 7 {
            writer.push(record(204));
        }
        let (first, dropped) = reader.take();
        assert_eq!((first.len(), first[0].outcome.status, dropped), (1, 200, 7));
        writer.flush();
        assert_eq!(reader.take().0.len(), BATCH);
        assert_eq!(reader.take().0.len(), 0);
        assert_eq!(record(1).target.as_bytes().len(), TARGET_KEPT);
    }
}
