//! The hand reader of the message, against prost and by hand.

use super::*;
use crate::rng::Rng;

/// The message as prost reads it.
#[derive(Clone, PartialEq, prost::Message)]
struct Oracle {
    #[prost(string, tag = "1")]
    address: String,
    #[prost(uint64, tag = "2")]
    expires: u64,
}

const HOST: &[u8] = b"\x0a\x0f127.0.0.1:21102";

/// The address and the expiry that are read.
fn said(bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
    read(bytes).map(|message| (bytes[message.address].to_vec(), message.expires))
}

/// What is read when `tail` follows a good address.
fn with_tail(tail: &[u8]) -> Option<(Vec<u8>, u64)> {
    said(&[HOST, tail].concat())
}

#[track_caller]
fn reads(tail: &[u8], expires: u64) {
    assert_eq!(with_tail(tail), Some((b"127.0.0.1:21102".to_vec(), expires)), "tail {}", tail.escape_ascii());
}

#[track_caller]
fn fails(tail: &[u8]) {
    assert_eq!(with_tail(tail), None, "tail {}", tail.escape_ascii());
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    assert_eq!(with_tail(b"\x0a\x00"), Some((vec![], 0))); // pb-015
    assert_eq!(with_tail(b"\x0a\x099.9.9.9:1"), Some((b"9.9.9.9:1".to_vec(), 0))); // pb-019
    reads(b"\x10\x01\x10\x80\xae\x99\xa4\x0f", 4_102_444_800); // pb-021
    reads(b"\x10\x80\xae\x99\xa4\x0f\x10\x01", 1); // pb-023
    reads(b"\x10\x01\x10\x00", 0); // pb-027
}

#[test]
fn unknown_fields_are_skipped() {
    reads(b"\x18\x01", 0); // pb-029
    reads(b"\x19\x01\x01\x01\x01\x01\x01\x01\x01", 0); // pb-033
    fails(b"\x19\x01\x01\x01\x01\x01\x01\x01"); // pb-035
    reads(b"\x1d\x01\x01\x01\x01", 0); // pb-037
    fails(b"\x1d\x01\x01\x01"); // pb-039
    reads(b"\x1a\x02\xff\xfe", 0); // pb-043
    reads(b"\xf8\xff\xff\xff\x0f\x01", 0); // pb-051
    fails(b"\x1e\x01"); // pb-085
    fails(b"\x1f\x01"); // pb-087
    fails(b"\x00\x01"); // pb-089
    fails(b"\x80\x00\x01"); // pb-097
    assert_eq!(said(b""), Some((Vec::new(), 0)));
}

/// A known field with another wire type is an unknown field: pb-101 to pb-118.
#[test]
fn a_known_field_of_another_wire_type_is_skipped() {
    assert_eq!(said(b"\x08\x05"), Some((Vec::new(), 0)));
    reads(b"\x08\x05", 0);
    reads(b"\x0dabcd", 0);
    reads(b"\x11\x01\x00\x00\x00\x00\x00\x00\x00", 0);
    reads(b"\x15\x01\x00\x00\x00", 0);
    reads(b"\x12\x01\x01", 0);
    reads(b"\x0b\x0c", 0);
}

#[test]
fn groups_nest_properly_to_depth_100() {
    reads(b"\x1b\x1c", 0); // pb-057
    reads(b"\x1b\x08\x05\x12\x01q\x1c", 0); // pb-059
    reads(b"\x1b\x23\x24\x1c", 0); // pb-063
    fails(b"\x1b"); // pb-065
    fails(b"\x1c"); // pb-067
    fails(b"\x1b\x24"); // pb-069
    fails(b"\x1b\x23\x1c\x24"); // pb-071
    fails(b"\x0c"); // pb-083
    fails(b"\x04"); // pb-095
    assert_eq!(said(b"\x1b\x0a\x0f127.0.0.1:21102\x1c"), Some((Vec::new(), 0))); // pb-079
    let nested = |depth: usize| [vec![0x1b; depth], vec![0x1c; depth]].concat();
    reads(&nested(100), 0); // pb-075
    fails(&nested(101)); // pb-077
}

#[test]
fn tags_are_cut_to_32_bits_and_lengths_are_not() {
    let address = |tag: &[u8]| said(&[tag, b"\x011"].concat()).map(|(address, _)| address);
    assert_eq!(address(b"\x8a\x00"), Some(b"1".to_vec())); // pb-119
    assert_eq!(address(b"\x8a\x80\x80\x80\x00"), Some(b"1".to_vec())); // pb-121
    assert_eq!(address(b"\x8a\x80\x80\x80\x10"), Some(b"1".to_vec()));
    assert_eq!(address(b"\x8a\x80\x80\x80\x80\x00"), None); // pb-123
    reads(b"\x90\x80\x80\x80\x10\x05", 5);
    fails(b"\x80\x80\x80\x80\x10\x01"); // pb-053
    let length = |length: &[u8]| read(&[b"\x0a", length, b"127.0.0.1:21102"].concat()).is_some();
    assert!(length(b"\x8f\x00")); // pb-127
    assert!(length(b"\x8f\x80\x80\x80\x00")); // pb-129
    assert!(!length(b"\x8f\x80\x80\x80\x80\x00")); // pb-131
    assert!(!length(b"\x10")); // pb-153
    assert!(!length(b"\x80\x80\x80\x80\x08")); // pb-157
    assert!(!length(b"\x8f\x80\x80\x80\x10")); // pb-159
    assert!(!length(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")); // pb-161
}

#[test]
fn varints_have_ten_bytes_and_lose_bits_above_64() {
    reads(b"\x10\x80\xae\x99\xa4\x8f\x80\x80\x80\x80\x00", 4_102_444_800); // pb-135
    fails(b"\x10\x80\xae\x99\xa4\x8f\x80\x80\x80\x80\x80\x00"); // pb-137
    reads(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", i64::MAX.cast_unsigned()); // pb-139
    reads(b"\x10\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02", 1); // pb-143
    fails(b"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"); // pb-145
    fails(b"\x10\x80"); // pb-147
    fails(b"\x10"); // pb-149
    fails(b"\x80"); // pb-151
}

#[test]
fn an_address_is_utf_8_each_time() {
    assert_eq!(read(b"\x0a\x02\xc0\xaf"), None); // pb-191
    assert_eq!(read(b"\x0a\x03\xed\xa0\x80"), None); // pb-193
    assert!(read(b"\x0a\x05h\xc3\xa9:1").is_some()); // pb-195
    assert!(read(b"\x0a\x02\x001").is_some()); // pb-197
    assert_eq!(read(b"\x0a\x01\xff\x0a\x011"), None); // pb-187
}

#[test]
fn what_is_written_is_read_and_canonical() {
    let mut rng = Rng::seeded(3);
    for round in 0..2000 {
        let address: String = (0..=rng.below(127)).map(|_| char::from(b'!' + rng.below(90) as u8)).collect();
        let expires = rng.bits() >> rng.below(64);
        let written = Written::new(address.as_bytes(), expires);
        assert_eq!(said(written.as_bytes()), Some((address.clone().into(), expires)), "round {round}");
        let oracle = Oracle { address, expires };
        assert_eq!(written.as_bytes(), prost::Message::encode_to_vec(&oracle), "round {round}");
    }
    assert_eq!(Written::new(&[b'a'; ADDRESS_MAX], u64::MAX).as_bytes().len(), MESSAGE_MAX);
}

/// One field of a random message, usually good.
fn random_field(rng: &mut Rng, out: &mut Vec<u8>, depth: u32) {
    let field = [1, 2, 1, 2, 3, 15, 16, 536_870_911][rng.below(8) as usize];
    let natural = if field == 1 { 2 } else { 0 };
    let wire = if field <= 2 && rng.below(12) != 0 { natural } else { rng.below(6) };
    varint(u64::from(field << 3 | wire), out);
    match wire {
        0 => varint(rng.bits() >> rng.below(64), out),
        1 => out.extend(rng.bits().to_le_bytes()),
        2 => {
            let bytes: Vec<u8> =
                (0..rng.below(20)).map(|_| b"127.0:9\xc3\xa9\0"[rng.below(10) as usize]).collect();
            varint(bytes.len() as u64, out);
            out.extend(bytes);
        }
        3 if depth < 5 => {
            (0..rng.below(3)).for_each(|_| random_field(rng, out, depth + 1));
            varint(u64::from(field << 3 | 4), out);
        }
        5 => out.extend(7_u32.to_le_bytes()),
        _ => {}
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Whether prost has a reason of its own to refuse `bytes`: a known field of another wire type, or a varint that is longer
/// or larger than its type (prost neither cuts tags to 32 bits nor drops bits above 64).
fn prost_is_stricter(bytes: &[u8], error: &prost::DecodeError) -> bool {
    let text = error.to_string();
    let wrong_wire_type = text.contains("Oracle.") && text.contains("invalid wire type");
    wrong_wire_type || bytes.windows(4).any(|window| window.iter().all(|&byte| byte >= 0x80))
}

/// Random messages, each also with a few bytes changed, are read as prost reads them.
#[test]
fn prost_agrees() {
    let seed = 20_261_123;
    let mut rng = Rng::seeded(seed);
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for round in 0..60_000 {
        let mut bytes = Vec::new();
        (0..=rng.below(5)).for_each(|_| random_field(&mut rng, &mut bytes, 0));
        for _ in 0..rng.below(3) {
            let at = rng.below(bytes.len() as u32) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.bits() as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, rng.bits() as u8),
            }
        }
        let ours = said(&bytes);
        let shown = bytes.escape_ascii();
        match <Oracle as prost::Message>::decode(&*bytes) {
            Ok(oracle) => {
                assert_eq!(
                    ours,
                    Some((oracle.address.into_bytes(), oracle.expires)),
                    "seed {seed} round {round}: {shown}"
                );
                accepted += 1;
            }
            Err(error) if prost_is_stricter(&bytes, &error) => stricter += 1,
            Err(error) => {
                assert_eq!(ours, None, "seed {seed} round {round}: {error}: {shown}");
                refused += 1;
            }
        }
    }
    assert!(
        accepted > 10_000 && refused > 10_000,
        "accepted {accepted}, refused {refused}, stricter {stricter}"
    );
}
