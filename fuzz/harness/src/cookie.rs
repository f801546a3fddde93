//! The cookie line: which pieces are ours, what a look-up makes of them, and what is left when ours are hidden.

use homing_conformance::build::cookie_policy;
use homing_core::affinity::{Miss, Policy};
use homing_core::carrier::{Cookie, LineEdit};
use homing_core::clock::UnixSecs;
use homing_core::token::{Scratch, decode_cookie};

/// One name that is the end of another, one that holds every kind of token byte.
const NAMES: [&str; 4] = ["s", "ss", "sess", "__Host-a!#$%&'*+.^_`|~"];
const NOW: u64 = 1_800_000_000;

/// The input as `cookie` lines, one per LF, for several names of our cookie.
pub fn cookie_scan(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    for name in NAMES {
        let cookie = Cookie::new(name, "", 0, &[]);
        for line in &lines {
            let found: Vec<&[u8]> = cookie.values(line).collect();
            assert_eq!(found, values(name, line), "{name} in {}", line.escape_ascii());
            check_hiding(&cookie, name, line);
        }
        check_look_up(name, &lines);
    }
}

fn values<'l>(name: &str, line: &'l [u8]) -> Vec<&'l [u8]> {
    let mut found = Vec::new();
    for mut piece in line.split(|&byte| byte == b';') {
        while let Some(rest) = piece.strip_prefix(b" ") {
            piece = rest;
        }
        if let Some(value) = piece.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            found.push(value);
        }
    }
    found
}

fn check_hiding(cookie: &Cookie, name: &str, line: &[u8]) {
    let others = |line: &[u8]| -> Vec<Vec<u8>> {
        let pieces = line.split(|&byte| byte == b';').map(blank_free);
        pieces.filter(|piece| !piece.is_empty() && !is_ours(name, piece)).map(<[u8]>::to_vec).collect()
    };
    let ours = line.split(|&byte| byte == b';').any(|piece| is_ours(name, piece));
    let mut out = b"left over".to_vec();
    let edit = cookie.hide(line, &mut out);
    match edit {
        LineEdit::Keep => assert!(!ours, "{name} stays in {}", line.escape_ascii()),
        LineEdit::Drop => assert!(ours && others(line).is_empty()),
        LineEdit::Write => {
            assert!(ours);
            assert_eq!(others(&out), others(line), "{name} hidden in {}", line.escape_ascii());
            assert!(!out.split(|&byte| byte == b';').any(|piece| is_ours(name, piece)));
            assert_eq!(cookie.hide(&out.clone(), &mut out), LineEdit::Keep, "hiding twice changes nothing");
        }
    }
}

fn is_ours(name: &str, piece: &[u8]) -> bool {
    let mut parts = piece.splitn(2, |&byte| byte == b'=');
    let key = parts.next().unwrap_or_default();
    parts.next().is_some() && blank_free(key) == name.as_bytes()
}

fn blank_free(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The first usable cookie of the name counts; without one, the most telling miss does.
fn check_look_up(name: &str, lines: &[&[u8]]) {
    let Ok(policy) = Policy::compile(cookie_policy(name)) else { return };
    let now = UnixSecs::new(NOW);
    let mut room = Scratch::new();
    let Some(mut lookup) = policy.lookup(b"/", now, &mut room) else {
        panic!("a cookie without a path is in scope")
    };
    let mut expected = Err(Miss::Absent);
    for line in lines {
        lookup.offer(line);
        for value in values(name, blank_free(line)) {
            let miss = match decode_cookie(value) {
                Ok(found) if found.token.expires.is_some_and(|at| at.get() < NOW || at.get() >> 63 == 1) => {
                    Miss::Expired
                }
                Ok(found) => {
                    expected = expected.or(Ok(found.token));
                    continue;
                }
                Err(homing_core::token::DecodeError::Empty) => Miss::Absent,
                Err(_) => Miss::Malformed,
            };
            expected = expected.map_err(|worst| if rank(miss) > rank(worst) { miss } else { worst });
        }
    }
    let found = lookup.read();
    match (found.token(), &expected) {
        (Ok(found), Ok(expected)) => {
            assert_eq!((found.address, found.expires), (expected.address, expected.expires));
        }
        (Err(found), Err(expected)) => assert_eq!(found, *expected),
        (found, expected) => panic!("{name}: found {found:?}, expected {expected:?}"),
    }
}

fn rank(miss: Miss) -> u8 {
    match miss {
        Miss::Absent => 0,
        Miss::Malformed => 1,
        Miss::Expired => 2,
        Miss::Gone | Miss::Barred => 3,
    }
}
