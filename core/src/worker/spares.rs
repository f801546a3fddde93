//! Things kept for reuse, as many as were in use lately, within a bound; and tables that give back what a crowd made them grow
//! by.

/// So many stay however long nobody needs them.
const AT_HAND: usize = 4;
/// What grows with the number of connections is not shrunk while it has room for no more than so many.
const ROOM_KEPT: usize = 1024;

/// Whether something with room for `capacity` things is worth shrinking when it has `used` of them: three quarters are unused.
pub const fn is_roomy(used: usize, capacity: usize) -> bool {
    capacity > ROOM_KEPT && used < capacity / 4
}

/// Gives back what `table` has grown by behind its last used item, for tables by connection key in which a key beyond the end
/// is like an unused one. Leaves room for half as many again, so that a few more keys do not make it grow at once.
pub fn slim_behind<T>(table: &mut Vec<T>, is_used: impl Fn(&T) -> bool) {
    let used = table.iter().rposition(is_used).map_or(0, |last| last + 1);
    table.truncate(used);
    if is_roomy(used, table.capacity()) {
        table.shrink_to(used + used / 2);
    }
}

/// Things that wait to be used again, the most recently used last.
#[derive(Debug)]
pub(crate) struct Spares<T> {
    items: Vec<T>,
    most: usize,
    /// The fewest there were since the last [`Spares::slim`]: nobody needed these.
    fewest: usize,
}

impl<T> Spares<T> {
    /// Keeps at most `most` things.
    pub(crate) fn new(most: usize) -> Self {
        Self { items: Vec::with_capacity(most), most, fewest: 0 }
    }

    /// Takes one, if there is one.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.items.pop();
        self.fewest = self.fewest.min(self.items.len());
        item
    }

    /// Keeps one, or drops it if there are enough.
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        if self.items.len() < self.most {
            self.items.push(item);
        }
    }

    /// Drops half of what nobody has needed since the last call: what a crowd has left behind is gone after a few, and what
    /// comes and goes stays.
    pub(crate) fn slim(&mut self) {
        let unused = self.fewest.min(self.items.len().saturating_sub(AT_HAND));
        // The ones in front were not used for the longest time.
        self.items.drain(..unused.div_ceil(2));
        self.fewest = self.items.len();
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(count: usize) -> Spares<usize> {
        let mut spares = Spares::new(256);
        (0..count).for_each(|item| spares.push(item));
        spares
    }

    #[test]
    fn no_more_are_kept_than_may_be() {
        assert_eq!(full(1000).len(), 256);
    }

    #[test]
    fn what_nobody_needs_goes_by_halves() {
        let mut spares = full(256);
        let mut sizes = Vec::new();
        for _ in 0..12 {
            spares.slim();
            sizes.push(spares.len());
        }
        assert_eq!(sizes, [256, 130, 67, 35, 19, 11, 7, 5, 4, 4, 4, 4]);
    }

    #[test]
    fn what_is_needed_now_and_then_stays() {
        let mut spares = full(100);
        for _ in 0..20 {
            spares.slim();
            let used: Vec<_> = (0..60).map(|_| spares.pop().unwrap()).collect();
            used.into_iter().for_each(|item| spares.push(item));
        }
        assert_eq!(spares.len(), 60);
    }
}
