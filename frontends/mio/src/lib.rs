//! Homing's shell on mio: accept, connect, read, write, wait. No HTTP, no policy, no decision.
