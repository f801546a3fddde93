//! Rooms for what connections hold while they are busy, apart from what they hold all the time.
//!
//! Were each room an allocation of its own, those of a crowd would lie between sockets that stay when the crowd comes to
//! rest, and the holes could not be given back to the system. So rooms lie on floors, and a floor that is empty goes as a
//! whole:
//!
//! ```text
//!  floor 0  ■■■■■■■■   full
//!  floor 1  ■■·■··■·   the next to enter comes here
//!  floor 2  ········   freed by the next `slim`
//! ```

use slab::Slab;

/// Rooms on a floor. Many, so that floors of a crowd are large pieces of memory and there are few of them; what was never
/// used of a floor costs nothing.
const FLOOR: usize = 128;

/// A set of `T`s, each of which keeps its number for as long as it stays.
#[derive(Debug)]
pub(crate) struct Rooms<T> {
    /// None has more than [`FLOOR`] entries.
    floors: Vec<Slab<T>>,
    /// The floors that have room, each once. The last is filled first.
    open: Vec<usize>,
    taken: usize,
}

impl<T> Default for Rooms<T> {
    fn default() -> Self {
        Self { floors: Vec::new(), open: Vec::new(), taken: 0 }
    }
}

impl<T> Rooms<T> {
    /// None is taken.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Gives `guest` a room; its number.
    pub(crate) fn enter(&mut self, guest: T) -> u32 {
        let nth = match self.open.last() {
            Some(&nth) => nth,
            None => {
                let nth = self.floors.len();
                self.floors.push(Slab::new());
                self.open.push(nth);
                nth
            }
        };
        let Some(floor) = self.floors.get_mut(nth) else { return u32::MAX };
        if floor.capacity() == 0 {
            *floor = Slab::with_capacity(FLOOR);
        }
        let room = floor.insert(guest);
        self.taken += 1;
        if floor.len() == FLOOR {
            self.open.pop();
        }
        // There are no more of them than connections, which are counted in a `u32`.
        u32::try_from(nth * FLOOR + room).unwrap_or(u32::MAX)
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Who lives there.
    #[inline]
    pub(crate) fn get_mut(&mut self, room: u32) -> Option<&mut T> {
        let room = room as usize;
        self.floors.get_mut(room / FLOOR)?.get_mut(room % FLOOR)
    }

    /// Empties the room.
    pub(crate) fn leave(&mut self, room: u32) -> Option<T> {
        let (nth, room) = (room as usize / FLOOR, room as usize % FLOOR);
        let floor = self.floors.get_mut(nth)?;
        let guest = floor.try_remove(room)?;
        self.taken -= 1;
        if floor.len() == FLOOR - 1 {
            self.open.push(nth);
        }
        Some(guest)
    }

    /// Frees empty floors. Those that stay are filled from below, so that upper ones become empty.
    pub(crate) fn slim(&mut self) {
        let mut freed = false;
        for floor in self.floors.iter_mut().filter(|floor| floor.is_empty() && floor.capacity() > 0) {
            *floor = Slab::new();
            freed = true;
        }
        if !freed {
            return;
        }
        let used = self.floors.iter().rposition(|floor| floor.capacity() > 0).map_or(0, |last| last + 1);
        self.floors.truncate(used);
        self.floors.shrink_to_fit();
        self.open.clear();
        self.open.shrink_to(used);
        let open = self.floors.iter().enumerate().rev().filter(|(_, floor)| floor.len() < FLOOR);
        self.open.extend(open.map(|(nth, _)| nth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floors that hold memory.
    fn floors<T>(rooms: &Rooms<T>) -> usize {
        rooms.floors.iter().filter(|floor| floor.capacity() > 0).count()
    }

    #[test]
    fn a_crowd_that_has_left_leaves_nothing_behind() {
        let mut rooms = Rooms::new();
        let numbers: Vec<u32> = (0..3000).map(|guest| rooms.enter(guest)).collect();
        assert_eq!(floors(&rooms), 3000_usize.div_ceil(FLOOR));
        for (guest, &number) in numbers.iter().enumerate() {
            assert_eq!(rooms.get_mut(number).copied(), Some(guest));
        }
        for &number in &numbers {
            assert!(rooms.leave(number).is_some());
            assert!(rooms.leave(number).is_none(), "a guest leaves once");
        }
        rooms.slim();
        assert_eq!((floors(&rooms), rooms.floors.len(), rooms.open.len(), rooms.taken()), (0, 0, 0, 0));
    }

    #[test]
    fn a_guest_who_stays_keeps_his_floor_alone() {
        let mut rooms = Rooms::new();
        let numbers: Vec<u32> = (0..10 * FLOOR).map(|guest| rooms.enter(guest)).collect();
        let stays = numbers[7 * FLOOR + 3];
        for &number in numbers.iter().filter(|&&number| number != stays) {
            rooms.leave(number);
        }
        rooms.slim();
        assert_eq!((floors(&rooms), rooms.floors.len()), (1, 8));
        assert_eq!(rooms.get_mut(stays).copied(), Some(7 * FLOOR + 3));
        assert_eq!(rooms.taken(), 1);
        let number = rooms.enter(0);
        assert_eq!(number as usize / FLOOR, 0, "the lowest floor is filled first");
    }

    #[test]
    fn no_room_is_given_twice() {
        let mut rng = homing_core::rng::Rng::seeded(7);
        let mut rooms = Rooms::new();
        let mut guests: Vec<(u32, u32)> = Vec::new();
        for guest in 0..20_000 {
            // More enter than leave for a while, then the other way round.
            if rng.below(10) < if guest / 5_000 % 2 == 0 { 7 } else { 3 } {
                let number = rooms.enter(guest);
                assert!(guests.iter().all(|&(taken, _)| taken != number));
                guests.push((number, guest));
            } else if !guests.is_empty() {
                let (number, guest) = guests.swap_remove(rng.below(guests.len() as u32) as usize);
                assert_eq!(rooms.leave(number), Some(guest));
            }
            if rng.below(100) == 0 {
                rooms.slim();
            }
            if rng.below(100) == 0 {
                assert!(guests.iter().all(|&(number, guest)| rooms.get_mut(number).copied() == Some(guest)));
            }
        }
    }
}
