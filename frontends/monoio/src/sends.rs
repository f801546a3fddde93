//! Which way of sending costs this machine less: at once, by a system call, or through the ring, together with the reads.
//!
//! Both are right, and processors, kernels and hypervisors differ: sending at once was measured 5 % cheaper on one machine
//! and 9 % dearer on another (docs/decisions/0013). So a worker that has much to send tries both and keeps the cheaper:
//!
//! ```text
//!  little to send: at once, which is quicker ──much──▶ trial: tick by tick the other way ──▶ the cheaper one
//!            ▲                                              ▲                                   │      │
//!            └───────────────── little ─────────────────────┼───────────────────────────────────┘      │
//!                                                           └────────── some time of load later ◀──────┘
//! ```

/// As many sends in a tick make the worker busy: there is something to save, and something to measure.
const BUSY: u64 = 2000;
/// Ticks of a trial, half of them each way.
const TRIAL: u32 = 8;
/// Busy ticks before what was found is tried again: conditions change.
const KEPT: u32 = 300;

/// A way of sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// By a system call that does not wait; through the ring only what the socket does not take.
    AtOnce,
    /// As an operation of the ring.
    Ring,
}

/// Finds the cheaper way by the CPU time that was spent per send.
#[derive(Debug, Default)]
pub(crate) struct Chooser {
    /// What the last trial has found.
    found: Option<Way>,
    /// Busy ticks for which that counts.
    kept: u32,
    trial: Option<Trial>,
    /// The thread's CPU time at the last tick, in nanoseconds.
    spent: u64,
}

/// CPU time and sends, each way.
#[derive(Debug, Default)]
struct Trial {
    ticks: u32,
    at_once: Sum,
    ring: Sum,
}

#[derive(Debug, Default)]
struct Sum {
    nanos: u64,
    sends: u64,
}

impl Way {
    const fn other(self) -> Self {
        match self {
            Self::AtOnce => Self::Ring,
            Self::Ring => Self::AtOnce,
        }
    }
}

impl Chooser {
    /// A tick is over: `sends` were made the `way` that was said last, and the thread has used `spent` nanoseconds of CPU
    /// time since it began. Says how to send in the next one.
    pub(crate) fn tick(&mut self, way: Way, sends: u64, spent: u64) -> Way {
        let nanos = spent.saturating_sub(std::mem::replace(&mut self.spent, spent));
        if sends < BUSY {
            self.trial = None;
            return Way::AtOnce;
        }
        if let Some(found) = self.found.filter(|_| self.kept > 0) {
            self.kept -= 1;
            return found;
        }
        let trial = self.trial.get_or_insert_default();
        trial.note(way, nanos, sends);
        if trial.ticks < TRIAL {
            return way.other();
        }
        let found = trial.cheaper();
        (self.found, self.kept, self.trial) = (Some(found), KEPT, None);
        found
    }
}

impl Trial {
    fn note(&mut self, way: Way, nanos: u64, sends: u64) {
        let sum = match way {
            Way::AtOnce => &mut self.at_once,
            Way::Ring => &mut self.ring,
        };
        sum.nanos += nanos;
        sum.sends += sends;
        self.ticks += 1;
    }

    fn cheaper(&self) -> Way {
        let whole = |nanos: u64, sends: u64| u128::from(nanos) * u128::from(sends);
        let ring_is_cheaper =
            whole(self.ring.nanos, self.at_once.sends) < whole(self.at_once.nanos, self.ring.sends);
        if ring_is_cheaper { Way::Ring } else { Way::AtOnce }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that runs for `ticks`, with what a send costs each way; the ways it went.
    fn run(sends: &mut Chooser, ticks: u32, load: u64, cost: impl Fn(u32, Way) -> u64) -> Vec<Way> {
        let mut spent = sends.spent;
        let mut way = Way::AtOnce;
        let each = (0..ticks).map(|tick| {
            let went = way;
            spent += load * cost(tick, way);
            way = sends.tick(way, load, spent);
            went
        });
        each.collect()
    }

    fn of(at_once: u64, ring: u64) -> impl Fn(u32, Way) -> u64 {
        move |_, way| if way == Way::AtOnce { at_once } else { ring }
    }

    #[test]
    fn a_busy_worker_keeps_the_cheaper_way() {
        for (at_once, ring, cheaper) in
            [(5000, 4600, Way::Ring), (4600, 5000, Way::AtOnce), (5000, 5000, Way::AtOnce)]
        {
            let ways = run(&mut Chooser::default(), 100, 10_000, of(at_once, ring));
            let (trial, rest) = ways.split_at(TRIAL as usize);
            let tried = trial.iter().filter(|&&way| way == Way::Ring).count();
            assert_eq!((trial[0], tried), (Way::AtOnce, TRIAL as usize / 2));
            assert!(rest.iter().all(|&way| way == cheaper), "{at_once} and {ring}: {rest:?}");
        }
    }

    #[test]
    fn a_machine_that_slows_down_meanwhile_makes_no_difference() {
        let slowing = |tick, way| of(5000, 4600)(tick, way) * (100 + u64::from(tick)) / 100;
        let ways = run(&mut Chooser::default(), 50, 10_000, slowing);
        assert_eq!(ways.last(), Some(&Way::Ring));
    }

    #[test]
    fn who_has_little_to_send_sends_at_once() {
        let ways = run(&mut Chooser::default(), 100, BUSY - 1, of(5000, 4600));
        assert!(ways.iter().all(|&way| way == Way::AtOnce));
    }

    #[test]
    fn what_was_found_outlives_a_pause_and_is_tried_again_later() {
        let mut sends = Chooser::default();
        run(&mut sends, 50, 10_000, of(5000, 4600));
        run(&mut sends, 50, 10, of(5000, 4600));
        let ways = run(&mut sends, KEPT + 100, 10_000, of(4600, 5000));
        assert!(ways[1..100].iter().all(|&way| way == Way::Ring), "no new trial so soon");
        assert_eq!(ways.last(), Some(&Way::AtOnce));
    }
}
