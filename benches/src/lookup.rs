//! L1 alone: a browser's cookie field is shown to the affinity core, and out comes the host that the session is at home
//! on.

use homing_core::affinity::{Policy, Verdict};
use homing_core::clock::UnixSecs;
use homing_core::hosts::ClusterId;
use homing_core::token::Scratch;

use crate::exchange::{NOW, cookies, policy};
use crate::hosts::Hosts;

/// A session policy, the hosts of its cluster and a cookie field with the token of the last of them.
#[derive(Debug)]
pub struct Lookups {
    policy: Policy,
    hosts: Hosts,
    line: Vec<u8>,
    room: Scratch,
}

impl Lookups {
    /// A cluster of `hosts` hosts. `None` when the set-up is at fault.
    pub fn new(hosts: u32) -> Option<Self> {
        let hosts = Hosts::new(hosts).ok()?;
        let line = cookies(Some(hosts.present.last()?));
        Some(Self { policy: policy().ok()?, hosts, line, room: Scratch::new() })
    }

    /// One lookup; `None` when the path is none of the policy's.
    #[inline]
    pub fn find(&mut self, path: &[u8], now: UnixSecs) -> Option<Verdict> {
        let mut lookup = self.policy.lookup(path, now, &mut self.room)?;
        lookup.offer(&self.line);
        Some(lookup.read().find(&self.policy, [(ClusterId(0), &self.hosts.cluster)]))
    }

    /// A time at which the token is good.
    #[must_use]
    pub const fn now() -> UnixSecs {
        NOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_leads_to_its_host_until_it_expires() {
        let mut lookups = Lookups::new(100).unwrap();
        let found = lookups.find(b"/a?x", Lookups::now());
        assert!(matches!(found, Some(Verdict::Pin(_))), "{found:?}");
        let late = UnixSecs::new(NOW.get() + 61);
        let found = lookups.find(b"/a?x", late);
        assert!(matches!(found, Some(Verdict::Place(_))), "{found:?}");
    }
}
