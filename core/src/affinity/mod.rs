//! L1, the affinity core: policy → lookup → verdict → edits. Usable alone, knows no HTTP parser.
//!
//! ```text
//! Policy::lookup ─▶ Lookup ─offer, read─▶ Found ─find─┬─▶ Pin ────────────────────▶ Routed ─▶ response_edit
//!      │                                              ├─▶ Place: Unplaced ─placed─▶  ▲ │ moved
//!      ▼                                              │                              └─┤
//! out of scope: nothing is read or written            └─▶ Refuse: Refusal ◀────────────┘ strict, its own host failed
//! ```
//!
//! A [`Routed`] exists only once a host is chosen, and its response edit is asked for only when that host has answered:
//! a token for no host, or for a host that failed, cannot be written. (Envoy writes one for the host that just refused
//! the connection: fail-007, fail-009, fail-036.)
//!
//! What is routed is small and owns what it holds, so it may outlive a reload; the policy is handed in again where it is
//! needed. Until then a token lies where it was decoded, in room that the caller lends. No call allocates, except that a
//! caller's buffer may grow.

mod edit;
mod lookup;
mod policy;
mod spec;
mod verdict;

pub use crate::carrier::LineEdit;
pub use edit::{EndpointEdit, ResponseEdit};
pub use lookup::{Found, Lookup};
pub use policy::Policy;
pub use spec::{CarrierSpec, CookieSpec, PolicyError, PolicySpec};
pub use verdict::{Miss, Refusal, RefusalReason, Routed, Unplaced, Verdict};

#[cfg(test)]
mod tests;
