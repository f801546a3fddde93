//! When to ask the allocator for its free pages: after a crowd of connections has come or gone.
//!
//! A crowd leaves free memory between what stays, which the allocator keeps for itself. Asking for it costs up to a
//! millisecond, and page faults later, so it is done when there is much to get: the number of connections has changed a lot since the
//! last time, and now stands still.
//!
//! ```text
//! open  ────╮                a crowd went: trim once it is still, and again when links and buffers have aged
//!           ╰────────────────────────────
//!               ▲                       ▲
//! ```
//!
//! A crowd that came and rests has left something behind too: what it held while it was busy.

use std::time::Duration;

/// How often to look.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// So many more or less are a crowd, if they are also half of all. Fewer leave 4 MiB at most, two large windows each.
const CROWD: u32 = 32;
/// So many looks in a row must find about the same number: so many more or less, or a sixteenth.
const STILL: u32 = 2;
const ABOUT: u32 = 16;
/// Looks from one time to the next, at least.
const PAUSE: u32 = 5;
/// Looks until buffers have aged that nobody needs, and a bound on the wait for links.
const AGED: u32 = 15;
const AGED_MOST: u32 = 600;

/// What was seen of the number of connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// At the last look.
    last: u32,
    /// The fewest and the most since the last time.
    fewest: u32,
    most: u32,
    still: u32,
    since: u32,
    /// Looks until what a crowd left behind has aged.
    aged: Option<u32>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { last: 0, fewest: 0, most: 0, still: 0, since: PAUSE, aged: None }
    }
}

impl Crowd {
    /// Looks at the number of connections. True: now is a good time to give memory back. `links_live`: idle links to hosts are
    /// closed after this time.
    pub(crate) fn look(&mut self, open: u32, links_live: Duration) -> bool {
        let moved = open.abs_diff(self.last);
        self.still = if moved <= (self.last / 16).max(ABOUT) { self.still + 1 } else { 0 };
        self.last = open;
        self.fewest = self.fewest.min(open);
        self.most = self.most.max(open);
        self.since = self.since.saturating_add(1);
        self.aged = self.aged.map(|looks| looks.saturating_sub(1));
        let changed = self.most - self.fewest >= CROWD && self.most / 2 >= self.fewest;
        let wanted = (changed && self.still >= STILL) || self.aged == Some(0);
        if !wanted || self.since < PAUSE {
            return false;
        }
        // One more look than they live, since links are swept once a second too.
        let links = u32::try_from(links_live.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
        self.aged = changed.then(|| links.clamp(AGED, AGED_MOST));
        (self.fewest, self.most, self.since) = (open, open, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: Duration = Duration::from_secs(30);

    /// The looks, counted from one, at which memory is given back.
    fn times(crowd: &mut Crowd, counts: impl IntoIterator<Item = u32>) -> Vec<usize> {
        let looks = counts.into_iter().enumerate();
        looks.filter(|&(_, open)| crowd.look(open, LINKS)).map(|(nth, _)| nth + 1).collect()
    }

    fn stays(open: u32, looks: usize) -> impl Iterator<Item = u32> {
        std::iter::repeat_n(open, looks)
    }

    #[test]
    fn a_crowd_that_came_and_one_that_went_are_each_seen_once_and_once_more_when_aged() {
        let mut crowd = Crowd::default();
        assert_eq!(times(&mut crowd, stays(3, 100)), [0; 0], "nothing happened yet");
        assert_eq!(times(&mut crowd, stays(5000, 100)), [3, 34]);
        assert_eq!(times(&mut crowd, stays(3, 100)), [3, 34]);
        assert_eq!(times(&mut crowd, stays(3, 1000)), [0; 0]);
    }

    #[test]
    fn nothing_is_done_while_the_crowd_still_moves() {
        let mut crowd = Crowd::default();
        let grows: Vec<u32> =
            std::iter::successors(Some(1000), |open| Some(open + open / 4)).take(20).collect();
        assert_eq!(times(&mut crowd, grows.iter().copied()), [0; 0]);
        assert_eq!(times(&mut crowd, grows.iter().rev().copied()), [0; 0]);
        assert_eq!(times(&mut crowd, stays(0, 9)), [3], "it has come and gone, which is seen all the same");
    }

    #[test]
    fn few_connections_and_small_changes_are_no_crowd() {
        let mut crowd = Crowd::default();
        assert_eq!(times(&mut crowd, (0..500).map(|nth| nth / 9 % 2 * (CROWD - 1))), [0; 0]);
        let mut crowd = Crowd::default();
        times(&mut crowd, stays(10_000, 100));
        let swings = (0..500).map(|nth| if nth / 9 % 2 == 0 { 10_000 } else { 5_001 });
        assert_eq!(times(&mut crowd, swings), [0; 0], "less than half have gone");
    }

    #[test]
    fn swings_are_not_followed_more_often_than_may_be() {
        let mut crowd = Crowd::default();
        let swings = (0..3000_u32).map(|nth| if nth / 3 % 2 == 0 { 10_000 } else { 0 });
        let found = times(&mut crowd, swings);
        assert!(found.len() > 300, "they are followed: {}", found.len());
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE as usize), "{found:?}");
    }

    #[test]
    fn links_without_an_end_are_not_waited_for() {
        for (links_live, second) in [(Duration::ZERO, 18), (Duration::MAX, 603)] {
            let mut crowd = Crowd::default();
            let found: Vec<usize> = (1..1000).filter(|_| crowd.look(4000, links_live)).collect();
            assert_eq!(found.last().copied(), Some(second));
        }
    }
}
