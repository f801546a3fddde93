//! Interim responses and `Expect: 100-continue`.

use super::*;
use homing_conformance::memory::{Ended, Upstream};

const EXPECTS: &str = "PUT /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

struct Early(Vec<Act>);

impl Upstream for Early {
    fn respond(&mut self, _: &str, _: &Request) -> Vec<Act> {
        self.0.clone()
    }

    fn early(&mut self, _: &str, _: &Request) -> Option<Vec<Act>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_client_that_waits_for_100_gets_the_hosts() {
    ways(|seed| {
        let mut script = answer("HTTP/1.1 100 Continue\r\n\r\n");
        script.push(Act::AwaitBody);
        script.extend(ok("stored"));
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id = sent(&mut lab, EXPECTS);
        assert_eq!(text(&lab, id), "HTTP/1.1 100 Continue\r\n\r\n");
        lab.client_send(id, "hello");
        lab.run();
        assert_eq!(statuses(&lab, id), [100, 200]);
        assert_eq!(lab.requests()[0].1.field("expect"), Some("100-continue"));
        assert!(!lab.client_is_closed(id));
        assert_eq!((lab.outcomes().len(), lab.open_wires()), (1, 1));
    });
}

#[test]
fn a_host_that_declines_the_body_ends_the_connection() {
    ways(|seed| {
        for status in ["417 Expectation Failed", "413 Content Too Large"] {
            let script = answer(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
            let id = sent(&mut lab, EXPECTS);
            let response = &lab.client_responses(id, &[])[0];
            assert_eq!(response.field("connection"), Some("close"), "whether the body comes is not known");
            lab.client_send(id, "hello");
            leaves(&mut lab, id);
            assert_eq!(lab.client_ended(id), Some(Ended::Close));
            assert_eq!((lab.outcomes().len(), lab.open_wires()), (1, 0));
        }
    });
}

#[test]
fn interim_responses_pass_but_not_to_http_10() {
    ways(|seed| {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nconnection: x-h\r\nx-h: 1\r\n\r\n";
        let whole = format!("{hints}{hints}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| answer(&whole));
        let id = sent(&mut lab, GET);
        let found = lab.client_responses(id, &[]);
        assert_eq!(found.iter().map(|one| one.status).collect::<Vec<_>>(), [103, 103, 200]);
        assert_eq!((found[0].field("link"), found[0].field("x-h")), (Some("</a>"), None));
        let id = sent(&mut lab, "GET / HTTP/1.0\r\n\r\n");
        assert_eq!(statuses(&lab, id), [200]);
        assert_eq!(lab.outcomes().len(), 2);
    });
}

#[test]
fn very_many_interim_responses_are_dropped_without_trouble() {
    ways(|seed| {
        let whole = "HTTP/1.1 100 \r\n\r\n".repeat(3000) + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| answer(&whole));
        let id = sent(&mut lab, "GET / HTTP/1.0\r\n\r\n");
        assert_eq!(statuses(&lab, id), [200]);
    });
}

#[test]
fn a_host_that_dies_behind_an_interim_response_is_answered_for() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            vec![Act::Bytes(b"HTTP/1.1 102 Processing\r\n\r\n".to_vec()), Act::Close]
        });
        let id = sent(&mut lab, GET);
        assert_eq!(statuses(&lab, id), [102, 502]);
        assert_eq!(endings(&lab), [Ending::UpstreamReset]);
        assert_eq!(lab.wires().len(), 1, "a host that has begun to answer is not asked again");
    });
}

#[test]
fn an_http_10_client_has_no_expectations() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(&mut lab, "PUT / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\na");
        assert_eq!(statuses(&lab, id), [200]);
        assert_eq!(lab.requests()[0].1.field("expect"), None);
    });
}

#[test]
fn a_host_that_says_no_more_than_100_takes_too_long() {
    ways(|seed| {
        // The client sends the body without waiting, and reads nothing of the 100 until the whole of it is sent.
        let mut script = answer("HTTP/1.1 100 Continue\r\n\r\n");
        script.push(Act::Hold);
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id = lab.client();
        lab.client_takes(id, 0);
        lab.client_send(id, EXPECTS);
        lab.run();
        lab.client_send(id, "hello");
        lab.run();
        lab.client_takes(id, usize::MAX);
        lab.advance(seconds(61));
        assert_eq!(statuses(&lab, id), [100, 504]);
        assert_eq!(endings(&lab), [Ending::UpstreamTimeout]);
    });
}

#[test]
fn an_interim_response_that_nobody_reads_does_not_hold_for_ever() {
    ways(|seed| {
        let mut script = answer("HTTP/1.1 100 Continue\r\n\r\n");
        script.push(Act::Hold);
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id = lab.client();
        lab.client_takes(id, 0);
        lab.client_send(id, EXPECTS);
        lab.run();
        lab.client_send(id, "hello");
        lab.advance(seconds(61));
        assert!(lab.client_is_closed(id), "{:?}", lab.client_states(id));
        assert_eq!(lab.open_wires(), 0);
    });
}
