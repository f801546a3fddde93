//! Homing's shell on tokio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
