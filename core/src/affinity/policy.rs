//! A session policy, compiled once and shared.

use core::time::Duration;

use super::{CarrierSpec, Lookup, PolicyError, PolicySpec, RefusalReason};
use crate::carrier::{Cookie, Envelope, Header, Sse};
use crate::clock::UnixSecs;
use crate::field::{FieldName, Status};
use crate::limits::INSERT_MAX;
use crate::planted::Bug;
use crate::token::Scratch;

/// A compiled session policy.
#[derive(Debug)]
pub struct Policy {
    pub(super) carrier: Carrier,
    pub(super) clear_dead: bool,
    pub(super) hide_from_upstream: bool,
    pub(super) no_cache: bool,
    pub(super) renew_before: Option<Duration>,
    strict: bool,
    gone_status: Status,
}

/// Where the token travels.
#[derive(Debug)]
pub(super) enum Carrier {
    Cookie(Box<Cookie>),
    Header(Header),
    Envelope(Envelope),
    Sse(Sse),
}

impl Policy {
    /// Checks the specification and prepares everything that does not depend on the request.
    pub fn compile(spec: PolicySpec) -> Result<Self, PolicyError> {
        spec.check()?;
        let carrier = match spec.carrier {
            CarrierSpec::Cookie(cookie) => {
                let ttl_secs = cookie.ttl_secs();
                Carrier::Cookie(Box::new(Cookie::new(
                    &cookie.name,
                    &cookie.path,
                    ttl_secs,
                    &cookie.attributes,
                )))
            }
            CarrierSpec::Header { name } => Carrier::Header(Header::new(name)),
            CarrierSpec::Envelope { name } => Carrier::Envelope(Envelope::new(name)),
            CarrierSpec::Sse { parameter } => Carrier::Sse(Sse::new(parameter)),
        };
        let policy = Self {
            carrier,
            clear_dead: spec.clear_dead,
            hide_from_upstream: spec.hide_from_upstream,
            no_cache: spec.no_cache,
            renew_before: spec.renew_before,
            strict: spec.strict,
            gone_status: spec.gone_status,
        };
        let insert_max = policy.insert_max();
        if insert_max > INSERT_MAX { Err(PolicyError::InsertTooLong(insert_max)) } else { Ok(policy) }
    }

    /// The request field whose lines are to be offered: `cookie`, or the configured header; `None`: the session travels in
    /// the target, which [`Policy::lookup`] reads.
    pub fn request_field(&self) -> Option<&FieldName> {
        match &self.carrier {
            Carrier::Cookie(cookie) => Some(cookie.field()),
            Carrier::Header(header) => Some(header.field()),
            Carrier::Envelope(envelope) => Some(envelope.field()),
            Carrier::Sse(_) => None,
        }
    }

    /// The response field whose lines decide the edit (header and envelope); `None` for others.
    pub fn response_field(&self) -> Option<&FieldName> {
        match &self.carrier {
            Carrier::Cookie(_) | Carrier::Sse(_) => None,
            Carrier::Header(header) => Some(header.field()),
            Carrier::Envelope(envelope) => Some(envelope.field()),
        }
    }

    /// Whether requests can leave with another session field than they came with, so that
    /// [`Routed::edit_line`](super::Routed::edit_line) must be asked.
    #[inline]
    pub const fn edits_requests(&self) -> bool {
        match self.carrier {
            Carrier::Cookie(_) => self.hide_from_upstream,
            Carrier::Header(_) | Carrier::Sse(_) => false,
            Carrier::Envelope(_) => true,
        }
    }

    /// The query parameter whose value the upstream hands out in an event stream, when the session travels so. The stream
    /// is to be rewritten then ([`Routed::endpoint_edit`](super::Routed::endpoint_edit)), and targets too
    /// ([`Routed::target_cut`](super::Routed::target_cut)).
    #[inline]
    pub fn sse_parameter(&self) -> Option<&str> {
        match &self.carrier {
            Carrier::Sse(sse) => Some(sse.parameter()),
            Carrier::Cookie(_) | Carrier::Header(_) | Carrier::Envelope(_) => None,
        }
    }

    /// Whether the policy is strict.
    pub fn strict(&self) -> bool {
        self.strict
    }

    /// The most bytes a response edit can write to a head: name, value, and the lines around them.
    pub fn insert_max(&self) -> usize {
        let (name, value_max) = match &self.carrier {
            Carrier::Cookie(cookie) => ("set-cookie", cookie.value_max()),
            Carrier::Header(header) => (header.field().as_str(), header.value_max()),
            Carrier::Envelope(envelope) => (envelope.field().as_str(), envelope.value_max()),
            // The body's length is not known any more once it is rewritten.
            Carrier::Sse(_) => ("transfer-encoding", "chunked".len()),
        };
        let no_cache = if self.no_cache { "cache-control: private\r\n" } else { "" };
        name.len() + ": ".len() + value_max + "\r\n".len() + no_cache.len()
    }

    /// Begins to read a request. `target` is the raw path with its query. `None`: out of the cookie's scope,
    /// so nothing is to be read, and nothing to be written later either. `room` is for the token.
    #[inline]
    pub fn lookup<'l>(&'l self, target: &[u8], now: UnixSecs, room: &'l mut Scratch) -> Option<Lookup<'l>> {
        let lookup = Lookup::new(self, now, room);
        match &self.carrier {
            Carrier::Cookie(cookie) if !cookie.scope().contains(target) => None,
            Carrier::Sse(sse) => Some(lookup.in_target(sse, target)),
            _ => Some(lookup),
        }
    }

    /// The status of a refusal: only a host that is gone has a configurable one (health-081 to health-093).
    pub(super) fn refusal_status(&self, reason: RefusalReason) -> Status {
        match reason {
            RefusalReason::Gone => self.gone_status,
            RefusalReason::Barred if Bug::BarredAsGone.is_in() => self.gone_status,
            RefusalReason::Barred | RefusalReason::ConnectFailed => Status::UNAVAILABLE,
        }
    }
}
