//! Homing's shell on monoio (io_uring): accept, connect, read, write, wait. No HTTP, no policy, no decision.
//!
//! One task per connection. Its two directions are two futures that are polled together: each asks the exchange for its
//! step, moves its window into the kernel, and reports what came back. A connection that rests shrinks to its socket and
//! a few words.
#![cfg(target_os = "linux")]

mod connection;
mod lend;
mod link;
mod ring;
mod sends;
mod shell;

pub use ring::{Ring, RingError, probe};
pub use shell::run;
