//! Every bound and every time-out.

use super::*;
use homing_conformance::memory::{Door, Ended};
use homing_core::route::Forward;

const EMPTY_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// One silent host.
fn silent(builder: Builder, seed: u64) -> Lab {
    lab(builder, seed).with(|_: &str, _: &Request| vec![Act::Hold])
}

#[test]
fn a_request_head_has_a_largest_size_and_number_of_lines() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.request_head_bytes = 2000;
        builder.limits.fields = 10;
        let mut lab = lab(builder, seed);
        for (request, status) in [
            (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(1900)), 200),
            (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(2000)), 431),
            (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(9000)), 431),
            (format!("GET /{}", "y".repeat(9000)), 414),
            // No request at all, however much of it is there when it is looked at.
            (format!(" GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(2000)), 400),
            (format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(9)), 200),
            (format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(10)), 431),
        ] {
            let id = sent(&mut lab, &request);
            assert_eq!(statuses(&lab, id), [status], "{} bytes", request.len());
        }
        assert_eq!(lab.requests().len(), 2);
    });
}

#[test]
fn the_largest_head_of_the_default_limits_passes() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        let front = "GET / HTTP/1.1\r\nhost: x\r\nx: ";
        let filler = 60 * 1024 - front.len() - 4;
        let id = sent(&mut lab, format!("{front}{}\r\n\r\n", "y".repeat(filler)));
        assert_eq!(statuses(&lab, id), [200]);
        assert_eq!(lab.requests()[0].1.field("x").unwrap().len(), filler);
        let id = sent(&mut lab, format!("{front}{}\r\n\r\n", "y".repeat(filler + 1)));
        assert_eq!(statuses(&lab, id), [431]);
    });
}

#[test]
fn a_response_head_has_a_largest_size() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.response_head_bytes = 1000;
        let mut lab = lab(builder, seed).with(|_: &str, _: &Request| {
            answer(format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(1000)))
        });
        let id = sent(&mut lab, GET);
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![502], vec![Ending::UpstreamMalformed]));
    });
}

#[test]
fn a_request_body_has_a_largest_size() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.request_body_bytes = Some(10);
        let mut lab = lab(builder, seed);
        let id = sent(&mut lab, "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n0123456789a");
        assert_eq!(statuses(&lab, id), [413]);
        assert!(lab.wires().is_empty(), "a length that is said is refused at once");
        let id = sent(
            &mut lab,
            "PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
        );
        assert_eq!(statuses(&lab, id), [413]);
        assert!(lab.requests().is_empty());
        let id = sent(&mut lab, "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123456789");
        assert_eq!(statuses(&lab, id), [200]);
        assert_eq!(endings(&lab), [Ending::Answered, Ending::Answered, Ending::Complete]);
    });
}

#[test]
fn a_slow_head_is_answered_408() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        let id = sent(&mut lab, "GET / HTTP/1.1\r\n");
        for _ in 0..9 {
            lab.advance(seconds(1));
            lab.client_send(id, "x: y\r\n");
        }
        assert!(!lab.client_is_half_closed(id));
        lab.advance(Duration::from_millis(1001));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![408], vec![Ending::ClientTimeout]));
        lab.advance(seconds(3));
        assert!(lab.client_is_closed(id));
    });
}

#[test]
fn a_slow_body_is_answered_408_and_the_host_never_gets_the_rest() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        let id = sent(&mut lab, "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
        lab.advance(seconds(59));
        lab.client_send(id, "d");
        lab.advance(seconds(59));
        assert!(!lab.client_is_half_closed(id), "each byte counts anew");
        lab.advance(seconds(2));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![408], vec![Ending::ClientTimeout]));
        assert_eq!(lab.open_wires(), 0);
    });
}

#[test]
fn a_host_that_does_not_read_takes_too_long() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        lab.door(HOST, Door::Deaf);
        let id = sent(
            &mut lab,
            format!("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n{}", "z".repeat(9000)),
        );
        lab.advance(seconds(61));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![504], vec![Ending::UpstreamTimeout]));
        assert_eq!(lab.open_wires(), 0);
    });
}

#[test]
fn a_host_that_does_not_answer_takes_too_long() {
    ways(|seed| {
        let mut lab = silent(Builder::forward(&[HOST]), seed);
        let id = sent(&mut lab, GET);
        lab.advance(seconds(59));
        assert_eq!(text(&lab, id), "");
        lab.advance(seconds(2));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![504], vec![Ending::UpstreamTimeout]));
        assert_eq!(lab.open_wires(), 0);
        assert!(!lab.client_is_closed(id), "the client may go on");
        leaves(&mut lab, id);
    });
}

#[test]
fn a_route_can_have_its_own_response_time_out_or_none() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder
            .route_with("/short", app, |forward: &mut Forward| forward.response_timeout = Some(seconds(2)));
        builder.route_with("/none", app, |forward: &mut Forward| {
            forward.response_timeout = Some(Duration::ZERO);
        });
        let mut lab = silent(builder, seed);
        let short = sent(&mut lab, "GET /short HTTP/1.1\r\nhost: x\r\n\r\n");
        let none = sent(&mut lab, "GET /none HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.advance(Duration::from_millis(2001));
        assert_eq!(statuses(&lab, short), [504]);
        lab.advance(seconds(100_000));
        assert!(!lab.client_is_half_closed(none) && text(&lab, none).is_empty());
    });
}

#[test]
fn a_response_body_that_stands_still_is_cut() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            let mut script = answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc");
            script.push(Act::Delay(59_000));
            script.extend(answer("d"));
            script.push(Act::Hold);
            script
        });
        let id = sent(&mut lab, GET);
        lab.advance(seconds(118));
        assert!(!lab.client_is_closed(id));
        lab.advance(seconds(2));
        assert_eq!(lab.client_ended(id), Some(Ended::Reset));
        assert_eq!(endings(&lab), [Ending::UpstreamTimeout]);
    });
}

#[test]
fn a_client_that_does_not_read_takes_too_long() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", seed);
        let id = lab.client();
        lab.client_takes(id, 12);
        lab.client_send(id, GET);
        lab.advance(seconds(61));
        assert_eq!((lab.client_ended(id), endings(&lab)), (Some(Ended::Reset), vec![Ending::ClientTimeout]));

        let mut builder = Builder::new();
        builder.respond("/", 200, "our own");
        let mut lab = super::lab(builder, seed);
        let id = lab.client();
        lab.client_takes(id, 12);
        lab.client_send(id, GET);
        lab.advance(seconds(61));
        assert_eq!(lab.client_ended(id), Some(Ended::Reset));
        assert_eq!(lab.outcomes().len(), 1);
    });
}

#[test]
fn a_client_that_does_not_read_an_interim_response_takes_too_long() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 103 Early Hints\r\n\r\n", seed);
        let id = lab.client();
        lab.client_takes(id, 3);
        lab.client_send(id, GET);
        lab.advance(seconds(61));
        assert_eq!((lab.client_ended(id), endings(&lab)), (Some(Ended::Reset), vec![Ending::ClientTimeout]));
        assert_eq!(lab.open_wires(), 0);
    });
}

#[test]
fn a_connection_that_is_not_made_in_time_counts_as_refused() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        lab.door(HOST, Door::Hanging);
        let id = sent(&mut lab, GET);
        lab.advance(seconds(16));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![503], vec![Ending::ConnectFailed]));
        assert_eq!(lab.outcomes()[0].outcome.tries, 3);
    });
}

#[test]
fn a_full_host_makes_requests_wait_then_refuses_them() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.host_connections = 1;
        builder.limits.host_pending = 1;
        let mut lab = lab(builder, seed).with(|_: &str, _: &Request| {
            let mut script = vec![Act::Delay(2000)];
            script.extend(ok("done"));
            script
        });
        let first = sent(&mut lab, GET);
        let second = sent(&mut lab, GET);
        let third = sent(&mut lab, GET);
        assert_eq!(statuses(&lab, third), [503], "the queue is full too");
        lab.advance(seconds(6));
        assert_eq!((statuses(&lab, first), statuses(&lab, second)), (vec![200], vec![200]));
        assert_eq!(lab.wires().len(), 1, "never more than the cap");
        assert_eq!(endings(&lab), [Ending::HostFull, Ending::Complete, Ending::Complete]);
    });
}

#[test]
fn a_request_does_not_wait_for_a_full_host_for_ever() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.host_connections = 1;
        let mut lab = silent(builder, seed);
        let (_, second) = (sent(&mut lab, GET), sent(&mut lab, GET));
        lab.advance(seconds(6));
        assert_eq!((statuses(&lab, second), endings(&lab)), (vec![503], vec![Ending::HostFull]));
        assert_eq!(lab.outcomes()[0].outcome.tries, 1, "a full host is no reason to move");
    });
}

#[test]
fn stopping_takes_a_waiting_request_out_of_the_queue() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.limits.host_connections = 1;
        let mut lab = silent(builder, seed);
        let (first, second) = (sent(&mut lab, GET), sent(&mut lab, GET));
        lab.stop();
        assert_eq!(
            (lab.client_ended(first), lab.client_ended(second)),
            (Some(Ended::Reset), Some(Ended::Reset))
        );
        assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::Stopped; 2], 0));
    });
}
