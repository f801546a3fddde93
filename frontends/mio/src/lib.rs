//! Homing's shell on mio: accept, connect, read, write, wait. No HTTP, no policy, no decision.

/// Runs one worker on the calling thread.
pub fn run(_job: homing_shell::Job) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
