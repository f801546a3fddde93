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
//! # Who uses whom
//!
//! Dependencies point one way. A module uses those behind its arrow and no others, and all of them stand above it;
//! `+` joins two that are one: a cluster owns its balancer, which picks among the cluster's hosts. HTTP is known from
//! `http1` and `exchange::h1` only, and another protocol would enter beside these, over the same `exchange::attempt`. A
//! `worker` is what an exchange is given to work with, so the exchange uses it and not the other way round. Nothing here
//! uses a shell. `tests/architecture.rs` reads this drawing and holds the code to it.
//!
//! ```text
//! clock, field, gate, limits, path, planted, rng
//! token             → clock limits planted
//! window            → limits
//! carrier           → clock field planted token
//! hosts + balance   → limits rng
//! http1             → clock field limits window
//! affinity          → carrier clock field hosts+balance limits planted token
//! route             → field hosts+balance path
//! stats             → affinity gate hosts+balance
//! snapshot          → affinity gate hosts+balance limits route
//! log               → clock route stats
//! worker            → clock gate hosts+balance http1 limits log rng route snapshot stats token window
//! exchange::attempt → affinity clock field hosts+balance rng route snapshot stats token worker
//! exchange::body    → http1
//! exchange::machine
//! exchange          → affinity clock exchange::attempt exchange::body exchange::machine field hosts+balance http1
//!                     limits log route stats window worker
//! exchange::h1      → affinity clock exchange exchange::attempt exchange::body exchange::machine field
//!                     hosts+balance http1 limits log path rng route snapshot stats window worker
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod affinity;
pub mod balance;
pub mod carrier;
pub mod clock;
pub mod exchange;
pub mod field;
pub mod gate;
pub mod hosts;
pub mod http1;
pub mod limits;
pub mod log;
pub mod path;
pub mod planted;
pub mod rng;
pub mod route;
pub mod snapshot;
pub mod stats;
pub mod token;
pub mod window;
pub mod worker;
