//! What every shell would otherwise repeat: the window pool, the link pool, the timer wheel, the counters and
//! the view of the configuration. One [`Worker`] per thread; nothing here is shared on the hot path.

mod links;
mod view;
mod wheel;
mod windows;

pub use links::{LinkKey, Links, LinkLimits, Obtained};
pub use view::View;
pub use wheel::Wheel;
pub use windows::WindowPool;

use std::rc::Rc;
use std::sync::Arc;

use crate::clock::Now;
use crate::http1::date::DateCache;
use crate::http1::edits::Edits;
use crate::limits::{INSERT_MAX, TOKEN_MAX};
use crate::log::LogWriter;
use crate::rng::Rng;
use crate::snapshot::Snapshot;
use crate::stats::Counters;

/// One thread's share of everything but the sockets.
#[derive(Debug)]
pub struct Worker {
    /// Both clocks. The shell sets them before it calls into an exchange.
    pub now: Now,
    /// Buffers at rest.
    pub windows: WindowPool,
    /// Whether the program is being stopped: no connection outlives its current request.
    pub stopping: bool,
    pub(crate) view: Rc<View>,
    pub(crate) rng: Rng,
    pub(crate) scratch: Scratch,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Option<LogWriter>,
}

/// Preallocated space for the edits of one head. Used within one call, never across calls.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) edits: Edits,
    pub(crate) value: Vec<u8>,
    pub(crate) date: DateCache,
}

impl Worker {
    /// A worker that starts with `snapshot`. All its random choices follow from `seed`.
    pub fn new(snapshot: Arc<Snapshot>, counters: Arc<Counters>, log: Option<LogWriter>, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let view = Rc::new(View::new(snapshot, &mut rng));
        let scratch = Scratch {
            edits: Edits::new(),
            value: Vec::with_capacity(INSERT_MAX + TOKEN_MAX),
            date: DateCache::default(),
        };
        Self {
            now: Now::default(),
            windows: WindowPool::default(),
            stopping: false,
            view,
            rng,
            scratch,
            counters,
            log,
        }
    }

    /// Takes a new snapshot into use. Exchanges that have begun keep the one they began with.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.view = Rc::new(View::new(snapshot, &mut self.rng));
    }

    /// The snapshot in use for new requests.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        self.view.snapshot()
    }

    /// The worker's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
