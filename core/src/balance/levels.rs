//! Priorities: hosts of a later level get new sessions only as far as those before them cannot take them, as in Envoy.
//!
//! ```text
//! of each level's open hosts        healthy × 1.4, at most all      degraded × 1.4, at most all     in per cent
//! all of it, at most 100 per cent   is what there is; each level's part of it is scaled up to make 100
//! new sessions                      the healthy of level 0, 1, 2 …, then the degraded of level 0, 1, 2 …
//! ```
//!
//! So the hosts of level 1 get the first session when less than 72 per cent of level 0 are healthy. A level of which fewer
//! than the cluster's panic percentage is usable ignores health, if all levels together do not suffice. The host of a
//! session that has one is found whatever its level.
//!
//! The count of all hosts that this takes is repeated at most once in `hosts / 16` picks, as without levels. Until then it
//! may be wrong: when nothing is found where it says, every level is looked through for a usable host.

use super::{Balance, Census, Counts, Cursor, Pick, Table, Wanted};
use super::{COUNTED_PER_PICK, OVERPROVISION};
use crate::hosts::{Host, HostId};
use crate::rng::Rng;

/// The hosts of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) table: Table,
    /// In the order of the cluster's. Empty when the level is the only one, and holds all hosts.
    members: Box<[HostId]>,
}

/// The parts of new sessions, in per cent, and for how many picks they still stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Loads {
    picks_left: usize,
    of: Vec<Load>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Load {
    healthy: u32,
    degraded: u32,
    /// Health is ignored here.
    panic: bool,
}

/// The levels of `hosts`, one at least.
pub(super) fn compile(balance: Balance, hosts: &[Host]) -> Box<[Level]> {
    let mut priorities: Vec<u8> = hosts.iter().map(Host::priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    if priorities.len() <= 1 {
        let table = Table::compile(balance, hosts.iter().map(Host::weight));
        return [Level { table, members: Box::default() }].into();
    }
    let level = |priority: u8| {
        let of_level = || (0..).zip(hosts).filter(move |(_, host)| host.priority() == priority);
        let weights: Vec<u16> = of_level().map(|(_, host)| host.weight()).collect();
        let table = Table::compile(balance, weights.into_iter());
        Level { table, members: of_level().map(|(id, _)| HostId(id)).collect() }
    };
    priorities.into_iter().map(level).collect()
}

/// Chooses a level, and a host of it.
pub(super) fn pick(
    levels: &[Level],
    panic_percent: u8,
    hosts: &[Host],
    cursor: &mut Cursor,
    rng: &mut Rng,
    avoid: Option<HostId>,
) -> Option<HostId> {
    cursor.loads.refresh(levels, panic_percent, hosts);
    if cursor.places.len() != levels.len() {
        cursor.places.resize_with(levels.len(), Default::default);
    }
    let mut census = Census::default();
    let mut from = |level: &Level, place: &mut _, wanted, rng: &mut Rng| {
        let members = &*level.members;
        Pick { hosts, members, census: &mut census, wanted, avoid, panic_percent }.from(
            &level.table,
            place,
            rng,
        )
    };
    let mut last_resort = None;
    if let Some((at, wanted)) = cursor.loads.draw(rng)
        && let (Some(level), Some(place)) = (levels.get(at), cursor.places.get_mut(at))
    {
        last_resort = from(level, place, wanted, rng);
        if last_resort.is_some() && last_resort != avoid {
            return last_resort;
        }
    }
    // The count is out of date, or the one host there is the one to avoid.
    for ((level, place), load) in levels.iter().zip(&mut cursor.places).zip(&cursor.loads.of) {
        let wanted = if load.panic { Wanted::Open } else { Wanted::Usable };
        let found = from(level, place, wanted, rng);
        if found.is_some() && found != avoid {
            return found;
        }
        last_resort = last_resort.or(found);
    }
    last_resort
}

impl Loads {
    fn refresh(&mut self, levels: &[Level], panic_percent: u8, hosts: &[Host]) {
        let stands_for = hosts.len() / COUNTED_PER_PICK;
        self.picks_left = self.picks_left.saturating_sub(1);
        if self.picks_left > 0 && self.picks_left <= stands_for && self.of.len() == levels.len() {
            return;
        }
        self.picks_left = stands_for;
        self.of.clear();
        for level in levels {
            let members = level.members.iter().filter_map(|id| hosts.get(id.0 as usize));
            let counts = Counts::of(members);
            let (healthy, degraded) =
                (percent(counts.healthy, counts.open), percent(counts.degraded, counts.open));
            let panic = (counts.healthy + counts.degraded) * 100 < u64::from(panic_percent) * counts.open;
            self.of.push(Load { healthy, degraded, panic });
        }
        if self.of.iter().all(|load| load.healthy + load.degraded == 0) {
            // Nobody is usable. Where health is ignored then, the levels share by their number of open hosts.
            for (load, level) in self.of.iter_mut().zip(levels) {
                let members = level.members.iter().filter_map(|id| hosts.get(id.0 as usize));
                let open = u32::try_from(Counts::of(members).open).unwrap_or(u32::MAX);
                load.healthy = if load.panic { open } else { 0 };
            }
            return;
        }
        settle(&mut self.of);
    }

    /// A level, and which of its hosts.
    fn draw(&self, rng: &mut Rng) -> Option<(usize, Wanted)> {
        let all = self.of.iter().fold(0_u32, |all, load| all.saturating_add(load.healthy + load.degraded));
        let mut left = if all == 0 { return None } else { rng.below(all) };
        let turns = [Wanted::Healthy, Wanted::Degraded];
        for (wanted, (at, load)) in
            turns.iter().flat_map(|&wanted| self.of.iter().enumerate().map(move |it| (wanted, it)))
        {
            let part = if wanted == Wanted::Healthy { load.healthy } else { load.degraded };
            if left < part {
                return Some((at, if load.panic { Wanted::Open } else { wanted }));
            }
            left -= part;
        }
        None
    }
}

/// What so many of `open` hosts can do, in per cent of all.
fn percent(count: u64, open: u64) -> u32 {
    let (factor, by) = OVERPROVISION;
    let percent = (count * factor * 100).checked_div(open * by).unwrap_or(0);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// From what the levels can do to what they get.
fn settle(loads: &mut [Load]) {
    let all = loads.iter().map(|load| load.healthy + load.degraded).sum::<u32>().clamp(1, 100);
    let mut left = 100;
    let mut give = |able: &mut u32| {
        *able = (*able * 100 / all).min(left);
        left -= *able;
    };
    loads.iter_mut().for_each(|load| give(&mut load.healthy));
    loads.iter_mut().for_each(|load| give(&mut load.degraded));
    // What rounding left over goes to the first that gets anything.
    match loads.iter_mut().find(|load| load.healthy > 0) {
        Some(load) => load.healthy += left,
        None => {
            if let Some(load) = loads.iter_mut().find(|load| load.degraded > 0) {
                load.degraded += left;
            }
        }
    }
    for load in loads {
        load.panic &= all < 100;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Balancer;
    use crate::hosts::{Admission, Cluster, ClusterSpec, Endpoint, Health, HealthSet, HostCell, HostSpec};
    use std::sync::Arc;

    const ALL: [Balance; 3] = [Balance::RoundRobin, Balance::LeastRequest, Balance::Random];

    /// A cluster with a level for each text, a host for each character: `h`, `d`, `u`, and `x` closed.
    fn cluster(balance: Balance, levels: &[&str], panic_percent: u8) -> Cluster {
        let states =
            (0_u8..).zip(levels).flat_map(|(level, hosts)| hosts.chars().map(move |state| (level, state)));
        let host = |(at, (priority, state)): (u32, (u8, char))| {
            let health = match state {
                'd' => Health::Degraded,
                'u' => Health::Unhealthy,
                _ => Health::Healthy,
            };
            let admission = if state == 'x' { Admission::Draining } else { Admission::Open };
            let endpoint = Endpoint::Tcp((at.to_be_bytes(), 80).into());
            HostSpec {
                endpoint,
                weight: 1,
                priority: priority * 3,
                cell: Arc::new(HostCell::new(health, admission)),
            }
        };
        let hosts = (0..).zip(states).map(host).collect();
        let override_status = HealthSet::USABLE;
        let spec = ClusterSpec { name: "c".into(), hosts, balance, override_status, panic_percent };
        Cluster::compile(spec).unwrap()
    }

    fn tally(cluster: &Cluster, avoid: Option<u32>) -> Vec<u32> {
        let (mut cursor, mut rng) = (Cursor::default(), Rng::seeded(0x1e7e));
        let mut tally = vec![0; cluster.hosts().len()];
        for _ in 0..10_000 {
            let balancer: &Balancer = cluster.balancer();
            if let Some(id) = balancer.pick(cluster.hosts(), &mut cursor, &mut rng, avoid.map(HostId)) {
                tally[id.0 as usize] += 1;
            }
        }
        tally
    }

    /// Per cent of new sessions by level.
    fn shares(balance: Balance, levels: &[&str], panic_percent: u8) -> Vec<u32> {
        let tally = tally(&cluster(balance, levels, panic_percent), None);
        let mut at = 0;
        let of_level = |level: &&str| {
            let of: u32 = tally[at..at + level.len()].iter().sum();
            at += level.len();
            (of + 50) / 100
        };
        levels.iter().map(of_level).collect()
    }

    #[test]
    fn a_later_level_gets_what_the_earlier_cannot_do() {
        let cases: [(&[&str], &[u32]); 8] = [
            (&["hhhh", "hhhh"], &[100, 0]),
            (&["hhhu", "hhhh"], &[100, 0]),
            // 1.4 × 50 per cent.
            (&["hhuu", "hhhh"], &[70, 30]),
            (&["uuuu", "hhhh", "h"], &[0, 100, 0]),
            (&["huuu", "huuu", "hhhh"], &[35, 35, 30]),
            // Healthy hosts of later levels come before degraded ones of the first.
            (&["hhdd", "hh"], &[70, 30]),
            // Together 70 per cent: scaled up.
            (&["huuu", "huuu"], &[50, 50]),
            (&["xxxx", "hu"], &[0, 100]),
        ];
        for balance in ALL {
            for (levels, wanted) in cases {
                let found = shares(balance, levels, 0);
                let near = found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(*wanted) <= 2);
                assert!(near, "{balance:?} {levels:?}: {found:?}, not {wanted:?}");
            }
        }
    }

    #[test]
    fn only_usable_hosts_of_a_level_are_chosen_and_all_of_them() {
        for balance in ALL {
            let tally = tally(&cluster(balance, &["hhuu", "hxhd"], 0), None);
            assert_eq!([tally[2], tally[3], tally[5], tally[7]], [0; 4], "{balance:?} {tally:?}");
            let near = |found: u32, wanted: u32| found.abs_diff(wanted) < 300;
            assert!(near(tally[0], 3500) && near(tally[1], 3500), "{balance:?} {tally:?}");
            assert!(near(tally[4], 1500) && near(tally[6], 1500), "{balance:?} {tally:?}");
        }
    }

    #[test]
    fn panic_is_of_a_level_and_only_when_all_together_do_not_suffice() {
        for balance in ALL {
            assert_eq!(shares(balance, &["uuuu", "hhhh"], 50), [0, 100], "{balance:?}");
            // 35 and 35 per cent: both in panic, health ignored.
            let both = tally(&cluster(balance, &["huuu", "huuu"], 50), None);
            assert!(both.iter().all(|n| (900..1600).contains(n)), "{balance:?} {both:?}");
            // Nobody at all: by the number of hosts; without a panic percentage, none is chosen.
            let nobody = shares(balance, &["uuu", "u"], 50);
            assert!(nobody[0].abs_diff(75) <= 2 && nobody[1].abs_diff(25) <= 2, "{balance:?} {nobody:?}");
            assert_eq!(shares(balance, &["uuu", "u"], 0), [0, 0], "{balance:?}");
        }
    }

    #[test]
    fn a_retry_goes_to_another_level_rather_than_to_the_host_that_failed() {
        for balance in ALL {
            assert_eq!(tally(&cluster(balance, &["h", "h"], 0), Some(0)), [0, 10_000], "{balance:?}");
            assert_eq!(tally(&cluster(balance, &["h", "u"], 0), Some(0)), [10_000, 0], "{balance:?}");
            assert_eq!(
                tally(&cluster(balance, &["u", "u"], 50), Some(0)),
                [0, 10_000],
                "{balance:?}: in panic"
            );
        }
    }

    #[test]
    fn an_old_count_does_not_keep_a_session_from_a_host_that_came_back() {
        let levels = ["u".repeat(800), "u".repeat(800)];
        let cluster = cluster(Balance::RoundRobin, &[&levels[0], &levels[1]], 0);
        let (mut cursor, mut rng) = (Cursor::default(), Rng::seeded(3));
        let mut pick = || cluster.balancer().pick(cluster.hosts(), &mut cursor, &mut rng, None);
        assert_eq!(pick(), None);
        cluster.hosts()[1234].cell().set_health(Health::Healthy);
        assert_eq!(pick(), Some(HostId(1234)), "before the next count");
    }
}
