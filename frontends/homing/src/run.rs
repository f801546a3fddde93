//! `homing run`: everything around a shell's life.

use tracing::{info, warn};

use crate::config::Settings;
use crate::descriptors::{self, Descriptors};
use crate::reload::Source;
use crate::shell::{self, Ready, ShellError};
use crate::summary;

/// Runs the proxy until it is told to end. `settings` came from `source`, which is read again when it changes.
///
/// # Errors
/// When it cannot start: nothing is left running then.
pub fn start(settings: Settings, source: Source) -> Result<(), ShellError> {
    for note in &settings.notes {
        warn!("{note}");
    }
    raise_descriptors(&settings);
    let names: Vec<Box<str>> = settings.listeners.iter().map(|listener| listener.name.clone()).collect();
    let clusters = summary::clusters(&settings);
    shell::launch(settings, Some(source), &mut |ready| announce(&names, &clusters, ready))
}

/// The start-up line.
fn announce(names: &[Box<str>], clusters: &str, ready: &Ready) {
    let listeners = summary::listeners(names, &ready.addresses);
    let version = env!("CARGO_PKG_VERSION");
    info!(version, runtime = ready.runtime, workers = ready.workers, listeners, clusters, "homing is ready");
}

/// Raises the limit on open files, or says that it could not.
fn raise_descriptors(settings: &Settings) {
    let descriptors = descriptors::raise();
    match descriptors {
        Descriptors::Raised { .. } | Descriptors::Highest(_) => info!("{descriptors}"),
        Descriptors::Refused { .. } => warn!("{descriptors}"),
    }
    let Some(limit) = descriptors.limit() else { return };
    let (workers, listeners) = (settings.workers, settings.listeners.len());
    let fit = descriptors::connections(limit, descriptors::in_use(), workers, listeners);
    let allowed = settings.snapshot.limits.connections;
    if u64::from(allowed) > fit {
        info!(
            "about {fit} connections at once fit the limit on open files; limits.connections allows {allowed}"
        );
    }
}
