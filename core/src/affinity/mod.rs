//! L1, the affinity core: policy → lookup → verdict → edits. Usable alone, knows no HTTP parser.

use core::time::Duration;

use crate::clock::UnixSecs;
use crate::field::{FieldName, Status};
use crate::hosts::{Cluster, ClusterId, HostRef};
use crate::token::Token;

/// A session policy as configuration names it; [`Policy::compile`] makes it usable.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// Where the token travels.
    pub carrier: CarrierSpec,
    /// Whether a good token whose host is gone or barred is refused instead of placed anew.
    pub strict: bool,
    /// The status of a strict refusal when the host is gone. A barred host always gives 503.
    pub gone_status: Status,
    /// Whether a strict refusal tells the client to drop its cookie. Off by default, as in Envoy.
    pub clear_dead: bool,
    /// Whether the session cookie is taken out before the request goes upstream (HAProxy's *indirect*).
    pub hide_from_upstream: bool,
    /// Whether responses that set our field also say `cache-control: private` (HAProxy's *nocache*).
    pub no_cache: bool,
    /// Re-issue a cookie of an active session when less than this much of its life is left; `None`: never, as Envoy.
    pub renew_before: Option<Duration>,
}

/// Where the token travels.
#[derive(Clone, Debug)]
pub enum CarrierSpec {
    /// A cookie.
    Cookie(CookieSpec),
    /// A header of our own.
    Header {
        /// Its name.
        name: FieldName,
    },
    /// Wrapped around the upstream's own session header.
    Envelope {
        /// Its name.
        name: FieldName,
    },
}

/// The session cookie.
#[derive(Clone, Debug)]
pub struct CookieSpec {
    /// The cookie's name.
    pub name: Box<str>,
    /// The cookie's path; empty: no `Path`, every request is in scope.
    pub path: Box<str>,
    /// The cookie's life, of which whole seconds count; zero: a browser session, and a token that never expires.
    pub ttl: Duration,
    /// Further attributes, in order; an empty value writes the bare name.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

/// A compiled session policy.
#[derive(Debug)]
pub struct Policy {
    spec: PolicySpec,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError;

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

/// Reads the session field of one request.
#[derive(Debug)]
pub struct Lookup<'p> {
    policy: &'p Policy,
    now: UnixSecs,
}

/// What a request's session field says.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    token: Result<Token, Miss>,
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
    found: Found,
}

/// A request without a home.
#[derive(Debug)]
pub struct Unplaced {
    found: Found,
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

/// What happens to one line of the request's session field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineEdit {
    /// It goes upstream as it is.
    Keep,
    /// It does not go upstream.
    Drop,
    /// It goes upstream with the value that was written to `out`.
    Write,
}

/// What happens to the response's session field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseEdit {
    /// Nothing.
    Keep,
    /// One `set-cookie` line with the value in `out` goes to the end of the head.
    SetCookie {
        /// `cache-control: private` is to be added too.
        no_cache: bool,
    },
    /// All lines of [`Policy::response_field`] go, and one with the value in `out` is written at the end.
    Replace {
        /// `cache-control: private` is to be added too.
        no_cache: bool,
    },
}

impl Policy {
    /// Checks the specification and prepares everything that does not depend on the request.
    pub fn compile(spec: PolicySpec) -> Result<Self, PolicyError> {
        Ok(Self { spec })
    }

    /// The request field whose lines are to be offered: `cookie`, or the configured header.
    pub fn request_field(&self) -> &FieldName {
        match &self.spec.carrier {
            CarrierSpec::Header { name } | CarrierSpec::Envelope { name } => name,
            CarrierSpec::Cookie(_) => unreachable!(),
        }
    }

    /// The response field whose lines decide the edit (header and envelope); `None` for cookies.
    pub fn response_field(&self) -> Option<&FieldName> {
        None
    }

    /// Whether the policy is strict.
    pub fn strict(&self) -> bool {
        self.spec.strict
    }

    /// The most bytes a response edit can write: name, value, and the lines around them.
    pub fn insert_max(&self) -> usize {
        0
    }

    /// Begins to read a request. `target` is the raw path with its query. `None`: out of the cookie's scope,
    /// so nothing is to be read, and nothing to be written later either.
    pub fn lookup(&self, _target: &[u8], now: UnixSecs) -> Option<Lookup<'_>> {
        Some(Lookup { policy: self, now })
    }
}

impl Lookup<'_> {
    /// Shows one line of [`Policy::request_field`], in the order received; the first usable one counts.
    pub fn offer(&mut self, _value: &[u8]) {
        let _ = (self.policy, self.now);
    }

    /// What the lines said.
    pub fn read(self) -> Found {
        Found { token: Err(Miss::Absent) }
    }
}

impl Found {
    /// The token, or why there is none.
    pub fn token(&self) -> Result<&Token, Miss> {
        self.token.as_ref().map_err(|&miss| miss)
    }

    /// Looks the token's host up in the clusters of the route, in order. A host that can be used in any of them
    /// pins; else one that is barred bars; else the host is gone.
    pub fn find<'c>(
        self,
        _policy: &Policy,
        _clusters: impl IntoIterator<Item = (ClusterId, &'c Cluster)>,
    ) -> Verdict {
        Verdict::Place(Unplaced { found: self })
    }

    /// What happens to the `nth` line of the request's session field (0 is the first) on its way upstream;
    /// `out` is cleared and filled for [`LineEdit::Write`].
    pub fn edit_line(&self, _policy: &Policy, _nth: usize, _value: &[u8], _out: &mut Vec<u8>) -> LineEdit {
        LineEdit::Keep
    }
}

impl Unplaced {
    /// Why the request has no home.
    pub fn miss(&self) -> Miss {
        self.found.token.as_ref().err().copied().unwrap_or(Miss::Absent)
    }

    /// What the session field said.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The balancer chose `host`.
    pub fn placed(self, host: HostRef) -> Routed {
        Routed { host, found: self.found }
    }
}

impl Routed {
    /// The chosen host.
    pub fn host(&self) -> HostRef {
        self.host
    }

    /// What the session field said.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Moves the session to another host because the chosen one failed. Strict refuses when the token named the
    /// failed host; a strict session that had just been placed may still move, as no client knows its host yet.
    pub fn moved(self, _policy: &Policy, to: HostRef) -> Result<Self, Refusal> {
        Ok(Self { host: to, found: self.found })
    }

    /// What happens to the response's session field once the host, whose address text is `address`, has answered.
    /// `lines` is how many lines of [`Policy::response_field`] the response has, `first` the value of the first.
    /// `out` is cleared and filled with the value to write.
    pub fn response_edit(
        &self,
        _policy: &Policy,
        _address: &str,
        _lines: usize,
        _first: Option<&[u8]>,
        _now: UnixSecs,
        _out: &mut Vec<u8>,
    ) -> ResponseEdit {
        ResponseEdit::Keep
    }
}

impl Refusal {
    /// The `set-cookie` value that clears the dead cookie, written to `out` (cleared first); false: none is to be sent.
    pub fn clear_cookie(&self, _policy: &Policy, _out: &mut Vec<u8>) -> bool {
        false
    }
}
