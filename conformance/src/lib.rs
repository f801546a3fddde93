//! Homing's conformance: what the tests of all parts share. A shell in memory, scripted upstream hosts, an HTTP reader
//! that shares no line with the core's, a builder for snapshots, and the vectors recorded from Envoy.
//!
//! Nothing here opens a socket. A broken rule panics, with the seed that reproduces it: this crate is linked into
//! tests only.
#![expect(clippy::panic, reason = "a broken rule ends the test with a message")]

pub mod build;
pub mod matrix;
pub mod memory;
pub mod message;
pub mod projection;
pub mod vectors;
