//! Sixteen bytes of a head at a time: which of them are not as expected.
//!
//! Every x86-64 and AArch64 processor compares sixteen bytes in one instruction; the crate `wide` knows which. An answer is
//! a mask, whose lowest bit stands for the first byte.

use ::wide::u8x16;

/// Bytes in a lane.
const LANE: usize = 16;
/// The mask in which all bytes of a lane are marked.
const ALL: u32 = 0xffff;
/// Bytes whose marks fill a word.
const BLOCK: usize = 4 * LANE;

/// Tells where the control bytes (below 0x20, or 0x7f) of a head are, one after another. Marks are made of whole blocks,
/// so that the processor need not wait for the end of one line to look for that of the next.
pub(super) struct Controls<'b> {
    bytes: &'b [u8],
    /// Where the block begins that `marks` is of.
    at: usize,
    /// Those of the block that were not told yet.
    marks: u64,
}

impl<'b> Controls<'b> {
    /// Those of `bytes`, from `at` on.
    #[inline(always)]
    pub(super) fn new(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at, marks: block(bytes, at) }
    }

    /// Where the next one is; `None`: there is none in what was received.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            self.at += BLOCK;
            if self.at >= self.bytes.len() {
                return None;
            }
            self.marks = block(self.bytes, self.at);
        }
        let place = self.at + self.marks.trailing_zeros() as usize;
        self.marks &= self.marks - 1;
        Some(place)
    }
}

/// Marks the control bytes of the block that begins at `at`.
#[inline(always)]
fn block(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match (rest.first_chunk::<BLOCK>(), bytes.last_chunk::<BLOCK>()) {
        (Some(block), _) => in_block(block),
        // The last few bytes are the end of the last block.
        (None, Some(last)) => {
            in_block(last).checked_shr(u32::try_from(BLOCK - rest.len()).unwrap_or(0)).unwrap_or(0)
        }
        (None, None) => in_short(rest),
    }
}

#[inline(always)]
fn in_block(block: &[u8; BLOCK]) -> u64 {
    let (lanes, _) = block.as_chunks::<LANE>();
    lanes.iter().rev().fold(0, |marks, lane| (marks << LANE) | u64::from(controls(u8x16::new(*lane))))
}

/// All that was received does not fill a block.
#[cold]
fn in_short(rest: &[u8]) -> u64 {
    let mut block = [b' '; BLOCK];
    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    in_block(&block)
}

/// How many bytes from the front are letters or `-`, those of nearly every field name. Looks at whole lanes only: the last
/// fifteen bytes may be left for the caller.
#[inline(always)]
pub(super) fn name_len(bytes: &[u8]) -> usize {
    until(bytes, odd_in_name)
}

/// The same for visible ASCII without `#`: the bytes of a target.
#[inline(always)]
pub(super) fn target_len(bytes: &[u8]) -> usize {
    until(bytes, odd_in_target)
}

#[inline(always)]
fn until(bytes: &[u8], odd: impl Fn(u8x16) -> u32) -> usize {
    let (lanes, _) = bytes.as_chunks::<LANE>();
    let mut len = 0;
    for lane in lanes {
        let marks = odd(u8x16::new(*lane));
        if marks != 0 {
            return len + marks.trailing_zeros() as usize;
        }
        len += LANE;
    }
    len
}

/// Marks the control bytes.
#[inline(always)]
fn controls(lane: u8x16) -> u32 {
    (in_range(lane, 0, 0x1f) | lane.simd_eq(u8x16::splat(0x7f))).to_bitmask()
}

/// Marks what is no letter and no `-`.
#[inline(always)]
fn odd_in_name(lane: u8x16) -> u32 {
    let letters = in_range(lane | u8x16::splat(0x20), b'a', b'z');
    !(letters | lane.simd_eq(u8x16::splat(b'-'))).to_bitmask() & ALL
}

/// Marks what is not visible, and `#`.
#[inline(always)]
fn odd_in_target(lane: u8x16) -> u32 {
    let visible = in_range(lane, b'!', b'~').to_bitmask();
    !visible & ALL | lane.simd_eq(u8x16::splat(b'#')).to_bitmask()
}

/// Sets all bits of each byte from `least` to `most`. Subtracting `least` makes what is below it large, so that one comparison
/// does for both ends.
#[inline(always)]
fn in_range(lane: u8x16, least: u8, most: u8) -> u8x16 {
    let above = lane - u8x16::splat(least);
    above.min(u8x16::splat(most - least)).simd_eq(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const fn is_control(byte: u8) -> bool {
        byte.is_ascii_control()
    }

    const fn is_in_name(byte: u8) -> bool {
        byte.is_ascii_alphabetic() || byte == b'-'
    }

    const fn is_in_target(byte: u8) -> bool {
        byte.is_ascii_graphic() && byte != b'#'
    }

    /// A mask, made one by one.
    fn naive(lane: [u8; LANE], is_marked: fn(u8) -> bool) -> u32 {
        (0..).zip(lane).fold(0, |marks, (nth, byte)| marks | (u32::from(is_marked(byte)) << nth))
    }

    /// Ordinary bytes, and those at the ends of ranges.
    fn spiced(rng: &mut Rng, most: u32) -> Vec<u8> {
        let spice = 2 + rng.below(30);
        (0..rng.below(most))
            .map(|_| match rng.below(spice) {
                0 => u8::try_from(rng.below(256)).unwrap_or_default(),
                1 => *[0, 0x1f, 0x20, b'#', 0x7f, 0x80, 0xff].get(rng.below(7) as usize).unwrap_or(&0),
                _ => b'a' + u8::try_from(rng.below(26)).unwrap_or_default(),
            })
            .collect()
    }

    #[track_caller]
    fn check_lane(lane: [u8; LANE]) {
        let wide = u8x16::new(lane);
        for (is_marked, marks) in [
            (is_control as fn(u8) -> bool, controls(wide)),
            (|byte| !is_in_name(byte), odd_in_name(wide)),
            (|byte| !is_in_target(byte), odd_in_target(wide)),
        ] {
            assert_eq!(marks, naive(lane, is_marked), "{lane:x?}");
        }
    }

    #[test]
    fn every_byte_is_told_in_every_place() {
        for place in 0..LANE {
            for byte in 0..=u8::MAX {
                for around in [b'a', 0, 0x7f, 0x80, 0xff] {
                    let mut lane = [around; LANE];
                    lane[place] = byte;
                    check_lane(lane);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_told_as_one_by_one() {
        const SEED: u64 = 0x16;
        let mut rng = Rng::seeded(SEED);
        for round in 0..200_000 {
            let bytes = spiced(&mut rng, 50);
            let context = format!("seed {SEED:#x}, round {round}");
            let whole = bytes.len() / LANE * LANE;
            let len = |is_in: fn(u8) -> bool| {
                bytes.iter().position(|&byte| !is_in(byte)).unwrap_or(whole).min(whole)
            };
            assert_eq!(name_len(&bytes), len(is_in_name), "{context}: {bytes:x?}");
            assert_eq!(target_len(&bytes), len(is_in_target), "{context}: {bytes:x?}");
        }
    }

    #[test]
    fn control_bytes_are_found_one_after_another() {
        const SEED: u64 = 0x40;
        let mut rng = Rng::seeded(SEED);
        for round in 0..20_000 {
            let bytes = spiced(&mut rng, 300);
            let at = rng.below(u32::try_from(bytes.len()).unwrap() + 2) as usize;
            let mut controls = Controls::new(&bytes, at);
            let found: Vec<usize> = core::iter::from_fn(|| controls.next()).collect();
            let expected: Vec<usize> = (at..bytes.len()).filter(|&at| is_control(bytes[at])).collect();
            assert_eq!(found, expected, "seed {SEED:#x}, round {round}, from {at}: {bytes:x?}");
        }
    }
}
