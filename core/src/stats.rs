//! Per-request facts in closed enums, and the counters made of them.
//!
//! One [`Outcome`] per request is the only source: counters, access log, vectors and Envoy's four counters are
//! all derived from it. Its dotted names are stable and used alike everywhere.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::affinity::{Miss, RefusalReason};
use crate::gate::Full;
use crate::hosts::HostRef;

/// Whether session settings applied to a request.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Scope {
    /// The request ended before its route was known, or its route has no session settings.
    #[default]
    Unmanaged,
    /// Switched off on this route.
    Disabled,
    /// The path lies outside the cookie's path.
    OutOfScope,
    /// The session settings applied.
    Active,
}

/// What became of the session.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Fate {
    /// No decision was needed or reached: an answer of our own, or a request that was rejected.
    #[default]
    Undecided,
    /// Sent to the host its token names.
    Pinned,
    /// Sent to a host the balancer chose; [`Outcome::miss`] says why.
    Placed,
    /// Sent to another host than first chosen.
    Moved(Move),
    /// Strict: not sent anywhere else.
    Refused(RefusalReason),
    /// No host could be chosen.
    Unplaced,
}

/// Why a request moved on to another host.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Move {
    /// The host did not take the connection.
    ConnectFailed,
    /// The host closed before it answered.
    Reset,
    /// The route's retry policy did not like the host's answer.
    Retried,
}

/// How the exchange ended.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Ending {
    /// A response was passed on whole.
    #[default]
    Complete,
    /// The answer was Homing's own, as configured or as the request deserved.
    Answered,
    /// The client went away.
    ClientLeft,
    /// The client took too long.
    ClientTimeout,
    /// No connection to the host.
    ConnectFailed,
    /// The host was full for too long, or too many requests waited for it.
    HostFull,
    /// The host closed or reset before the end of its response.
    UpstreamReset,
    /// The host sent something that is no HTTP response.
    UpstreamMalformed,
    /// The host took too long.
    UpstreamTimeout,
    /// Homing was told to stop.
    Stopped,
}

/// What became of an event stream in which a session is handed out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stream {
    /// The session got its home in the `endpoint` event.
    Rewritten,
    /// There was no `endpoint` event.
    NoEndpoint,
    /// There was no session in the `endpoint` event: no such parameter, no value, or no URL. It passed as it was.
    NoSession,
    /// The `endpoint` event had more bytes behind the session than are held back. It passed as it was.
    TooLong,
    /// The stream ended inside the `endpoint` event. It passed as it was.
    Unfinished,
    /// The stream had a content coding. It passed as it was.
    Encoded,
}

impl Stream {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 6] =
        [Self::Rewritten, Self::NoEndpoint, Self::NoSession, Self::TooLong, Self::Unfinished, Self::Encoded];

    /// The name used in metrics, logs and tests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::NoEndpoint => "no_endpoint",
            Self::NoSession => "no_session",
            Self::TooLong => "too_long",
            Self::Unfinished => "unfinished",
            Self::Encoded => "encoded",
        }
    }
}

/// The facts of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Whether session settings applied.
    pub scope: Scope,
    /// Why the request had no home; `None`: it had, or nobody asked.
    pub miss: Option<Miss>,
    /// What became of the session.
    pub fate: Fate,
    /// Whether the policy was strict.
    pub strict: bool,
    /// The host that was chosen last.
    pub host: Option<HostRef>,
    /// Whether the response carries a new token.
    pub minted: bool,
    /// What became of the event stream that the response was; `None`: it was none whose session travels so.
    pub stream: Option<Stream>,
    /// The status of the final response; zero: none was sent.
    pub status: u16,
    /// Attempts made.
    pub tries: u8,
    /// How it ended.
    pub ending: Ending,
}

/// Envoy's counters, derived so that dashboards survive a migration (conformance §2.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EnvoyCounter {
    /// The token's host answered.
    Routed,
    /// Another host answered, not strict.
    FailedOpen,
    /// No host answered, strict.
    FailedClosed,
    /// The session settings were out of scope, and a host was chosen.
    NoSession,
}

impl EnvoyCounter {
    /// All four, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Routed, Self::FailedOpen, Self::FailedClosed, Self::NoSession];

    /// Envoy's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
            Self::NoSession => "no_session",
        }
    }
}

impl Move {
    /// The last part of the dotted name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Retried => "retried",
        }
    }
}

impl Ending {
    /// All endings, in the order of the counters.
    pub const ALL: [Self; 10] = [
        Self::Complete,
        Self::Answered,
        Self::ClientLeft,
        Self::ClientTimeout,
        Self::ConnectFailed,
        Self::HostFull,
        Self::UpstreamReset,
        Self::UpstreamMalformed,
        Self::UpstreamTimeout,
        Self::Stopped,
    ];

    /// The name used in metrics, logs and tests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Answered => "answered",
            Self::ClientLeft => "client_left",
            Self::ClientTimeout => "client_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::HostFull => "host_full",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// The dotted names of all outcomes, in the order of the counters.
pub const REASONS: [&str; 17] = [
    "unmanaged",
    "disabled",
    "out_of_scope",
    "undecided",
    "pinned",
    "placed.absent",
    "placed.malformed",
    "placed.expired",
    "placed.gone",
    "placed.barred",
    "moved.connect_failed",
    "moved.reset",
    "moved.retried",
    "refused.gone",
    "refused.barred",
    "refused.connect_failed",
    "unplaced",
];

impl Outcome {
    /// Position of this outcome's dotted name in [`REASONS`].
    pub const fn reason_index(&self) -> usize {
        match (self.scope, self.fate) {
            (Scope::Unmanaged, _) => 0,
            (Scope::Disabled, _) => 1,
            (Scope::OutOfScope, _) => 2,
            (Scope::Active, Fate::Undecided) => 3,
            (Scope::Active, Fate::Pinned) => 4,
            (Scope::Active, Fate::Placed) => match self.miss {
                None | Some(Miss::Absent) => 5,
                Some(Miss::Malformed) => 6,
                Some(Miss::Expired) => 7,
                Some(Miss::Gone) => 8,
                Some(Miss::Barred) => 9,
            },
            (Scope::Active, Fate::Moved(Move::ConnectFailed)) => 10,
            (Scope::Active, Fate::Moved(Move::Reset)) => 11,
            (Scope::Active, Fate::Moved(Move::Retried)) => 12,
            (Scope::Active, Fate::Refused(RefusalReason::Gone)) => 13,
            (Scope::Active, Fate::Refused(RefusalReason::Barred)) => 14,
            (Scope::Active, Fate::Refused(RefusalReason::ConnectFailed)) => 15,
            (Scope::Active, Fate::Unplaced) => 16,
        }
    }

    /// The dotted name: `pinned`, `placed.expired`, `refused.gone` …
    pub fn reason(&self) -> &'static str {
        REASONS.get(self.reason_index()).copied().unwrap_or("unmanaged")
    }

    /// The counter Envoy would have incremented (conformance §2.1), if any.
    pub const fn envoy_counter(&self) -> Option<EnvoyCounter> {
        match (self.scope, self.fate) {
            (Scope::Unmanaged | Scope::Disabled, _) => None,
            (Scope::OutOfScope, _) => match self.host {
                Some(_) => Some(EnvoyCounter::NoSession),
                None => None,
            },
            (Scope::Active, Fate::Pinned) => Some(EnvoyCounter::Routed),
            (Scope::Active, Fate::Placed | Fate::Moved(_)) => {
                if self.strict {
                    None
                } else {
                    Some(EnvoyCounter::FailedOpen)
                }
            }
            (Scope::Active, Fate::Refused(_) | Fate::Unplaced) => {
                if self.strict {
                    Some(EnvoyCounter::FailedClosed)
                } else {
                    None
                }
            }
            (Scope::Active, Fate::Undecided) => None,
        }
    }
}

/// One worker's counters. Written by that worker alone, read by anybody: relaxed loads and stores suffice.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests by dotted name, in the order of [`REASONS`].
    pub reasons: [Counter; REASONS.len()],
    /// Requests by ending, in the order of [`Ending::ALL`].
    pub endings: [Counter; Ending::ALL.len()],
    /// Event streams that hand out a session, in the order of [`Stream::ALL`].
    pub streams: [Counter; Stream::ALL.len()],
    /// Envoy's four, in the order of [`EnvoyCounter`].
    pub envoy: [Counter; 4],
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed.
    pub closed: Counter,
    /// Pauses of accepting, by the cap that was reached, in the order of [`Full::ALL`].
    pub paused: [Counter; Full::ALL.len()],
    /// Upstream connections made.
    pub dialed: Counter,
    /// Responses that carried a new token.
    pub minted: Counter,
    /// Requests tried again.
    pub retried: Counter,
}

/// A counter with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning worker may call it.
    #[inline]
    pub fn add(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Requests that were cut off because the program stopped.
    pub fn cut_off(&self) -> u64 {
        self.endings.get(Ending::Stopped as usize).map_or(0, Counter::get)
    }

    /// Counts one pause of accepting.
    pub fn pause(&self, full: Full) {
        if let Some(counter) = self.paused.get(full as usize) {
            counter.add();
        }
    }

    /// Counts one finished request.
    #[inline]
    pub fn record(&self, outcome: &Outcome) {
        if let Some(counter) = self.reasons.get(outcome.reason_index()) {
            counter.add();
        }
        if let Some(counter) = self.endings.get(outcome.ending as usize) {
            counter.add();
        }
        if let Some(counter) = outcome.envoy_counter().and_then(|which| self.envoy.get(which as usize)) {
            counter.add();
        }
        if let Some(counter) = outcome.stream.and_then(|stream| self.streams.get(stream as usize)) {
            counter.add();
        }
        if outcome.minted {
            self.minted.add();
        }
        if outcome.tries > 1 {
            self.retried.add();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_reached_by_an_outcome() {
        let mut seen = [false; REASONS.len()];
        let misses = [Miss::Absent, Miss::Malformed, Miss::Expired, Miss::Gone, Miss::Barred];
        let fates = [Fate::Undecided, Fate::Pinned, Fate::Placed, Fate::Unplaced]
            .into_iter()
            .chain([Move::ConnectFailed, Move::Reset, Move::Retried].map(Fate::Moved))
            .chain(
                [RefusalReason::Gone, RefusalReason::Barred, RefusalReason::ConnectFailed].map(Fate::Refused),
            );
        for fate in fates {
            for scope in [Scope::Unmanaged, Scope::Disabled, Scope::OutOfScope, Scope::Active] {
                for miss in misses {
                    let outcome = Outcome { scope, fate, miss: Some(miss), ..Outcome::default() };
                    seen[outcome.reason_index()] = true;
                }
            }
        }
        assert_eq!(seen, [true; REASONS.len()]);
    }

    #[test]
    fn endings_count_where_their_name_stands() {
        for (position, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, position, "{}", ending.as_str());
        }
        for (position, stream) in Stream::ALL.into_iter().enumerate() {
            assert_eq!(stream as usize, position, "{}", stream.as_str());
        }
    }

    #[test]
    fn a_counter_adds_up() {
        let counters = Counters::default();
        let outcome = Outcome {
            scope: Scope::Active,
            fate: Fate::Placed,
            miss: Some(Miss::Expired),
            ..Outcome::default()
        };
        counters.record(&outcome);
        counters.record(&outcome);
        assert_eq!(outcome.reason(), "placed.expired");
        assert_eq!(counters.reasons[outcome.reason_index()].get(), 2);
        assert_eq!(counters.envoy[EnvoyCounter::FailedOpen as usize].get(), 2);
    }
}
