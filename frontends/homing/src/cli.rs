//! The command line.
//!
//! Exit codes: 0 all went well, 1 it failed while running (or a value is no token), 2 the configuration or the
//! command line is wrong; in that case nothing was started and no socket opened.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use homing_core::clock::UnixSecs;

use crate::config::{self, ConfigError, FlagSession, Flags, Runtime, Settings};
use crate::demo::{DemoError, World};
use crate::logs::LogFormat;
use crate::reload::Source;
use crate::token::{self, Encoding, Mint};
use crate::{logs, run, summary};

/// All went well.
const OK: u8 = 0;
/// It failed while running.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong. clap uses the same for its own errors.
const MISUSED: u8 = 2;

const RUN_USAGE: &str = "\
homing run [OPTIONS] FILE...
       homing run [OPTIONS] --envoy BOOTSTRAP
       homing run [OPTIONS] --listen ADDRESS --upstream ADDRESS (--cookie NAME [--ttl TIME] | --header NAME) [--strict]";

const CHECK_USAGE: &str = "\
homing check FILE...
       homing check --envoy BOOTSTRAP";

/// Sends every request home: a reverse proxy with strong session affinity.
#[derive(Debug, Parser)]
#[command(name = "homing", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the proxy, from files or from options alone.
    Run(Run),
    /// Checks files and says what would run; opens no socket.
    #[command(override_usage = CHECK_USAGE)]
    Check {
        /// Homing's file, and documents of Gloo beside it.
        #[arg(required_unless_present = "envoy", value_name = "FILE", conflicts_with = "envoy")]
        files: Vec<PathBuf>,
        /// Envoy's bootstrap, in YAML or JSON, instead of a file of Homing's.
        #[arg(long, value_name = "BOOTSTRAP")]
        envoy: Option<PathBuf>,
    },
    /// Runs two small upstreams and the proxy before them, and says what to try.
    Demo(Demo),
    /// Reads and mints session tokens.
    #[command(subcommand)]
    Token(Token),
}

#[derive(Args, Debug)]
#[command(override_usage = RUN_USAGE)]
struct Run {
    /// Homing's file, and documents of Gloo beside it.
    #[arg(
        value_name = "FILE",
        required_unless_present_any = ["listen", "envoy"],
        conflicts_with_all = ["listen", "upstream", "envoy"]
    )]
    files: Vec<PathBuf>,
    /// Envoy's bootstrap, in YAML or JSON, instead of a file of Homing's.
    #[arg(long, value_name = "BOOTSTRAP", conflicts_with_all = ["listen", "upstream"])]
    envoy: Option<PathBuf>,
    /// Address to listen on, such as 127.0.0.1:8080; may be repeated.
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    listen: Vec<String>,
    /// Address of an upstream host, such as 10.0.0.1:80; may be repeated.
    #[arg(long, value_name = "ADDRESS", requires = "listen")]
    upstream: Vec<String>,
    #[command(flatten)]
    session: Option<SessionFlag>,
    /// The cookie's life, such as 60s or 2h; without it, the session ends with the browser.
    #[arg(long, value_name = "TIME", requires = "cookie", conflicts_with = "header")]
    ttl: Option<String>,
    /// Refuses a session whose host is gone instead of placing it anew.
    #[arg(long, requires = "listen")]
    strict: bool,
    /// How many workers to start [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// What the workers run on [default: auto].
    #[arg(long)]
    runtime: Option<Runtime>,
    /// The form of the log on standard error. RUST_LOG sets its level.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Args, Debug)]
#[group(required = false, multiple = false)]
struct SessionFlag {
    /// Keeps sessions in a cookie of this name.
    #[arg(long, value_name = "NAME", requires = "listen")]
    cookie: Option<String>,
    /// Keeps sessions in a header of this name.
    #[arg(long, value_name = "NAME", requires = "listen")]
    header: Option<String>,
}

#[derive(Args, Debug)]
struct Demo {
    /// Port of the proxy that keeps sessions in a cookie; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    cookie_port: u16,
    /// Port of the proxy that keeps sessions in a header; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    header_port: u16,
    /// Ports of the two upstreams; 0 for any free one.
    #[arg(long, value_name = "PORT,PORT", default_value = "9001,9002", value_parser = two_ports)]
    upstream_ports: [u16; 2],
    /// The cookie's life.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    ttl: String,
    /// How many workers to start. Each takes turns on its own, so that one shows them best.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// What the workers run on.
    #[arg(long, default_value = "auto")]
    runtime: Runtime,
    /// Prints the configuration that would run, and starts nothing.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Says what is in a token: a bare value, name="value", a whole set-cookie line, an envelope, a URL.
    Decode {
        /// The text with the token.
        #[arg(required = true, value_name = "VALUE")]
        values: Vec<String>,
    },
    /// Mints a token.
    Encode {
        /// The host's address, such as 10.0.0.1:80, [::1]:80 or the path of a socket.
        #[arg(long)]
        address: String,
        /// How long a cookie's token counts, such as 60s; 0s for ever.
        #[arg(long, value_name = "TIME", conflicts_with = "expires")]
        ttl: Option<String>,
        /// The unix second until which a cookie's token counts.
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u64>,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        form: Encoding,
        /// The upstream's own value, for an envelope or an event stream.
        #[arg(long, value_name = "VALUE")]
        session: Option<String>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(options) => start(&options),
        Command::Check { files, envoy } => check(&files, envoy.as_deref()),
        Command::Demo(options) => demo(&options),
        Command::Token(Token::Decode { values }) => decode(&values),
        Command::Token(Token::Encode { address, ttl, expires, form, session }) => {
            encode(address, ttl.as_deref(), expires, form, session)
        }
    };
    ExitCode::from(code)
}

fn start(options: &Run) -> u8 {
    if let Err(error) = logs::start(options.log_format) {
        eprintln!("homing: {error}");
        return MISUSED;
    }
    if !options.listen.is_empty() && options.session.is_none() {
        eprintln!("homing: there is no session to keep; add --cookie NAME or --header NAME");
        return MISUSED;
    }
    let source = options.source();
    let settings = match options.settings(&source) {
        Ok(settings) => settings,
        Err(error) => return misconfigured(&error),
    };
    match run::start(settings, source) {
        Ok(()) => OK,
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    }
}

fn check(files: &[PathBuf], envoy: Option<&Path>) -> u8 {
    match load(files, envoy) {
        Ok(settings) => {
            for note in &settings.notes {
                eprintln!("note: {note}");
            }
            say(&summary::describe(&settings));
            OK
        }
        Err(error) => misconfigured(&error),
    }
}

/// The settings of files: Envoy's bootstrap, or those of Homing.
fn load(files: &[PathBuf], envoy: Option<&Path>) -> Result<Settings, ConfigError> {
    envoy.map_or_else(|| config::load(files), config::load_bootstrap)
}

fn demo(options: &Demo) -> u8 {
    let world = options.world();
    if options.print_config {
        let text = world.config(options.upstream_ports);
        return match config::compile_text("demo", &text) {
            Ok(_) => {
                say(&text);
                OK
            }
            Err(error) => misconfigured(&error),
        };
    }
    if let Err(error) = logs::start(LogFormat::Text) {
        eprintln!("homing: {error}");
        return MISUSED;
    }
    match world.run() {
        Ok(()) => OK,
        Err(DemoError::Config(error)) => misconfigured(&error),
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    }
}

/// Two ports with a comma between.
fn two_ports(text: &str) -> Result<[u16; 2], String> {
    let ports = text.split_once(',').map(|(one, two)| (one.parse(), two.parse()));
    match ports {
        Some((Ok(one), Ok(two))) => Ok([one, two]),
        _ => Err("write two ports from 0 to 65535 with a comma between, such as 9001,9002".into()),
    }
}

/// Writes to standard output. A reader that left, such as `head`, has had enough.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn decode(values: &[String]) -> u8 {
    let mut code = OK;
    for (nth, value) in values.iter().enumerate() {
        if nth > 0 {
            say("\n");
        }
        match token::describe(value, token::now()) {
            Ok(text) => say(&format!("{text}\n")),
            Err(text) => {
                say(&format!("{text}\n"));
                code = FAILED;
            }
        }
    }
    code
}

fn encode(
    address: String,
    ttl: Option<&str>,
    expires: Option<u64>,
    encoding: Encoding,
    session: Option<String>,
) -> u8 {
    let expires = match ttl {
        Some(ttl) => token::after(ttl, token::now()),
        None => Ok(expires.map(UnixSecs::new)),
    };
    match expires.and_then(|expires| token::mint(&Mint { address, encoding, expires, session })) {
        Ok(token) => {
            say(&format!("{token}\n"));
            OK
        }
        Err(error) => {
            eprintln!("homing: {error}");
            MISUSED
        }
    }
}

fn misconfigured(error: &ConfigError) -> u8 {
    eprintln!("{error}");
    let count = summary::count(error.problems().len(), "problem");
    eprintln!("homing: {count} in the configuration, nothing was started");
    MISUSED
}

impl Demo {
    fn world(&self) -> World {
        World {
            cookie_port: self.cookie_port,
            header_port: self.header_port,
            upstream_ports: self.upstream_ports,
            ttl: self.ttl.clone(),
            workers: self.workers,
            runtime: self.runtime,
        }
    }
}

impl Run {
    /// What is to run: the files or the options, with `--workers` and `--runtime` on top.
    fn settings(&self, source: &Source) -> Result<Settings, ConfigError> {
        if self.listen.is_empty() { source.load() } else { Ok(source.amend(self.flags().compile()?)) }
    }

    /// What to read again when told to.
    fn source(&self) -> Source {
        let mut source = match &self.envoy {
            Some(bootstrap) => Source::bootstrap(bootstrap.clone()),
            None => Source::new(self.files.clone()),
        };
        source.workers = self.workers.map(usize::from);
        source.runtime = self.runtime;
        source
    }

    fn flags(&self) -> Flags {
        let session = self.session.as_ref().and_then(|session| match (&session.cookie, &session.header) {
            (Some(name), _) => Some(FlagSession::Cookie { name: name.clone(), ttl: self.ttl.clone() }),
            (None, Some(name)) => Some(FlagSession::Header { name: name.clone() }),
            (None, None) => None,
        });
        Flags { listen: self.listen.clone(), upstream: self.upstream.clone(), session, strict: self.strict }
    }
}
