//! Bodies in both directions: every framing, duplex, trailers, and what has none.

use super::*;
use homing_conformance::memory::{Ended, Upstream};

#[test]
fn every_response_framing_arrives_whole() {
    ways(|seed| {
        for (response, body, closes) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", "", false),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "", false),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", true),
            ("HTTP/1.0 200 OK\r\n\r\nhello", "hello", true),
        ] {
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
                let mut script = answer(response);
                script.extend(closes.then_some(Act::Close));
                script
            });
            let id = sent(&mut lab, GET);
            let got = &lab.client_responses(id, &[])[0];
            assert_eq!(got.text(), body, "{response:?}");
            assert_eq!(got.field("connection") == Some("close"), closes, "{response:?}");
            assert_eq!(lab.client_is_half_closed(id), closes, "{response:?}");
            assert_eq!(endings(&lab), [Ending::Complete]);
        }
    });
}

#[test]
fn a_response_to_head_has_no_body_and_the_link_goes_on() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", seed);
        let id = sent(&mut lab, "HEAD / HTTP/1.1\r\nhost: x\r\n\r\nHEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
        let found = lab.client_responses(id, &["HEAD", "HEAD"]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].field("content-length"), Some("5"));
        assert_eq!(lab.wires().len(), 1);
    });
}

#[test]
fn bytes_beyond_the_end_of_a_response_end_the_link_not_the_client() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 204 No Content\r\n\r\nstray", seed).rough(Knobs::PLAIN);
        let id = sent(&mut lab, GET);
        lab.client_send(id, GET);
        lab.run();
        assert_eq!(statuses(&lab, id), [204, 204]);
        assert_eq!((lab.wires().len(), lab.open_wires()), (2, 0));
    });
}

#[test]
fn every_request_framing_arrives_whole() {
    ways(|seed| {
        let big = "x".repeat(40_000);
        for (rest, body) in [
            ("content-length: 5\r\n\r\nhello".to_owned(), "hello"),
            ("content-length: 0\r\n\r\n".to_owned(), ""),
            ("transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n".to_owned(), "hello!"),
            (format!("content-length: 40000\r\n\r\n{big}"), &big),
            (format!("transfer-encoding: chunked\r\n\r\n9c40\r\n{big}\r\n0\r\n\r\n"), &big),
        ] {
            let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
            let id = sent(&mut lab, format!("PUT /a HTTP/1.1\r\nhost: x\r\n{rest}"));
            assert_eq!(statuses(&lab, id), [200]);
            assert_eq!(String::from_utf8_lossy(&lab.requests()[0].1.body), body);
            assert!(!lab.client_is_closed(id));
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    ways(|seed| {
        let mut lab = one_host(
            "HTTP/1.1 200 OK\r\ntrailer: x-b\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-b: 2\r\n\r\n",
            seed,
        );
        let id = sent(
            &mut lab,
            "POST / HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\ntrailer: x-a\r\n\
             transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-a: 1\r\n\r\n",
        );
        let request = &lab.requests()[0].1;
        assert_eq!(request.trailers, [("x-a".to_owned(), "1".to_owned())]);
        assert_eq!((request.field("te"), request.field("trailer")), (Some("trailers"), Some("x-a")));
        assert_eq!(lab.client_responses(id, &[])[0].trailers, [("x-b".to_owned(), "2".to_owned())]);
    });
}

/// Answers at the head, before the body.
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
fn a_response_may_begin_before_the_request_has_ended() {
    ways(|seed| {
        let mut script = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
        script.push(Act::AwaitBody);
        script.extend(answer("3\r\nbye\r\n0\r\n\r\n"));
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id =
            sent(&mut lab, "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
        assert!(text(&lab, id).ends_with("2\r\nhi\r\n"), "{}", text(&lab, id));
        lab.client_send(id, "0\r\n\r\n");
        lab.run();
        assert_eq!(lab.client_responses(id, &[])[0].text(), "hibye");
        assert_eq!(lab.requests()[0].1.body, b"ab");
        leaves(&mut lab, id);
        assert_eq!((endings(&lab), lab.pooled()), (vec![Ending::Complete], 1));
    });
}

#[test]
fn an_early_whole_answer_saves_the_connection_when_the_rest_is_small() {
    ways(|seed| {
        let script = answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id = sent(&mut lab, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 600\r\n\r\nabc");
        let response = &lab.client_responses(id, &[])[0];
        assert_eq!((response.status, response.field("connection")), (403, None));
        assert_eq!(lab.open_wires(), 0, "a host that has not read the request cannot get another one");
        lab.client_send(id, vec![b'z'; 597]);
        lab.client_send(id, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n");
        lab.run();
        assert_eq!(statuses(&lab, id), [403, 403]);
        lab.client_send(id, "z");
        leaves(&mut lab, id);
    });
}

#[test]
fn an_early_whole_answer_closes_when_the_rest_is_large() {
    ways(|seed| {
        let script = answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
        let id = sent(&mut lab, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 999999\r\n\r\nabc");
        assert_eq!(lab.client_responses(id, &[])[0].field("connection"), Some("close"));
        assert!(lab.client_is_half_closed(id) && !lab.client_is_closed(id), "it lingers");
        lab.client_send(id, vec![b'z'; 50_000]);
        lab.run();
        leaves(&mut lab, id);
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert_eq!(endings(&lab), [Ending::Complete]);
    });
}

#[test]
fn a_client_that_stops_in_a_body_that_is_dropped_ends() {
    ways(|seed| {
        for ends in [false, true] {
            let script = answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(Early(script));
            let id = sent(&mut lab, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 600\r\n\r\nabc");
            if ends {
                lab.client_half_close(id);
            }
            lab.advance(seconds(63));
            assert!(lab.client_is_closed(id));
            assert_eq!((statuses(&lab, id), endings(&lab)), (vec![403], vec![Ending::Complete]));
        }
    });
}

#[test]
fn a_body_that_goes_past_what_is_dropped_closes() {
    ways(|seed| {
        let mut builder = Builder::new();
        builder.respond("/", 404, "none");
        builder.limits.discard_bytes = 100;
        let mut lab = lab(builder, seed);
        let id = sent(
            &mut lab,
            format!(
                "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{}\r\n",
                "x".repeat(255)
            ),
        );
        assert_eq!(statuses(&lab, id), [404]);
        leaves(&mut lab, id);
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
    });
}

#[test]
fn a_broken_chunked_body_is_answered_and_never_passed_on_as_whole() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(
            &mut lab,
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\nGET / HTTP/1.1\r\n\r\n",
        );
        assert_eq!(statuses(&lab, id), [400]);
        assert!(lab.client_is_half_closed(id));
        assert!(lab.requests().is_empty());
        assert_eq!(lab.open_wires(), 0);
        assert_eq!(endings(&lab), [Ending::Answered]);
    });
}

#[test]
fn a_response_cut_short_is_cut_for_the_client_too() {
    ways(|seed| {
        for (head, end) in [
            ("content-length: 9", Act::Close),
            ("content-length: 9", Act::Reset),
            ("transfer-encoding: chunked", Act::Close),
        ] {
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
                vec![
                    Act::Bytes(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\nabc").into_bytes()),
                    end.clone(),
                ]
            });
            let id = sent(&mut lab, GET);
            assert!(text(&lab, id).ends_with("abc"), "what came is passed on");
            assert_eq!(lab.client_ended(id), Some(Ended::Reset));
            assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::UpstreamReset], 0));
        }
    });
}

#[test]
fn a_broken_chunked_response_is_cut() {
    ways(|seed| {
        for version in ["1.0", "1.1"] {
            let mut lab =
                one_host("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n", seed);
            let id = sent(&mut lab, format!("GET / HTTP/{version}\r\nhost: x\r\n\r\n"));
            assert_eq!(lab.client_ended(id), Some(Ended::Reset));
            assert_eq!(endings(&lab), [Ending::UpstreamMalformed]);
        }
    });
}

#[test]
fn a_response_larger_than_every_window_passes() {
    ways(|seed| {
        let size = 150_000;
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
            let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
            bytes.extend((0..size).map(|at| b'a' + u8::try_from(at % 23).unwrap()));
            answer(bytes)
        });
        let id = sent(&mut lab, GET);
        let body = &lab.client_responses(id, &[])[0].body;
        assert_eq!(body.len(), size);
        assert!(body.iter().enumerate().all(|(at, &byte)| byte == b'a' + u8::try_from(at % 23).unwrap()));
    });
}

#[test]
fn a_slow_reader_holds_the_upstream_back_and_gets_everything() {
    ways(|seed| {
        let mut lab =
            lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| ok(&"y".repeat(40_000)));
        let id = lab.client();
        lab.client_takes(id, 10);
        lab.client_send(id, GET);
        lab.run();
        for _ in 0..5 {
            assert_eq!(lab.outcomes().len(), 0);
            lab.advance(seconds(50));
            lab.client_takes(id, 1000);
            lab.run();
        }
        lab.client_takes(id, usize::MAX);
        lab.run();
        assert_eq!(lab.client_responses(id, &[])[0].body.len(), 40_000);
    });
}
