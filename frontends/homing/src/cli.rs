//! The command line.
//!
//! Exit codes: 0 all went well, 1 it failed while running (or a value is no token), 2 the configuration or the
//! command line is wrong; in that case nothing was started and no socket opened.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use homing_core::clock::UnixSecs;

use crate::config::{self, ConfigError, FlagSession, Flags, Runtime, Settings};
use crate::logs::LogFormat;
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
       homing run [OPTIONS] --listen ADDRESS --upstream ADDRESS (--cookie NAME [--ttl TIME] | --header NAME) [--strict]";

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
    Check {
        /// Homing's file, and documents of Gloo beside it.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Reads and mints session tokens.
    #[command(subcommand)]
    Token(Token),
}

#[derive(Args, Debug)]
#[command(override_usage = RUN_USAGE)]
struct Run {
    /// Homing's file, and documents of Gloo beside it.
    #[arg(value_name = "FILE", required_unless_present = "listen", conflicts_with_all = ["listen", "upstream"])]
    files: Vec<PathBuf>,
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

#[derive(Debug, Subcommand)]
enum Token {
    /// Says what is in a token: a bare value, name="value", a whole set-cookie line, an envelope.
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
        /// The upstream's own value, for an envelope.
        #[arg(long, value_name = "VALUE")]
        session: Option<String>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(options) => start(&options),
        Command::Check { files } => check(&files),
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
    let settings = match options.settings() {
        Ok(settings) => settings,
        Err(error) => return misconfigured(&error),
    };
    match run::start(settings) {
        Ok(()) => OK,
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    }
}

fn check(files: &[PathBuf]) -> u8 {
    match config::load(files) {
        Ok(settings) => {
            print!("{}", summary::describe(&settings));
            OK
        }
        Err(error) => misconfigured(&error),
    }
}

fn decode(values: &[String]) -> u8 {
    let mut code = OK;
    for (nth, value) in values.iter().enumerate() {
        if nth > 0 {
            println!();
        }
        match token::describe(value, token::now()) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                println!(
                    "no token: {error}\nverdict:  the session is placed anew (reason placed.malformed), strict or not"
                );
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
            println!("{token}");
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
    let count = error.problems().len();
    eprintln!(
        "homing: {count} {} in the configuration, nothing was started",
        if count == 1 { "problem" } else { "problems" }
    );
    MISUSED
}

impl Run {
    /// What is to run: the files or the options, with `--workers` and `--runtime` on top.
    fn settings(&self) -> Result<Settings, ConfigError> {
        let mut settings =
            if self.listen.is_empty() { config::load(&self.files)? } else { self.flags().compile()? };
        if let Some(workers) = self.workers {
            settings.workers = workers.into();
        }
        if let Some(runtime) = self.runtime {
            settings.runtime = runtime;
        }
        Ok(settings)
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
