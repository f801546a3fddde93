//! What the fuzz targets check. Each target is a plain function of bytes that panics when a rule is broken, so that the
//! fuzzer explores it and `cargo test` replays every seed through it.
//!
//! A target holds the core against a *reference* that is slow, obvious and shares no line with it. Where the two may
//! differ, the reference says why.
#![expect(clippy::panic, reason = "a broken rule ends the run with a message")]

mod chunks;
mod config;
mod cookie;
mod edits;
mod exchange;
mod head;
mod hosts;
mod input;
mod sse;
mod token;

pub use chunks::chunks;
pub use config::config;
pub use cookie::cookie_scan;
pub use edits::edits;
pub use exchange::exchange;
pub use head::{request_head, response_head};
pub use hosts::hosts;
pub use sse::sse;
pub use token::{round_trip, token_cookie, token_header_envelope};

/// A target's function.
pub type Target = fn(&[u8]);

/// All targets, by the names of their binaries and of their seeds' directories.
pub const TARGETS: [(&str, Target); 12] = [
    ("chunks", chunks),
    ("config", config),
    ("cookie_scan", cookie_scan),
    ("edits", edits),
    ("exchange", exchange),
    ("hosts", hosts),
    ("request_head", request_head),
    ("response_head", response_head),
    ("round_trip", round_trip),
    ("sse", sse),
    ("token_cookie", token_cookie),
    ("token_header_envelope", token_header_envelope),
];
