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
//! **Usable** means open admission and a health that takes new sessions. Degraded hosts are a *reserve*, below. In *panic*
//! usable means open admission whatever the health. The rule of panic: of the hosts with open admission, fewer than
//! `panic_percent` per cent have a health that takes new sessions. Admission always holds, in panic too, and
//! closed hosts do not count: it is the operator's word and not a guess, and draining half a cluster for a
//! deploy must not send new sessions to hosts that are down. (Envoy counts every host.)
//! Panic changes nothing for a session that names its host.
//!
//! **The reserve**, as in Envoy: while the healthy hosts (HEALTHY or UNKNOWN), times 1.4, are as many as all open hosts,
//! degraded ones get no new session. Below that they get what is missing, and once both together do not suffice, as much as
//! anybody:
//!
//! ```text
//! h, d of n open hosts are healthy, degraded       h: 1.4 h / n, at most 1
//! shares of new sessions                           d: 1.4 d / n, at most 1 - h's; both scaled up when they fall short
//! ```
//!
//! The degraded share is never more than what they would be drawn anyway, so it is reached by refusing some of their draws:
//! a healthy draw asks nothing. (Hosts are counted, not weighed, as Envoy does; within each group weights count.
//! Degraded hosts far lighter than the others get their weight's share at most.)
//!
//! **Priorities**: with hosts of more than one, `levels` says first which level a new session goes to, and the rest happens
//! among that level's hosts.
//!
//! Whether there is panic, and how many degraded draws count, is asked only when a draw was not simply usable, which
//! gives the same choices as asking always. The answer takes a count of all hosts, which each [`Cursor`] repeats at most
//! once in `hosts / 16` picks: exact below 16 hosts, and above that a pick pays for 16 hosts on average.

mod least_request;
mod levels;
mod random;
mod round_robin;

use crate::hosts::{Admission, Health, Host, HostId};
use crate::rng::Rng;
use levels::{Level, Loads};
use random::Alias;
use round_robin::{Place, Rotation};

/// Draws that may be unusable before the hosts are scanned. With half of the hosts down, one pick in 256 scans.
const DRAWS: u32 = 8;
/// A scan chooses, by weight, among the first so many usable hosts after a random place.
const SCAN_SAMPLE: u32 = 32;
/// The hosts a pick may pay for, on average, to learn whether there is panic.
const COUNTED_PER_PICK: usize = 16;
/// Envoy's overprovisioning factor, 1.4: five hosts are trusted with the work of seven.
const OVERPROVISION: (u64, u64) = (7, 5);
/// The draws of a degraded host that count, when all of them do.
const ALWAYS: u32 = 1 << 16;

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
    /// By priority. Never empty.
    levels: Box<[Level]>,
    balance: Balance,
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
    /// Where there are several levels: the places in the others, and how much each level takes.
    places: Vec<Place>,
    loads: Loads,
}

#[derive(Debug)]
enum Table {
    RoundRobin(Rotation),
    LeastRequest(Alias),
    Random(Alias),
}

/// The last count of the hosts, and for how many picks it still stands.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    picks_left: usize,
    panic: bool,
    /// Of so many draws of a degraded host, out of [`ALWAYS`], a session is placed there.
    reserve: u32,
}

/// What is counted.
#[derive(Debug, Default)]
struct Counts {
    open: u64,
    healthy: u64,
    degraded: u64,
    healthy_weight: u64,
    degraded_weight: u64,
}

/// One pick under way.
struct Pick<'a> {
    hosts: &'a [Host],
    /// The level's hosts, in order; empty: all.
    members: &'a [HostId],
    census: &'a mut Census,
    wanted: Wanted,
    avoid: Option<HostId>,
    panic_percent: u8,
}

/// Which of the hosts with open admission a pick is among.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    /// Those that the count says: there is only one level.
    Counted,
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
    /// The healthy and the degraded ones.
    Usable,
    /// All, in panic.
    Open,
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
        Self { levels: levels::compile(balance, hosts), balance, panic_percent }
    }

    /// Whether picks depend on the number of requests in flight at each host, so that somebody must count them.
    pub const fn counts_active(&self) -> bool {
        matches!(self.balance, Balance::LeastRequest)
    }

    /// Whether the way of choosing is the same in `other`, whatever the hosts.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        self.panic_percent == other.panic_percent && self.balance == other.balance
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
        cursor.census.picks_left = cursor.census.picks_left.saturating_sub(1);
        let Cursor { place, census, .. } = cursor;
        match &*self.levels {
            [only] => {
                let panic_percent = self.panic_percent;
                let pick =
                    Pick { hosts, members: &[], census, wanted: Wanted::Counted, avoid, panic_percent };
                pick.from(&only.table, place, rng)
            }
            several => levels::pick(several, self.panic_percent, hosts, cursor, rng, avoid),
        }
    }
}

impl Table {
    fn compile(balance: Balance, weights: impl ExactSizeIterator<Item = u16> + Clone) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(Rotation::compile(weights)),
            Balance::LeastRequest => Self::LeastRequest(Alias::compile(weights)),
            Balance::Random => Self::Random(Alias::compile(weights)),
        }
    }
}

impl Pick<'_> {
    fn from(mut self, table: &Table, place: &mut Place, rng: &mut Rng) -> Option<HostId> {
        match table {
            Table::RoundRobin(rotation) => self.first(rng, |rng| rotation.next(place, rng)),
            Table::Random(alias) => self.first(rng, |rng| alias.draw(rng)),
            Table::LeastRequest(alias) => {
                let first = self.first(rng, |rng| alias.draw(rng))?;
                Some(least_request::less_busy(&mut self, alias, rng, first))
            }
        }
    }

    /// How many hosts there are to choose from.
    fn count(&self) -> u32 {
        let count = if self.members.is_empty() { self.hosts.len() } else { self.members.len() };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The host at a position of the table.
    fn at(&self, position: u32) -> HostId {
        self.members.get(position as usize).copied().unwrap_or(HostId(position))
    }

    /// The first usable draw, or what a scan finds.
    fn first(&mut self, rng: &mut Rng, mut draw: impl FnMut(&mut Rng) -> Option<u32>) -> Option<HostId> {
        for _ in 0..DRAWS {
            let id = self.at(draw(rng)?);
            if self.avoid != Some(id) && self.usable(id, rng) {
                return Some(id);
            }
        }
        self.scan(rng)
    }

    fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0 as usize)
    }

    /// Whether a new session may be placed there this time, `avoid` aside.
    fn usable(&mut self, id: HostId, rng: &mut Rng) -> bool {
        let Some(cell) = self.host(id).map(Host::cell) else { return false };
        if cell.admission() != Admission::Open {
            return false;
        }
        let is_healthy = matches!(cell.health(), Health::Unknown | Health::Healthy);
        match self.wanted {
            Wanted::Counted => {}
            Wanted::Healthy => return is_healthy,
            Wanted::Degraded => return cell.health() == Health::Degraded,
            Wanted::Usable => return cell.health().takes_new_sessions(),
            Wanted::Open => return true,
        }
        match cell.health() {
            Health::Unknown | Health::Healthy => true,
            Health::Degraded => {
                let Census { panic, reserve, .. } = self.census();
                panic || reserve == ALWAYS || reserve > 0 && rng.below(ALWAYS) < reserve
            }
            Health::Unhealthy | Health::Draining | Health::Timeout => self.panic(),
        }
    }

    /// Whether so few hosts are usable that health is ignored.
    fn panic(&mut self) -> bool {
        match self.wanted {
            Wanted::Counted => self.panic_percent > 0 && self.census().panic,
            wanted => wanted == Wanted::Open,
        }
    }

    fn is_degraded(&self, id: HostId) -> bool {
        self.host(id).is_some_and(|host| host.cell().health() == Health::Degraded)
    }

    /// The last count, or a new one.
    fn census(&mut self) -> Census {
        // The second condition: a reload may have left far fewer hosts than were counted.
        let stands_for = self.hosts.len() / COUNTED_PER_PICK;
        if self.census.picks_left == 0 || self.census.picks_left > stands_for {
            let counts = Counts::of(self.hosts.iter());
            let usable = counts.healthy + counts.degraded;
            *self.census = Census {
                picks_left: stands_for,
                panic: usable * 100 < u64::from(self.panic_percent) * counts.open,
                reserve: counts.reserve(),
            };
        }
        *self.census
    }

    /// Looks at every host, from a random one on, until enough usable ones are seen to choose among by weight.
    fn scan(&mut self, rng: &mut Rng) -> Option<HostId> {
        let count = self.count();
        let start = rng.below(count);
        let (mut seen, mut weights) = (0, 0);
        let (mut chosen, mut reserve, mut last_resort) = (None, None, None);
        for position in (start..count).chain(0..start) {
            let id = self.at(position);
            let Some(host) = self.hosts.get(id.0 as usize) else { continue };
            let usable = self.usable(id, rng);
            if self.avoid == Some(id) {
                last_resort = last_resort.or(usable.then_some(id));
                continue;
            }
            if !usable {
                // A degraded host that was refused is still better than the host that just failed.
                let held_back = self.wanted == Wanted::Counted && host.cell().takes_new_sessions();
                reserve = reserve.or(held_back.then_some(id));
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
        chosen.or(reserve).or(last_resort)
    }
}

impl Counts {
    fn of<'h>(hosts: impl Iterator<Item = &'h Host>) -> Self {
        let mut counts = Self::default();
        for host in hosts.filter(|host| host.cell().admission() == Admission::Open) {
            let weight = u64::from(host.weight());
            counts.open += 1;
            match host.cell().health() {
                Health::Unknown | Health::Healthy => {
                    counts.healthy += 1;
                    counts.healthy_weight += weight;
                }
                Health::Degraded => {
                    counts.degraded += 1;
                    counts.degraded_weight += weight;
                }
                Health::Unhealthy | Health::Draining | Health::Timeout => {}
            }
        }
        counts
    }

    /// How many draws of degraded hosts count, so that these get their share: [`Census::reserve`].
    fn reserve(&self) -> u32 {
        let (factor, by) = OVERPROVISION;
        // In units of one open host's work, times `by`.
        let all = self.open * by;
        let healthy = (self.healthy * factor).min(all);
        let degraded = (self.degraded * factor).min(all - healthy);
        // Draws fall by weight: `degraded_weight` to `healthy_weight`. They are to count `degraded` to `healthy`.
        let wanted = u128::from(degraded) * u128::from(self.healthy_weight) * u128::from(ALWAYS);
        let drawn = u128::from(healthy) * u128::from(self.degraded_weight);
        match wanted.checked_div(drawn) {
            Some(share) => u32::try_from(share).map_or(ALWAYS, |share| share.min(ALWAYS)),
            // No healthy host, so that there is nothing to be in reserve for.
            None => ALWAYS,
        }
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
                priority: 0,
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

    /// The shares of new sessions, in per cent, of hosts in these states: one character a host, `h`, `d`, `u`, and `x` closed.
    fn shares(balance: Balance, states: &str, weights: impl Fn(usize) -> u16, panic_percent: u8) -> Vec<u32> {
        let mut worker = Worker::new(balance, (0..states.len()).map(weights), panic_percent);
        for (host, state) in states.chars().enumerate() {
            match state {
                'd' => worker.cell(host).set_health(Health::Degraded),
                'u' => worker.cell(host).set_health(Health::Unhealthy),
                'x' => worker.cell(host).set_admission(Admission::Draining),
                _ => {}
            }
        }
        let tally = worker.tally(20_000);
        let share = |state| {
            let of = states.chars().zip(&tally).filter(|(known, _)| *known == state).map(|(_, n)| n);
            (of.sum::<u32>() + 100) / 200
        };
        "hdu".chars().map(share).collect()
    }

    #[test]
    fn degraded_hosts_get_what_the_healthy_ones_cannot_do() {
        let cases = [
            // 1.4 × 8 is more than ten, 1.4 × 7 is 9.8.
            ("hhhhhhhhdd", 100, 0),
            ("hhhhhhhddd", 98, 2),
            ("hhhhhddddd", 70, 30),
            ("hddddddddd", 14, 86),
            ("dddd", 0, 100),
            // Both together do not suffice: scaled up. Closed hosts do not count.
            ("hduu", 50, 50),
            ("hhduuu", 67, 33),
            ("hhhhhhhhddxxxxxxx", 100, 0),
        ];
        for balance in ALL {
            for (states, healthy, degraded) in cases {
                let found = shares(balance, states, |_| 3, 0);
                let near = |found: u32, wanted: u32| found.abs_diff(wanted) <= 2;
                assert!(
                    near(found[0], healthy) && near(found[1], degraded),
                    "{balance:?} {states} {found:?}"
                );
                assert_eq!(found[2], 0, "{balance:?} {states}");
            }
        }
    }

    #[test]
    fn the_reserve_is_counted_by_host_and_shared_by_weight() {
        for balance in [Balance::RoundRobin, Balance::Random] {
            // The first host does ten times the work of another, and yet counts as one.
            let found = shares(
                balance,
                "hhhhhddddd",
                |host| if host == 0 { 10 } else { 1 + u16::from(host > 4) * 3 },
                0,
            );
            assert!(found[0].abs_diff(70) <= 2 && found[1].abs_diff(30) <= 2, "{balance:?} {found:?}");
        }
        // In panic there is no reserve.
        let found = shares(Balance::Random, "hduuuuuuuu", |_| 1, 50);
        assert!(found[0].abs_diff(10) <= 2 && found[1].abs_diff(10) <= 2, "{found:?}");
    }

    #[test]
    fn a_retry_prefers_the_reserve_to_the_host_that_failed() {
        for balance in ALL {
            let mut worker = Worker::new(balance, [1; 4], 0);
            worker.cell(3).set_health(Health::Degraded);
            assert_eq!(worker.tally(500)[3], 0, "{balance:?}: three of four suffice");
            worker.down([1, 2]);
            worker.cell(3).set_health(Health::Degraded);
            (0..200).for_each(|_| assert_eq!(worker.pick(Some(0)), Some(3), "{balance:?}"));
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
