//! Things kept for reuse: as many as were in use lately, within a bound.

/// So many stay however long nobody needs them.
const AT_HAND: usize = 4;

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
