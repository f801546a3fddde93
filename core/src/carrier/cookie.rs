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
    /// as they are (SEMANTICS 2.3; setc-001 to setc-037).
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
    /// As in Envoy, a piece is what stands between semicolons, quoted or not; spaces, but not tabs, may stand in front of
    /// the name; the name is case-sensitive; nothing else is trimmed (SEMANTICS 2.5; ckparse-*, fuzzck-*). Envoy stops
    /// at the first cookie of the name even when it is empty or rubbish (ckparse-055 to ckparse-062, ckparse-069);
    /// two cookies of one name with different paths or domains are common, so here the caller may go on.
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
