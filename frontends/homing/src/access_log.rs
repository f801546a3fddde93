//! The access log: one JSON object per request and line.
//!
//! A worker fills a preallocated batch and swaps it against the emptied one of the writing thread. When that lags,
//! records are dropped and counted; a request never waits for the log.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use homing_core::log::{LogSink, Record};
use homing_core::stats::Stream;
use serde::Serialize;

use crate::config::{AccessLog, LogTarget};

/// Records per batch.
const BATCH: usize = 4096;
/// How often the writing thread looks for batches.
const PERIOD: Duration = Duration::from_millis(20);

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
        LogTarget::File(path) => {
            Box::new(BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?))
        }
    };
    let (writers, mut readers): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel()).unzip();
    let ending = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&ending);
    let run = move || loop {
        // Read before the batches: what is handed over until the end is still written.
        let ended = last.load(Ordering::Acquire);
        for reader in &mut readers {
            reader.write(&mut out, &listeners);
        }
        // A full disk must not stop the proxy; the next batch tries again.
        let _ = out.flush();
        if ended {
            break;
        }
        std::thread::sleep(PERIOD);
    };
    let handle = std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
    let sinks = writers.into_iter().map(|writer| Box::new(writer) as Box<dyn LogSink>).collect();
    Ok((sinks, LogThread { ending, handle }))
}

impl LogThread {
    /// Writes what there is and ends. The workers have ended before.
    pub(crate) fn finish(self) {
        self.ending.store(true, Ordering::Release);
        let _ = self.handle.join();
    }
}

/// One line of the log. Written without a value in between: nothing is put on the heap for a line.
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
    /// Only where an event stream could have been rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    strict: bool,
    received: u64,
    sent: u64,
    ms: u64,
}

impl<'r> Line<'r> {
    fn of(record: &'r Record, listeners: &'r [Box<str>]) -> Self {
        let outcome = &record.outcome;
        Self {
            time: record.at.get(),
            listener: listeners.get(record.listener.0 as usize).map_or("", |name| name),
            client: String::from_utf8_lossy(record.client.as_bytes()),
            method: String::from_utf8_lossy(record.method.as_bytes()),
            target: String::from_utf8_lossy(record.target.as_bytes()),
            status: outcome.status,
            reason: outcome.reason(),
            ending: outcome.ending.as_str(),
            upstream: String::from_utf8_lossy(record.upstream.as_bytes()),
            tries: outcome.tries,
            minted: outcome.minted,
            stream: outcome.stream.map(Stream::as_str),
            strict: outcome.strict,
            received: record.received,
            sent: record.sent,
            ms: record.took_millis,
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct LogWriter {
    batch: Vec<Record>,
    shared: Arc<Shared>,
}

/// The formatter's end.
#[derive(Debug)]
pub(crate) struct LogReader {
    batch: Vec<Record>,
    dropped: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    full: Mutex<Vec<Record>>,
    dropped: AtomicU64,
}

/// A pair of ends for one worker.
pub(crate) fn channel() -> (LogWriter, LogReader) {
    let shared = Arc::new(Shared { full: Mutex::new(Vec::with_capacity(BATCH)), dropped: AtomicU64::new(0) });
    let writer = LogWriter { batch: Vec::with_capacity(BATCH), shared: Arc::clone(&shared) };
    (writer, LogReader { batch: Vec::with_capacity(BATCH), dropped: 0, shared })
}

impl LogSink for LogWriter {
    #[inline]
    fn push(&mut self, record: Record) {
        if self.batch.len() == BATCH {
            self.flush();
        }
        if self.batch.len() == BATCH {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.batch.push(record);
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
        if full.is_empty() {
            core::mem::swap(&mut *full, &mut self.batch);
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // The worker's last words: the writing thread is still there, and nobody waits for this thread's requests.
        let mut full = self.shared.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.append(&mut self.batch);
    }
}

impl LogReader {
    /// Writes the batch that was handed over, and says how many records were lost since the last time.
    fn write(&mut self, out: &mut dyn Write, listeners: &[Box<str>]) {
        let (records, dropped) = self.take();
        for record in records {
            let _ = Line::of(record, listeners).write(out);
        }
        if dropped != self.dropped {
            // By hand: a lagging log is no time to ask for memory.
            let _ = writeln!(out, "{{\"dropped\":{}}}", dropped - self.dropped);
            self.dropped = dropped;
        }
    }

    /// Takes the batch that was handed over, and the number of records dropped so far.
    pub(crate) fn take(&mut self) -> (&[Record], u64) {
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
    use homing_core::clock::UnixSecs;
    use homing_core::log::Clip;
    use homing_core::route::ListenerId;
    use homing_core::stats::Outcome;

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
    fn a_line_is_json_whatever_the_client_sent() {
        let record = Record { target: Clip::new(b"/\"\xff\n"), ..record(200) };
        let mut line = Vec::new();
        Line::of(&record, &["web".into()]).write(&mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((read["listener"].as_str(), read["status"].as_u64()), (Some("web"), Some(200)));
        assert_eq!(line.find('\n'), Some(line.len() - 1));
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
        writer.push(record(500));
        drop(writer);
        assert_eq!(reader.take().0.len(), 1, "a worker's last records are not lost");
    }
}
