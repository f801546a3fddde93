//! Least request: of two hosts drawn at random, the one with fewer requests in flight for its weight.
//!
//! Two choices are enough to keep the busiest host close to the mean, and workers that see the same counts do
//! not all run to the same host, as they would to the least busy of all.

use super::random::Alias;
use super::{DRAWS, Pick};
use crate::hosts::{Host, HostId};
use crate::rng::Rng;

/// The less busy of `first` and one other usable host; `first` when there is no other, or on a tie, so that an
/// idle cluster is filled by weight.
pub(super) fn less_busy(pick: &mut Pick<'_>, alias: &Alias, rng: &mut Rng, first: HostId) -> HostId {
    match second(pick, alias, rng, first) {
        Some(second) if busier(pick, first, second) => second,
        _ => first,
    }
}

/// Another usable host, by weight, and of the same group: busy or not, healthy hosts are not compared with degraded ones,
/// which would get more than their share by being idle. A host that outweighs all others is drawn over and over, so the later draws are
/// even ones from all but the first: otherwise it would hardly ever be compared with another.
fn second(pick: &mut Pick<'_>, alias: &Alias, rng: &mut Rng, first: HostId) -> Option<HostId> {
    let count = pick.count();
    for draw in 0..DRAWS {
        let id = if draw < DRAWS / 2 {
            pick.at(alias.draw(rng)?)
        } else {
            // The hosts of a level stand in order, so that those from `first` on can be moved up by one.
            let other = rng.below(count.saturating_sub(1));
            if pick.at(other) < first { pick.at(other) } else { pick.at(other + 1) }
        };
        if id != first && pick.avoid != Some(id) && is_rival(pick, rng, first, id) {
            return Some(id);
        }
    }
    None
}

fn is_rival(pick: &mut Pick<'_>, rng: &mut Rng, first: HostId, other: HostId) -> bool {
    match (pick.is_degraded(first), pick.is_degraded(other)) {
        // That the turn is the reserve's is settled.
        (true, true) => pick.host(other).is_some_and(|host| host.cell().takes_new_sessions()),
        (false, false) => pick.usable(other, rng),
        _ => pick.panic() && pick.usable(other, rng),
    }
}

/// Whether `a` has more requests in flight for its weight than `b`.
fn busier(pick: &Pick<'_>, a: HostId, b: HostId) -> bool {
    let load = |host: &Host| (u64::from(host.cell().active()), u64::from(host.weight()));
    match (pick.host(a).map(load), pick.host(b).map(load)) {
        (Some((a_active, a_weight)), Some((b_active, b_weight))) => a_active * b_weight > b_active * a_weight,
        _ => false,
    }
}
