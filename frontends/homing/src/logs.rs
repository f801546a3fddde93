//! The control plane's log, on standard error. Requests are not logged here: they have a log of their own.

use std::env;
use std::io;

use tracing_subscriber::EnvFilter;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text for each event.
    #[default]
    Text,
    /// A JSON object on a line for each event.
    Json,
}

/// Starts the log. `RUST_LOG` sets its level, such as `warn` or `homing=debug`; without it, `info`.
///
/// # Errors
/// When `RUST_LOG` cannot be read.
pub fn start(format: LogFormat) -> Result<(), String> {
    let directives = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let directives = if directives.trim().is_empty() { "info".to_owned() } else { directives };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        format!(
            "RUST_LOG={directives:?} cannot be read: {error}; write a level such as `warn`, or `homing=debug`"
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // A terminal that was closed, or a reader that has left: the complaint about it would go the same way, and panic.
        .log_internal_errors(false);
    // A second start is refused, for instance in tests; the first log stays, which is what is wanted.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}
