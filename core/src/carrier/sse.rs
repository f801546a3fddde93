//! A session that the upstream hands out in a URL, and the address behind its value (MCP of 2024-11-05).
//!
//! The upstream answers with an event stream whose `endpoint` event holds a URL, `/messages?sessionId=abc`; the client
//! sends its requests there. The address goes behind the parameter's value in the event, and is taken off again in the
//! request's target. Here is the side of the request; the stream is rewritten by [`crate::http1::sse`].

use core::ops::Range;

use memchr::memchr;

use crate::token::{self, Address};

/// A compiled carrier in a parameter of URLs.
#[derive(Clone, Debug)]
pub struct Sse {
    parameter: Box<str>,
}

impl Sse {
    /// The carrier in the query parameter `parameter`, which has been checked.
    pub fn new(parameter: Box<str>) -> Self {
        Self { parameter }
    }

    /// The parameter's name, compared byte for byte.
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// Where in `target`, a path with its query, the parameter's values stand, in order. The query begins behind the first
    /// `?` and ends with the target, or at a `#`, which no target should hold; parameters end at `&`. Nothing is
    /// percent-decoded: what we have handed out comes back as it is.
    pub fn values(&self, target: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let target = target.split(|&byte| byte == b'#').next().unwrap_or_default();
        let begin = memchr(b'?', target).map_or(target.len(), |mark| mark + 1);
        let query = target.get(begin..).unwrap_or_default();
        let mut at = begin;
        query.split(|&byte| byte == b'&').filter_map(move |piece| {
            let start = at;
            at += piece.len() + 1;
            let value = piece.strip_prefix(self.parameter.as_bytes())?.strip_prefix(b"=")?;
            Some(start + piece.len() - value.len()..start + piece.len())
        })
    }

    /// What of `target` is ours: dot and address behind the first value that has a usable one. Without it, the target is
    /// what the upstream handed out.
    pub fn suffix_in(&self, target: &[u8]) -> Option<Range<usize>> {
        self.values(target).find_map(|span| {
            let own = token::sse_value(target.get(span.clone())?)?;
            Some(span.start + own.len()..span.end)
        })
    }

    /// Writes what goes behind the upstream's value to the end of `out`.
    pub fn write_suffix(address: &Address, out: &mut Vec<u8>) {
        token::encode_sse_suffix(address, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(target: &str) -> Vec<&str> {
        Sse::new("sessionId".into()).values(target.as_bytes()).map(|span| &target[span]).collect()
    }

    #[test]
    fn a_parameter_is_found_between_its_boundaries() {
        for target in [
            "/m?sessionId=T",
            "/m?a=b&sessionId=T",
            "/m?sessionId=T&a=b",
            "/m?&&sessionId=T&&",
            "/m?sessionId=T#sessionId=no",
            "?sessionId=T",
            "/m?mysessionId=1&sessionIdX=2&sessionId=T",
            "/sessionId=1?sessionId=T",
            "/m?sessionId&sessionId=T",
            "/m?x=?sessionId=1&sessionId=T",
        ] {
            assert_eq!(values(target), ["T"], "{target}");
        }
        for target in [
            "/m",
            "",
            "/m?",
            "/m?sessionid=T",
            "/m?session%49d=T",
            "/m?sessionId",
            "/m?a=sessionId=T",
            "/m;sessionId=T",
            "/m#?sessionId=T&x",
        ] {
            assert!(values(target).is_empty(), "{target}");
        }
        assert_eq!(values("/m?sessionId=&sessionId=a=b&sessionId=c"), ["", "a=b", "c"]);
    }

    #[test]
    fn the_first_usable_value_is_unwrapped_and_the_rest_stays() {
        let sse = Sse::new("s".into());
        for (target, upstream) in [
            ("/m?s=abc.MTAuMC4wLjE6ODA", Some("/m?s=abc")),
            ("/m?b=%20&s=a%2Eb.MTAuMC4wLjE6ODA&a=+", Some("/m?b=%20&s=a%2Eb&a=+")),
            ("/m?s=1&s=2.MTAuMC4wLjE6ODA&s=3.MTAuMC4wLjE6ODA", Some("/m?s=1&s=2&s=3.MTAuMC4wLjE6ODA")),
            ("/m?s=a.MTAuMC4wLjE6ODA.MTAuMC4wLjI6ODA", Some("/m?s=a.MTAuMC4wLjE6ODA")),
            ("/m?s=abc", None),
            ("/m?s=.MTAuMC4wLjE6ODA", None),
            ("/m?s=abc.MTAuMC4wLjE6ODA=", None),
            ("/m?s=abc.aGVsbG8", None),
            ("/m?xs=abc.MTAuMC4wLjE6ODA", None),
        ] {
            let cut = sse.suffix_in(target.as_bytes());
            let seen = cut.map(|cut| [&target[..cut.start], &target[cut.end..]].concat());
            assert_eq!(seen.as_deref(), upstream, "{target}");
        }
    }
}
