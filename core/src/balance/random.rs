//! Weighted random draws in constant time: an alias table.
//!
//! Think of one jar per host, all of the same size: the mean weight. A host lighter than the mean fills part of its
//! jar, and the rest is topped up by one heavier host, the jar's *alias*. A draw takes a jar and a height in it.

use crate::rng::Rng;

/// The table for one set of weights.
#[derive(Debug)]
pub(super) struct Alias {
    count: u32,
    /// Empty when all weights are equal: then no jar has an alias.
    jars: Box<[Jar]>,
}

#[derive(Clone, Copy, Debug)]
struct Jar {
    /// The share of the jar that is its own host's, in 1/2³².
    own: u32,
    alias: u32,
}

impl Alias {
    /// Builds the table: linear time, integers only.
    pub(super) fn compile(weights: impl ExactSizeIterator<Item = u16> + Clone) -> Self {
        let count = u32::try_from(weights.len()).unwrap_or(u32::MAX);
        let first = weights.clone().next();
        if weights.clone().all(|weight| Some(weight) == first) {
            return Self { count, jars: Box::default() };
        }
        // Everything is scaled by the number of hosts, so that the mean, which is a jar's size, is whole.
        let size: u64 = weights.clone().map(u64::from).sum();
        let mut left: Vec<u64> = weights.map(|weight| u64::from(weight) * u64::from(count)).collect();
        let (mut light, mut heavy): (Vec<u32>, Vec<u32>) =
            (0..count).partition(|&host| left.get(host as usize).is_some_and(|&left| left < size));
        let mut jars: Box<[Jar]> = (0..count).map(|host| Jar { own: u32::MAX, alias: host }).collect();
        while let (Some(lighter), Some(&heavier)) = (light.pop(), heavy.last()) {
            let own = left.get(lighter as usize).copied().unwrap_or_default();
            if let Some(jar) = jars.get_mut(lighter as usize) {
                let share = (u128::from(own) << 32) / u128::from(size);
                *jar = Jar { own: u32::try_from(share).unwrap_or(u32::MAX), alias: heavier };
            }
            if let Some(left) = left.get_mut(heavier as usize) {
                *left = (*left + own).saturating_sub(size);
                if *left < size {
                    heavy.pop();
                    light.push(heavier);
                }
            }
        }
        Self { count, jars }
    }

    /// A host by weight; `None` when there is none.
    #[inline]
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let host = rng.below(self.count);
        match self.jars.get(host as usize) {
            // The upper half of the bits; `below` cannot draw from the whole 2³².
            Some(jar) if rng.bits() >> 32 >= u64::from(jar.own) => Some(jar.alias),
            _ => Some(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each host's exact share of the table, in 1/(count × 2³²).
    fn mass(alias: &Alias) -> Vec<u128> {
        let mut mass = vec![0_u128; alias.count as usize];
        for (host, jar) in alias.jars.iter().enumerate() {
            mass[host] += u128::from(jar.own);
            mass[jar.alias as usize] += (1 << 32) - u128::from(jar.own);
        }
        mass
    }

    #[test]
    fn the_jars_hold_exactly_the_weights() {
        let mut rng = Rng::seeded(11);
        for count in [2_u32, 3, 7, 100, 5000] {
            let weights: Vec<u16> = (0..count).map(|_| 1 << rng.below(16)).collect();
            let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
            let alias = Alias::compile(weights.iter().copied());
            for (&weight, mass) in weights.iter().zip(mass(&alias)) {
                let wanted = (u128::from(weight) * u128::from(count)) << 32;
                // Each jar rounds down by less than one unit, so a host is off by at most one per jar.
                assert!(
                    (mass * total).abs_diff(wanted) <= u128::from(count) * total,
                    "{weight} of {count} hosts"
                );
            }
        }
    }

    #[test]
    fn equal_weights_need_no_jars_and_no_host_means_no_draw() {
        let mut rng = Rng::seeded(12);
        let alias = Alias::compile([9_u16; 4].into_iter());
        assert!(alias.jars.is_empty());
        let mut seen = [0_u32; 4];
        for _ in 0..4000 {
            seen[alias.draw(&mut rng).unwrap() as usize] += 1;
        }
        assert!(seen.iter().all(|n| (900..1100).contains(n)), "{seen:?}");
        assert_eq!(Alias::compile([].into_iter()).draw(&mut rng), None);
    }
}
