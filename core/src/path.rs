//! Paths in their normal form, for listeners that ask for it: what the route, the session's scope and the upstream see is
//! then one path, however it was spelled (RFC 3986 §6.2.2).
//!
//! ```text
//! /a/./b/%2e%2e/c  ─▶ /a/c      dot segments, their dots escaped or not
//! /a/..;x/b        ─▶ /b        …and with parameters, which some servers drop
//! /a\b             ─▶ /a/b      as browsers read it
//! /%7Euser         ─▶ /~user    escapes of unreserved characters; all others stay as they are
//! /a|b             ─▶ /a%7Cb    characters that no URI has
//! //a              ─▶ /a        only where slashes are merged, and last of all
//! ```
//!
//! These are Envoy's rules (path-119 to path-128, hcm-114 to hcm-122, and more that were asked of it), but for what would
//! not be normal afterwards: an escape that is broken or of NUL, and dots with parameters that come to light behind an
//! escape or a backslash (`/.%2e;x/`, which Envoy passes on as `/..;x/`), are refused. So is a byte that no target has: were
//! it in a segment that goes, nobody would see it any more.

use core::fmt;

/// What is done to a request's path before anything looks at it. Off by default: the path is raw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathRules {
    /// Dot segments, backslashes and escapes become what they stand for.
    pub normalize: bool,
    /// Of several slashes in a row one stays.
    pub merge_slashes: bool,
}

/// The path has no normal form: an escape is broken or of NUL, or hides dots with parameters, or a byte is in no target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoNormalForm;

impl fmt::Display for NoNormalForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path has an escape that is broken, of NUL, or of dots with parameters, or a byte of no target")
    }
}

impl core::error::Error for NoNormalForm {}

/// Appends the normal form of `path`, which begins with `/` and ends in front of the query, to `out`. False: `path` has it
/// already, and nothing was appended.
///
/// # Errors
/// The path has no normal form.
pub fn normal_path(path: &[u8], rules: PathRules, out: &mut Vec<u8>) -> Result<bool, NoNormalForm> {
    if is_normal(path, rules) {
        return Ok(false);
    }
    // RFC 9112 §3.2: visible ASCII, and no fragment.
    if !path.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(NoNormalForm);
    }
    let start = out.len();
    if rules.normalize {
        normalise(path, out)?;
    } else {
        out.extend_from_slice(path);
    }
    if rules.merge_slashes {
        merge(out, start);
    }
    Ok(out.get(start..) != Some(path))
}

/// Whether nothing in the path could have another form; a false alarm costs a copy and no more.
fn is_normal(path: &[u8], rules: PathRules) -> bool {
    let mut last = 0;
    for &byte in path {
        let odd = match byte {
            b'/' => rules.merge_slashes && last == b'/',
            b'.' => rules.normalize && last == b'/',
            b'%' | b'\\' => rules.normalize,
            _ => rules.normalize && must_be_escaped(byte),
        };
        if odd {
            return false;
        }
        last = byte;
    }
    true
}

/// Between two steps `out` ends with the slash in front of the next segment.
fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<(), NoNormalForm> {
    let root = out.len() + 1;
    out.push(b'/');
    let mut rest = path.strip_prefix(b"/");
    while let Some(path) = rest {
        let (outer, behind) = cut(path, |byte| byte == b'/');
        rest = behind;
        // The parameters of a dot segment reach to the slash, backslashes and all.
        let outer = match outer {
            [b'.', b';', ..] => b".".as_slice(),
            [b'.', b'.', b';', ..] => b"..",
            other => other,
        };
        let mut inner = Some(outer);
        while let Some(path) = inner {
            let (name, behind) = cut(path, |byte| byte == b'\\');
            inner = behind;
            segment(name, inner.or(rest).is_none(), root, out)?;
        }
    }
    Ok(())
}

/// The path up to a separator, and what is behind that; `None`: there was none.
fn cut(path: &[u8], separates: impl Fn(u8) -> bool) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| separates(byte)) {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..)),
        None => (path, None),
    }
}

fn segment(name: &[u8], is_last: bool, root: usize, out: &mut Vec<u8>) -> Result<(), NoNormalForm> {
    let start = out.len();
    decode(name, out)?;
    match out.get(start..).unwrap_or_default() {
        [b'.', b';', ..] | [b'.', b'.', b';', ..] => return Err(NoNormalForm),
        b"." => out.truncate(start),
        b".." => {
            out.truncate(start);
            // The segment before goes too; there is none above the root.
            if out.len() > root {
                out.pop();
                let above = out.iter().rposition(|&byte| byte == b'/').map_or(root, |slash| slash + 1);
                out.truncate(above.max(root));
            }
        }
        _ if is_last => {}
        _ => out.push(b'/'),
    }
    Ok(())
}

fn decode(name: &[u8], out: &mut Vec<u8>) -> Result<(), NoNormalForm> {
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%' {
            let (digits, behind) = rest.split_at_checked(2).ok_or(NoNormalForm)?;
            rest = behind;
            match value(digits) {
                None | Some(0) => return Err(NoNormalForm),
                Some(byte) if is_unreserved(byte) => out.push(byte),
                Some(_) => {
                    out.push(b'%');
                    out.extend_from_slice(digits);
                }
            }
        } else if must_be_escaped(byte) {
            let digit =
                |value: u8| char::from_digit(value.into(), 16).map_or(b'0', |c| c.to_ascii_uppercase() as u8);
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        } else {
            out.push(byte);
        }
    }
    Ok(())
}

/// The value of two hexadecimal digits.
fn value(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(|&byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What a request line may hold and a URI may not (RFC 3986 §2).
fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Leaves one of each run of slashes.
fn merge(out: &mut Vec<u8>, start: usize) {
    let mut kept = start;
    let mut last = 0;
    for at in start..out.len() {
        let Some(&byte) = out.get(at) else { break };
        if byte == b'/' && last == b'/' {
            continue;
        }
        if let Some(to) = out.get_mut(kept) {
            *to = byte;
        }
        kept += 1;
        last = byte;
    }
    out.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const NORMAL: PathRules = PathRules { normalize: true, merge_slashes: false };
    const BOTH: PathRules = PathRules { normalize: true, merge_slashes: true };
    const MERGED: PathRules = PathRules { normalize: false, merge_slashes: true };

    fn form(path: &str, rules: PathRules) -> Result<String, NoNormalForm> {
        let mut out = b"before".to_vec();
        let changed = normal_path(path.as_bytes(), rules, &mut out)?;
        let found = String::from_utf8(out.split_off(6)).unwrap_or_default();
        Ok(if changed { found } else { path.into() })
    }

    /// What Envoy 1.40.0 was seen to make of each: normalised, and with slashes merged as well.
    #[test]
    fn paths_become_what_envoy_makes_of_them() {
        for (path, normal, both) in [
            ("/foo", "/foo", "/foo"),
            ("/bar/..;x/foo", "/foo", "/foo"),
            ("/a/.;x/b", "/a/b", "/a/b"),
            ("/a/..x/b", "/a/..x/b", "/a/..x/b"),
            ("/a/...;x/b", "/a/...;x/b", "/a/...;x/b"),
            ("/a/%2e%2E/b", "/b", "/b"),
            ("/a/%2e%2e%3bx/b", "/a/..%3bx/b", "/a/..%3bx/b"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/b/.", "/a/b/", "/a/b/"),
            ("/a/b/..;x", "/a/", "/a/"),
            ("/..", "/", "/"),
            ("/../../x", "/x", "/x"),
            ("/", "/", "/"),
            ("//", "//", "/"),
            ("///a//b//", "///a//b//", "/a/b/"),
            ("/a//../b", "/a/b", "/a/b"),
            ("/%66oo", "/foo", "/foo"),
            ("/ok%2F..%2Fx", "/ok%2F..%2Fx", "/ok%2F..%2Fx"),
            ("/%5c", "/%5c", "/%5c"),
            ("/a\\..\\b", "/b", "/b"),
            ("/\\\\a", "///a", "/a"),
            ("/.;y\\%7eb;x", "/", "/"),
            ("/.;/..;/a", "/a", "/a"),
            ("/a/b;x/../c", "/a/c", "/a/c"),
            ("/%41%7e%2d%5f%2E", "/A~-_.", "/A~-_."),
            ("/%c3%A9", "/%c3%A9", "/%c3%A9"),
            ("/%25%32%65", "/%252e", "/%252e"),
            ("/a\"b<>^`{|}", "/a%22b%3C%3E%5E%60%7B%7C%7D", "/a%22b%3C%3E%5E%60%7B%7C%7D"),
            ("/a!$&'()*+,;=:@[]", "/a!$&'()*+,;=:@[]", "/a!$&'()*+,;=:@[]"),
            ("/.a/..b/...", "/.a/..b/...", "/.a/..b/..."),
        ] {
            assert_eq!(form(path, NORMAL).as_deref(), Ok(normal), "{path}");
            assert_eq!(form(path, BOTH).as_deref(), Ok(both), "{path}");
        }
        assert_eq!(form("/a/..//%66\\", MERGED).as_deref(), Ok("/a/../%66\\"));
        assert_eq!(form("//../%zz", PathRules::default()).as_deref(), Ok("//../%zz"));
    }

    #[test]
    fn what_has_no_normal_form_is_refused() {
        for path in
            ["/%", "/%4", "/%zz", "/%%41", "/a/%+1", "/%00", "/..;/%g0", "/%4/1", "/a/.%2e;x/b", "/a\\..;x/b"]
        {
            assert_eq!(form(path, NORMAL), Err(NoNormalForm), "{path}");
        }
        for odd in ["\0", "\n", "\t", " ", "\u{7f}", "\u{e9}", "#"] {
            assert_eq!(form(&format!("/a{odd}/../b"), NORMAL), Err(NoNormalForm), "{odd:?}");
            assert_eq!(form(&format!("//{odd}"), MERGED), Err(NoNormalForm), "{odd:?}");
        }
        // Its parameters are dropped unread.
        assert_eq!(form("/..;%/a", NORMAL).as_deref(), Ok("/a"));
    }

    /// A normal path stays as it is, and has no dot segments.
    #[test]
    fn a_normal_path_is_normal() {
        let pieces: [&[u8]; 16] = [
            b"/", b"//", b".", b"..", b"..;x", b".;", b"\\", b"%2e", b"%2F", b"%41", b"a", b"b;x", b"%25",
            b"|", b"=", b"%7e",
        ];
        let mut rng = Rng::seeded(20_261_123);
        for _ in 0..20_000 {
            let mut path = b"/".to_vec();
            for _ in 0..=rng.below(8) {
                path.extend_from_slice(pieces[rng.below(16) as usize]);
            }
            let mut once = Vec::new();
            if normal_path(&path, BOTH, &mut once) == Ok(true) {
                let shown = String::from_utf8_lossy(&path).into_owned();
                assert!(once.starts_with(b"/") && !once.windows(2).any(|two| two == b"//"), "{shown}");
                let dots = |part: &[u8]| matches!(part, b"." | b"..");
                assert!(!once.split(|&byte| byte == b'/').any(dots), "{shown}");
                let mut twice = Vec::new();
                assert_eq!(normal_path(&once, BOTH, &mut twice), Ok(false), "{shown}");
            }
        }
    }
}
