//! Several bytes of a head at a time, in plain integers: the first byte that is not as expected.
//!
//! The tricks are those of "Bit Twiddling Hacks": eight bytes in one `u64`, an answer in the high bit of each. Where a
//! carry or a borrow can spoil an answer, it is one behind the first hit, and the first is the one that counts.

/// One in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The high bit of every byte.
const HIGH: u64 = ONES * 0x80;

/// How many bytes stand in front of the first control byte (below 0x20, or 0x7f).
///
/// # Errors
/// There is none in the whole pieces of sixteen that `bytes` has: their length.
#[inline]
pub(super) fn until_control(bytes: &[u8]) -> Result<usize, usize> {
    let (pieces, _) = bytes.as_chunks::<16>();
    for (nth, piece) in pieces.iter().enumerate() {
        // No short-circuit: this becomes one comparison of sixteen bytes.
        if piece.iter().fold(false, |any, &byte| any | (byte < b' ') | (byte == 0x7f)) {
            let (eights, _) = piece.as_chunks::<8>();
            let [front, back] = eights else { break };
            let hits = controls(*front);
            let within = if hits == 0 { 8 + first(controls(*back)) } else { first(hits) };
            return Ok(nth * 16 + within);
        }
    }
    Err(pieces.len() * 16)
}

/// How many bytes from the front, counted in whole pieces of eight up to the first that has another byte, are letters,
/// digits or `-`: those of nearly every field name.
#[inline]
pub(super) fn name_run(bytes: &[u8]) -> usize {
    let (pieces, _) = bytes.as_chunks::<8>();
    for (nth, piece) in pieces.iter().enumerate() {
        let odd = odd_in_name(*piece);
        if odd != 0 {
            return nth * 8 + first(odd);
        }
    }
    pieces.len() * 8
}

/// The place of the lowest answer.
#[inline]
const fn first(answers: u64) -> usize {
    answers.trailing_zeros() as usize / 8
}

/// Marks the control bytes, exactly up to the first.
#[inline]
const fn controls(piece: [u8; 8]) -> u64 {
    let bytes = u64::from_le_bytes(piece);
    // A byte below 0x20 borrows; one equal to 0x7f is zero after the XOR.
    let low = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    let differs = bytes ^ (ONES * 0x7f);
    let delete = differs.wrapping_sub(ONES) & !differs;
    (low | delete) & HIGH
}

/// Marks what is no letter, digit or `-`. Additions to seven bits carry into no other byte, so all marks are exact.
#[inline]
const fn odd_in_name(piece: [u8; 8]) -> u64 {
    let bytes = u64::from_le_bytes(piece);
    let seven = bytes & !HIGH;
    let letters = in_range((bytes | (ONES * 0x20)) & !HIGH, b'a', b'z');
    let digits = in_range(seven, b'0', b'9');
    let dashes = in_range(seven, b'-', b'-');
    (!(letters | digits | dashes) & HIGH) | (bytes & HIGH)
}

/// Marks the bytes from `least` to `most`, all of seven bits.
#[inline]
const fn in_range(bytes: u64, least: u8, most: u8) -> u64 {
    let reaches = bytes + ONES * (0x80 - least as u64);
    let exceeds = bytes + ONES * (0x7f - most as u64);
    reaches & !exceeds & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn check(bytes: &[u8], context: &str) {
        let control = bytes.iter().position(u8::is_ascii_control);
        let whole = bytes.len() / 16 * 16;
        assert_eq!(
            until_control(bytes),
            control.filter(|&at| at < whole).ok_or(whole),
            "{context}: {bytes:x?}"
        );
        let odd = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
        let whole = bytes.len() / 8 * 8;
        assert_eq!(name_run(bytes), odd.unwrap_or(whole).min(whole), "{context}: {bytes:x?}");
    }

    #[test]
    fn every_byte_is_told_in_every_place() {
        for place in 0..40 {
            for byte in 0..=u8::MAX {
                let mut bytes = [b'a'; 40];
                bytes[place] = byte;
                check(&bytes, "one byte");
            }
        }
    }

    #[test]
    fn any_bytes_are_told_as_one_by_one() {
        const SEED: u64 = 0x16;
        let mut rng = Rng::seeded(SEED);
        for round in 0..200_000 {
            let spice = 2 + rng.below(30);
            // Carries and borrows run through zeros, high bits and neighbours.
            let bytes: Vec<u8> = (0..rng.below(50))
                .map(|_| match rng.below(spice) {
                    0 => u8::try_from(rng.below(256)).unwrap_or_default(),
                    1 => *[0, 0x1f, 0x20, 0x7f, 0x80, 0xff].get(rng.below(6) as usize).unwrap_or(&0),
                    _ => b'a' + u8::try_from(rng.below(26)).unwrap_or_default(),
                })
                .collect();
            check(&bytes, &format!("seed {SEED:#x}, round {round}"));
        }
    }
}
