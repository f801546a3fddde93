//! What the shell is told of a link that is wanted.

use core::fmt;

use crate::hosts::{ClusterId, HostId, HostRef};

/// A link that is wanted.
///
/// One number, so that a [`Step`](super::Step) is returned in two registers. One that goes through memory is written in parts
/// and read as a whole, and for that a processor waits.
///
/// ```text
/// [ fresh: 1 | checked: 1 | cluster: 30 | host: 32 ]
/// ```
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Dial(u64);

impl Dial {
    const FRESH: u64 = 1 << 63;
    const CHECKED: u64 = 1 << 62;
    /// Larger than the number of any cluster: no machine has the memory for so many.
    const CLUSTERS: u32 = 1 << 30;

    pub(super) fn to(host: HostRef, fresh: bool, checked: bool) -> Self {
        let HostRef { cluster: ClusterId(cluster), host: HostId(host) } = host;
        debug_assert!(cluster < Self::CLUSTERS);
        let fresh = if fresh { Self::FRESH } else { 0 };
        let checked = if checked { Self::CHECKED } else { 0 };
        Self(fresh | checked | u64::from(cluster % Self::CLUSTERS) << u32::BITS | u64::from(host))
    }

    /// The host.
    #[inline]
    pub fn host(self) -> HostRef {
        let [host, cluster] = [self.0 as u32, (self.0 >> u32::BITS) as u32];
        HostRef { cluster: ClusterId(cluster % Self::CLUSTERS), host: HostId(host) }
    }

    /// Whether it must be a new connection: a pooled one has just died.
    #[inline]
    pub fn fresh(self) -> bool {
        self.0 & Self::FRESH != 0
    }

    /// Whether the held link must be looked at before it is used: this request cannot be sent again if the link
    /// turns out to be dead (RFC 9110 §9.2.2), or the host may have said something on it that answers no request: the link
    /// was still for long enough, or nobody saw the end of the last response
    /// ([`Exchange::passed`](super::Exchange::passed)). A link from the pool is looked at in any case: such bytes would reach
    /// another client.
    #[inline]
    pub fn checked(self) -> bool {
        self.0 & Self::CHECKED != 0
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("host", &self.host())
            .field("fresh", &self.fresh())
            .field("checked", &self.checked())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_dial_comes_out() {
        for cluster in [0, 1, 0x2aaa_aaaa, Dial::CLUSTERS - 1] {
            for host in [0, 1, 0x8000_0000, u32::MAX] {
                for (fresh, checked) in [(false, false), (false, true), (true, false), (true, true)] {
                    let at = HostRef { cluster: ClusterId(cluster), host: HostId(host) };
                    let dial = Dial::to(at, fresh, checked);
                    assert_eq!((dial.host(), dial.fresh(), dial.checked()), (at, fresh, checked));
                }
            }
        }
    }
}
