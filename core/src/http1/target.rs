//! The target of a request line, found without reading the head.

use core::ops::Range;

/// The path in the target of a request line, without its query; `None`: it has none, or the line is malformed.
pub fn path_span(head: &[u8]) -> Option<Range<usize>> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let start = line.iter().position(|&byte| byte == b' ')? + 1;
    let target = line.get(start..)?.split(|&byte| byte == b' ').next()?;
    let at = match target.first() {
        Some(b'/') => 0,
        // The absolute form: behind the authority.
        _ => {
            let authority = target.windows(3).position(|part| part == b"://")? + 3;
            let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'\\');
            authority + target.get(authority..)?.iter().position(ends)?
        }
    };
    let path = target.get(at..)?.split(|&byte| byte == b'?').next()?;
    path.starts_with(b"/").then_some(start + at..start + at + path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_target_is_found_in_each_form() {
        for (line, path) in [
            ("GET /a/../b?c=/../d HTTP/1.1\r\n", Some("/a/../b")),
            ("GET http://h/a HTTP/1.1\r\n", Some("/a")),
            ("GET http://h:80?x=/a HTTP/1.1\r\n", None),
            ("GET http://h\\a HTTP/1.1\r\n", None),
            ("OPTIONS * HTTP/1.1\r\n", None),
            ("CONNECT h:80 HTTP/1.1\r\n", None),
            ("GET\r\n", None),
            ("", None),
        ] {
            let found = path_span(line.as_bytes()).and_then(|span| line.get(span));
            assert_eq!(found, path, "{line:?}");
        }
    }
}
