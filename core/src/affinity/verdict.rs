//! From what a request says to where it goes.

use super::{Found, Policy};
use crate::clock::UnixSecs;
use crate::field::Status;
use crate::hosts::{Cluster, ClusterId, HostRef};

/// Why a request has no home. Closed; used alike in metrics, logs and tests.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Miss {
    /// The request carries no token.
    Absent,
    /// What it carries is no token.
    Malformed,
    /// The token has expired.
    Expired,
    /// The token's host is not in the cluster.
    Gone,
    /// The token's host is there, but its state does not allow it.
    Barred,
}

/// Where the request goes.
#[derive(Debug)]
pub enum Verdict {
    /// To the host its token names.
    Pin(Routed),
    /// To a host the balancer chooses.
    Place(Unplaced),
    /// Nowhere: strict, and the token's host is gone or barred.
    Refuse(Refusal),
}

/// A request for which a host was chosen. Only this can be asked for response edits.
#[derive(Debug)]
pub struct Routed {
    host: HostRef,
    /// The token named the host; a client knows of it.
    pinned: bool,
    pub(super) said: Said,
}

/// A request without a home.
#[derive(Debug)]
pub struct Unplaced {
    miss: Miss,
    said: Said,
}

/// What a request's session field said, as far as it is needed once the request has been routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// The host that a good token names, if it is in the clusters of the route, and when the token stops counting.
    home: Option<(HostRef, Option<UnixSecs>)>,
    /// As in [`Found`].
    pub(super) enveloped: bool,
}

/// A strict refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// `Gone` or `Barred`, or what failed on the way to the token's own host.
    pub reason: RefusalReason,
    /// The status of the answer.
    pub status: Status,
}

/// Why a strict policy refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefusalReason {
    /// The token's host is not in the cluster.
    Gone,
    /// The token's host is there, but its state does not allow it.
    Barred,
    /// The token's host did not take the connection.
    ConnectFailed,
}

impl Miss {
    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Barred => "barred",
        }
    }
}

impl RefusalReason {
    /// The name used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Barred => "barred",
            Self::ConnectFailed => "connect_failed",
        }
    }
}

impl Found<'_> {
    /// Looks the token's host up in the clusters of the route, in order. A host that can be used in any of them
    /// pins; else one that is barred bars; else the host is gone.
    ///
    /// Strict forgives a missing, malformed or expired token: only a good one whose host is gone or barred is refused
    /// (conformance §1; exp-057).
    #[inline]
    pub fn find<'c>(
        &self,
        policy: &Policy,
        clusters: impl IntoIterator<Item = (ClusterId, &'c Cluster)>,
    ) -> Verdict {
        let mut said = Said { home: None, enveloped: self.enveloped };
        let (address, expires) = match self.token {
            Ok(token) => token,
            Err(miss) => return Verdict::Place(Unplaced { miss, said }),
        };
        for (cluster_id, cluster) in clusters {
            let Some(id) = cluster.find(address) else { continue };
            let host = HostRef { cluster: cluster_id, host: id };
            if cluster.host(id).is_some_and(|host| host.cell().keeps_sessions(cluster.override_status())) {
                said.home = Some((host, expires));
                return Verdict::Pin(Routed { host, pinned: true, said });
            }
            said.home = said.home.or(Some((host, expires)));
        }
        let (miss, reason) = match said.home {
            Some(_) => (Miss::Barred, RefusalReason::Barred),
            None => (Miss::Gone, RefusalReason::Gone),
        };
        if policy.strict() {
            return Verdict::Refuse(Refusal { reason, status: policy.refusal_status(reason) });
        }
        Verdict::Place(Unplaced { miss, said })
    }
}

impl Unplaced {
    /// Why the request has no home.
    #[inline]
    pub fn miss(&self) -> Miss {
        self.miss
    }

    /// The balancer chose `host`.
    #[inline]
    pub fn placed(self, host: HostRef) -> Routed {
        Routed { host, pinned: false, said: self.said }
    }
}

impl Routed {
    /// The chosen host.
    #[inline]
    pub fn host(&self) -> HostRef {
        self.host
    }

    /// When the request's token stops counting, if it has a good one that names this very host: a balancer may choose a
    /// host that is barred to sessions.
    #[inline]
    pub(super) fn own(&self) -> Option<Option<UnixSecs>> {
        self.said.home.filter(|&(home, _)| home == self.host).map(|(_, expires)| expires)
    }

    /// Moves the session to another host because the chosen one failed. Strict refuses when the token named the
    /// failed host; a strict session that had just been placed may still move, as no client knows its host yet.
    ///
    /// Envoy's override holds for the first attempt only, so there a strict session moves on every retry, and a soft one
    /// never moves without a retry policy (retry-012 to retry-022, fail-008, fail-013).
    #[inline]
    pub fn moved(self, policy: &Policy, to: HostRef) -> Result<Self, Refusal> {
        if self.pinned && policy.strict() {
            let reason = RefusalReason::ConnectFailed;
            return Err(Refusal { reason, status: policy.refusal_status(reason) });
        }
        Ok(Self { host: to, pinned: false, said: self.said })
    }
}
