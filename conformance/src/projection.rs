//! What is compared between Envoy and Homing, and what is not. This is the only place that says so.
//!
//! **Field lines**, of what the client got and of what the upstream host saw alike:
//! 1. Names are compared in lower case. The order of lines counts among lines of one name only.
//! 2. Left out: `date`, every `x-envoy-*`, `connection` (it belongs to one hop) and `x-vec-id` (it names the vector).
//! 3. The value of a random `x-request-id` is left out, not the line; in `x-forwarded-for` the proxy's own addition is.
//! 4. Outer white space is no part of a value (RFC 9110 §5.5).
//! 5. Lines of `accept` count as one, joined with commas (RFC 9110 §5.3); the session's own field and all others do not.
//!
//! **Answers of the proxy's own**: status, `location` and session fields count. Body, `content-type`,
//! `content-length`, `server`, `allow` and what gRPC adds do not: Homing's texts say more.
//!
//! **Not compared**: the reason phrase, the version in the status line, the segmentation, the chunks of a chunked body,
//! and the host where Envoy's balancer chose it; there any host of the cluster will do, and tokens must name that host.
//! Where it happened to choose the very host that the token names, in one of the two and not in the other, `set-cookie`
//! is not compared: Envoy writes none then, and neither does Homing.
//!
//! **Counters** are compared where Envoy has any: its settings name a `stat_prefix`. Only the last part of the name
//! counts, summed over the repetitions.

use crate::vectors::{Fields, Text};

/// Whose response it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// An upstream host's, passed on.
    Upstream,
    /// The proxy's own.
    Proxy,
}

/// The addresses in `x-forwarded-for` that vectors send themselves.
const SENT_ADDRESS: &[u8] = b"1.2.3.4";

/// The lines of a response that count, sorted by name.
pub fn response(origin: Origin, fields: &Fields) -> Fields {
    let own = ["content-type", "content-length", "server", "allow", "grpc-status", "grpc-message"];
    let mut counting = counting(fields);
    if origin == Origin::Proxy {
        counting.retain(|(name, _)| !own.iter().any(|dropped| name.0 == dropped.as_bytes()));
    }
    counting
}

/// The lines of a request that count, sorted by name.
pub fn request(fields: &Fields) -> Fields {
    counting(fields)
}

fn counting(fields: &Fields) -> Fields {
    let dropped =
        |name: &[u8]| matches!(name, b"date" | b"connection" | b"x-vec-id") || name.starts_with(b"x-envoy-");
    let mut counting: Fields = Vec::new();
    for (name, value) in fields {
        let name = name.0.to_ascii_lowercase();
        if dropped(&name) {
            continue;
        }
        let value = match name.as_slice() {
            b"x-request-id" if is_uuid(&value.0) => b"<uuid>".to_vec(),
            b"x-forwarded-for" => forwarded_for(&value.0),
            _ => value.0.trim_ascii().to_vec(),
        };
        let joined = counting.iter_mut().find(|(known, _)| name == b"accept" && known.0 == name);
        match joined {
            Some((_, first)) => {
                first.0.push(b',');
                first.0.extend(value);
            }
            None => counting.push((Text(name), Text(value))),
        }
    }
    counting.sort_by(|one, other| one.0.cmp(&other.0));
    counting
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36 && value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

fn forwarded_for(value: &[u8]) -> Vec<u8> {
    let address = |part: &[u8]| match part.trim_ascii() {
        SENT_ADDRESS => SENT_ADDRESS.to_vec(),
        _ => b"<local-address>".to_vec(),
    };
    value.split(|&byte| byte == b',').map(address).collect::<Vec<_>>().join(&b","[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let text = |text: &str| Text(text.as_bytes().to_vec());
        lines.iter().map(|&(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn order_counts_among_lines_of_one_name_only() {
        let one = fields(&[("B", "1"), ("a", "1"), ("b", "2")]);
        let other = fields(&[("a", "1"), ("b", "1"), ("b", "2")]);
        assert_eq!(request(&one), request(&other));
        assert_ne!(request(&one), request(&fields(&[("b", "2"), ("a", "1"), ("b", "1")])));
    }

    #[test]
    fn what_no_two_runs_share_is_left_out() {
        let envoy = fields(&[
            ("date", "<date>"),
            ("x-envoy-upstream-service-time", "<ms>"),
            ("x-request-id", "<uuid>"),
            ("x-forwarded-for", "1.2.3.4,<local-address>"),
            ("accept", "a,b"),
        ]);
        let homing = fields(&[
            ("x-request-id", "f3b7ad9e-83e1-45c7-aeec-34c4a0d22c5a"),
            ("x-forwarded-for", "1.2.3.4, 127.0.0.1"),
            ("Accept", "a"),
            ("accept", "b"),
        ]);
        assert_eq!(request(&envoy), request(&homing));
        assert_ne!(
            request(&fields(&[("x-request-id", "abc")])),
            request(&fields(&[("x-request-id", "abd")]))
        );
    }

    #[test]
    fn our_own_answers_may_say_more() {
        let envoy = fields(&[("content-length", "19"), ("content-type", "text/plain"), ("server", "envoy")]);
        let homing = fields(&[("content-length", "32"), ("content-type", "text/plain; charset=utf-8")]);
        assert_eq!(response(Origin::Proxy, &envoy), response(Origin::Proxy, &homing));
        assert_ne!(response(Origin::Upstream, &envoy), response(Origin::Upstream, &homing));
    }
}
