//! The choice of a shell: what the workers run on.

use core::fmt;

use crate::config::{BindAddress, Settings};

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
    /// The program was built without one.
    NotBuilt,
}

/// Runs `settings` until the process is told to end. `ready` is called once, when all listeners accept.
///
/// # Errors
/// When no shell can be started or a listener cannot be opened.
pub fn launch(_settings: Settings, _ready: &mut dyn FnMut(&Ready)) -> Result<(), ShellError> {
    Err(ShellError::NotBuilt)
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt => f.write_str("no shell built in"),
        }
    }
}

impl core::error::Error for ShellError {}
