//! Reading the session field of one request.

use super::policy::Carrier;
use super::{Miss, Policy};
use crate::clock::UnixSecs;
use crate::token::{self, DecodeError, Token};

/// Reads the session field of one request.
#[derive(Debug)]
pub struct Lookup<'p> {
    policy: &'p Policy,
    now: UnixSecs,
    found: Found,
    lines: u32,
}

/// What a request's session field says.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub(super) token: Result<Token, Miss>,
    /// The first line is an envelope, which the upstream must not see.
    pub(super) enveloped: bool,
}

impl<'p> Lookup<'p> {
    pub(super) fn new(policy: &'p Policy, now: UnixSecs) -> Self {
        Self { policy, now, found: Found { token: Err(Miss::Absent), enveloped: false }, lines: 0 }
    }

    /// Shows one line of [`Policy::request_field`], in the order received.
    ///
    /// The first usable cookie of the name counts, over all lines: one that decodes, has an address and has not expired
    /// (Envoy: the first of the name, good or bad; ckparse-055 to ckparse-062, ckparse-069 to ckparse-074). If none is usable, the most telling
    /// miss is kept: expired, which once was a session, over malformed over absent. Of a header and of an envelope the
    /// first line counts, as in Envoy.
    #[inline]
    pub fn offer(&mut self, line: &[u8]) {
        let first = self.lines == 0;
        self.lines = self.lines.saturating_add(1);
        match &self.policy.carrier {
            Carrier::Cookie(cookie) => {
                for value in cookie.values(crate::carrier::trimmed(line)) {
                    if self.found.token.is_ok() {
                        return;
                    }
                    self.note(token::decode_cookie(value).map(|decoded| decoded.token));
                }
            }
            Carrier::Header(header) if first => self.note(header.read(crate::carrier::trimmed(line))),
            Carrier::Envelope(envelope) if first => {
                let (token, enveloped) = envelope.read(crate::carrier::trimmed(line));
                self.found.enveloped = enveloped;
                self.note(token);
            }
            Carrier::Header(_) | Carrier::Envelope(_) => {}
        }
    }

    /// What the lines said.
    pub fn read(self) -> Found {
        self.found
    }

    fn note(&mut self, read: Result<Token, DecodeError>) {
        let miss = match read {
            Ok(token) if !token.is_expired(self.now) => {
                self.found.token = Ok(token);
                return;
            }
            Ok(_) => Miss::Expired,
            Err(DecodeError::Empty) => Miss::Absent,
            Err(_) => Miss::Malformed,
        };
        if let Err(worst) = &mut self.found.token {
            *worst = match (*worst, miss) {
                (Miss::Expired, _) | (_, Miss::Expired) => Miss::Expired,
                (Miss::Malformed, _) | (_, Miss::Malformed) => Miss::Malformed,
                _ => Miss::Absent,
            };
        }
    }
}

impl Found {
    /// The token, or why there is none.
    pub fn token(&self) -> Result<&Token, Miss> {
        self.token.as_ref().map_err(|&miss| miss)
    }
}
