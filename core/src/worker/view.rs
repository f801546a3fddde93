//! One worker's view of a snapshot: the shared, immutable part and the worker's own places in the rotations.

use core::cell::RefCell;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::balance::Cursor;
use crate::clock::Wait;
use crate::hosts::{Cluster, ClusterId, HostId, HostRef};
use crate::limits::Limits;
use crate::rng::Rng;
use crate::snapshot::Snapshot;

/// A snapshot and this worker's rotation in each of its clusters. Held by an `Rc`, so that an exchange can outlive
/// a reload without a shared atomic per request.
#[derive(Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    waits: Waits,
    cursors: RefCell<Vec<Cursor>>,
}

/// The time-outs of an exchange, by the names of [`Limits`]: each request takes several.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) request_head: Wait,
    pub(crate) body_idle: Wait,
    pub(crate) connect: Wait,
    pub(crate) response: Wait,
    pub(crate) keep_alive: Wait,
    pub(crate) tunnel_idle: Wait,
    pub(crate) pending: Wait,
    pub(crate) linger: Wait,
}

impl Waits {
    fn of(limits: &Limits) -> Self {
        Self {
            request_head: limits.request_head_timeout.into(),
            body_idle: limits.body_idle_timeout.into(),
            connect: limits.connect_timeout.into(),
            response: limits.response_timeout.into(),
            keep_alive: limits.keep_alive_timeout.into(),
            tunnel_idle: limits.tunnel_idle_timeout.into(),
            pending: limits.pending_timeout.into(),
            linger: limits.linger_timeout.into(),
        }
    }
}

impl View {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let cursors = snapshot.clusters.iter().map(|_| Cursor::default()).collect();
        Self { waits: Waits::of(&snapshot.limits), snapshot, cursors: RefCell::new(cursors) }
    }

    /// A view of the snapshot that follows, in which each cluster goes on with its rotation: many reloads must not mean
    /// that many rotations begin.
    pub(crate) fn succeed(&self, snapshot: Arc<Snapshot>) -> Self {
        let previous = self.cursors.borrow();
        let named: HashMap<&str, &Cursor, FixedState> =
            self.snapshot.clusters.iter().map(Cluster::name).zip(previous.iter()).collect();
        let cursors = snapshot
            .clusters
            .iter()
            .map(|cluster| named.get(cluster.name()).map_or_else(Cursor::default, |&cursor| cursor.clone()));
        let cursors = RefCell::new(cursors.collect());
        Self { waits: Waits::of(&snapshot.limits), snapshot, cursors }
    }

    /// The shared part.
    #[inline]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The time-outs of its [`Limits`].
    #[inline]
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Lets the cluster's balancer choose a host for a session that has none.
    pub(crate) fn pick(&self, id: ClusterId, rng: &mut Rng, avoid: Option<HostId>) -> Option<HostRef> {
        let cluster = self.snapshot.cluster(id)?;
        let mut cursors = self.cursors.borrow_mut();
        let cursor = cursors.get_mut(id.0 as usize)?;
        let host = cluster.balancer().pick(cluster.hosts(), cursor, rng, avoid)?;
        Some(HostRef { cluster: id, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Balance;
    use crate::hosts::{ClusterSpec, Endpoint, HealthSet, HostSpec};

    fn cluster(name: &str, hosts: u16) -> Cluster {
        let host = |port: u16| HostSpec {
            endpoint: Endpoint::Tcp(([127, 0, 0, 1], port).into()),
            weight: 1,
            priority: 0,
            cell: Arc::default(),
        };
        Cluster::compile(ClusterSpec {
            name: name.into(),
            hosts: (1..=hosts).map(host).collect(),
            balance: Balance::RoundRobin,
            override_status: HealthSet::USABLE,
            panic_percent: 0,
        })
        .unwrap()
    }

    #[test]
    fn rotations_go_on_from_snapshot_to_snapshot() {
        let snapshot = |clusters| Arc::new(Snapshot { clusters, ..Snapshot::default() });
        let mut rng = Rng::seeded(5);
        let mut view = View::new(snapshot(vec![cluster("app", 5)]));
        let mut turns = Vec::new();
        for generation in 0..15 {
            // The cluster keeps its name and not its place.
            let at = ClusterId(u32::from(generation % 2 == 1));
            turns.push(view.pick(at, &mut rng, None).unwrap().host);
            let clusters = match generation % 2 {
                0 => vec![cluster("other", 2), cluster("app", 5)],
                _ => vec![cluster("app", 5)],
            };
            view = view.succeed(snapshot(clusters));
        }
        for host in (0..5).map(HostId) {
            assert_eq!(turns.iter().filter(|&&turn| turn == host).count(), 3, "{turns:?}");
        }
    }
}
