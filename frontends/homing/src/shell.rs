//! The choice of a shell: what the workers run on; and their life, from the first socket to the last connection.

use core::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use homing_core::log::LogSink;
use homing_core::route::ListenerId;
use homing_core::stats::Counters;
use homing_core::worker::{Control, Phase};
pub use homing_shell::Clock;
use homing_shell::Job;
use homing_shell::drain::Door;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::Socket;
use tracing::{info, warn};

use crate::access_log::{self, LogThread};
use crate::config::{BindAddress, Runtime, Settings};
use crate::control::{ControlError, Handle, ReloadReason};
use crate::listen;
use crate::reload::{self, Keeper, Source, Trigger};

/// What a shell reports once it listens.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What it runs on, in one sentence: the runtime, and why not a better one.
    pub runtime: String,
    /// How many workers were started.
    pub workers: usize,
    /// Where it listens, in the order of [`Settings::listeners`], with the ports that the kernel chose.
    pub addresses: Vec<BindAddress>,
}

/// Why a shell could not run.
#[derive(Debug)]
pub enum ShellError {
    /// The runtime that was asked for cannot be used here.
    Runtime {
        /// Its name.
        runtime: &'static str,
        /// What the system said.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A listener cannot be opened.
    Listen {
        /// The listener's name.
        listener: Box<str>,
        /// Where it was to listen.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The access log cannot be written.
    AccessLog(io::Error),
    /// Signals cannot be received, or a thread cannot be started.
    System(io::Error),
    /// A worker ended before its time.
    Worker(String),
    /// Connections were still open when the time for draining was over, or a second signal came.
    CutOff,
}

/// A shell, as this machine can run it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shell {
    #[cfg(target_os = "linux")]
    Monoio(homing_monoio::Ring),
    Tokio,
    Mio,
}

/// What the main thread waits for.
enum Event {
    Signal(i32),
    Ended(Result<(), String>),
}

/// What an embedding program sets itself, so that a run can be repeated: recordings are replayed with it.
pub struct Embedding {
    /// What time it is for every worker.
    pub clock: Clock,
    /// The first worker's random choices follow from it; further workers count up from it.
    pub seed: u64,
    /// Takes the first worker's records, in the place of a log on disk.
    pub log: Box<dyn LogSink>,
}

/// A program in service: its workers, and the way to end them.
#[derive(Debug)]
pub struct Service {
    /// What it reported when it began to listen.
    pub ready: Ready,
    handle: Handle,
    control: Arc<Control>,
    counters: Vec<Arc<Counters>>,
    workers: Vec<JoinHandle<()>>,
    log: Option<LogThread>,
    files: Vec<listen::SocketFile>,
}

/// Runs `settings` until the process is told to end: the first SIGTERM or SIGINT drains, a second one stops. With a
/// `source`, which `settings` came from, it is read again on SIGHUP and when its files change. `ready` is called once,
/// when all listeners accept.
///
/// # Errors
/// When no shell can be started, a listener cannot be opened, or connections had to be cut off at the end.
pub fn launch(
    settings: Settings,
    source: Option<Source>,
    ready: &mut dyn FnMut(&Ready),
) -> Result<(), ShellError> {
    let (events, news) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(ShellError::System)?;
    if source.is_some() {
        signals.add_signal(SIGHUP).map_err(ShellError::System)?;
    }
    let period = settings.watch;
    let service = Service::start(settings, Some(events.clone()), None)?;
    let keeper = match source {
        Some(source) => {
            let counters = service.counters.clone();
            Some(Keeper::start(source, period, service.handle(), counters).map_err(ShellError::System)?)
        }
        None => None,
    };
    ready(&service.ready);
    let handle = signals.handle();
    let listener = std::thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    });
    let outcome = service.attend(&news, keeper.as_ref());
    let cut_off = service.counters.iter().map(|counters| counters.cut_off()).sum::<u64>();
    handle.close();
    let _ = listener.join();
    service.finish();
    if cut_off > 0 && outcome.is_ok() {
        return Err(ShellError::CutOff);
    }
    outcome
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock, seed, log: _ } = self;
        f.debug_struct("Embedding").field("clock", clock).field("seed", seed).finish_non_exhaustive()
    }
}

impl Service {
    /// Opens the listeners and starts the workers.
    fn start(
        settings: Settings,
        events: Option<Sender<Event>>,
        embedding: Option<Embedding>,
    ) -> Result<Self, ShellError> {
        let (shell, sentence) = choose(settings.runtime)?;
        let mut sockets: Vec<Vec<(ListenerId, Socket)>> = Vec::new();
        sockets.resize_with(settings.workers, Vec::new);
        let mut addresses = Vec::new();
        let mut files = Vec::new();
        for bind in &settings.listeners {
            let failed = |error| ShellError::Listen {
                listener: bind.name.clone(),
                address: bind.address.to_string(),
                error,
            };
            let (opened, address) = listen::open(&bind.address, settings.workers).map_err(failed)?;
            files.extend(listen::SocketFile::at(&address));
            addresses.push(address);
            for (own, socket) in sockets.iter_mut().zip(opened) {
                own.push((bind.id, socket));
            }
        }
        let (mut sinks, log) = match &settings.access_log {
            Some(log) => {
                let names = settings.listeners.iter().map(|bind| bind.name.clone()).collect();
                let (sinks, thread) =
                    access_log::start(log, settings.workers, names).map_err(ShellError::AccessLog)?;
                (sinks.into_iter().map(Some).collect(), Some(thread))
            }
            None => (std::iter::repeat_with(|| None).take(settings.workers).collect::<Vec<_>>(), None),
        };
        let (clock, base) = match embedding {
            Some(Embedding { clock, seed, log }) => {
                if let Some(first) = sinks.first_mut() {
                    *first = Some(log);
                }
                (clock, Some(seed))
            }
            None => (Clock::start(), None),
        };
        let ready = Ready { runtime: sentence, workers: settings.workers, addresses };
        let (handle, control) = Handle::new(settings);
        let mut service =
            Self { ready, handle, control, counters: Vec::new(), workers: Vec::new(), log, files };
        let doors = Door::of_all(sockets.len());
        for (nth, ((listeners, sink), door)) in sockets.into_iter().zip(sinks).zip(doors).enumerate() {
            let job = Job {
                listeners,
                control: Arc::clone(&service.control),
                door,
                counters: Arc::default(),
                log: sink,
                seed: base.map_or_else(|| seed(nth), |base| base.wrapping_add(nth as u64)),
                clock,
            };
            service.spawn(nth, shell, job, events.clone())?;
        }
        Ok(service)
    }

    /// Starts `settings` in this process without touching its signals; for the demo and for tests.
    ///
    /// # Errors
    /// When no shell can be started or a listener cannot be opened.
    pub fn embedded(settings: Settings) -> Result<Self, ShellError> {
        Self::start(settings, None, None)
    }

    /// The same, with a clock, a seed and a log of the caller's.
    ///
    /// # Errors
    /// As for [`Service::embedded`].
    pub fn embedded_with(settings: Settings, embedding: Embedding) -> Result<Self, ShellError> {
        Self::start(settings, None, Some(embedding))
    }

    /// The counters of each worker.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// A hold on the service: reloads it, and sets the state of its hosts. It may outlive the service; then it changes
    /// nothing.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Drains and waits for the workers to end.
    pub fn end(self) {
        self.control.advance(Phase::Drain);
        self.finish();
    }

    /// Waits for the workers to end, and does what signals say meanwhile.
    fn attend(&self, news: &Receiver<Event>, keeper: Option<&Sender<Trigger>>) -> Result<(), ShellError> {
        let mut outcome = Ok(());
        let mut running = self.workers.len();
        while running > 0 {
            match news.recv() {
                Ok(Event::Signal(SIGHUP)) if self.control.phase() != Phase::Run => {
                    self.handle.count(ReloadReason::Draining);
                    reload::ignored("signal", &ControlError::Draining);
                }
                Ok(Event::Signal(SIGHUP)) => {
                    let _ = keeper.map(|keeper| keeper.send(Trigger::Signal));
                }
                Ok(Event::Signal(_)) if self.control.phase() == Phase::Run => {
                    info!(
                        "draining: no new connections, requests in flight finish; signal again to stop at once"
                    );
                    self.control.advance(Phase::Drain);
                }
                Ok(Event::Signal(_)) => {
                    warn!("stopping at once");
                    outcome = Err(ShellError::CutOff);
                    self.control.advance(Phase::Stop);
                }
                Ok(Event::Ended(result)) => {
                    running -= 1;
                    if let Err(reason) = result {
                        // One worker less would serve a part of the connections only: better to end and be restarted.
                        outcome = Err(ShellError::Worker(reason));
                        self.control.advance(Phase::Stop);
                    }
                }
                Err(_) => break,
            }
        }
        outcome
    }

    fn spawn(
        &mut self,
        nth: usize,
        shell: Shell,
        job: Job,
        events: Option<Sender<Event>>,
    ) -> Result<(), ShellError> {
        self.counters.push(Arc::clone(&job.counters));
        let worker = move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shell.run(job)));
            let result = match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("it panicked; this is a bug in Homing".to_owned()),
            };
            if let Some(events) = events {
                // Nobody listens any more when the program is ending.
                let _ = events.send(Event::Ended(result));
            }
        };
        let handle = std::thread::Builder::new().name(format!("worker-{nth}")).spawn(worker);
        self.workers.push(handle.map_err(ShellError::System)?);
        Ok(())
    }

    fn finish(self) {
        for worker in self.workers {
            let _ = worker.join();
        }
        if let Some(log) = self.log {
            log.finish();
        }
        self.files.into_iter().for_each(listen::SocketFile::remove);
    }
}

impl Shell {
    fn run(self, job: Job) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Monoio(ring) => homing_monoio::run(job, ring),
            Self::Tokio => homing_tokio::run(job),
            Self::Mio => homing_mio::run(job),
        }
    }
}

/// The shell for `runtime`, and one sentence on what it is.
fn choose(runtime: Runtime) -> Result<(Shell, String), ShellError> {
    match runtime {
        Runtime::Mio => Ok((Shell::Mio, "mio".to_owned())),
        Runtime::Tokio => Ok((Shell::Tokio, "tokio".to_owned())),
        Runtime::Monoio | Runtime::Auto => ring(runtime),
    }
}

/// The best ring that the kernel permits; without one, `auto` steps down to mio and an explicit `monoio` fails.
#[cfg(target_os = "linux")]
fn ring(runtime: Runtime) -> Result<(Shell, String), ShellError> {
    use homing_monoio::{Ring, probe};
    let mut reason = String::new();
    for ring in [Ring::Deferred, Ring::Cooperative] {
        match probe(ring) {
            Ok(()) => {
                let sentence = format!("monoio on io_uring, {} completions", ring.as_str());
                return Ok((Shell::Monoio(ring), sentence));
            }
            Err(error) => {
                if !reason.is_empty() {
                    reason.push_str("; ");
                }
                reason.push_str(&format!("{} completions (Linux {}): {error}", ring.as_str(), ring.kernel()));
            }
        }
    }
    if runtime == Runtime::Auto {
        return Ok((Shell::Mio, format!("mio on epoll, since {reason}")));
    }
    Err(ShellError::Runtime {
        runtime: "monoio",
        reason,
        remedy: "use Linux 6.1 or later (5.19 at least), see that sysctl kernel.io_uring_disabled is 0 and that the \
                 container's seccomp profile permits io_uring_setup, io_uring_enter and io_uring_register; or choose \
                 the runtime auto, tokio or mio",
    })
}

#[cfg(not(target_os = "linux"))]
fn ring(runtime: Runtime) -> Result<(Shell, String), ShellError> {
    if runtime == Runtime::Auto {
        return Ok((Shell::Mio, "mio".to_owned()));
    }
    Err(ShellError::Runtime {
        runtime: "monoio",
        reason: "io_uring is a part of Linux".to_owned(),
        remedy: "choose the runtime auto, tokio or mio",
    })
}

/// A seed that differs between workers and runs.
fn seed(nth: usize) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let low = u64::try_from(since & u128::from(u64::MAX)).unwrap_or(0);
    low ^ (u64::from(std::process::id()) << 32) ^ (nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime { runtime, reason, remedy } => {
                write!(f, "the runtime {runtime} cannot be used here: {reason}. Remedy: {remedy}")
            }
            Self::Listen { listener, address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "listener {listener}: {address} is already in use; stop what listens there, or choose another"
                )
            }
            Self::Listen { listener, address, error } => {
                write!(f, "listener {listener}: cannot listen on {address}: {error}")
            }
            Self::AccessLog(error) => write!(f, "the access log cannot be opened: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::Worker(reason) => write!(f, "a worker ended: {reason}"),
            Self::CutOff => {
                write!(f, "connections were cut off: they were still open when it was time to stop")
            }
        }
    }
}

impl core::error::Error for ShellError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_finds_a_shell_and_says_which() {
        let (_, sentence) = choose(Runtime::Auto).unwrap();
        assert!(sentence.starts_with("monoio") || sentence.starts_with("mio"), "{sentence}");
    }

    #[test]
    fn seeds_differ_between_workers() {
        assert_ne!(seed(0) & 0xffff_ffff_0000_0000, seed(1) & 0xffff_ffff_0000_0000);
    }
}
