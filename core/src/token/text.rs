//! The text of an address: what a token without a message consists of, and what hosts are called (conformance §1.2).

use core::net::{Ipv4Addr, SocketAddrV6};

use crate::limits::ADDRESS_MAX;

/// Whether `bytes` are `IPv4:PORT` or `[IPv6]:PORT`, numbers written without leading zeros.
///
/// An IPv6 address in another than the usual spelling is an address all the same: it names no host, and a strict
/// session is refused as in Envoy.
#[inline]
pub(super) fn is_socket(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(b'0'..=b'9') => split_port(bytes).is_some_and(|(host, _)| {
            core::str::from_utf8(host).is_ok_and(|host| host.parse::<Ipv4Addr>().is_ok())
        }),
        Some(b'[') => {
            split_port(bytes).is_some()
                && core::str::from_utf8(bytes).is_ok_and(|text| text.parse::<SocketAddrV6>().is_ok())
        }
        _ => false,
    }
}

/// Whether `bytes` are a unix socket's path, or an abstract socket's name with `@` in front.
/// No message begins with a `/`: it would be a tag of wire type 7. No host's name holds anything but UTF-8, and no
/// message could carry such a token when it is written anew.
pub(super) fn is_path(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'/' | b'@'))
        && (2..=ADDRESS_MAX).contains(&bytes.len())
        && !bytes.iter().any(u8::is_ascii_control)
        && core::str::from_utf8(bytes).is_ok()
}

fn split_port(bytes: &[u8]) -> Option<(&[u8], u16)> {
    // `:65535` is the longest end there is.
    let colon = bytes.len() - bytes.iter().rev().take(6).position(|&byte| byte == b':')? - 1;
    let (host, port) = (bytes.get(..colon)?, bytes.get(colon + 1..)?);
    if !port.iter().all(u8::is_ascii_digit) || (port.len() > 1 && port.first() == Some(&b'0')) {
        return None;
    }
    Some((host, core::str::from_utf8(port).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_as_envoy_prints_them_are_addresses() {
        let good = [
            "9.9.9.9:1",
            "10.0.0.1:8080",
            "255.255.255.255:65535",
            "0.0.0.0:0",
            "[::1]:80",
            "[fd00::1]:8080",
            "[::ffff:127.0.0.1]:21102",
            "[0:0:0:0:0:0:0:1]:21107",
            "[fe80::1%2]:80",
        ];
        for text in good {
            assert!(is_socket(text.as_bytes()), "{text}");
        }
        // addr-009 to addr-030, pb-229 to pb-239
        let bad = [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            ":21102",
            "127.0.0.1:021102",
            "127.0.0.01:21102",
            "127.1:21102",
            "[::1]:",
            "2130706433:21102",
            "127.0.0.1:21102 ",
            " 127.0.0.1:21102",
            "127.0.0.1:21102\n",
            "127.0.0.1:21102\0",
            "127.0.0.1:65536",
            "256.0.0.1:80",
            "localhost:21102",
            "hello",
            "::1:21107",
            "[::1]:021107",
            "[::1",
            "[]:80",
            "http://127.0.0.1:21102",
            "127.0.0.1:80;99999",
            "127.0.0.1:+80",
            "[::1]:80:80",
            "1.2.3.4:80:80",
        ];
        for text in bad {
            assert!(!is_socket(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn paths_hold_no_controls_and_fit() {
        assert!(is_path(b"/run/app.sock"));
        assert!(is_path(b"@app"));
        assert!(is_path("/run/\u{e9}.sock".as_bytes()));
        assert!(!is_path(b"/"));
        assert!(!is_path(b"run/app.sock"));
        assert!(!is_path(b"/run/app.sock\n"));
        assert!(!is_path(b"/run/\xe9.sock"));
        assert!(!is_path(&[b'/'; ADDRESS_MAX + 1]));
    }
}
