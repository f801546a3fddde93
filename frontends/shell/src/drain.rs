//! How a worker leaves: when it closes its listeners, and when its connections are told.
//!
//! ```text
//!          the program drains       all workers have closed       drain_timeout
//!  serves ───────────────────▶ closed ───────────────────▶ told ───────────────▶ stopped
//!                                │ ▲                                               ▲
//!                                └─┘ serves on                 the program stops ──┘
//! ```
//!
//! A client whose connection ends may come back at once, and the kernel hands it to any worker that listens. Workers look at
//! the program's phase at ticks of their own, so one may know of the drain a whole tick before another does. Were its
//! connections to go then, their clients would be let in again, only to be sent away for a second time. So each worker has a
//! [`Door`], and nobody is told, not even by a `connection: close`, before all doors are closed. That takes one tick of the
//! slowest worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homing_core::clock::Tick;
use homing_core::worker::{Control, Phase};

/// Stands for the listeners of one worker among those of a program. Dropped, it is closed: a worker that fails keeps nobody
/// waiting.
#[derive(Debug)]
pub struct Door {
    /// How many are open.
    open: Arc<AtomicUsize>,
    is_open: bool,
}

/// What one worker knows of the program's end.
#[derive(Debug)]
pub struct Drain {
    control: Arc<Control>,
    door: Door,
    listens: bool,
    told: Phase,
    /// When what is left is cut off.
    deadline: Tick,
}

impl Door {
    /// The doors of a program with so many workers.
    pub fn of_all(workers: usize) -> Vec<Self> {
        let open = Arc::new(AtomicUsize::new(workers));
        (0..workers).map(|_| Self { open: Arc::clone(&open), is_open: true }).collect()
    }

    /// The door of an only worker.
    pub fn of_one() -> Self {
        Self { open: Arc::new(AtomicUsize::new(1)), is_open: true }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn are_all_closed(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drain {
    /// A worker that serves.
    pub fn new(control: Arc<Control>, door: Door) -> Self {
        Self { control, door, listens: true, told: Phase::Run, deadline: Tick::NEVER }
    }

    /// Looks whether the program goes on; on every tick. If it does not, requests in flight have `timeout` from now.
    pub fn look(&mut self, now: Tick, timeout: Duration) {
        if self.listens && self.control.phase() != Phase::Run {
            self.listens = false;
            self.deadline = now.after(timeout);
        }
    }

    /// Whether connections are accepted at all; if not, the listeners are to be closed.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// The phase that connections know of.
    pub fn told(&self) -> Phase {
        self.told
    }

    /// The worker has closed its listeners: the kernel refuses who would come to one, whatever runtime or ring still has it.
    /// True: there is something to tell, and every connection is to be driven. To be asked again on every tick.
    pub fn closed(&mut self, now: Tick) -> bool {
        self.door.close();
        let told = match self.control.phase() {
            Phase::Drain if now >= self.deadline => Phase::Stop,
            Phase::Drain if !self.door.are_all_closed() => return false,
            phase => phase,
        };
        let is_news = told > self.told;
        self.told = self.told.max(told);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    /// Two workers of one program.
    fn two() -> (Arc<Control>, Drain, Drain) {
        let control = Arc::new(Control::new(Arc::default()));
        let mut doors = Door::of_all(2);
        let mut worker = || Drain::new(Arc::clone(&control), doors.pop().unwrap());
        let (one, other) = (worker(), worker());
        (control, one, other)
    }

    #[test]
    fn nobody_is_told_before_all_have_closed() {
        let (control, mut one, mut other) = two();
        one.look(at(0), TIMEOUT);
        assert!(one.listens());
        control.advance(Phase::Drain);
        one.look(at(100), TIMEOUT);
        assert!(!one.listens());
        assert!(!one.closed(at(100)) && !one.closed(at(200)), "the other one listens");
        assert_eq!(one.told(), Phase::Run);
        other.look(at(250), TIMEOUT);
        assert!(other.closed(at(250)));
        assert!(one.closed(at(300)));
        assert!(!one.closed(at(400)), "it has been told");
        assert_eq!((one.told(), other.told()), (Phase::Drain, Phase::Drain));
        assert!(one.closed(at(1100)) && !other.closed(at(1249)) && other.closed(at(1250)));
        assert_eq!((one.told(), other.told()), (Phase::Stop, Phase::Stop));
    }

    #[test]
    fn a_worker_that_fails_keeps_nobody_waiting() {
        let (control, mut one, other) = two();
        control.advance(Phase::Drain);
        one.look(at(0), TIMEOUT);
        assert!(!one.closed(at(0)));
        drop(other);
        assert!(one.closed(at(100)));
    }

    #[test]
    fn a_stop_waits_for_nobody_and_neither_does_the_time_out() {
        let (control, mut one, mut other) = two();
        control.advance(Phase::Drain);
        one.look(at(0), TIMEOUT);
        assert!(!one.closed(at(999)) && one.closed(at(1000)));
        control.advance(Phase::Stop);
        other.look(at(0), TIMEOUT);
        assert!(other.closed(at(0)));
        assert_eq!((one.told(), other.told()), (Phase::Stop, Phase::Stop));
    }
}
