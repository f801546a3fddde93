//! One worker's view of a snapshot: the shared, immutable part and the worker's own places in the rotations.

use core::cell::RefCell;
use std::sync::Arc;

use crate::balance::Cursor;
use crate::hosts::{ClusterId, HostId, HostRef};
use crate::rng::Rng;
use crate::snapshot::Snapshot;

/// A snapshot and this worker's rotation in each of its clusters. Held by an `Rc`, so that an exchange can outlive
/// a reload without a shared atomic per request.
#[derive(Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    cursors: RefCell<Vec<Cursor>>,
}

impl View {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let cursors = snapshot.clusters.iter().map(|_| Cursor::default()).collect();
        Self { snapshot, cursors: RefCell::new(cursors) }
    }

    /// The shared part.
    #[inline]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
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
