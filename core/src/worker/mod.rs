//! What every shell would otherwise repeat: the window pool, the link pool, the timer wheel, the counters and
//! the view of the configuration. One [`Worker`] per thread; nothing here is shared on the hot path.

mod control;
mod links;
mod spares;
mod view;
mod wheel;
mod windows;

pub use control::{Control, Phase};
pub use links::{LinkKey, LinkLimits, Links, Obtained};
pub use spares::{is_roomy, slim_behind};
pub use view::View;
pub(crate) use view::Waits;
pub use wheel::Wheel;
pub use windows::WindowPool;

use std::rc::Rc;
use std::sync::Arc;

use crate::clock::Now;
use crate::http1::{DateCache, Edits, Splicer};
use crate::limits::{INSERT_MAX, TOKEN_MAX};
use crate::log::LogSink;
use crate::rng::Rng;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::token;
use spares::Spares;

/// Most splicers that are kept for reuse.
const SPLICERS_KEPT: usize = 256;

/// One thread's share of everything but the sockets.
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
    /// For event streams to come, so that a stream allocates only when there are more at once than there were lately.
    pub(crate) splicers: Spares<Box<Splicer>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Option<Box<dyn LogSink>>,
}

/// Preallocated space for the edits of one head. Used within one call, never across calls.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) edits: Edits,
    pub(crate) value: Vec<u8>,
    pub(crate) date: DateCache,
    pub(crate) token: token::Scratch,
}

impl core::fmt::Debug for Worker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Worker")
            .field("now", &self.now)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that starts with `snapshot`. All its random choices follow from `seed`.
    pub fn new(
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        log: Option<Box<dyn LogSink>>,
        seed: u64,
    ) -> Self {
        let rng = Rng::seeded(seed);
        let view = Rc::new(View::new(snapshot));
        let scratch = Scratch {
            edits: Edits::new(),
            value: Vec::with_capacity(INSERT_MAX + TOKEN_MAX),
            date: DateCache::default(),
            token: token::Scratch::new(),
        };
        Self {
            now: Now::default(),
            windows: WindowPool::default(),
            stopping: false,
            view,
            rng,
            scratch,
            splicers: Spares::new(SPLICERS_KEPT),
            counters,
            log,
        }
    }

    /// Takes a new snapshot into use. Exchanges that have begun keep the one they began with.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.view = Rc::new(self.view.succeed(snapshot));
    }

    /// The snapshot in use for new requests.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        self.view.snapshot()
    }

    /// Hands the access log's records over. Called on every tick.
    pub fn flush_log(&mut self) {
        if let Some(log) = self.log.as_mut() {
            log.flush();
        }
    }

    /// Frees what a crowd has left behind and nobody has needed for a while. Called about once a second.
    pub fn slim(&mut self) {
        self.windows.slim();
        self.splicers.slim();
    }

    /// Lets go of the access log, which hands everything over that is left: the worker's last act. What still holds the
    /// worker then, a task of its runtime say, holds no record.
    pub fn close_log(&mut self) {
        self.log = None;
    }

    /// Keeps a splicer for the next event stream.
    pub(crate) fn give_splicer(&mut self, splicer: Box<Splicer>) {
        self.splicers.push(splicer);
    }

    /// The worker's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
