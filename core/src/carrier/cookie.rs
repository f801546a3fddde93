//! The session cookie: finding it in a request's `cookie` lines, taking it out of them, and writing `set-cookie`.

use core::iter;

use memchr::{memchr, memmem};

use super::{LineEdit, Scope};
use crate::clock::UnixSecs;
use crate::field::FieldName;
use crate::token::{self, Address, COOKIE_VALUE_MAX, Token};

/// A compiled cookie carrier. Everything that does not depend on the request is written out beforehand.
#[derive(Debug)]
pub struct Cookie {
    field: FieldName,
    scope: Scope,
    /// Finds `NAME=`.
    key: memmem::Finder<'static>,
    ttl_secs: u64,
    /// `NAME="`, what comes in front of the token.
    opening: Box<str>,
    /// `"; Max-Age=…; Path=…; …; HttpOnly`, what comes behind it.
    closing: Box<str>,
    /// The whole value that makes a client forget the cookie.
    clearing: Box<str>,
}

impl Cookie {
    /// The carrier in the cookie `name`. `path` may be empty, and so may an attribute's value; `ttl_secs` of zero
    /// makes a browser session and a token that never expires. The parts must have been checked: they are written
    /// as they are (conformance §1.7; setc-001 to setc-037).
    pub fn new(name: &str, path: &str, ttl_secs: u64, attributes: &[(Box<str>, Box<str>)]) -> Self {
        let mut tail = String::new();
        if !path.is_empty() {
            tail.extend(["; Path=", path]);
        }
        for (name, value) in attributes {
            let equals = if value.is_empty() { "" } else { "=" };
            tail.extend(["; ", name, equals, value]);
        }
        tail.push_str("; HttpOnly");
        let max_age = if ttl_secs == 0 { String::new() } else { format!("; Max-Age={ttl_secs}") };
        Self {
            field: FieldName::cookie(),
            scope: Scope::new(path),
            key: memmem::Finder::new(&format!("{name}=")).into_owned(),
            ttl_secs,
            opening: format!("{name}=\"").into(),
            closing: format!("\"{max_age}{tail}").into(),
            clearing: format!("{name}=\"\"; Max-Age=0{tail}").into(),
        }
    }

    /// The field to read: `cookie`.
    pub fn field(&self) -> &FieldName {
        &self.field
    }

    /// The requests for which the cookie is read and written.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The values of all cookies of our name in one `cookie` line, in order, quotes included.
    ///
    /// As in Envoy, a piece is what stands between semicolons, quoted or not; spaces, but not tabs, may stand in
    /// front of the name; the name is case-sensitive; nothing else is trimmed (conformance §1.7; ckparse-*, fuzzck-*).
    /// Envoy stops at the first cookie of the name even when it is empty or rubbish (ckparse-055 to ckparse-062,
    /// ckparse-069 to ckparse-074); two cookies of one name with different paths or domains are common, so here the
    /// caller may go on.
    #[inline]
    pub fn values<'l>(&self, line: &'l [u8]) -> impl Iterator<Item = &'l [u8]> {
        let key_len = self.key.needle().len();
        let mut rest = line;
        // What has been stepped over counts as one piece with a semicolon behind it, or is the line's beginning.
        let mut at_start = true;
        iter::from_fn(move || {
            loop {
                let (before, from) = rest.split_at_checked(self.key.find(rest)?)?;
                let is_key = begins_piece(before, at_start);
                let behind = from.get(key_len..)?;
                let (value, next) = if is_key { split_piece(behind) } else { (&b""[..], behind) };
                rest = next;
                at_start = false;
                if is_key {
                    return Some(value);
                }
            }
        })
    }

    /// Takes every cookie of our name out of one `cookie` line, as HAProxy's `indirect` does, so that the upstream does
    /// not see it. The other cookies stay byte for byte, each behind its own separator; empty pieces go.
    /// `out` is cleared and filled for [`LineEdit::Write`].
    ///
    /// Here the name is trimmed on both sides, as most servers do: what the upstream would take for our cookie goes.
    pub fn hide(&self, line: &[u8], out: &mut Vec<u8>) -> LineEdit {
        out.clear();
        let pieces = || line.split(|&byte| byte == b';');
        if !pieces().any(|piece| self.is_ours(piece)) {
            return LineEdit::Keep;
        }
        for piece in pieces().filter(|piece| !super::trimmed(piece).is_empty() && !self.is_ours(piece)) {
            if out.is_empty() {
                out.extend_from_slice(super::trimmed(piece));
            } else {
                out.push(b';');
                out.extend_from_slice(piece);
            }
        }
        if out.is_empty() { LineEdit::Drop } else { LineEdit::Write }
    }

    /// Writes the `set-cookie` value that names `address` to the end of `out`. The token's life begins `now`, which is
    /// when the response's head passes (setc-100).
    pub fn mint(&self, address: Address, now: UnixSecs, out: &mut Vec<u8>) {
        // The wire's seconds are signed.
        let end = now.get().saturating_add(self.ttl_secs).min(i64::MAX.cast_unsigned());
        let expires = (self.ttl_secs != 0).then_some(UnixSecs::new(end));
        out.extend_from_slice(self.opening.as_bytes());
        token::encode_cookie(&Token { address, expires }, out);
        out.extend_from_slice(self.closing.as_bytes());
    }

    /// Writes the `set-cookie` value that makes a client forget the cookie to the end of `out`. Path and attributes are
    /// those of the cookie, else it would be another cookie (RFC 6265 §5.3).
    pub fn clear(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.clearing.as_bytes());
    }

    /// The length of the longest value that [`Cookie::mint`] or [`Cookie::clear`] writes.
    pub fn value_max(&self) -> usize {
        (self.opening.len() + COOKIE_VALUE_MAX + self.closing.len()).max(self.clearing.len())
    }

    fn is_ours(&self, piece: &[u8]) -> bool {
        let name = self.key.needle().strip_suffix(b"=").unwrap_or_default();
        memchr(b'=', piece)
            .and_then(|equals| piece.get(..equals))
            .is_some_and(|key| super::trimmed(key) == name)
    }
}

/// Whether a key that has `before` in front of it begins its piece.
fn begins_piece(before: &[u8], at_start: bool) -> bool {
    match before.iter().rposition(|&byte| byte != b' ') {
        Some(last) => before.get(last) == Some(&b';'),
        None => at_start,
    }
}

/// A piece's value, and what follows it, semicolon included.
fn split_piece(value: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b';', value).unwrap_or(value.len());
    value.split_at_checked(end).unwrap_or((value, b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn cookie(name: &str) -> Cookie {
        Cookie::new(name, "/", 0, &[])
    }

    fn values(line: &str) -> Vec<String> {
        cookie("sess").values(line.as_bytes()).map(|value| value.escape_ascii().to_string()).collect()
    }

    /// The rule of conformance §1.7, written down naively.
    fn naive(name: &str, line: &[u8]) -> Vec<Vec<u8>> {
        let pieces = line.split(|&byte| byte == b';');
        let keyed = pieces.filter_map(|piece| {
            let spaces = piece.iter().take_while(|&&byte| byte == b' ').count();
            let equals = piece.iter().position(|&byte| byte == b'=')?;
            Some((piece.get(spaces..equals)?.to_vec(), piece[equals + 1..].to_vec()))
        });
        keyed.filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value).collect()
    }

    #[test]
    fn a_cookie_is_found_between_semicolons() {
        let one = [
            "sess=T",
            "a=b; sess=T; c=d",
            "a=b;sess=T",
            ";; ;a=b;;sess=T;;",
            "foo; sess=T",
            "=foo; sess=T",
            "sess; sess=T",
            "$Version=1; sess=T; $Path=/",
            "a=sess=X; sess=T",
            "   sess=T",
            "xsess=1; sess=T",
        ];
        for line in one {
            assert_eq!(values(line), ["T"], "{line:?}"); // ckparse-037 to ckparse-051, ckparse-095
        }
        let none = [
            "SESS=T",
            "sessx=T",
            "xsess=T",
            "\"sess\"=T",
            "sess =T",
            "\tsess=T",
            "a=b,sess=T",
            "a=b, sess=T",
            "sess",
            "",
            "a=b;\tsess=T",
            "x=  sess=T",
            "x sess=T",
            "xsess=  sess=T",
        ];
        for line in none {
            assert!(values(line).is_empty(), "{line:?}"); // ckparse-019 to ckparse-043, ckparse-077 to ckparse-101
        }
        // ckparse-053 to ckparse-062: the caller decides which is usable
        assert_eq!(values("sess=BAD; sess=T"), ["BAD", "T"]);
        assert_eq!(values("sess=; sess=T"), ["", "T"]);
        assert_eq!(values("sess= T"), [" T"]);
        assert_eq!(values("sess==T"), ["=T"]);
        assert_eq!(values("sess=sess=1;a; sess=2"), ["sess=1", "2"]);
        assert_eq!(values("sess=T  ; a=b"), ["T  "]);
    }

    #[test]
    fn the_scan_agrees_with_the_naive_rule() {
        let mut rng = Rng::seeded(17);
        let mut found = 0;
        for round in 0..50_000 {
            let part = |rng: &mut Rng| {
                ["s", "ss=", "s=", ";", "; ", " ", "\t", "=", "T", "\"", ";s=", "; ss=x"]
                    [rng.below(12) as usize]
            };
            let line: String = (0..rng.below(14)).map(|_| part(&mut rng)).collect();
            for name in ["s", "ss"] {
                let fast: Vec<Vec<u8>> = cookie(name).values(line.as_bytes()).map(<[u8]>::to_vec).collect();
                assert_eq!(fast, naive(name, line.as_bytes()), "seed 17 round {round} {name} {line:?}");
                found += fast.len();
            }
        }
        assert!(found > 20_000, "{found}");
    }

    #[track_caller]
    fn hides(line: &str, expected: Option<&str>) {
        let mut out = b"left over".to_vec();
        let edit = cookie("sess").hide(line.as_bytes(), &mut out);
        let shown = (edit, String::from_utf8(out).unwrap());
        let wanted = match expected {
            Some("") => (LineEdit::Drop, String::new()),
            Some(rest) => (LineEdit::Write, rest.to_owned()),
            None => (LineEdit::Keep, String::new()),
        };
        assert_eq!(shown, wanted, "{line:?}");
    }

    #[test]
    fn hiding_takes_our_cookies_out_and_nothing_else() {
        hides("sess=T", Some(""));
        hides("sess=", Some(""));
        hides("sess=T; sess=U", Some(""));
        hides(" ; sess=T;; ", Some(""));
        hides("sess=T; a=b", Some("a=b"));
        hides("a=b; sess=T", Some("a=b"));
        hides("a=b; sess=T; c=d", Some("a=b; c=d"));
        hides("a=b;sess=T;c=d", Some("a=b;c=d"));
        hides("a=b; sess=T;c=d; sess=U;  e=f", Some("a=b;c=d;  e=f"));
        hides("a=b; sess=T;", Some("a=b"));
        hides("a=b;; sess=T; ;c=d", Some("a=b;c=d"));
        hides("sess=T;  a=\"x y\" ", Some("a=\"x y\""));
        hides("sess=\"T\"; flag", Some("flag"));
        hides("sess=a=b; =c", Some("=c"));
        // What a server that trims would take for our cookie.
        hides("a=b; sess =T", Some("a=b"));
        hides("a=b;\tsess\t= T", Some("a=b"));
    }

    #[test]
    fn hiding_leaves_a_line_without_our_cookie_alone() {
        for line in
            ["", "a=b", "a=b;;  c=d; ", "SESS=T", "xsess=T; sessx=T", "sess", "a=sess=T", "\"sess\"=T"]
        {
            hides(line, None);
        }
    }

    #[track_caller]
    fn mints(cookie: &Cookie, expected: &str) {
        let address = Address::new(b"127.0.0.1:21102").unwrap();
        let mut out = Vec::new();
        cookie.mint(address, UnixSecs::new(1_795_406_005), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    fn attributes(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn set_cookie_is_envoys_byte_for_byte() {
        let timeless = "Cg8xMjcuMC4wLjE6MjExMDI=";
        let timed = "Cg8xMjcuMC4wLjE6MjExMDIQ8fGO2AY=";
        mints(&Cookie::new("sess", "", 0, &[]), &format!("sess=\"{timeless}\"; HttpOnly")); // setc-013
        mints(&Cookie::new("sess", "/", 0, &[]), &format!("sess=\"{timeless}\"; Path=/; HttpOnly")); // setc-001
        mints(&Cookie::new("sess", "/", 60, &[]), &format!("sess=\"{timed}\"; Max-Age=60; Path=/; HttpOnly")); // setc-004
        mints(&Cookie::new("sess", "", 60, &[]), &format!("sess=\"{timed}\"; Max-Age=60; HttpOnly")); // setc-012
        let all = attributes(&[("Secure", ""), ("SameSite", "None"), ("Partitioned", "")]);
        let expected =
            format!("s=\"{timed}\"; Max-Age=60; Path=/; Secure; SameSite=None; Partitioned; HttpOnly");
        mints(&Cookie::new("s", "/", 60, &all), &expected); // setc-025
    }

    /// setc-011; and no ttl and no clock make an expiry that reads as past.
    #[test]
    fn an_expiry_never_overflows() {
        let mut out = Vec::new();
        let cookie = Cookie::new("s", "", 9_223_372_035, &[]);
        for now in [UnixSecs::new(1_795_406_005), UnixSecs::new(u64::MAX)] {
            out.clear();
            cookie.mint(Address::new(b"1.1.1.1:1").unwrap(), now, &mut out);
            let value = out.split(|&byte| byte == b'"').nth(1).unwrap();
            let expires = token::decode_cookie(value).unwrap().token.expires.unwrap().get();
            assert_eq!(expires, now.get().saturating_add(9_223_372_035).min(i64::MAX.cast_unsigned()));
        }
    }

    #[test]
    fn clearing_names_the_same_cookie() {
        let domain = attributes(&[("Domain", "example.com"), ("Secure", "")]);
        let cookie = Cookie::new("sess", "/app", 60, &domain);
        let mut out = Vec::new();
        cookie.clear(&mut out);
        assert_eq!(out, b"sess=\"\"; Max-Age=0; Path=/app; Domain=example.com; Secure; HttpOnly");
        assert!(out.len() <= cookie.value_max());
    }
}
