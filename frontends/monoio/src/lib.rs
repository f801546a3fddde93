//! Homing's shell on monoio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
