//! The chunked coding: any segmentation of a body against a reader that sees all of it at once.

use homing_core::http1::{Chunks, Piece, Scan};
use homing_core::limits::{CHUNK_EXTENSION_MAX, TRAILERS_MAX};
use homing_core::rng::Rng;

use crate::input::seed_of;

/// What a body comes to: its data so far, and its length once it is over.
#[derive(Debug, Eq, PartialEq)]
enum Answer {
    Over(Vec<u8>, usize),
    More(Vec<u8>),
    Broken,
}

/// Why the reference stops.
enum Stop {
    /// The bytes end here.
    Short,
    Broken,
}

/// The input as a chunked body, whole and in parts.
pub fn chunks(data: &[u8]) {
    let expected = reference(data);
    let mut rng = Rng::seeded(seed_of(data));
    for most in [u32::MAX, 1, 7, 300] {
        let mut part = || if most == u32::MAX { usize::MAX } else { 1 + rng.below(most) as usize };
        assert_eq!(by_pieces(data, &mut part), expected, "parts of at most {most}");
        match (by_scan(data, &mut part), &expected) {
            (Ok(Some(length)), Answer::Over(_, end)) => assert_eq!(length, *end),
            (Ok(None), Answer::More(_)) | (Err(()), Answer::Broken) => {}
            (found, _) => panic!("scan in parts of at most {most}: {found:?}, expected {expected:?}"),
        }
    }
}

fn by_pieces(body: &[u8], part: &mut impl FnMut() -> usize) -> Answer {
    let (mut chunks, mut data, mut at) = (Chunks::new(), Vec::new(), 0);
    while at < body.len() {
        let end = body.len().min(at.saturating_add(part()));
        while at < end {
            match chunks.next(&body[at..end]) {
                Ok(Piece::Framing(count)) => at += count,
                Ok(Piece::Data(count)) => {
                    data.extend_from_slice(&body[at..at + count]);
                    at += count;
                }
                Ok(Piece::Done) => return Answer::Over(data, at),
                Ok(Piece::More) => panic!("More although bytes are left"),
                Err(_) => return Answer::Broken,
            }
            assert!(at <= end, "a piece is longer than the bytes");
        }
        assert!(chunks.is_done() || chunks.next(b"") == Ok(Piece::More));
    }
    if chunks.is_done() { Answer::Over(data, at) } else { Answer::More(data) }
}

fn by_scan(body: &[u8], part: &mut impl FnMut() -> usize) -> Result<Option<usize>, ()> {
    let (mut chunks, mut at) = (Chunks::new(), 0);
    while at < body.len() {
        let end = body.len().min(at.saturating_add(part()));
        let Scan { taken, done } = chunks.scan(&body[at..end]).map_err(drop)?;
        at += taken;
        if done {
            return Ok(Some(at));
        }
        assert_eq!(at, end, "an unfinished body takes all");
    }
    Ok(None)
}

/// RFC 9112 §7.1 by its grammar, on the whole body.
fn reference(body: &[u8]) -> Answer {
    let mut data = Vec::new();
    let mut rest = body;
    match all_chunks(&mut rest, &mut data) {
        Ok(()) => Answer::Over(data, body.len() - rest.len()),
        Err(Stop::Short) => Answer::More(data),
        Err(Stop::Broken) => Answer::Broken,
    }
}

fn all_chunks(rest: &mut &[u8], data: &mut Vec<u8>) -> Result<(), Stop> {
    loop {
        // chunk-size = 1*HEXDIG, of which 16 are taken.
        let digits = many(rest, |byte| byte.is_ascii_hexdigit());
        let text = String::from_utf8_lossy(digits).into_owned();
        if digits.len() > 16 || (digits.is_empty() && !rest.is_empty()) {
            return Err(Stop::Broken);
        }
        // chunk-ext, without the white space in front that only old senders use.
        if rest.first() == Some(&b';') {
            *rest = &rest[1..];
            if many(rest, is_text).len() > CHUNK_EXTENSION_MAX {
                return Err(Stop::Broken);
            }
        }
        literal(rest, b"\r\n")?;
        let size = u64::from_str_radix(&text, 16).map_err(|_| Stop::Broken)?;
        if size == 0 {
            return trailers(rest);
        }
        let here = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        data.extend_from_slice(&rest[..here]);
        *rest = &rest[here..];
        if here as u64 != size {
            return Err(Stop::Short);
        }
        literal(rest, b"\r\n")?;
    }
}

fn trailers(rest: &mut &[u8]) -> Result<(), Stop> {
    let all = *rest;
    let outcome = trailer_lines(rest);
    // The bound counts every byte of the section, the last line end included.
    if all.len() - rest.len() > TRAILERS_MAX { Err(Stop::Broken) } else { outcome }
}

fn trailer_lines(rest: &mut &[u8]) -> Result<(), Stop> {
    loop {
        if matches!(rest.first(), None | Some(b'\r')) {
            return literal(rest, b"\r\n");
        }
        let name = many(rest, |byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if name.is_empty() {
            return Err(Stop::Broken);
        }
        literal(rest, b":")?;
        many(rest, is_text);
        literal(rest, b"\r\n")?;
    }
}

fn many<'b>(rest: &mut &'b [u8], wanted: impl Fn(u8) -> bool) -> &'b [u8] {
    let count = rest.iter().take_while(|&&byte| wanted(byte)).count();
    let (run, behind) = rest.split_at(count);
    *rest = behind;
    run
}

fn literal(rest: &mut &[u8], text: &[u8]) -> Result<(), Stop> {
    for expected in text {
        match rest.split_first() {
            None => return Err(Stop::Short),
            Some((byte, behind)) if byte == expected => *rest = behind,
            Some(_) => return Err(Stop::Broken),
        }
    }
    Ok(())
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=0x7e | 0x80..)
}
