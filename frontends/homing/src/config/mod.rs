//! Configuration: files or options on the command line, to one [`Settings`] with the core's snapshot in it.
//!
//! ```text
//! YAML ─▶ tree (every node knows its place) ─▶ homing │ gloo (models) ─▶ compile ─▶ Settings
//! ```
//!
//! Strict throughout: an unknown key, a key given twice, a setting without effect and a name that leads nowhere
//! are errors. Each names the place, what was expected and what to do, and all that are independent of each
//! other are reported together. No socket is opened here; names of hosts are resolved.

mod compile;
pub mod duration;
mod error;
mod flags;
mod gloo;
mod homing;
mod limits;
mod reader;
mod session;
mod tree;

use core::fmt;
use core::time::Duration;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;

use homing_core::affinity::PolicySpec;
use homing_core::route::ListenerId;
use homing_core::snapshot::Snapshot;

pub(crate) use self::compile::domain_text;
pub use self::error::{At, ConfigError, Placed, Problem};
pub use self::flags::{FlagSession, Flags};

use self::error::Problems;

/// Everything a shell needs to run.
#[derive(Debug)]
pub struct Settings {
    /// What the core decides by.
    pub snapshot: Snapshot,
    /// The session policies as they were written; a [`homing_core::route::PolicyId`] is a position in it.
    pub policies: Vec<PolicySpec>,
    /// Where to listen. Never empty; [`Bind::id`] is a position in the snapshot's listeners.
    pub listeners: Vec<Bind>,
    /// How many workers to start, 1 to 1024.
    pub workers: usize,
    /// What they run on.
    pub runtime: Runtime,
    /// Where requests are logged; `None`: nowhere.
    pub access_log: Option<AccessLog>,
    /// How often the files are looked at for changes; zero: never.
    pub watch: Duration,
}

/// How often the files are looked at where the configuration does not say.
const WATCH: Duration = Duration::from_secs(1);

/// A listener's socket.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Which of the snapshot's listeners it serves.
    pub id: ListenerId,
    /// The listener's name.
    pub name: Box<str>,
    /// The gateway it belongs to, as Gloo's documents name it.
    pub gateway: Option<Box<str>>,
    /// Where it listens.
    pub address: BindAddress,
}

/// Where a listener listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum BindAddress {
    /// An address and a port; the kernel chooses the port when it is 0.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(PathBuf),
}

/// What the workers run on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Runtime {
    /// The best that the kernel permits: monoio, else mio.
    #[default]
    Auto,
    /// monoio, on io_uring; it fails to start where that is refused.
    Monoio,
    /// tokio, one current-thread runtime per worker.
    Tokio,
    /// mio, on epoll or kqueue.
    Mio,
}

/// The access log. Its format is one JSON object per line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: LogTarget,
}

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file that lines are appended to.
    File(PathBuf),
}

/// Turns a host's name and port into addresses.
pub type Resolve<'r> = &'r dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Reads `files` and compiles what they say. One document among them is Homing's; the others bind sessions.
///
/// # Errors
/// Every mistake that can be found, in the order of the files.
pub fn load(files: &[PathBuf]) -> Result<Settings, ConfigError> {
    let mut problems = Problems::default();
    let mut sources = Vec::new();
    for (order, path) in (0..).zip(files) {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => sources.push((name, text)),
            Err(error) => problems.add(
                &At::file(&name, order),
                format!("the file cannot be read: {error}"),
                "give the path of a readable UTF-8 text file",
            ),
        }
    }
    let sources = problems.check(Some(sources))?;
    let sources: Vec<_> = sources.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    compile_texts(&sources, &system_resolve)
}

/// Compiles texts, each with the name that messages call it by.
///
/// # Errors
/// Every mistake that can be found, in the order of the texts.
pub fn compile_texts(sources: &[(&str, &str)], resolve: Resolve<'_>) -> Result<Settings, ConfigError> {
    let mut problems = Problems::default();
    let mut documents = Documents::default();
    for (order, (name, text)) in (0..).zip(sources) {
        documents.read(&At::file(name, order), text, &mut problems);
    }
    let settings = documents.own.map(|(_, model)| {
        let model = model?;
        compile::compile(model, &documents.options, resolve, &mut problems)
    });
    if settings.is_none() && !documents.broken {
        let name = sources.first().map_or("configuration", |(name, _)| *name);
        problems.add(
            &At::file(name, 0),
            "there is no configuration of Homing here",
            "write a document with `listeners` and `clusters`, or use --listen and --upstream",
        );
    }
    problems.check(settings.flatten())
}

/// Compiles one text, which messages call by `name`, with the system's resolver.
///
/// # Errors
/// Every mistake that can be found, in the order of the text.
pub fn compile_text(name: &str, text: &str) -> Result<Settings, ConfigError> {
    compile_texts(&[(name, text)], &system_resolve)
}

/// Asks the system's resolver. All addresses of a name, in a stable order, so that every proxy sees the same list.
fn system_resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// One worker per core that this process may use.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(homing::WORKERS_MAX)
}

/// The documents of all files, read.
#[derive(Default)]
struct Documents {
    /// Homing's own, with its place.
    own: Option<(At, Option<homing::Model>)>,
    options: Vec<gloo::ListenerOption>,
    broken: bool,
}

impl Documents {
    fn read(&mut self, file: &At, text: &str, problems: &mut Problems) {
        let documents = match tree::parse(file, text) {
            Ok(documents) => documents,
            Err(problem) => {
                self.broken = true;
                problems.add(&problem.at, problem.what, problem.remedy);
                return;
            }
        };
        for document in &documents {
            if gloo::is_resource(document) {
                self.options.extend(gloo::read(document, problems));
            } else if let Some((first, _)) = &self.own {
                problems.add(
                    &document.at,
                    format!(
                        "this is a second configuration of Homing; the first is at {}",
                        first.line_text()
                    ),
                    "join the two, or begin a document of Gloo with apiVersion and kind",
                );
            } else {
                self.own = Some((document.at.clone(), homing::read(document, problems)));
            }
        }
    }
}

impl Runtime {
    /// All, with their names in files.
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("monoio", Self::Monoio), ("tokio", Self::Tokio), ("mio", Self::Mio)];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Monoio => "monoio",
            Self::Tokio => "tokio",
            Self::Mio => "mio",
        }
    }
}

impl BindAddress {
    /// The path, for a unix socket.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
