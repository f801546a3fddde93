//! What a session changes in the request's and the response's fields.

use core::ops::Range;
use core::time::Duration;

use super::policy::Carrier;
use super::{LineEdit, Policy, Refusal, RefusalReason, Routed};
use crate::carrier::Sse;
use crate::clock::UnixSecs;
use crate::token::{self, Address};

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

/// What happens to the body of a response that is an event stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointEdit {
    /// Nothing.
    Keep,
    /// What is in `out` goes behind the value of [`Policy::sse_parameter`] in each `endpoint` event.
    Append {
        /// `cache-control: private` is to be added to the head.
        no_cache: bool,
    },
}

impl Routed {
    /// What is to be taken out of `target`, the one that was looked up, on its way upstream: the address behind the
    /// session's value in a URL. All other bytes of the target stay as they are.
    #[inline]
    pub fn target_cut(&self, policy: &Policy, target: &[u8]) -> Option<Range<usize>> {
        match &policy.carrier {
            Carrier::Sse(sse) if self.said.enveloped => sse.suffix_in(target),
            _ => None,
        }
    }

    /// What happens to the `nth` line of the request's session field (0 is the first) on its way upstream;
    /// `out` is cleared and filled for [`LineEdit::Write`].
    ///
    /// An envelope is unwrapped whether its address is good or not (conformance §1.6), a cookie hidden when so configured.
    #[inline]
    pub fn edit_line(&self, policy: &Policy, nth: usize, value: &[u8], out: &mut Vec<u8>) -> LineEdit {
        match &policy.carrier {
            Carrier::Cookie(cookie) if policy.hide_from_upstream => cookie.hide(value, out),
            Carrier::Envelope(envelope) if self.said.enveloped => envelope.unwrap_line(nth, value, out),
            _ => LineEdit::Keep,
        }
    }

    /// What happens to the response's session field once the host, whose address text is `address`, has answered.
    /// `lines` is how many lines of [`Policy::response_field`] the response has, `first` the value of the first.
    /// `out` is cleared and filled with the value to write.
    ///
    /// A cookie is set, and a header replaced, when the request had no usable token or one that names another host, byte for
    /// byte (conformance §1.7); a cookie also when it is to be renewed, which Envoy does not know. One line of
    /// an envelope's field is always wrapped, none and several never (4.1). An address longer than
    /// [`crate::limits::ADDRESS_MAX`] cannot be minted and changes nothing; a [`crate::hosts::Cluster`] holds none.
    pub fn response_edit(
        &self,
        policy: &Policy,
        address: &str,
        lines: usize,
        first: Option<&[u8]>,
        now: UnixSecs,
        out: &mut Vec<u8>,
    ) -> ResponseEdit {
        out.clear();
        let no_cache = policy.no_cache;
        match (&policy.carrier, self.own()) {
            (Carrier::Cookie(_), Some(expires)) if !is_due(expires, policy.renew_before, now) => {
                ResponseEdit::Keep
            }
            (Carrier::Header(_), Some(_)) => ResponseEdit::Keep,
            (carrier, _) => {
                let Some(address) = Address::new(address.as_bytes()) else { return ResponseEdit::Keep };
                match (carrier, lines, first) {
                    (Carrier::Cookie(cookie), ..) => {
                        cookie.mint(address, now, out);
                        ResponseEdit::SetCookie { no_cache }
                    }
                    (Carrier::Header(header), ..) => {
                        header.mint(&address, out);
                        ResponseEdit::Replace { no_cache }
                    }
                    (Carrier::Envelope(envelope), 1, Some(value)) if envelope.wrap(&address, value, out) => {
                        ResponseEdit::Replace { no_cache }
                    }
                    (Carrier::Envelope(_) | Carrier::Sse(_), ..) => ResponseEdit::Keep,
                }
            }
        }
    }

    /// What happens to an event stream that the host, whose address text is `address`, has answered with. `out` is cleared
    /// and filled with what to append.
    ///
    /// As with an envelope, whatever the request carried: the upstream hands out a session, and its home is here.
    pub fn endpoint_edit(&self, policy: &Policy, address: &str, out: &mut Vec<u8>) -> EndpointEdit {
        out.clear();
        match (&policy.carrier, Address::new(address.as_bytes())) {
            (Carrier::Sse(_), Some(address)) => {
                Sse::write_suffix(&address, out);
                EndpointEdit::Append { no_cache: policy.no_cache }
            }
            _ => EndpointEdit::Keep,
        }
    }
}

impl Refusal {
    /// The `set-cookie` value that clears the dead cookie, written to `out` (cleared first); false: none is to be sent.
    ///
    /// Only the cookie of a host that is gone is dead. One that is barred or refused a connection may come back, and with
    /// it the session.
    pub fn clear_cookie(&self, policy: &Policy, out: &mut Vec<u8>) -> bool {
        out.clear();
        match &policy.carrier {
            Carrier::Cookie(cookie) if policy.clear_dead && self.reason == RefusalReason::Gone => {
                cookie.clear(out);
                true
            }
            _ => false,
        }
    }
}

/// Whether a cookie is to be renewed: less than `renew_before` of its life is left. One that never ends never is.
fn is_due(expires: Option<UnixSecs>, renew_before: Option<Duration>, now: UnixSecs) -> bool {
    match (renew_before, token::remaining_secs(expires, now)) {
        (Some(renew_before), Some(remaining)) => Duration::from_secs(remaining) < renew_before,
        _ => false,
    }
}
