//! What the control plane tells the workers: the snapshot in force, and whether to go on. Workers look at it on every
//! tick of theirs; nothing is read per request.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::gate::{Full, Gate, Permit};
use crate::route::ListenerId;
use crate::snapshot::Snapshot;

/// What the program is doing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Run = 0,
    /// No new connections; requests in flight finish.
    Drain = 1,
    /// Everything ends now.
    Stop = 2,
}

/// Shared by the control plane, which writes, and all workers, which read.
#[derive(Debug)]
pub struct Control {
    snapshot: ArcSwap<Snapshot>,
    /// Counts publications, so that a worker sees with one relaxed load that there is nothing new.
    published: AtomicU64,
    phase: AtomicU8,
    gate: Arc<Gate>,
}

impl Control {
    /// Serving `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot: ArcSwap::new(snapshot),
            published: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Run as u8),
            gate: Arc::default(),
        }
    }

    /// Puts a new snapshot in force. Requests that have begun keep the old one.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.published.fetch_add(1, Ordering::Release);
    }

    /// How many snapshots were published after the first.
    #[inline]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The right to serve one more client connection of `listener` under the caps of `snapshot`.
    ///
    /// # Errors
    /// The cap that leaves no room. Accepting then pauses: on this listener, or on all.
    pub fn admit(&self, snapshot: &Snapshot, listener: ListenerId) -> Result<Permit, Full> {
        let total = snapshot.limits.connections;
        match snapshot.listener(listener) {
            Some(listener) => Permit::take(&self.gate, total, &listener.gate, listener.connections),
            // A listener that no snapshot knows answers 404; it counts all the same.
            None => Permit::take(&self.gate, total, &Arc::default(), 0),
        }
    }

    /// Counts the client connections of all workers.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What the program is doing.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::Stop,
        }
    }

    /// Moves on to a later phase; there is no way back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }
}
