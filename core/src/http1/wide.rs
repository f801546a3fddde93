//! Sixteen bytes of a head at a time: which of them are not as expected.
//!
//! Every x86-64 and AArch64 processor compares sixteen bytes in one instruction; the crate `wide` knows which. An answer is
//! a mask, whose lowest bit stands for the first byte.

use core::slice;

use ::wide::{i8x16, u8x16};

/// Bytes in a lane.
const LANE: usize = 16;
/// The marks of a lane without exception.
const WHOLE: u32 = 0xffff;
/// Bytes whose marks fill a word.
const BLOCK: usize = 4 * LANE;

/// Tells where the bytes of a head are that are not printable ASCII, one after another: control bytes, and what is above
/// ASCII. Marks are made of whole blocks, so that the processor need not wait for the end of one line to look for that of
/// the next.
pub(super) struct Unprintable<'b> {
    bytes: &'b [u8],
    /// The blocks that were not looked at.
    blocks: slice::Iter<'b, [u8; BLOCK]>,
    /// Where the block in front of them begins.
    at: usize,
    /// Marks of that block that were not told yet.
    marks: u64,
}

impl<'b> Unprintable<'b> {
    /// Those of `bytes`, from `at` on.
    #[inline(always)]
    pub(super) fn new(bytes: &'b [u8], at: usize) -> Self {
        let (blocks, _) = bytes.get(at..).unwrap_or_default().as_chunks();
        Self { bytes, blocks: blocks.iter(), at: at.wrapping_sub(BLOCK), marks: 0 }
    }

    /// Where the next one is; `None`: there is none in what was received.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            self.at = self.at.wrapping_add(BLOCK);
            self.marks = match self.blocks.next() {
                Some(block) => in_block(block),
                None => in_last(self.bytes, self.at)?,
            };
        }
        let place = self.at + self.marks.trailing_zeros() as usize;
        self.skip();
        Some(place)
    }

    /// Does not tell the next one, if it is in the same block.
    #[inline(always)]
    pub(super) fn skip(&mut self) {
        self.marks &= self.marks.wrapping_sub(1);
    }
}

/// Marks what is not printable in the bytes from `at` on, which do not fill a block. `None`: there are none.
#[inline(never)]
fn in_last(bytes: &[u8], at: usize) -> Option<u64> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let missing = u32::try_from(BLOCK.checked_sub(rest.len())?).ok()?;
    Some(match bytes.last_chunk() {
        Some(last) => in_block(last) >> missing,
        None => in_short(rest),
    })
}

#[inline(always)]
fn in_block(block: &[u8; BLOCK]) -> u64 {
    let (lanes, _) = block.as_chunks::<LANE>();
    !lanes.iter().rev().fold(0, |marks, lane| (marks << LANE) | u64::from(printable(u8x16::new(*lane))))
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
    match bytes.first_chunk().map(|lane| in_name(u8x16::new(*lane)).trailing_ones() as usize) {
        Some(len @ ..LANE) => len,
        _ => until(bytes, in_name),
    }
}

/// The same for visible ASCII without `#`: the bytes of a target.
#[inline(always)]
pub(super) fn target_len(bytes: &[u8]) -> usize {
    until(bytes, in_target)
}

/// Whether all bytes are those of nearly every host's name: letters, digits, `-` and `.`. False may mean that a lane is more
/// than there is.
#[inline]
pub(super) fn is_host_name(text: &[u8]) -> bool {
    let is_good = |lane: [u8; LANE]| in_host_name(u8x16::new(lane)) == WHOLE;
    if let Some(last) = text.last_chunk() {
        return text.as_chunks().0.iter().all(|&lane| is_good(lane)) && is_good(*last);
    }
    match (text.first_chunk::<{ LANE / 2 }>(), text.last_chunk::<{ LANE / 2 }>()) {
        (Some(front), Some(back)) => {
            let (front, back) = (u64::from_ne_bytes(*front), u64::from_ne_bytes(*back));
            is_good((u128::from(front) << 64 | u128::from(back)).to_ne_bytes())
        }
        _ => false,
    }
}

#[inline(always)]
fn until(bytes: &[u8], good: impl Fn(u8x16) -> u32) -> usize {
    let (lanes, _) = bytes.as_chunks::<LANE>();
    let mut len = 0;
    for lane in lanes {
        let good = good(u8x16::new(*lane)).trailing_ones() as usize;
        if good < LANE {
            return len + good;
        }
        len += LANE;
    }
    len
}

/// Marks printable ASCII.
#[inline(always)]
fn printable(lane: u8x16) -> u32 {
    in_range(lane, b' ', b'~').to_bitmask()
}

/// Marks letters, digits, `-` and `.`.
#[inline(always)]
fn in_host_name(lane: u8x16) -> u32 {
    // Between `-` and `9` there is also `/`.
    let digits = in_range(lane, b'-', b'9') & !lane.simd_eq(u8x16::splat(b'/'));
    (in_range(lane | u8x16::splat(0x20), b'a', b'z') | digits).to_bitmask()
}

/// Marks letters and `-`.
#[inline(always)]
fn in_name(lane: u8x16) -> u32 {
    (in_range(lane | u8x16::splat(0x20), b'a', b'z') | lane.simd_eq(u8x16::splat(b'-'))).to_bitmask()
}

/// Marks what is visible, but for `#`.
#[inline(always)]
fn in_target(lane: u8x16) -> u32 {
    (in_range(lane, b'!', b'~') & !lane.simd_eq(u8x16::splat(b'#'))).to_bitmask()
}

/// Sets all bits of each byte from `least` to `most`. They are moved to the upper end of the signed numbers, so that one
/// comparison does for both ends.
#[inline(always)]
fn in_range(lane: u8x16, least: u8, most: u8) -> u8x16 {
    const TOP: u8 = i8::MAX.cast_unsigned();
    let moved = (lane + u8x16::splat(TOP - most)).cast_signed();
    moved.simd_gt(i8x16::splat((TOP - (most - least) - 1).cast_signed())).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const fn is_printable(byte: u8) -> bool {
        matches!(byte, b' '..=b'~')
    }

    const fn is_in_name(byte: u8) -> bool {
        byte.is_ascii_alphabetic() || byte == b'-'
    }

    const fn is_in_host_name(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
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
            (is_printable as fn(u8) -> bool, printable(wide)),
            (is_in_name, in_name(wide)),
            (is_in_host_name, in_host_name(wide)),
            (is_in_target, in_target(wide)),
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
            let is_told = bytes.len() >= LANE / 2 && bytes.iter().all(|&byte| is_in_host_name(byte));
            assert_eq!(is_host_name(&bytes), is_told, "{context}: {bytes:x?}");
        }
    }

    #[test]
    fn unprintable_bytes_are_found_one_after_another() {
        const SEED: u64 = 0x40;
        let mut rng = Rng::seeded(SEED);
        for round in 0..20_000 {
            let bytes = spiced(&mut rng, 300);
            let at = rng.below(u32::try_from(bytes.len()).unwrap() + 2) as usize;
            let mut unprintable = Unprintable::new(&bytes, at);
            let found: Vec<usize> = core::iter::from_fn(|| unprintable.next()).collect();
            let expected: Vec<usize> = (at..bytes.len()).filter(|&at| !is_printable(bytes[at])).collect();
            assert_eq!(found, expected, "seed {SEED:#x}, round {round}, from {at}: {bytes:x?}");
        }
    }
}
