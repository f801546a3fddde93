//! The sans-io core of Homing, a reverse proxy with strong session affinity.
//!
//! No socket, clock, thread, lock or logger lives here, and nothing is put on the heap per request.
//! Time and randomness are arguments. There are two ways to use it:
//!
//! - **L1, the affinity core** ([`affinity`]): show it the session field of a request, get a verdict
//!   (pin, place or refuse), tell it which host was chosen, get the edit for the response.
//! - **L2, the HTTP/1.1 exchange** ([`exchange`]): two byte windows and one step per direction; a shell
//!   does the socket I/O.
//!
//! Dependencies point one way: `token ← carrier ← affinity ← exchange::attempt ← exchange::h1 → http1`,
//! `worker → exchange`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod affinity;
pub mod balance;
pub mod carrier;
pub mod clock;
pub mod exchange;
pub mod field;
pub mod hosts;
pub mod http1;
pub mod limits;
pub mod log;
pub mod rng;
pub mod route;
pub mod snapshot;
pub mod stats;
pub mod token;
pub mod window;
pub mod worker;
