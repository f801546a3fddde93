//! Connections: kept alive, pipelined, rested, half-closed, drained, lingering.

use super::*;
use homing_conformance::memory::Ended;
use homing_core::exchange::machine::{RequestState, ResponseState};

#[test]
fn a_connection_and_its_link_serve_one_request_after_another() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", seed);
        let id = lab.client();
        for _ in 0..3 {
            lab.client_send(id, GET);
            lab.run();
        }
        assert_eq!(statuses(&lab, id), [200; 3]);
        assert_eq!(endings(&lab), [Ending::Complete; 3]);
        assert_eq!((lab.wires().len(), lab.open_wires()), (1, 1));
        leaves(&mut lab, id);
        assert_eq!(lab.pooled(), 1, "a clean link outlives its connection");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST, OTHER]), seed)
            .with(|_: &str, request: &Request| ok(&format!("{} {}", request.target, request.body.len())));
        let id = sent(
            &mut lab,
            "GET /1 HTTP/1.1\r\nhost: x\r\n\r\nPOST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc\
             \r\n\r\nPOST /3 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n\
             GET /4 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(bodies(&lab, id), ["/1 0", "/2 3", "/3 2", "/4 0"]);
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert_eq!(lab.outcomes().len(), 4);
    });
}

#[test]
fn a_quiet_connection_rests_without_buffers_and_link_and_wakes_up() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 204 No Content\r\n\r\n", seed);
        let id = sent(&mut lab, GET);
        assert_eq!(lab.pooled(), 0);
        lab.advance(Duration::from_millis(500));
        assert_eq!((lab.pooled(), lab.client_buffers(id)), (1, 0));
        lab.client_send(id, GET);
        lab.run();
        assert_eq!(statuses(&lab, id), [204; 2]);
        assert_eq!(lab.wires().len(), 1);
        lab.advance(seconds(76));
        assert_eq!(lab.client_ended(id), Some(Ended::Close), "keep-alive time-out");
        assert_eq!(lab.outcomes().len(), 2, "a time-out between requests is no outcome");
        assert_eq!(lab.open_wires(), 0, "the idle link has aged");
    });
}

#[test]
fn a_connection_without_any_request_rests_and_ends() {
    ways(|seed| {
        let mut lab = one_host("", seed);
        let id = lab.client();
        lab.advance(seconds(1));
        assert_eq!(lab.client_buffers(id), 0);
        lab.advance(seconds(75));
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert!(lab.outcomes().is_empty());
    });
}

#[test]
fn connection_close_is_honoured_from_both_sides() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(&mut lab, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let responses = lab.client_responses(id, &[]);
        assert_eq!(responses[0].field("connection"), Some("close"));
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert_eq!(lab.pooled(), 1, "the link does not end with the client");

        let mut lab = one_host("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(&mut lab, GET);
        assert_eq!(lab.client_responses(id, &[])[0].field("connection"), None, "it is the link that ends");
        assert_eq!(lab.open_wires(), 0);
        assert!(!lab.client_is_closed(id));
    });
}

#[test]
fn http_10_clients_get_what_they_can_read() {
    ways(|seed| {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n\
                       3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n";
        let mut lab = one_host(chunked, seed);
        let id = sent(&mut lab, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        let response = &lab.client_responses(id, &[])[0];
        assert_eq!(response.text(), "abcde");
        assert!(response.field("transfer-encoding").is_none() && response.field("trailer").is_none());
        assert_eq!(response.field("connection"), Some("close"), "the end of the body is the end of it");
        assert_eq!(lab.requests()[0].1.version, "HTTP/1.1");
        assert_eq!(lab.requests()[0].1.field("host"), Some("app"), "hosts insist on a host line");
        leaves(&mut lab, id);
        assert_eq!(lab.pooled(), 1);

        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", seed);
        let id = sent(&mut lab, "GET / HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n");
        lab.client_send(id, "GET / HTTP/1.0\r\nhost: x\r\n\r\n");
        lab.run();
        let responses = lab.client_responses(id, &[]);
        assert_eq!(responses[0].field("connection"), Some("keep-alive"));
        assert_eq!(responses[1].field("connection"), Some("close"));
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
    });
}

#[test]
fn an_http_10_head_response_has_no_transfer_encoding() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", seed);
        let id = sent(&mut lab, "HEAD / HTTP/1.0\r\n\r\n");
        let response = &lab.client_responses(id, &["HEAD"])[0];
        assert_eq!((response.status, response.field("transfer-encoding")), (200, None));
    });
}

#[test]
fn a_client_that_leaves_during_a_long_wait_is_noticed_after_a_second() {
    ways(|seed| {
        for reset in [false, true] {
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| vec![Act::Hold]);
            let id = sent(&mut lab, GET);
            if reset {
                lab.client_reset(id);
            } else {
                lab.client_close(id);
            }
            lab.run();
            assert_eq!(lab.client_states(id), (RequestState::Sent, ResponseState::Head));
            assert_eq!(lab.open_wires(), 1, "nobody looks yet");
            lab.advance(Duration::from_millis(1100));
            assert!(lab.client_is_closed(id));
            assert_eq!(lab.open_wires(), 0, "the upstream request is cancelled");
            assert_eq!(endings(&lab), [Ending::ClientLeft]);
        }
    });
}

#[test]
fn what_a_waiting_client_sends_meanwhile_is_the_next_request() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, request: &Request| {
            let mut script = vec![Act::Delay(3000)];
            script.extend(ok(&request.target));
            script
        });
        let id = sent(&mut lab, "GET /1 HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.advance(seconds(2));
        lab.client_send(id, "GET /2 HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.advance(seconds(10));
        let bodies: Vec<_> =
            lab.client_responses(id, &[]).iter().map(homing_conformance::message::Response::text).collect();
        assert_eq!(bodies, ["/1", "/2"]);
        assert_eq!(lab.outcomes().len(), 2);
    });
}

#[test]
fn a_client_that_half_closes_behind_its_request_gets_its_answer() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", seed);
        let id = lab.client();
        lab.client_send(id, GET);
        lab.client_half_close(id);
        lab.run();
        assert_eq!(statuses(&lab, id), [200]);
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert_eq!((endings(&lab), lab.pooled()), (vec![Ending::Complete], 1));
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_is_no_request_or_one_that_left() {
    ways(|seed| {
        for reset in [false, true] {
            let end = |lab: &mut Lab, id| {
                if reset {
                    lab.client_reset(id);
                } else {
                    lab.client_close(id);
                }
                lab.run();
                assert!(lab.client_is_closed(id));
            };
            let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seed);
            let id = sent(&mut lab, "GET / HTTP/1.1\r\nho");
            end(&mut lab, id);
            assert!(lab.outcomes().is_empty(), "a part of a head is no request");

            let id = sent(&mut lab, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
            end(&mut lab, id);
            assert_eq!(endings(&lab), [Ending::ClientLeft]);
            assert_eq!(lab.open_wires(), 0, "a host with half a request loses its link");
        }
    });
}

#[test]
fn a_client_that_leaves_during_the_response_cuts_the_upstream_off() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            let mut script = answer("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nabc");
            script.push(Act::Delay(100));
            script.extend(answer("def"));
            script.push(Act::Delay(100));
            script.extend(answer("ghi"));
            script
        });
        let id = sent(&mut lab, GET);
        lab.client_close(id);
        lab.advance(seconds(1));
        assert_eq!(lab.client_ended(id), Some(Ended::Reset));
        assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::ClientLeft], 0));
    });
}

#[test]
fn draining_ends_quiet_connections_and_lets_requests_finish() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            let mut script = vec![Act::Delay(1500)];
            script.extend(ok("late"));
            script
        });
        let (quiet, busy, resting) = (lab.client(), lab.client(), lab.client());
        lab.client_send(busy, GET);
        lab.run();
        lab.advance(Duration::from_millis(700));
        lab.drain();
        lab.run();
        assert_eq!(lab.client_ended(quiet), Some(Ended::Close));
        assert_eq!(lab.client_ended(resting), Some(Ended::Close));
        assert!(!lab.client_is_closed(busy));
        lab.advance(seconds(1));
        assert_eq!(lab.client_responses(busy, &[])[0].field("connection"), Some("close"));
        leaves(&mut lab, busy);
        assert_eq!(endings(&lab), [Ending::Complete]);
    });
}

#[test]
fn stopping_cuts_off_what_still_runs_and_records_it_once() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| vec![Act::Hold]);
        let id = sent(&mut lab, GET);
        lab.drain();
        lab.run();
        lab.stop();
        lab.stop();
        lab.run();
        assert_eq!(lab.client_ended(id), Some(Ended::Reset));
        assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::Stopped], 0));
    });
}

#[test]
fn a_refused_client_can_read_the_answer_although_it_goes_on_sending() {
    ways(|seed| {
        let mut lab = one_host("", seed);
        let id = sent(&mut lab, "BROKEN\r\n\r\nand much more of it");
        assert!(lab.client_is_half_closed(id), "the answer's end is the end of the sending side");
        assert!(!lab.client_is_closed(id), "the receiving side lingers");
        lab.client_send(id, "more");
        lab.run();
        assert_eq!(statuses(&lab, id), [400]);
        lab.client_half_close(id);
        lab.run();
        assert_eq!(lab.client_ended(id), Some(Ended::Close));

        let id = sent(&mut lab, "BROKEN\r\n\r\n");
        lab.advance(seconds(3));
        assert_eq!(lab.client_ended(id), Some(Ended::Close), "lingering has a limit");
    });
}

#[test]
fn a_snapshot_published_in_the_middle_of_a_head_does_not_mix_with_the_old_one() {
    ways(|seed| {
        let mut old = Builder::new();
        let app = old.cluster("app", &[HOST]);
        old.respond("/other", 418, "").route("/", app);
        let mut lab = lab(old, seed);
        let id = sent(&mut lab, "GET /a HTTP/1.1\r\nho");
        lab.publish(Builder::new().respond("/", 404, "").build());
        lab.client_send(id, "st: x\r\n\r\n");
        lab.run();
        lab.client_send(id, GET);
        lab.run();
        assert_eq!(statuses(&lab, id), [200, 404]);
    });
}

fn bodies(lab: &Lab, id: ClientId) -> Vec<String> {
    lab.client_responses(id, &[]).iter().map(|one| one.text().to_string()).collect()
}

const OWN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown";
const STRAY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";

/// A host that answers every request, and some time later once more.
fn talkative(seed: u64) -> Lab {
    lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
        let mut script = answer(OWN);
        script.push(Act::Delay(100));
        script.extend(answer(STRAY));
        script
    })
}

#[test]
fn what_a_host_says_unasked_reaches_no_other_client() {
    ways(|seed| {
        let mut lab = talkative(seed);
        let first = sent(&mut lab, GET);
        lab.advance(Duration::from_millis(600));
        assert_eq!((bodies(&lab, first), lab.pooled()), (vec!["own".to_owned()], 1));
        let second = sent(&mut lab, GET);
        assert_eq!(bodies(&lab, second), ["own"]);
        assert_eq!(lab.wires().len(), 2, "a link with stray bytes on it is of no use");
    });
}

#[test]
fn what_a_host_says_unasked_does_not_answer_the_next_request() {
    ways(|seed| {
        let mut lab = talkative(seed);
        let id = sent(&mut lab, GET);
        lab.advance(Duration::from_millis(200));
        lab.client_send(id, GET);
        lab.run();
        assert_eq!(bodies(&lab, id), ["own", "own"]);
        assert_eq!(lab.wires().len(), 2);
    });
}
