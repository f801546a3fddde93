//! Requests that are refused: none reaches a host, each is answered, and the connection ends.

use super::*;
use homing_conformance::memory::Ended;

#[test]
fn malformed_requests_are_answered_and_never_passed_on() {
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\nhost: x\n\n", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\nx-f: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\nx-n: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\nx-c: a\rb\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET /#f HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET http://u@h/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na", 400),
        (
            "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding:\tchunked\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1} client hello\r\n\r\n", 400),
        ("BROKEN\r\n\r\n", 400),
    ];
    ways(|seed| {
        for &(request, status) in cases {
            let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
            let id = sent(&mut lab, format!("{request}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"));
            assert_eq!(statuses(&lab, id), [status], "{request:?}");
            let response = &lab.client_responses(id, &[])[0];
            assert_eq!(response.field("connection"), Some("close"));
            assert!(lab.wires().is_empty() && lab.requests().is_empty(), "{request:?}");
            assert_eq!(endings(&lab), [Ending::Answered]);
            leaves(&mut lab, id);
            assert_eq!(lab.client_ended(id), Some(Ended::Close));
        }
    });
}

#[test]
fn empty_lines_in_front_of_a_request_are_skipped() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(&mut lab, format!("\r\n\r\n{GET}\r\n{GET}"));
        assert_eq!(statuses(&lab, id), [200, 200]);
    });
}

#[test]
fn more_empty_lines_than_some_are_refused_however_they_come() {
    ways(|seed| {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let lines = |count: usize| "\r\n".repeat(count);
        let mut lab = one_host(response, seed);
        for count in [4, 5, 9] {
            let id = sent(&mut lab, GET);
            lab.client_send(id, lines(count) + GET);
            lab.run();
            let (whole, pieces) = (statuses(&lab, id), sent(&mut lab, GET));
            for _ in 0..count {
                lab.client_send(pieces, "\r");
                lab.run();
                lab.client_send(pieces, "\n");
                lab.run();
            }
            lab.client_send(pieces, GET);
            lab.run();
            assert_eq!(
                (&whole, &whole),
                (&statuses(&lab, pieces), &vec![200, if count > 4 { 400 } else { 200 }])
            );
        }
        // They are counted for each request.
        let id = sent(&mut lab, (lines(4) + GET).repeat(3));
        assert_eq!(statuses(&lab, id), [200; 3]);
    });
}

#[test]
fn an_empty_line_is_no_request_and_buys_no_time() {
    // Whole lines only: half of one is the beginning of something.
    let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0);
    let id = sent(&mut lab, GET);
    lab.advance(Duration::from_millis(500));
    assert_eq!(lab.client_buffers(id), 0, "it rests");
    for _ in 0..3 {
        lab.advance(seconds(20));
        assert!(!lab.client_is_half_closed(id));
        lab.client_send(id, "\r\n");
        lab.run();
    }
    lab.advance(seconds(16));
    assert_eq!((statuses(&lab, id), lab.client_ended(id)), (vec![200], Some(Ended::Close)));
}

#[test]
fn a_malformed_request_is_answered_and_logged_for_itself() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", seed);
        let id = sent(&mut lab, "HEAD /first HTTP/1.1\r\nhost: x\r\n\r\nBROKEN\r\n\r\n");
        let found = lab.client_responses(id, &["HEAD", "GET"]);
        assert_eq!(found[1].status, 400);
        assert!(!found[1].body.is_empty(), "the answer to something that is no HEAD has its body");
        let records = lab.outcomes();
        assert_eq!(records[0].target.as_bytes(), b"/first");
        assert_eq!((records[1].target.as_bytes(), records[1].outcome.host), (b"".as_slice(), None));
        assert_eq!(lab.open_wires(), 1, "the link has nothing to do with it");
    });
}

#[test]
fn hosts_that_do_not_speak_http_are_answered_for() {
    ways(|seed| {
        for response in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
            "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        ] {
            let mut lab = one_host(response, seed);
            let id = sent(&mut lab, GET);
            assert_eq!(statuses(&lab, id), [502], "{response:?}");
            assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::UpstreamMalformed], 0));
            assert!(!lab.client_is_closed(id), "it is not the client's fault");
            leaves(&mut lab, id);
        }
    });
}
