//! Timers: one hashed wheel per worker.
//!
//! Each connection has at most one entry. Deadlines move with every request, so the entry is lazy: it fires no later
//! than the earliest deadline that was ever asked for, and the shell then asks the exchange what its deadline
//! is *now* and sets the entry again. A deadline that moves away costs nothing; one that comes nearer moves the entry
//! in constant time.

use super::spares::slim_behind;
use crate::clock::Tick;

/// Milliseconds per slot: the granularity of every time-out.
const SLOT_MILLIS: u64 = 64;
const SLOTS: usize = 1024;
const NONE: u32 = u32::MAX;

/// A wheel of `SLOTS` slots of `SLOT_MILLIS` each, with an entry per connection key.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    entries: Vec<Entry>,
    /// The first slot that has not been looked at yet, counted since the origin.
    cursor: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The slot, counted since the origin; `u64::MAX`: not armed.
    due: u64,
    previous: u32,
    next: u32,
}

const IDLE: Entry = Entry { due: u64::MAX, previous: NONE, next: NONE };

impl Wheel {
    /// An empty wheel that begins at `now`.
    pub fn new(now: Tick) -> Self {
        Self {
            heads: vec![NONE; SLOTS].into(),
            entries: Vec::new(),
            cursor: now.millis() / SLOT_MILLIS,
            armed: 0,
        }
    }

    /// Makes sure that `key` fires at or before `at`, and not before an earlier moment it was set for.
    #[inline]
    pub fn set(&mut self, key: u32, at: Tick) {
        if at == Tick::NEVER {
            return;
        }
        let due = (at.millis() / SLOT_MILLIS + 1).max(self.cursor);
        if self.entries.get(key as usize).is_some_and(|entry| entry.due <= due) {
            return;
        }
        self.clear(key);
        self.link(key, due);
    }

    /// Forgets `key`.
    pub fn clear(&mut self, key: u32) {
        let Some(entry) = self.entries.get(key as usize).copied().filter(|entry| entry.due != u64::MAX)
        else {
            return;
        };
        match self.entries.get_mut(entry.previous as usize) {
            Some(previous) => previous.next = entry.next,
            None => self.set_head(entry.due, entry.next),
        }
        if let Some(next) = self.entries.get_mut(entry.next as usize) {
            next.previous = entry.previous;
        }
        if let Some(entry) = self.entries.get_mut(key as usize) {
            *entry = IDLE;
        }
        self.armed -= 1;
    }

    /// Takes the next key whose moment has come; the caller looks at its connection and sets it again.
    pub fn expire(&mut self, now: Tick) -> Option<u32> {
        let last = now.millis() / SLOT_MILLIS;
        while self.cursor <= last {
            if self.armed == 0 {
                self.cursor = last + 1;
                break;
            }
            let mut key = self.head(self.cursor);
            while let Some(entry) = self.entries.get(key as usize).copied() {
                if entry.due <= self.cursor {
                    self.clear(key);
                    return Some(key);
                }
                key = entry.next;
            }
            self.cursor += 1;
        }
        None
    }

    /// Gives back the room of keys that are not set any more, behind the last one that is. Called about once a second.
    pub fn slim(&mut self) {
        slim_behind(&mut self.entries, |entry| entry.due != u64::MAX);
    }

    /// When [`Wheel::expire`] is worth calling next: the end of the current slot, or `None` when nothing is set.
    pub fn next_look(&self) -> Option<Tick> {
        (self.armed > 0).then(|| Tick::from_millis(self.cursor * SLOT_MILLIS))
    }

    fn link(&mut self, key: u32, due: u64) {
        if self.entries.len() <= key as usize {
            self.entries.resize(key as usize + 1, IDLE);
        }
        let head = self.head(due);
        if let Some(first) = self.entries.get_mut(head as usize) {
            first.previous = key;
        }
        if let Some(entry) = self.entries.get_mut(key as usize) {
            *entry = Entry { due, previous: NONE, next: head };
        }
        self.set_head(due, key);
        self.armed += 1;
    }

    fn head(&self, slot: u64) -> u32 {
        self.heads.get(position(slot)).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, slot: u64, key: u32) {
        if let Some(head) = self.heads.get_mut(position(slot)) {
            *head = key;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of SLOTS fits")]
const fn position(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn keys_fire_at_their_earliest_deadline_and_never_early() {
        let mut rng = Rng::seeded(3);
        let mut wheel = Wheel::new(Tick::from_millis(0));
        let mut due = [u64::MAX; 200];
        let mut now = 0;
        for _ in 0..20_000 {
            match rng.below(4) {
                0 | 1 => {
                    let key = rng.below(200);
                    let at = now + u64::from(rng.below(200_000));
                    wheel.set(key, Tick::from_millis(at));
                    due[key as usize] = due[key as usize].min(at);
                }
                2 => {
                    let key = rng.below(200);
                    wheel.clear(key);
                    due[key as usize] = u64::MAX;
                }
                _ => {
                    now += u64::from(rng.below(3000));
                    wheel.slim();
                    while let Some(key) = wheel.expire(Tick::from_millis(now)) {
                        assert!(due[key as usize] <= now, "key {key} fired early");
                        due[key as usize] = u64::MAX;
                    }
                    let late = due.iter().filter(|&&at| at.saturating_add(2 * SLOT_MILLIS) < now).count();
                    assert_eq!(late, 0, "a key was missed");
                }
            }
        }
    }

    #[test]
    fn keys_that_are_gone_leave_no_room_behind() {
        let mut wheel = Wheel::new(Tick::default());
        for key in 0..5000 {
            wheel.set(key, Tick::from_millis(u64::from(key)));
        }
        for key in (0..5000).filter(|key| *key != 7) {
            wheel.clear(key);
        }
        wheel.slim();
        assert!(wheel.entries.capacity() <= 12, "{}", wheel.entries.capacity());
        assert_eq!(wheel.expire(Tick::from_millis(1000)), Some(7));
        wheel.set(4999, Tick::from_millis(2000));
        assert_eq!(wheel.expire(Tick::from_millis(3000)), Some(4999));
    }

    #[test]
    fn a_deadline_that_never_comes_is_not_set() {
        let mut wheel = Wheel::new(Tick::from_millis(5));
        wheel.set(0, Tick::NEVER);
        assert_eq!(wheel.next_look(), None);
        assert_eq!(wheel.expire(Tick::from_millis(1 << 40)), None);
    }
}
