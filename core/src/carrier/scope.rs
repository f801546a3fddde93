//! The part of a site for which a session cookie is read and written.

use crate::planted::Bug;

/// The paths below a cookie's path. Compared with the raw target, query included, byte for byte: no percent-decoding, no
/// dot segments (conformance §1.7; path-*).
#[derive(Clone, Debug)]
pub struct Scope(Box<[u8]>);

impl Scope {
    /// The scope of `path`; empty or `/` is everything.
    pub fn new(path: &str) -> Self {
        Self(path.as_bytes().into())
    }

    /// Whether a request for `target` is in scope.
    #[inline]
    pub fn contains(&self, target: &[u8]) -> bool {
        if matches!(&*self.0, b"" | b"/") {
            return true;
        }
        match target.strip_prefix(&*self.0) {
            None => false,
            Some(_) if Bug::LoosePath.is_in() => true,
            Some(rest) => self.0.ends_with(b"/") || matches!(rest.first(), None | Some(b'/' | b'?' | b'#')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, inside: &[&str], outside: &[&str]) {
        let scope = Scope::new(path);
        for target in inside {
            assert!(scope.contains(target.as_bytes()), "{path} must hold {target}");
        }
        for target in outside {
            assert!(!scope.contains(target.as_bytes()), "{path} must not hold {target}");
        }
    }

    /// The classes of path-001 to path-118.
    #[test]
    fn a_path_holds_itself_and_what_is_below() {
        check("", &["/", "/foo", "*"], &[]);
        check("/", &["/", "/foo", "*", "foo"], &[]);
        check("/foo/", &["/foo/", "/foo/bar", "/foo/?x"], &["/foo", "/foo?x", "/", "/foobar"]);
        check(
            "/foo",
            &["/foo", "/foo/", "/foo/bar", "/foo?x=1", "/foo#a", "/foo/../bar", "/foo//"],
            &[
                "/foobar",
                "/foo;v=1",
                "/foo.html",
                "/foo&a",
                "/Foo",
                "/%66oo",
                "/foo%2Fbar",
                "//foo",
                "/./foo",
                "/bar/../foo",
                "/",
                "",
                "/fo",
            ],
        );
        check("/foo?x=1", &["/foo?x=1", "/foo?x=1/z"], &["/foo?x=12", "/foo"]);
    }
}
