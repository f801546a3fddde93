//! Reading the session field of one request.

use super::policy::Carrier;
use super::{Miss, Policy};
use crate::carrier::Sse;
use crate::clock::UnixSecs;
use crate::token::{self, Address, DecodeError, Reading, Scratch, Token};

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
    /// The first line is an envelope, or the target has an address in it: the upstream must not see that.
    pub(super) enveloped: bool,
}

impl<'p> Lookup<'p> {
    #[inline]
    pub(super) fn new(policy: &'p Policy, now: UnixSecs) -> Self {
        Self { policy, now, found: Found { token: Err(Miss::Absent), enveloped: false }, lines: 0 }
    }

    /// Reads the target. The first usable value of the parameter counts, as with cookies; one without an address is the
    /// upstream's own, as it stands: malformed, like an envelope that is none.
    pub(super) fn in_target(policy: &'p Policy, sse: &Sse, target: &[u8], now: UnixSecs) -> Self {
        let mut lookup = Self::new(policy, now);
        for span in sse.values(target) {
            let value = target.get(span).unwrap_or_default();
            lookup.note(token::read_sse(value, &mut Scratch::new()));
            if lookup.found.token.is_ok() {
                lookup.found.enveloped = true;
                break;
            }
        }
        lookup
    }

    /// Shows one line of [`Policy::request_field`], in the order received.
    ///
    /// The first usable cookie of the name counts, over all lines: one that decodes, has an address and has not
    /// expired (Envoy: the first of the name, good or bad; ckparse-055 to ckparse-062, ckparse-069 to ckparse-074).
    /// If none is usable, the most telling miss is kept: expired, which once was a session, over malformed over
    /// absent. Of a header and of an envelope the first line counts, as in Envoy (hdr-025 to hdr-032, env-085 to
    /// env-090).
    ///
    /// The first line of an envelope also tells whether there is a value to unwrap: that does not depend on its address
    /// (env-053, env-071). One whose value holds CR, LF or NUL is malformed and stays as it is; Envoy answers 503
    /// (env-093 to env-102).
    #[inline]
    pub fn offer(&mut self, line: &[u8]) {
        let first = self.lines == 0;
        self.lines = self.lines.saturating_add(1);
        let line = crate::carrier::trimmed(line);
        match &self.policy.carrier {
            Carrier::Cookie(cookie) => {
                let mut values = cookie.values(line);
                while self.found.token.is_err()
                    && let Some(value) = values.next()
                {
                    self.note(token::read_cookie(value, &mut Scratch::new()));
                }
            }
            Carrier::Header(_) if first => self.note(token::read_header(line, &mut Scratch::new())),
            Carrier::Envelope(_) if first => match token::read_envelope(line, &mut Scratch::new()) {
                Ok(reading) => {
                    self.found.enveloped = true;
                    self.note(reading);
                }
                Err(error) => self.note(Err(error)),
            },
            Carrier::Header(_) | Carrier::Envelope(_) | Carrier::Sse(_) => {}
        }
    }

    /// What the lines said.
    #[inline]
    pub fn read(self) -> Found {
        self.found
    }

    #[inline]
    fn note(&mut self, reading: Result<Reading<'_>, DecodeError>) {
        let miss = match reading {
            Ok(reading) if token::has_passed(reading.expires, self.now) => Miss::Expired,
            Ok(reading) => match Address::new(reading.address) {
                Some(address) => {
                    self.found.token = Ok(Token { address, expires: reading.expires });
                    return;
                }
                None => Miss::Malformed,
            },
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
    #[inline]
    pub fn token(&self) -> Result<&Token, Miss> {
        self.token.as_ref().map_err(|&miss| miss)
    }
}
