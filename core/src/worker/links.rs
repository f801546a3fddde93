//! Upstream connections ("links") of one worker: pooled per host, capped, and given up when idle for long.
//!
//! A link stays with its downstream connection across keep-alive, since sticky traffic goes to the same host. It
//! comes here when that connection rests or leaves. Links are keyed by the host's state cell, which lives on from snapshot
//! to snapshot: a link of a host that left the cluster is never mistaken for another host's.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::clock::Tick;
use crate::hosts::HostCell;

/// Names the host of a link, across snapshots.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LinkKey(usize);

/// The bounds of the pool; see the fields of the same names in [`crate::limits::Limits`].
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Most links to one host; zero: no cap.
    pub connections: u32,
    /// Most idle links kept per host.
    pub idle: u32,
    /// Most connections that wait for a link to one host.
    pub pending: u32,
    /// An idle link is closed after this time.
    pub idle_timeout: Duration,
}

/// What a connection that asked for a link gets.
#[derive(Debug)]
pub enum Obtained<L> {
    /// An idle link.
    Link(L),
    /// The right to make one. It is counted already: pair with [`Links::closed`].
    Connect,
    /// Nothing now: the host is full. The connection stands in the queue and is woken when its turn comes.
    Wait,
    /// Nothing: the host is full and so is its queue.
    Full,
}

/// One worker's links. `L` is the shell's type of connection; dropping it closes it.
#[derive(Debug)]
pub struct Links<L> {
    limits: LinkLimits,
    hosts: HashMap<LinkKey, HostLinks<L>, FixedState>,
}

#[derive(Debug)]
struct HostLinks<L> {
    /// Also keeps the cell's address from being used again while links are keyed by it.
    cell: Arc<HostCell>,
    /// Idle links, the most recently used last.
    idle: Vec<(L, Tick)>,
    /// Links in use and idle, and those being made.
    open: u32,
    /// Connections that wait, by the shell's key.
    waiting: VecDeque<u32>,
}

impl LinkKey {
    /// The key of the host with this cell.
    pub fn of(cell: &Arc<HostCell>) -> Self {
        Self(Arc::as_ptr(cell) as usize)
    }
}

impl<L> Links<L> {
    /// An empty pool.
    pub fn new(limits: LinkLimits) -> Self {
        Self { limits, hosts: HashMap::with_hasher(FixedState::default()) }
    }

    /// Takes new bounds into use.
    pub fn set_limits(&mut self, limits: LinkLimits) {
        self.limits = limits;
    }

    /// Asks for a link to the host of `cell` for connection `asker`. `fresh`: a pooled one will not do.
    /// Who waits already and asks again keeps its place in the queue.
    pub fn obtain(&mut self, cell: &Arc<HostCell>, asker: u32, fresh: bool) -> Obtained<L> {
        let limits = self.limits;
        let host = self.hosts.entry(LinkKey::of(cell)).or_insert_with(|| HostLinks {
            cell: Arc::clone(cell),
            idle: Vec::new(),
            open: 0,
            waiting: VecDeque::new(),
        });
        let place = host.waiting.iter().position(|&waiting| waiting == asker);
        let obtained = if !fresh && let Some((link, _)) = host.idle.pop() {
            Obtained::Link(link)
        } else if limits.connections == 0 || host.open < limits.connections {
            host.open += 1;
            Obtained::Connect
        } else if !host.idle.is_empty() {
            // At the cap, but an idle link can make room for the fresh one.
            host.idle.remove(0);
            Obtained::Connect
        } else if place.is_some() {
            return Obtained::Wait;
        } else if host.waiting.len() >= limits.pending as usize {
            return Obtained::Full;
        } else {
            host.waiting.push_back(asker);
            return Obtained::Wait;
        };
        if let Some(place) = place {
            host.waiting.remove(place);
        }
        obtained
    }

    /// Puts an idle link back, or closes it if its host has left or has idle links enough. Returns the connection to be
    /// woken, if one waits for this host.
    #[must_use = "the connection that waits must be woken"]
    pub fn release(&mut self, key: LinkKey, link: L, now: Tick) -> Option<u32> {
        let host = self.hosts.get_mut(&key)?;
        if host.idle.len() < self.limits.idle as usize && !host.cell.is_retired() {
            host.idle.push((link, now));
        } else {
            host.open = host.open.saturating_sub(1);
        }
        host.waiting.front().copied()
    }

    /// A link was closed, or could not be made. Returns the connection to be woken, if one waits for this host.
    #[must_use = "the connection that waits must be woken"]
    pub fn closed(&mut self, key: LinkKey) -> Option<u32> {
        let host = self.hosts.get_mut(&key)?;
        host.open = host.open.saturating_sub(1);
        host.waiting.front().copied()
    }

    /// Connection `asker` waits no longer. Returns the next one to be woken.
    pub fn give_up(&mut self, key: LinkKey, asker: u32) -> Option<u32> {
        let host = self.hosts.get_mut(&key)?;
        host.waiting.retain(|&waiting| waiting != asker);
        let cap = self.limits.connections;
        host.waiting.front().copied().filter(|_| !host.idle.is_empty() || cap == 0 || host.open < cap)
    }

    /// Closes links that have been idle for too long or that `alive` finds dead. Called about once a second.
    pub fn sweep(&mut self, now: Tick, mut alive: impl FnMut(&L) -> bool) {
        let timeout = self.limits.idle_timeout;
        self.hosts.retain(|_, host| {
            let before = host.idle.len();
            host.idle.retain(|(link, since)| now < since.after(timeout) && alive(link));
            let gone = u32::try_from(before - host.idle.len()).unwrap_or(u32::MAX);
            host.open = host.open.saturating_sub(gone);
            host.open > 0 || !host.waiting.is_empty()
        });
    }

    /// Closes idle links to hosts that have left. Called when a new snapshot comes into force.
    pub fn close_retired(&mut self) {
        for host in self.hosts.values_mut().filter(|host| host.cell.is_retired()) {
            host.close_idle();
        }
    }

    /// Closes all idle links.
    pub fn clear(&mut self) {
        self.hosts.values_mut().for_each(HostLinks::close_idle);
    }

    /// Idle links, over all hosts.
    pub fn idle(&self) -> usize {
        self.hosts.values().map(|host| host.idle.len()).sum()
    }
}

impl<L> HostLinks<L> {
    fn close_idle(&mut self) {
        self.open = self.open.saturating_sub(u32::try_from(self.idle.len()).unwrap_or(u32::MAX));
        self.idle.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LinkLimits =
        LinkLimits { connections: 2, idle: 1, pending: 1, idle_timeout: Duration::from_secs(1) };

    #[test]
    fn the_cap_queues_and_a_closed_link_wakes_the_first_in_line() {
        let cell = Arc::<HostCell>::default();
        let key = LinkKey::of(&cell);
        let mut links = Links::<&str>::new(LIMITS);
        assert!(matches!(links.obtain(&cell, 1, false), Obtained::Connect));
        assert!(matches!(links.obtain(&cell, 2, false), Obtained::Connect));
        assert!(matches!(links.obtain(&cell, 3, false), Obtained::Wait));
        assert!(matches!(links.obtain(&cell, 4, false), Obtained::Full));
        assert_eq!(links.closed(key), Some(3));
        assert!(matches!(links.obtain(&cell, 3, false), Obtained::Connect));
        assert_eq!(links.release(key, "a", Tick::from_millis(0)), None);
        assert!(matches!(links.obtain(&cell, 5, false), Obtained::Link("a")));
    }

    #[test]
    fn asking_again_keeps_the_place_in_the_queue() {
        let cell = Arc::<HostCell>::default();
        let key = LinkKey::of(&cell);
        let mut links = Links::<&str>::new(LinkLimits { connections: 1, pending: 2, ..LIMITS });
        assert!(matches!(links.obtain(&cell, 1, false), Obtained::Connect));
        for asker in [2, 3, 2] {
            assert!(matches!(links.obtain(&cell, asker, false), Obtained::Wait));
        }
        assert_eq!(links.release(key, "a", Tick::from_millis(0)), Some(2));
        assert!(matches!(links.obtain(&cell, 2, false), Obtained::Link("a")));
        assert_eq!(links.release(key, "a", Tick::from_millis(0)), Some(3));
    }

    #[test]
    fn a_cap_that_is_lifted_lets_all_go_on() {
        let cell = Arc::<HostCell>::default();
        let key = LinkKey::of(&cell);
        let mut links = Links::<&str>::new(LinkLimits { connections: 1, pending: 2, ..LIMITS });
        assert!(matches!(links.obtain(&cell, 1, false), Obtained::Connect));
        for asker in [2, 3] {
            assert!(matches!(links.obtain(&cell, asker, false), Obtained::Wait));
        }
        links.set_limits(LinkLimits { connections: 0, ..LIMITS });
        assert_eq!(links.closed(key), Some(2));
        assert!(matches!(links.obtain(&cell, 2, false), Obtained::Connect));
        assert_eq!(links.give_up(key, 2), Some(3), "nothing keeps the next in line any more");
    }

    #[test]
    fn a_fresh_link_pushes_an_idle_one_out_at_the_cap() {
        let cell = Arc::<HostCell>::default();
        let key = LinkKey::of(&cell);
        let mut links = Links::<&str>::new(LIMITS);
        assert!(matches!(links.obtain(&cell, 1, false), Obtained::Connect));
        assert!(matches!(links.obtain(&cell, 2, false), Obtained::Connect));
        assert_eq!(links.release(key, "a", Tick::from_millis(0)), None);
        assert!(matches!(links.obtain(&cell, 2, true), Obtained::Connect));
        assert_eq!(links.idle(), 0);
    }

    #[test]
    fn a_host_that_has_left_keeps_no_idle_link() {
        let (cell, stays) = (Arc::<HostCell>::default(), Arc::<HostCell>::default());
        let (key, kept) = (LinkKey::of(&cell), LinkKey::of(&stays));
        let mut links = Links::<&str>::new(LinkLimits { idle: 9, ..LIMITS });
        for cell in [&cell, &cell, &stays] {
            assert!(matches!(links.obtain(cell, 0, true), Obtained::Connect));
        }
        assert_eq!(links.release(key, "idle", Tick::from_millis(0)), None);
        assert_eq!(links.release(kept, "of another", Tick::from_millis(0)), None);
        cell.retire();
        links.close_retired();
        assert_eq!(links.idle(), 1);
        assert_eq!(links.release(key, "in use until now", Tick::from_millis(0)), None);
        assert_eq!(links.idle(), 1, "the last request has ended, and its link goes too");
        links.sweep(Tick::from_millis(1), |_| true);
        assert_eq!(links.hosts.len(), 1);
    }

    #[test]
    fn idle_links_age_and_die() {
        let cell = Arc::<HostCell>::default();
        let key = LinkKey::of(&cell);
        let mut links = Links::<&str>::new(LinkLimits { idle: 9, connections: 0, ..LIMITS });
        for name in ["old", "dead", "young"] {
            assert!(matches!(links.obtain(&cell, 0, true), Obtained::Connect));
            let at = if name == "old" { 0 } else { 900 };
            assert_eq!(links.release(key, name, Tick::from_millis(at)), None);
        }
        links.sweep(Tick::from_millis(1000), |&link| link != "dead");
        assert_eq!(links.idle(), 1);
        assert!(matches!(links.obtain(&cell, 0, false), Obtained::Link("young")));
        links.sweep(Tick::from_millis(1000), |_| true);
        assert_eq!(links.hosts.len(), 1, "a link in use keeps its host");
    }
}
