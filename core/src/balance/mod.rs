//! Choices for sessions that have no home yet.
//!
//! A pick is a few *draws* from an immutable table (`round_robin` or `random`), each checked against the
//! drawn host's state cell, so a health flip rebuilds nothing. Draws cost the same at three hosts and at
//! 100,000. Only when `DRAWS` draws in a row were unusable are the hosts scanned, and then a usable one is
//! found if there is any:
//!
//! ```text
//! draw ─ usable ───────────────────────────────────────────▶ chosen (least request: the less busy of two)
//!   │▲
//!   │└ unusable, fewer than DRAWS ─┐
//!   └──────────────────────────────┴─ DRAWS unusable ─ scan ─┬─▶ chosen
//!                                                            └─▶ none, or `avoid` when it is the only one
//! ```
//!
//! **Usable** means [`HostCell::takes_new_sessions`](crate::hosts::HostCell::takes_new_sessions). In *panic*
//! it means open admission whatever the health. The rule of panic: of the hosts with open admission, fewer than
//! `panic_percent` per cent have a health that takes new sessions. Admission always holds, in panic too, and
//! closed hosts do not count: it is the operator's word and not a guess, and draining half a cluster for a
//! deploy must not send new sessions to hosts that are down. (Envoy counts every host; SEMANTICS 5.2.)
//! Panic changes nothing for a session that names its host.
//!
//! Whether there is panic is asked only when a draw was unusable for its health, which gives the same choices as
//! asking always: a draw that is usable without panic is usable with it. The answer takes a count of all hosts,
//! which each [`Cursor`] repeats at most once in `hosts / 16` picks: exact below 16 hosts, and above that a pick
//! pays for 16 hosts on average.

mod least_request;
mod random;
mod round_robin;

use crate::hosts::{Admission, Host, HostId};
use crate::rng::Rng;
use random::Alias;
use round_robin::{Place, Rotation};

/// Draws that may be unusable before the hosts are scanned. With half of the hosts down, one pick in 256 scans.
const DRAWS: u32 = 8;
/// A scan chooses, by weight, among the first so many usable hosts after a random place.
const SCAN_SAMPLE: u32 = 32;
/// The hosts a pick may pay for, on average, to learn whether there is panic.
const COUNTED_PER_PICK: usize = 16;

/// How sessions without a home are placed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// Weighted round robin.
    #[default]
    RoundRobin,
    /// The less busy of two random hosts, weights respected.
    LeastRequest,
    /// Random, weights respected.
    Random,
}

/// The immutable tables of one cluster's balancer. What changes per pick is in a [`Cursor`], one per worker.
#[derive(Debug)]
pub struct Balancer {
    table: Table,
    panic_percent: u8,
}

/// One worker's place in one cluster's rotation, and what it last counted.
///
/// A new cursor takes a random place at its first pick, and again when a reload changed the weights, so that
/// many workers do not all begin with the first host.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    place: Place,
    census: Census,
}

#[derive(Debug)]
enum Table {
    RoundRobin(Rotation),
    LeastRequest(Alias),
    Random(Alias),
}

/// The last answer to "is there panic?", and for how many picks it still stands.
#[derive(Clone, Debug, Default)]
struct Census {
    picks_left: usize,
    panic: bool,
}

/// One pick under way.
struct Pick<'a> {
    hosts: &'a [Host],
    census: &'a mut Census,
    avoid: Option<HostId>,
    panic_percent: u8,
}

impl Balance {
    /// The name used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::Random => "random",
        }
    }
}

impl Balancer {
    /// Builds the tables for `hosts`, in time and memory proportional to their number (8 bytes a host).
    /// `panic_percent` is 0 (never) to 100.
    pub fn compile(balance: Balance, panic_percent: u8, hosts: &[Host]) -> Self {
        let weights = || hosts.iter().map(Host::weight);
        let table = match balance {
            Balance::RoundRobin => Table::RoundRobin(Rotation::compile(weights())),
            Balance::LeastRequest => Table::LeastRequest(Alias::compile(weights())),
            Balance::Random => Table::Random(Alias::compile(weights())),
        };
        Self { table, panic_percent }
    }

    /// Whether picks depend on the number of requests in flight at each host, so that somebody must count them.
    pub const fn counts_active(&self) -> bool {
        matches!(self.table, Table::LeastRequest(_))
    }

    /// Whether the way of choosing is the same in `other`, whatever the hosts.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        self.panic_percent == other.panic_percent
            && core::mem::discriminant(&self.table) == core::mem::discriminant(&other.table)
    }

    /// Chooses a host that takes new sessions; `avoid` is only chosen when there is no other (a retry's last host).
    /// `None` when no host can be used. `hosts` are those the tables were built for.
    pub fn pick(
        &self,
        hosts: &[Host],
        cursor: &mut Cursor,
        rng: &mut Rng,
        avoid: Option<HostId>,
    ) -> Option<HostId> {
        let Cursor { place, census } = cursor;
        census.picks_left = census.picks_left.saturating_sub(1);
        let mut pick = Pick { hosts, census, avoid, panic_percent: self.panic_percent };
        match &self.table {
            Table::RoundRobin(rotation) => pick.first(rng, |rng| rotation.next(place, rng)),
            Table::Random(alias) => pick.first(rng, |rng| alias.draw(rng)),
            Table::LeastRequest(alias) => {
                let first = pick.first(rng, |rng| alias.draw(rng))?;
                Some(least_request::less_busy(&mut pick, alias, rng, first))
            }
        }
    }
}

impl Pick<'_> {
    /// The first usable draw, or what a scan finds.
    fn first(&mut self, rng: &mut Rng, mut draw: impl FnMut(&mut Rng) -> Option<u32>) -> Option<HostId> {
        for _ in 0..DRAWS {
            let id = HostId(draw(rng)?);
            if self.avoid != Some(id) && self.usable(id) {
                return Some(id);
            }
        }
        self.scan(rng)
    }

    fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0 as usize)
    }

    /// Whether a new session may be placed there, `avoid` aside.
    fn usable(&mut self, id: HostId) -> bool {
        let Some(cell) = self.host(id).map(Host::cell) else { return false };
        cell.takes_new_sessions() || cell.admission() == Admission::Open && self.panic()
    }

    /// Whether so few hosts are usable that health is ignored.
    fn panic(&mut self) -> bool {
        if self.panic_percent == 0 {
            return false;
        }
        // The second condition: a reload may have left far fewer hosts than were counted.
        let stands_for = self.hosts.len() / COUNTED_PER_PICK;
        if self.census.picks_left == 0 || self.census.picks_left > stands_for {
            let (mut open, mut usable) = (0_u64, 0_u64);
            for cell in self.hosts.iter().map(Host::cell) {
                open += u64::from(cell.admission() == Admission::Open);
                usable += u64::from(cell.takes_new_sessions());
            }
            self.census.panic = usable * 100 < u64::from(self.panic_percent) * open;
            self.census.picks_left = stands_for;
        }
        self.census.panic
    }

    /// Looks at every host, from a random one on, until enough usable ones are seen to choose among by weight.
    fn scan(&mut self, rng: &mut Rng) -> Option<HostId> {
        let hosts = self.hosts;
        let start = rng.below(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
        let (before, after) = hosts.split_at_checked(start as usize)?;
        let (mut seen, mut weights) = (0, 0);
        let (mut chosen, mut last_resort) = (None, None);
        for (id, host) in (start..).zip(after).chain((0..).zip(before)) {
            let id = HostId(id);
            if !self.usable(id) {
                continue;
            }
            if self.avoid == Some(id) {
                last_resort = Some(id);
                continue;
            }
            // A sample of one: each newcomer takes the seat with its weight's share of all seen so far.
            let weight = u32::from(host.weight());
            weights += weight;
            if rng.below(weights) < weight {
                chosen = Some(id);
            }
            seen += 1;
            if seen == SCAN_SAMPLE {
                break;
            }
        }
        chosen.or(last_resort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::{Cluster, ClusterSpec, Endpoint, Health, HealthSet, HostCell, HostSpec};
    use std::sync::Arc;

    const ALL: [Balance; 3] = [Balance::RoundRobin, Balance::LeastRequest, Balance::Random];

    /// A worker with its own place and randomness.
    struct Worker {
        cluster: Cluster,
        cursor: Cursor,
        rng: Rng,
    }

    impl Worker {
        fn new(balance: Balance, weights: impl IntoIterator<Item = u16>, panic_percent: u8) -> Self {
            let host = |(at, weight): (u32, u16)| HostSpec {
                endpoint: Endpoint::Tcp((at.to_be_bytes(), 80).into()),
                weight,
                cell: Arc::new(HostCell::new(Health::Healthy, Admission::Open)),
            };
            let spec = ClusterSpec {
                name: "c".into(),
                hosts: (0..).zip(weights).map(host).collect(),
                balance,
                override_status: HealthSet::USABLE,
                panic_percent,
            };
            let cluster = Cluster::compile(spec).unwrap();
            Self { cluster, cursor: Cursor::default(), rng: Rng::seeded(0x5eed) }
        }

        fn cell(&self, host: usize) -> &HostCell {
            self.cluster.hosts()[host].cell()
        }

        fn down(&self, hosts: impl IntoIterator<Item = usize>) {
            hosts.into_iter().for_each(|host| self.cell(host).set_health(Health::Unhealthy));
        }

        fn pick(&mut self, avoid: Option<u32>) -> Option<usize> {
            let (hosts, avoid) = (self.cluster.hosts(), avoid.map(HostId));
            let picked = self.cluster.balancer().pick(hosts, &mut self.cursor, &mut self.rng, avoid);
            picked.map(|id| id.0 as usize)
        }

        fn tally(&mut self, picks: u32) -> Vec<u32> {
            let mut tally = vec![0; self.cluster.hosts().len()];
            (0..picks).for_each(|_| tally[self.pick(None).unwrap()] += 1);
            tally
        }
    }

    #[test]
    fn weights_are_shares() {
        for balance in ALL {
            let tally = Worker::new(balance, [10, 5, 1], 0).tally(16_000);
            let near = |n: u32, wanted: u32| n.abs_diff(wanted) < 400;
            assert!(
                near(tally[0], 10_000) && near(tally[1], 5_000) && near(tally[2], 1_000),
                "{balance:?} {tally:?}"
            );
        }
        assert_eq!(Worker::new(Balance::RoundRobin, [10, 5, 1], 0).tally(16_000), [10_000, 5_000, 1_000]);
    }

    #[test]
    fn hosts_that_take_no_new_sessions_get_none() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [1; 6], 0);
            worker.cell(1).set_health(Health::Timeout);
            worker.cell(2).set_admission(Admission::Draining);
            worker.cell(3).set_admission(Admission::Leaving);
            worker.cell(4).set_admission(Admission::Barred);
            worker.cell(5).set_health(Health::Degraded);
            let tally = worker.tally(2000);
            assert_eq!(tally[1..5], [0; 4], "{balance:?}");
            assert!(tally[0] > 300 && tally[5] > 300, "{balance:?} {tally:?}");
            // And it comes back by itself.
            worker.cell(1).set_health(Health::Healthy);
            assert!(worker.tally(2000)[1] > 300, "{balance:?}");
        }
    }

    #[test]
    fn the_only_usable_host_is_found_among_many() {
        for balance in ALL {
            let mut worker = Worker::new(balance, (0..5000).map(|at| 1 + at % 7), 0);
            worker.down((0..5000).filter(|&host| host != 4321));
            for _ in 0..20 {
                assert_eq!(worker.pick(None), Some(4321), "{balance:?}");
            }
            worker.down([4321]);
            assert_eq!(worker.pick(None), None, "{balance:?}");
        }
        for balance in ALL {
            assert_eq!(Worker::new(balance, [], 50).pick(None), None);
        }
    }

    #[test]
    fn when_a_heavy_host_is_down_the_others_share_by_weight() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [60_000, 3, 1], 0);
            worker.down([0]);
            let tally = worker.tally(4000);
            assert!(tally[0] == 0 && tally[1].abs_diff(3000) < 200, "{balance:?} {tally:?}");
        }
    }

    #[test]
    fn the_avoided_host_is_the_last_resort() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [1000, 1, 1], 0);
            for _ in 0..500 {
                assert!(matches!(worker.pick(Some(0)), Some(1 | 2)), "{balance:?}");
            }
            worker.down([1, 2]);
            assert_eq!(worker.pick(Some(0)), Some(0), "{balance:?}");
            worker.down([0]);
            assert_eq!(worker.pick(Some(0)), None, "{balance:?}");
        }
    }

    #[test]
    fn panic_ignores_health_below_the_percentage_only() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [1; 10], 50);
            worker.down(0..5);
            assert_eq!(worker.tally(1000)[..5], [0; 5], "{balance:?}: half is not fewer than 50 per cent");
            worker.down([5]);
            let tally = worker.tally(2000);
            assert!(tally.iter().all(|n| (100..300).contains(n)), "{balance:?} {tally:?}");
            worker.down(6..10);
            assert!(worker.tally(2000).iter().all(|&n| n > 100), "{balance:?}: all are down");
        }
    }

    #[test]
    fn admission_holds_in_panic_and_closed_hosts_do_not_count() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [1; 10], 50);
            // Six are drained by hand; of the four left, two are down: half, so no panic.
            (0..6).for_each(|host| worker.cell(host).set_admission(Admission::Draining));
            worker.down([6, 7]);
            assert_eq!(worker.tally(500)[..8], [0; 8], "{balance:?}");
            worker.down([8]);
            let tally = worker.tally(500);
            assert_eq!(tally[..6], [0; 6], "{balance:?}");
            assert!(tally[6..].iter().all(|&n| n > 0), "{balance:?} {tally:?}");
            (6..10).for_each(|host| worker.cell(host).set_admission(Admission::Barred));
            assert_eq!(worker.pick(None), None, "{balance:?}");
        }
    }

    #[test]
    fn panic_is_noticed_within_a_sixteenth_of_the_hosts() {
        let mut worker = Worker::new(Balance::Random, [1; 1600], 50);
        worker.down(0..400);
        worker.tally(200);
        worker.down(400..1000);
        // The count may be this old; after it, the next unusable draw counts again.
        worker.tally(100);
        let down = (0..1000).filter(|_| worker.pick(None).unwrap() < 1000).count();
        assert!((550..700).contains(&down), "{down}");
    }

    #[test]
    fn least_request_prefers_the_less_busy_for_its_weight() {
        let mut worker = Worker::new(Balance::LeastRequest, [1; 2], 0);
        worker.cell(0).started();
        assert_eq!(worker.tally(1000), [0, 1000]);
        worker.cell(1).started();
        assert!(worker.tally(1000).iter().all(|&n| n > 400));
        // Ten times the weight carries ten times the requests, also where the light host is hardly ever drawn.
        let mut worker = Worker::new(Balance::LeastRequest, [10_000, 1], 0);
        (0..9_999).for_each(|_| worker.cell(0).started());
        worker.cell(1).started();
        assert_eq!(worker.tally(1000), [1000, 0]);
        (0..2).for_each(|_| worker.cell(0).started());
        assert_eq!(worker.tally(1000), [0, 1000]);
    }

    #[test]
    fn least_request_keeps_the_busiest_host_near_the_mean() {
        let busiest = |balance| {
            let mut worker = Worker::new(balance, [1; 1000], 0);
            for _ in 0..10_000 {
                let host = worker.pick(None).unwrap();
                worker.cell(host).started();
            }
            worker.cluster.hosts().iter().map(|host| host.cell().active()).max().unwrap()
        };
        let (two, one) = (busiest(Balance::LeastRequest), busiest(Balance::Random));
        assert!(two <= 13 && one >= 18, "{two} {one}");
    }

    #[test]
    fn a_hundred_thousand_uneven_hosts() {
        let weight = |host: u64| u16::try_from(1 + host * host % 9973).unwrap();
        for balance in ALL {
            let mut worker = Worker::new(balance, (0..100_000).map(weight), 50);
            worker.down((0..100_000).step_by(3));
            let tally = worker.tally(200_000);
            assert!(tally.iter().step_by(3).all(|&n| n == 0), "{balance:?}");
            // The heavier half has three quarters of the weight.
            let heavy: u32 = (0..).zip(&tally).filter(|(host, _)| weight(*host) > 4987).map(|(_, n)| n).sum();
            assert!((145_000..155_000).contains(&heavy), "{balance:?} {heavy}");
        }
    }
}
