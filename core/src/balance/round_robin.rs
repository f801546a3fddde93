//! Weighted round robin that is smooth, exact over a cycle, and takes constant time at any number of hosts.
//!
//! Hosts are sorted into at most 16 *classes* by the power of two below their weight. A step chooses a class, then
//! a host in it:
//!
//! - **The class**: a class is *released* once it has had less than its due share, and of the released ones the one
//!   whose next turn must come soonest goes. No class is ever a whole turn ahead or behind.
//! - **The host**: the class's hosts are walked round and round. A host of weight `w` in a class whose heaviest weight
//!   is `m` answers in `w` of `m` rounds, evenly spaced (a line of slope `w/m` that answers where it crosses a whole
//!   number). As `w > m/2`, a step looks at less than two hosts on average, however uneven the weights of the cluster:
//!   walking all hosts like this would visit thousands of light ones for each turn of a heavy one.
//!
//! A cycle has as many steps as the weights add up to, after division by their common divisor. Over any such number
//! of steps each host has its weight in turns. With equal weights this is the plain rotation.

use crate::rng::Rng;

/// Weights are 16 bits, so there are this many powers of two below them.
const CLASSES: usize = 16;
/// Class steps a fresh place is moved ahead by, at most: enough that workers differ, cheap enough not to matter.
const HEAD_START: u32 = 64;

/// The table for one list of weights.
#[derive(Debug)]
pub(super) struct Rotation {
    /// The hosts, class by class.
    slots: Box<[Slot]>,
    classes: Box<[Class]>,
    /// The sum of all weights, after division.
    total: i64,
    /// Differs between lists of weights; tells a place that was made for another one. Never zero.
    stamp: u64,
}

#[derive(Debug)]
struct Class {
    /// Where its hosts begin in the slots, and how many there are.
    start: u32,
    count: u32,
    /// The heaviest weight.
    most: u16,
    /// The sum of the weights.
    total: i64,
}

#[derive(Debug)]
struct Slot {
    host: u32,
    weight: u16,
    /// Where the host's line starts, so that hosts of one weight do not all pause in the same round.
    phase: u16,
}

/// One worker's place in a rotation.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    stamp: u64,
    classes: [ClassPlace; CLASSES],
}

#[derive(Clone, Debug, Default)]
struct ClassPlace {
    /// The turns the class is due, less those it had, times the total weight. All classes' lags add up to zero.
    lag: i64,
    /// The next host to look at, and the round of the walk.
    next: u32,
    round: u32,
}

impl Rotation {
    /// Builds the table: linear time but for the sorting into classes.
    pub(super) fn compile(weights: impl Iterator<Item = u16> + Clone) -> Self {
        let divisor = weights.clone().fold(0, common_divisor).max(1);
        let stamp = weights.clone().fold(0xcbf2_9ce4_8422_2325_u64, |stamp, weight| {
            (stamp ^ u64::from(weight)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut slots: Vec<Slot> = (0..)
            .zip(weights)
            .map(|(host, weight)| Slot { host, weight: weight / divisor, phase: 0 })
            .collect();
        // Stable, so equal weights are visited in the order of the configuration; the heaviest class comes first.
        slots.sort_by_key(|slot| core::cmp::Reverse(slot.weight.checked_ilog2()));
        let mut classes = Vec::with_capacity(CLASSES);
        let mut start = 0;
        for hosts in slots.chunk_by_mut(|a, b| a.weight.checked_ilog2() == b.weight.checked_ilog2()) {
            let most = hosts.iter().map(|slot| slot.weight).max().unwrap_or_default();
            let total = hosts.iter().map(|slot| i64::from(slot.weight)).sum();
            for (at, slot) in (0_u32..).zip(hosts.iter_mut()) {
                slot.phase = spread(at, most);
            }
            let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
            classes.push(Class { start, count, most, total });
            start += count;
        }
        let total = classes.iter().map(|class| class.total).sum();
        Self { slots: slots.into(), classes: classes.into(), total, stamp: stamp.max(1) }
    }

    /// The next host; `None` when there is none.
    pub(super) fn next(&self, place: &mut Place, rng: &mut Rng) -> Option<u32> {
        if place.stamp != self.stamp {
            self.seat(place, rng);
        }
        let class = self.next_class(place);
        let (class, place) = (self.classes.get(class)?, place.classes.get_mut(class)?);
        // Every host answers at least once in two rounds, so this ends; on average it takes less than two turns.
        for _ in 0..=2 * u64::from(class.count) {
            let slot = self.slots.get((class.start + place.next) as usize)?;
            let answers = slot.answers(place.round, class.most);
            place.next += 1;
            if place.next == class.count {
                place.next = 0;
                place.round = (place.round + 1) % u32::from(class.most);
            }
            if answers {
                return Some(slot.host);
            }
        }
        None
    }

    /// Puts a place at a random point of the rotation.
    fn seat(&self, place: &mut Place, rng: &mut Rng) {
        *place = Place { stamp: self.stamp, ..Place::default() };
        for (class, place) in self.classes.iter().zip(&mut place.classes) {
            place.next = rng.below(class.count);
            place.round = rng.below(class.most.into());
        }
        for _ in 0..rng.below(HEAD_START) {
            self.next_class(place);
        }
    }

    /// Chooses the class of the next step and charges it for the turn.
    fn next_class(&self, place: &mut Place) -> usize {
        if self.classes.len() < 2 {
            return 0;
        }
        let mut soonest: Option<(usize, i128, i128)> = None;
        for (at, (class, place)) in self.classes.iter().zip(&mut place.classes).enumerate() {
            place.lag += class.total;
            if place.lag <= 0 {
                continue;
            }
            // Its turn must come within this many steps, times the class's weight.
            let (slack, weight) = (i128::from(self.total - place.lag), i128::from(class.total));
            if soonest.is_none_or(|(_, best, best_weight)| slack * best_weight < best * weight) {
                soonest = Some((at, slack, weight));
            }
        }
        // Lags add up to the total here, so one was above zero.
        let at = soonest.map_or(0, |(at, ..)| at);
        if let Some(place) = place.classes.get_mut(at) {
            place.lag -= self.total;
        }
        at
    }
}

impl Slot {
    /// Whether the host's line crosses a whole number in this round.
    fn answers(&self, round: u32, most: u16) -> bool {
        let (weight, most) = (u64::from(self.weight), u64::from(most));
        (weight * u64::from(round) + u64::from(self.phase)) % most + weight >= most
    }
}

/// The `at`-th point of an even spread over `0..most`: multiples of the golden ratio, which leave no large gap.
fn spread(at: u32, most: u16) -> u16 {
    let turn = at.wrapping_mul(0x9e37_79b9);
    u16::try_from((u64::from(turn) * u64::from(most)) >> 32).unwrap_or_default()
}

fn common_divisor(a: u16, b: u16) -> u16 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u16], seed: u64, count: usize) -> Vec<usize> {
        let rotation = Rotation::compile(weights.iter().copied());
        let (mut place, mut rng) = (Place::default(), Rng::seeded(seed));
        (0..count).map(|_| rotation.next(&mut place, &mut rng).unwrap() as usize).collect()
    }

    fn tally(turns: &[usize], hosts: usize) -> Vec<u64> {
        let mut tally = vec![0; hosts];
        for &host in turns {
            tally[host] += 1;
        }
        tally
    }

    fn lists() -> Vec<Vec<u16>> {
        let mut rng = Rng::seeded(21);
        let mut lists: Vec<Vec<u16>> =
            [&[3, 1][..], &[5, 1, 1], &[1, 2, 3, 4], &[7, 7, 9], &[100, 1], &[1000, 2, 1, 1, 50, 33]]
                .map(Vec::from)
                .into();
        for hosts in [2_u32, 3, 5, 17, 60] {
            lists.push((0..hosts).map(|_| 1 + u16::try_from(rng.below(40)).unwrap()).collect());
            lists.push((0..hosts).map(|_| 1 << rng.below(11)).collect());
        }
        lists
    }

    #[test]
    fn equal_weights_are_a_plain_rotation() {
        for weight in [1, 7, 65535] {
            let turns = turns(&[weight; 5], 1, 25);
            assert!(turns.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 5), "{turns:?}");
        }
    }

    #[test]
    fn any_cycle_gives_each_host_exactly_its_weight() {
        for (seed, weights) in (100..).zip(lists()) {
            let divisor = weights.iter().copied().fold(0, common_divisor);
            let exact: Vec<u64> = weights.iter().map(|weight| u64::from(weight / divisor)).collect();
            let cycle = usize::try_from(exact.iter().sum::<u64>()).unwrap();
            let turns = turns(&weights, seed, 3 * cycle);
            for start in [0, 1, cycle / 3, cycle, 2 * cycle] {
                let tally = tally(&turns[start..start + cycle], weights.len());
                assert_eq!(tally, exact, "seed {seed}, steps from {start}");
            }
        }
    }

    #[test]
    fn no_host_is_ever_two_turns_ahead_or_behind() {
        for (seed, weights) in (200..).zip(lists()) {
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let mut had = vec![0.0; weights.len()];
            for (step, host) in (1..).zip(turns(&weights, seed, 5000)) {
                had[host] += 1.0;
                for (&weight, had) in weights.iter().zip(&had) {
                    let due = f64::from(step) * f64::from(weight) / total;
                    assert!(
                        (due - had).abs() < 2.0,
                        "seed {seed}, step {step}: {had} turns of {due}, {weights:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_heavy_host_does_not_take_its_turns_in_one_go() {
        // The most turns in a row that each list needs: the heavy host's over the gaps the others leave.
        for (weights, most) in [(&[3_u16, 1][..], 3), (&[2, 1, 1], 1), (&[5, 1, 1], 3), (&[4, 2, 2], 1)] {
            for seed in 300..320 {
                let turns = turns(weights, seed, 400);
                let longest = turns.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap();
                assert!(longest <= most, "seed {seed}: {longest} in a row for {weights:?}");
            }
        }
    }

    #[test]
    fn a_step_is_cheap_however_uneven_the_weights() {
        // One host outweighs 99,999. A place moves by one for each host that is looked at.
        let mut weights = vec![1_u16; 100_000];
        weights[0] = u16::MAX;
        weights[1] = 3;
        let rotation = Rotation::compile(weights.iter().copied());
        assert!(rotation.classes.len() == 3 && size_of::<Slot>() == 8);
        let (mut place, mut rng) = (Place::default(), Rng::seeded(31));
        let walked = |place: &Place| {
            let walk = |(class, at): (&Class, &ClassPlace)| u64::from(at.round * class.count + at.next);
            rotation.classes.iter().zip(&place.classes).map(walk).collect::<Vec<u64>>()
        };
        rotation.next(&mut place, &mut rng);
        for step in 0..10_000 {
            let before = walked(&place);
            rotation.next(&mut place, &mut rng);
            let moved: Vec<u64> = walked(&place)
                .iter()
                .zip(&before)
                .zip(&rotation.classes)
                .map(|((after, before), class)| {
                    let lap = u64::from(class.count) * u64::from(class.most);
                    (after + lap - before) % lap
                })
                .collect();
            assert!(moved.iter().sum::<u64>() <= 2, "step {step}: {moved:?}");
        }
    }

    #[test]
    fn fresh_places_begin_all_over_the_rotation() {
        let mut first = vec![0_u32; 10];
        let rotation = Rotation::compile([1_u16; 10].into_iter());
        let mut rng = Rng::seeded(41);
        for _ in 0..1000 {
            let mut place = Place::default();
            first[rotation.next(&mut place, &mut rng).unwrap() as usize] += 1;
        }
        assert!(first.iter().all(|n| (60..150).contains(n)), "{first:?}");
        // Also when only classes differ.
        let rotation = Rotation::compile([3_u16, 1].into_iter());
        let light = (0..1000).filter(|_| rotation.next(&mut Place::default(), &mut rng) == Some(1)).count();
        assert!((200..300).contains(&light), "{light}");
    }

    #[test]
    fn a_place_of_another_table_is_made_anew() {
        let (mut place, mut rng) = (Place::default(), Rng::seeded(51));
        let many = Rotation::compile((1..=500_u16).cycle().take(1000));
        (0..777).for_each(|_| assert!(many.next(&mut place, &mut rng).is_some()));
        let few = Rotation::compile([2_u16, 1].into_iter());
        let mut tally = [0_u32; 2];
        (0..300).for_each(|_| tally[few.next(&mut place, &mut rng).unwrap() as usize] += 1);
        assert_eq!(tally, [200, 100]);
        assert_eq!(Rotation::compile([].into_iter()).next(&mut place, &mut rng), None);
    }
}
