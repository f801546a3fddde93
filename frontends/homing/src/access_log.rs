//! The access log: one JSON object per request and line.
//!
//! A worker writes its lines into a preallocated batch and swaps it against the emptied one of the writing thread, which
//! it then wakes. When that thread lags, lines are dropped and counted; a request never waits for the log.
//!
//! ```text
//!  worker: lines ─▶ batch ──swap, when the reader has emptied it──▶ full ──swap──▶ batch ─▶ write(2): thread
//! ```

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use homing_core::log::json::{self, JsonLines};
use homing_core::log::{LogSink, Record};

use crate::config::{AccessLog, LogTarget};

/// Bytes after which a batch is handed over before the tick. Large enough for few and large writes, small enough to be
/// in the cache still when it is written.
const BATCH: usize = 128 << 10;
/// Bytes after which lines are dropped, when the thread has not taken the batch before.
const BATCH_MAX: usize = 1536 << 10;
/// When the thread tries again after a write that failed.
const AGAIN: Duration = Duration::from_millis(100);

/// The thread that writes the log.
#[derive(Debug)]
pub(crate) struct LogThread {
    ending: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// Opens the log and starts its thread. `listeners` are the names of the listeners, by id.
///
/// # Errors
/// The file cannot be opened for appending.
pub(crate) fn start(
    log: &AccessLog,
    workers: usize,
    listeners: Vec<Box<str>>,
) -> io::Result<(Vec<Box<dyn LogSink>>, LogThread)> {
    let mut out: Box<dyn Write + Send> = match &log.target {
        LogTarget::Stdout => Box::new(io::stdout()),
        // Not buffered: batches are large.
        LogTarget::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
    };
    let lines = || JsonLines::new(listeners.iter().map(|name| &**name));
    let (mut writers, mut readers): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel(lines())).unzip();
    let ending = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&ending);
    let run = move || loop {
        // Read before the batches: what is handed over until the end is still written.
        let ended = last.load(Ordering::Acquire);
        let mut failed = false;
        for reader in &mut readers {
            failed |= reader.write(&mut out).is_err();
        }
        failed |= out.flush().is_err();
        if ended {
            break;
        }
        // A batch that was handed over meanwhile has left its mark, and parking returns at once.
        if failed {
            std::thread::park_timeout(AGAIN);
        } else {
            std::thread::park();
        }
    };
    let handle = std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
    for writer in &mut writers {
        writer.thread = Some(handle.thread().clone());
    }
    let sinks = writers.into_iter().map(|writer| Box::new(writer) as Box<dyn LogSink>).collect();
    Ok((sinks, LogThread { ending, handle }))
}

impl LogThread {
    /// Writes what there is and ends. The workers have ended before.
    pub(crate) fn finish(self) {
        self.ending.store(true, Ordering::Release);
        self.handle.thread().unpark();
        let _ = self.handle.join();
    }
}

/// The worker's end.
#[derive(Debug)]
struct LogWriter {
    lines: JsonLines,
    batch: Vec<u8>,
    shared: Arc<Shared>,
    /// Whom to wake when a batch was handed over.
    thread: Option<Thread>,
}

/// The writing thread's end.
#[derive(Debug)]
struct LogReader {
    batch: Vec<u8>,
    /// Bytes of the batch that were written.
    written: usize,
    dropped: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    full: Mutex<Vec<u8>>,
    dropped: AtomicU64,
}

/// A pair of ends for one worker.
fn channel(lines: JsonLines) -> (LogWriter, LogReader) {
    let batch = || Vec::with_capacity(BATCH_MAX + lines.longest() + json::DROPPED_MAX);
    let shared = Arc::new(Shared { full: Mutex::new(batch()), dropped: AtomicU64::new(0) });
    let reader = LogReader { batch: batch(), written: 0, dropped: 0, shared: Arc::clone(&shared) };
    (LogWriter { batch: batch(), lines, shared, thread: None }, reader)
}

impl LogSink for LogWriter {
    #[inline]
    fn push(&mut self, record: &Record<'_>) {
        if self.batch.len() >= BATCH {
            self.flush();
        }
        if self.batch.len() >= BATCH_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.lines.write(record, &mut self.batch);
        }
    }

    /// Hands over what there is, if the reader has taken the last batch.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut full = match self.shared.full.try_lock() {
            Ok(full) => full,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !full.is_empty() {
            return;
        }
        core::mem::swap(&mut *full, &mut self.batch);
        drop(full);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // The worker's last words: the writing thread is still there, and nobody waits for this thread's requests.
        let mut full = self.shared.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.append(&mut self.batch);
        drop(full);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl LogReader {
    /// Writes what is left of the last batch, then the one that was handed over.
    ///
    /// # Errors
    /// When `out` does not take it, because the disk is full, say. That must not stop the proxy, and no line may be torn:
    /// the next call goes on where this one had to stop.
    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.finish_batch(out)?;
        self.take();
        self.finish_batch(out)
    }

    fn finish_batch(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while let Some(rest) = self.batch.get(self.written..).filter(|rest| !rest.is_empty()) {
            match out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the batch that was handed over, and notes in it how many records were lost since the last time.
    fn take(&mut self) {
        self.batch.clear();
        self.written = 0;
        let mut full = self.shared.full.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::swap(&mut *full, &mut self.batch);
        drop(full);
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped != self.dropped {
            json::dropped(dropped - self.dropped, &mut self.batch);
            self.dropped = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use homing_core::affinity::Miss;
    use homing_core::clock::UnixSecs;
    use homing_core::rng::Rng;
    use homing_core::route::ListenerId;
    use homing_core::stats::{Ending, Fate, Outcome, Scope, Stream};
    use serde::Serialize;

    use super::*;

    const LISTENERS: [&str; 2] = ["web", "caf\u{e9} \"x\"\n"];

    fn record(outcome: &Outcome) -> Record<'_> {
        Record {
            at: UnixSecs::new(0),
            took_millis: 0,
            listener: ListenerId(0),
            outcome,
            received: 0,
            sent: 0,
            method: b"GET",
            target: b"/",
            client: b"",
            upstream: b"",
        }
    }

    fn status(status: u16) -> Outcome {
        Outcome { status, ..Outcome::default() }
    }

    fn ends() -> (LogWriter, LogReader) {
        channel(JsonLines::new(LISTENERS))
    }

    /// What the log is meant to hold, by way of a serialiser.
    #[derive(Serialize)]
    struct Line<'r> {
        time: u64,
        listener: &'r str,
        client: Cow<'r, str>,
        method: Cow<'r, str>,
        target: Cow<'r, str>,
        status: u16,
        reason: &'static str,
        ending: &'static str,
        upstream: Cow<'r, str>,
        tries: u8,
        minted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<&'static str>,
        strict: bool,
        received: u64,
        sent: u64,
        ms: u64,
    }

    impl<'r> Line<'r> {
        fn of(record: &Record<'r>) -> Self {
            let outcome = record.outcome;
            Self {
                time: record.at.get(),
                listener: LISTENERS.get(record.listener.0 as usize).map_or("", |name| name),
                client: String::from_utf8_lossy(record.client),
                method: String::from_utf8_lossy(record.method),
                target: String::from_utf8_lossy(record.target),
                status: outcome.status,
                reason: outcome.reason(),
                ending: outcome.ending.as_str(),
                upstream: String::from_utf8_lossy(record.upstream),
                tries: outcome.tries,
                minted: outcome.minted,
                stream: outcome.stream.map(Stream::as_str),
                strict: outcome.strict,
                received: record.received,
                sent: record.sent,
                ms: record.took_millis,
            }
        }
    }

    /// Texts of every kind: plain, with what JSON escapes, with UTF-8 whole, cut and broken.
    fn drawn_text(rng: &mut Rng, most: u32) -> Vec<u8> {
        const BITS: [&[u8]; 9] = [
            b"a",
            b"/x-y",
            b"\"",
            b"\\",
            b"\n\r\t\x08\x0c",
            "\u{e9}\u{20ac}\u{1f3e0}".as_bytes(),
            b"\x7f",
            b"\xf0\x9f",
            b"\xc0\xaf",
        ];
        let length = rng.below(most) as usize;
        let mut text = Vec::new();
        while text.len() < length {
            match rng.below(12) {
                drawn @ 0..=8 => text.extend_from_slice(BITS[drawn as usize]),
                9 => text.push(rng.below(256) as u8),
                _ => text.extend_from_slice(b"/plain/path"),
            }
        }
        text.truncate(length);
        text
    }

    fn drawn_number(rng: &mut Rng) -> u64 {
        let bits = rng.below(65);
        let high = u64::from(rng.below(u32::MAX)) << 32;
        (high | u64::from(rng.below(u32::MAX))).checked_shr(bits).unwrap_or(0)
    }

    #[test]
    fn lines_are_what_a_serialiser_writes() {
        let seed = 20_261_123;
        let mut rng = Rng::seeded(seed);
        let mut lines = JsonLines::new(LISTENERS);
        for nth in 0..20_000 {
            let texts: [Vec<u8>; 4] = [16, 112, 64, 64].map(|most| drawn_text(&mut rng, most));
            let [method, target, client, upstream] = &texts;
            let misses = [None, Some(Miss::Absent), Some(Miss::Expired), Some(Miss::Gone)];
            let outcome = Outcome {
                scope: [Scope::Unmanaged, Scope::Disabled, Scope::OutOfScope, Scope::Active]
                    [rng.below(4) as usize],
                miss: misses[rng.below(4) as usize],
                fate: [Fate::Undecided, Fate::Pinned, Fate::Placed, Fate::Unplaced][rng.below(4) as usize],
                strict: rng.below(2) == 0,
                minted: rng.below(2) == 0,
                stream: Stream::ALL.get(rng.below(12) as usize).copied(),
                status: rng.below(1000) as u16,
                tries: rng.below(256) as u8,
                ending: Ending::ALL[rng.below(10) as usize],
                ..Outcome::default()
            };
            let record = Record {
                at: UnixSecs::new(drawn_number(&mut rng) * u64::from(rng.below(3) > 0)),
                took_millis: drawn_number(&mut rng),
                listener: ListenerId(rng.below(3)),
                outcome: &outcome,
                received: drawn_number(&mut rng),
                sent: drawn_number(&mut rng),
                method,
                target,
                client,
                upstream,
            };
            let mut line = Vec::new();
            lines.write(&record, &mut line);
            let mut expected = serde_json::to_string(&Line::of(&record)).unwrap();
            expected.push('\n');
            assert_eq!(String::from_utf8(line).unwrap(), expected, "seed {seed}, line {nth}: {record:?}");
        }
    }

    /// The lines that were handed over, as they are written.
    fn written(reader: &mut LogReader) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        reader.write(&mut out).unwrap();
        out.split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn batches_change_hands_and_a_lagging_reader_costs_records_not_time() {
        let (mut writer, mut reader) = ends();
        let capacity = writer.batch.capacity();
        writer.push(&record(&status(200)));
        writer.flush();
        let mut line = Vec::new();
        writer.lines.write(&record(&status(204)), &mut line);
        let held = BATCH_MAX.div_ceil(line.len());
        for _ in 0..held + 7 {
            writer.push(&record(&status(204)));
        }
        let first = written(&mut reader);
        assert_eq!(
            (first.len(), first[0]["status"].as_u64(), first[1]["dropped"].as_u64()),
            (2, Some(200), Some(7))
        );
        writer.flush();
        assert_eq!(written(&mut reader).len(), held);
        assert_eq!(written(&mut reader).len(), 0);
        for batch in [&writer.batch, &reader.batch, &*reader.shared.full.lock().unwrap()] {
            assert_eq!(batch.capacity(), capacity, "a batch has grown");
        }
        writer.push(&record(&status(500)));
        drop(writer);
        assert_eq!(written(&mut reader).len(), 1, "a worker's last records are not lost");
    }

    #[test]
    fn a_full_batch_does_not_wait_for_the_tick() {
        let (mut writer, mut reader) = ends();
        while writer.shared.full.lock().unwrap().is_empty() {
            writer.push(&record(&status(200)));
        }
        let handed = reader.shared.full.lock().unwrap().len();
        assert!((BATCH..BATCH + 1024).contains(&handed), "{handed} bytes were handed over");
        assert!(!written(&mut reader).is_empty());
    }

    /// Takes so many bytes, then is full until it is given more room.
    struct Disk {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(100);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_tears_no_line() {
        let (mut writer, mut reader) = ends();
        let mut disk = Disk { taken: Vec::new(), room: 250 };
        let mut expected = Vec::new();
        let mut lines = JsonLines::new(LISTENERS);
        for code in [200, 201, 202] {
            lines.write(&record(&status(code)), &mut expected);
            writer.push(&record(&status(code)));
            writer.flush();
            if code == 200 {
                assert!(reader.write(&mut disk).is_ok());
            } else {
                assert!(reader.write(&mut disk).is_err());
            }
        }
        disk.room = usize::MAX;
        drop(writer);
        reader.write(&mut disk).unwrap();
        assert_eq!(String::from_utf8(disk.taken), String::from_utf8(expected));
    }
}
