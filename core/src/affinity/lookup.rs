//! Reading the session field of one request.

use super::policy::Carrier;
use super::{Miss, Policy};
use crate::carrier::Sse;
use crate::clock::UnixSecs;
use crate::token::{self, Address, DecodeError, Reading, Scratch, Token};

/// Reads the session field of one request.
#[derive(Debug)]
pub struct Lookup<'l> {
    policy: &'l Policy,
    now: UnixSecs,
    /// What was read last; of a good token nothing is read behind it.
    room: &'l mut Scratch,
    token: Result<Reading, Miss>,
    enveloped: bool,
    lines: u32,
}

/// What a request's session field says.
#[derive(Clone, Copy, Debug)]
pub struct Found<'l> {
    /// The address of a good token, and when it stops counting.
    pub(super) token: Result<(&'l [u8], Option<UnixSecs>), Miss>,
    /// The first line is an envelope, or the target has an address in it: the upstream must not see that.
    pub(super) enveloped: bool,
}

impl<'l> Lookup<'l> {
    #[inline]
    pub(super) fn new(policy: &'l Policy, now: UnixSecs, room: &'l mut Scratch) -> Self {
        Self { policy, now, room, token: Err(Miss::Absent), enveloped: false, lines: 0 }
    }

    /// Reads the target. The first usable value of the parameter counts, as with cookies; one without an address is the
    /// upstream's own, as it stands: malformed, like an envelope that is none.
    pub(super) fn in_target(mut self, sse: &Sse, target: &[u8]) -> Self {
        for span in sse.values(target) {
            let reading = token::read_sse(target.get(span).unwrap_or_default(), self.room);
            self.note(reading);
            if self.token.is_ok() {
                self.enveloped = true;
                break;
            }
        }
        self
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
                while self.token.is_err()
                    && let Some(value) = values.next()
                {
                    let reading = token::read_cookie(value, self.room);
                    self.note(reading);
                }
            }
            Carrier::Header(_) if first => {
                let reading = token::read_header(line, self.room);
                self.note(reading);
            }
            Carrier::Envelope(_) if first => {
                let reading = token::read_envelope(line, self.room);
                self.enveloped = reading.is_ok();
                self.note(reading.flatten());
            }
            Carrier::Header(_) | Carrier::Envelope(_) | Carrier::Sse(_) => {}
        }
    }

    /// What the lines said.
    #[inline]
    pub fn read(&self) -> Found<'_> {
        let token = self.token.as_ref().map(|reading| (reading.address(self.room), reading.expires));
        let token = token.map_err(|&miss| miss);
        Found { token, enveloped: self.enveloped }
    }

    #[inline]
    fn note(&mut self, reading: Result<Reading, DecodeError>) {
        let miss = match reading {
            Ok(reading) if token::has_passed(reading.expires, self.now) => Miss::Expired,
            Ok(reading) => {
                self.token = Ok(reading);
                return;
            }
            Err(DecodeError::Empty) => Miss::Absent,
            Err(_) => Miss::Malformed,
        };
        if let Err(worst) = &mut self.token {
            *worst = match (*worst, miss) {
                (Miss::Expired, _) | (_, Miss::Expired) => Miss::Expired,
                (Miss::Malformed, _) | (_, Miss::Malformed) => Miss::Malformed,
                _ => Miss::Absent,
            };
        }
    }
}

impl Found<'_> {
    /// The token, or why there is none.
    pub fn token(&self) -> Result<Token, Miss> {
        let (address, expires) = self.token?;
        // What was read is an address; one that does not fit was refused then.
        let address = Address::new(address).ok_or(Miss::Malformed)?;
        Ok(Token { address, expires })
    }
}
