//! Reading the configuration again: on SIGHUP, and when its files change. The same thread does once a second what no worker
//! should: it tells of pauses in accepting, and gives memory back after a crowd (`crowd`).
//!
//! A thread of its own does it, since names are resolved and that can take its time. Files are looked at by their
//! metadata, once a period (`reload.watch`), rather than by the kernel's notices: a look follows symbolic links and
//! sees a file that was renamed into place, a ConfigMap whose `..data` link was swapped, and a network share alike. A
//! change counts once the files have stood still from one look to the next, so that a file which is being written is
//! not read half.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use homing_core::gate::Full;
use homing_core::stats::Counters;
use tracing::{debug, error, info, warn};

use crate::config::{self, ConfigError, Runtime, Settings};
use crate::control::{Changes, ControlError, Handle, ReloadReason};
use crate::crowd::{Crowd, LOOK};
use crate::summary;
use crate::trim::trim;

/// Where the configuration came from, to be read again. Make it before the first reading: what the files were then is
/// what later looks are compared with.
#[derive(Debug)]
pub struct Source {
    /// `--workers`, which wins over the files.
    pub workers: Option<usize>,
    /// `--runtime`, which wins over the files.
    pub runtime: Option<Runtime>,
    /// Whether the file is Envoy's bootstrap.
    is_bootstrap: bool,
    watch: Watch,
}

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file has changed.
    File,
}

/// The thread that keeps a running service in step with its files, and looks after what no worker should: it tells of
/// pauses, and gives memory back. It ends when the sender does.
pub(crate) struct Keeper {
    source: Source,
    handle: Handle,
    period: Duration,
    pauses: Pauses,
    crowd: Crowd,
}

/// The least time between two lines about pauses of accepting.
const QUIET: Duration = Duration::from_secs(10);

impl Source {
    /// These files; none: the configuration comes from options, and there is nothing to read again.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { workers: None, runtime: None, is_bootstrap: false, watch: Watch::new(files) }
    }

    /// This bootstrap of Envoy's.
    pub fn bootstrap(file: PathBuf) -> Self {
        Self { is_bootstrap: true, ..Self::new(vec![file]) }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// Every mistake that can be found.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        let settings = match self.watch.files.as_slice() {
            [file] if self.is_bootstrap => config::load_bootstrap(file),
            files => config::load(files),
        };
        Ok(self.amend(settings?))
    }

    /// Lets the options win.
    pub fn amend(&self, mut settings: Settings) -> Settings {
        settings.workers = self.workers.unwrap_or(settings.workers);
        settings.runtime = self.runtime.unwrap_or(settings.runtime);
        settings
    }
}

impl Trigger {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::File => "file",
        }
    }
}

impl Keeper {
    /// Starts the thread, which looks at the files every `period` (zero: never). Each message to the sender reads the
    /// configuration again.
    pub(crate) fn start(
        source: Source,
        period: Duration,
        handle: Handle,
        counters: Vec<Arc<Counters>>,
    ) -> io::Result<Sender<Trigger>> {
        let (orders, heard) = mpsc::channel();
        let keeper = Self { source, handle, period, pauses: Pauses::new(counters), crowd: Crowd::default() };
        // Not joined: the program must not wait for a resolver to end.
        thread::Builder::new().name("reload".to_owned()).spawn(move || keeper.run(&heard))?;
        Ok(orders)
    }

    fn run(mut self, orders: &Receiver<Trigger>) {
        let mut next_look = Instant::now() + self.period;
        let mut next_round = Instant::now() + LOOK;
        loop {
            let until = if self.period.is_zero() { next_round } else { next_look.min(next_round) };
            let trigger = match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(trigger) => {
                    // Signals that came meanwhile ask for the same.
                    while orders.try_recv().is_ok() {}
                    self.source.watch.take_as_seen();
                    Some(trigger)
                }
                Err(RecvTimeoutError::Timeout) => {
                    let due = !self.period.is_zero() && Instant::now() >= next_look;
                    (due && self.source.watch.look()).then_some(Trigger::File)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(trigger) = trigger {
                self.reload(trigger);
            }
            let now = Instant::now();
            if trigger.is_some() || now >= next_look {
                next_look = now + self.period;
            }
            if now >= next_round {
                self.pauses.tell(&self.handle, now);
                self.give_back();
                next_round = now + LOOK;
            }
        }
    }

    /// Gives memory back to the system when a crowd has come to rest or has gone.
    fn give_back(&mut self) {
        let open = self.handle.connections();
        if self.crowd.look(open, self.handle.snapshot().limits.link_idle_timeout) {
            let begun = Instant::now();
            trim();
            debug!(open, took_micros = begun.elapsed().as_micros(), "gave free memory back to the system");
        }
    }

    fn reload(&mut self, trigger: Trigger) {
        let by = trigger.as_str();
        if self.source.watch.files.is_empty() {
            let reason = ReloadReason::Unchanged;
            self.handle.count(reason);
            info!(
                reason = reason.as_str(),
                by, "not reloaded: the configuration came from options, not from files"
            );
            return;
        }
        let settings = match self.source.load() {
            Ok(settings) => settings,
            Err(error) => return self.rejected(&error, by),
        };
        let period = settings.watch;
        match self.handle.reload(settings) {
            Ok(changes) => {
                self.period = period;
                applied(&changes, by);
            }
            Err(error @ ControlError::Draining) => ignored(by, &error),
            Err(error) => error!(by, "not reloaded: {error}"),
        }
    }

    fn rejected(&self, error: &ConfigError, by: &str) {
        let reason = ReloadReason::Rejected;
        self.handle.count(reason);
        for problem in error.problems() {
            error!(reason = reason.as_str(), by, "{problem}");
        }
        let count = summary::count(error.problems().len(), "problem");
        error!(reason = reason.as_str(), by, "not reloaded: {count}; the old configuration stays in force");
    }
}

fn applied(changes: &Changes, by: &str) {
    let (reason, generation) = (changes.reason().as_str(), changes.generation);
    for restart in &changes.restart {
        let field = restart.field.as_str();
        warn!(reason = "reload.restart_needed", field, "{restart}");
    }
    info!(reason, by, generation, "reloaded: {changes}");
}

/// Says that a reload came too late.
pub(crate) fn ignored(by: &str, error: &ControlError) {
    warn!(reason = ReloadReason::Draining.as_str(), by, "not reloaded: {error}");
}

/// What is known of the files.
#[derive(Debug)]
struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Print>>,
    /// Another state, at the last look.
    moving: Option<Vec<Option<Print>>>,
}

/// What differs when a file was written or replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Print {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Takes the files as they are now for what is in force.
    fn new(files: Vec<PathBuf>) -> Self {
        let seen = prints(&files);
        Self { files, seen, moving: None }
    }

    /// The files are being read: what they are now is no news.
    fn take_as_seen(&mut self) {
        self.seen = prints(&self.files);
        self.moving = None;
    }

    /// Whether the files differ from what was seen and have stood still since the last look. Said once.
    fn look(&mut self) -> bool {
        let now = prints(&self.files);
        if now == self.seen {
            self.moving = None;
            return false;
        }
        if self.moving.as_ref() != Some(&now) {
            self.moving = Some(now);
            return false;
        }
        self.seen = now;
        self.moving = None;
        true
    }
}

/// `None`: the file is not there, or cannot be looked at.
fn prints(files: &[PathBuf]) -> Vec<Option<Print>> {
    let print = |file: &PathBuf| {
        let data = fs::metadata(file).ok()?;
        Some(Print {
            file: (data.dev(), data.ino()),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    };
    files.iter().map(print).collect()
}

/// Tells of pauses of accepting, which are counted by the workers.
struct Pauses {
    counters: Vec<Arc<Counters>>,
    told: [u64; Full::ALL.len()],
    quiet_until: Option<Instant>,
}

impl Pauses {
    fn new(counters: Vec<Arc<Counters>>) -> Self {
        Self { counters, told: [0; Full::ALL.len()], quiet_until: None }
    }

    fn tell(&mut self, handle: &Handle, now: Instant) {
        if self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        for full in Full::ALL {
            let each = self.counters.iter().filter_map(|counters| counters.paused.get(full as usize));
            let count = each.map(homing_core::stats::Counter::get).sum::<u64>();
            let Some(told) = self.told.get_mut(full as usize) else { continue };
            let more = count - std::mem::replace(told, count);
            if more > 0 {
                self.quiet_until = Some(now + QUIET);
                let (reason, open) = (full.as_str(), handle.connections());
                warn!(reason, open, "accepting paused {more} times: a cap on client connections is reached");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder of one test, which is empty.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("homing-reload-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_change_counts_once_the_file_stands_still() {
        let folder = folder("write");
        let file = folder.join("f");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        assert!(!watch.look());
        fs::write(&file, "half of t").unwrap();
        assert!(!watch.look(), "it may still be being written");
        fs::write(&file, "half of two and the rest").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        assert!(!watch.look(), "said once");
        fs::write(&file, "three").unwrap();
        watch.take_as_seen();
        assert!(!watch.look() && !watch.look());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_rename_into_place_and_a_swapped_link_are_changes() {
        let folder = folder("swap");
        for (name, text) in [("first", "same"), ("second", "same")] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("homing.yaml"), text).unwrap();
        }
        // As Kubernetes mounts a ConfigMap.
        symlink("first", folder.join("..data")).unwrap();
        symlink("..data/homing.yaml", folder.join("homing.yaml")).unwrap();
        let mut watch = Watch::new(vec![folder.join("homing.yaml")]);
        symlink("second", folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        assert!(!watch.look() && watch.look());
        fs::write(folder.join("new"), "same").unwrap();
        fs::rename(folder.join("new"), folder.join("second/homing.yaml")).unwrap();
        assert!(!watch.look() && watch.look());
        fs::remove_file(folder.join("second/homing.yaml")).unwrap();
        assert!(!watch.look() && watch.look(), "a file that is gone is a change");
        fs::remove_dir_all(&folder).unwrap();
    }
}
