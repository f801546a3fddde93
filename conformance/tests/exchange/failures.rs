//! Hosts that fail: refused, reset, closed, and what is tried again.

use super::*;
use homing_conformance::build::header_policy;
use homing_conformance::memory::Door;
use homing_core::balance::Balance;
use homing_core::route::{Forward, Retry, RetryOn, Session};
use homing_core::stats::{Fate, Move};

const EMPTY_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";

/// Two hosts behind a soft session policy, with a retry policy.
fn two_hosts(retry: Retry) -> Builder {
    let mut builder = Builder::new();
    let app = builder.cluster("app", &[HOST, OTHER]);
    let policy = builder.policy(header_policy("x-session"));
    builder.route_with("/", app, move |forward: &mut Forward| {
        forward.session = Session::Policy(policy);
        forward.retry = retry.clone();
    });
    builder
}

fn none() -> Retry {
    Retry::default()
}

fn on(change: impl Fn(&mut RetryOn)) -> Retry {
    let mut retry = Retry { attempts: 2, ..Retry::default() };
    change(&mut retry.on);
    retry
}

#[test]
fn a_soft_session_moves_on_when_its_host_refuses_the_connection() {
    ways(|seed| {
        let mut lab = lab(two_hosts(none()), seed);
        lab.door(HOST, Door::Refusing);
        for _ in 0..4 {
            let id = sent(&mut lab, POST);
            assert_eq!(statuses(&lab, id), [200]);
        }
        assert!(lab.requests().iter().all(|(host, _)| host == OTHER));
        let fates: Vec<_> = lab.outcomes().iter().map(|record| record.outcome.fate).collect();
        assert!(fates.contains(&Fate::Moved(Move::ConnectFailed)), "{fates:?}");
        assert_eq!(lab.requests()[0].1.body, b"abc");
    });
}

#[test]
fn when_all_hosts_refuse_the_answer_is_503() {
    ways(|seed| {
        let mut lab = lab(two_hosts(none()), seed);
        lab.door(HOST, Door::Refusing);
        lab.door(OTHER, Door::Refusing);
        let id = sent(&mut lab, format!("{POST}{GET}"));
        assert_eq!((statuses(&lab, id), endings(&lab)), (vec![503; 2], vec![Ending::ConnectFailed; 2]));
        assert!(!lab.client_is_closed(id));
        assert_eq!(lab.outcomes()[0].outcome.tries, 3);
    });
}

#[test]
fn a_host_that_refuses_while_another_link_is_held_is_no_trouble() {
    ways(|seed| {
        let mut builder = Builder::new();
        let (one, two) = (builder.cluster("one", &[HOST]), builder.cluster("two", &[OTHER]));
        builder.route("/1", one).route("/2", two);
        let mut lab = lab(builder, seed);
        lab.door(OTHER, Door::Refusing);
        let id = sent(&mut lab, "GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.client_send(id, "GET /1 HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.run();
        assert_eq!(statuses(&lab, id), [200, 503, 200]);
        assert_eq!((lab.wires().len(), lab.open_wires()), (1, 1));
    });
}

#[test]
fn a_cluster_without_hosts_is_unplaced() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[]), seed);
        let id = sent(&mut lab, format!("{POST}{GET}"));
        assert_eq!(statuses(&lab, id), [503, 503]);
        assert!(lab.outcomes().iter().all(|record| record.outcome.fate == Fate::Unplaced));
    });
}

/// A connection that has served a request, whose link the host then closed.
fn with_dead_link(request: &str, seed: u64) -> (Lab, homing_conformance::memory::ClientId) {
    let mut lab = one_host(EMPTY_OK, seed);
    let id = sent(&mut lab, GET);
    lab.host_closes_idle(HOST);
    lab.client_send(id, request);
    lab.run();
    (lab, id)
}

#[test]
fn a_reused_link_that_died_is_replaced_and_the_request_sent_again() {
    ways(|seed| {
        for request in [GET, "PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", POST] {
            // The POST cannot be sent twice, so its link is looked at before it is used.
            let (lab, id) = with_dead_link(request, seed);
            assert_eq!((statuses(&lab, id), endings(&lab)), (vec![200; 2], vec![Ending::Complete; 2]));
            let last = &lab.requests()[1].1;
            assert_eq!(last.body, if request == GET { b"".as_slice() } else { b"abc" });
            assert_eq!(lab.requests().len(), 2, "it is received once");
            assert_eq!(lab.open_wires(), 1);
        }
    });
}

#[test]
fn a_reused_link_that_dies_under_a_post_is_not_replayed() {
    ways(|seed| {
        let mut count = 0;
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
            count += 1;
            if count == 1 { answer(EMPTY_OK) } else { vec![Act::Close] }
        });
        let id = sent(&mut lab, GET);
        lab.client_send(id, POST);
        lab.run();
        assert_eq!(statuses(&lab, id), [200, 502]);
        assert_eq!(lab.requests().len(), 2);
        assert_eq!(endings(&lab), [Ending::Complete, Ending::UpstreamReset]);
    });
}

#[test]
fn a_get_on_a_reused_link_that_dies_is_replayed_on_a_fresh_one_only() {
    ways(|seed| {
        let mut count = 0;
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
            count += 1;
            if count == 1 { answer(EMPTY_OK) } else { vec![Act::Reset] }
        });
        let id = sent(&mut lab, GET);
        lab.client_send(id, GET);
        lab.run();
        assert_eq!(statuses(&lab, id), [200, 502]);
        assert_eq!(
            (lab.requests().len(), lab.wires().len()),
            (3, 2),
            "once more, then it is the host's failure"
        );
    });
}

#[test]
fn a_fresh_link_that_dies_is_the_hosts_failure() {
    ways(|seed| {
        for end in [Act::Close, Act::Reset] {
            let mut lab = lab(two_hosts(none()), seed).with(move |_: &str, _: &Request| vec![end.clone()]);
            let id = sent(&mut lab, GET);
            assert_eq!((statuses(&lab, id), endings(&lab)), (vec![502], vec![Ending::UpstreamReset]));
            assert_eq!(lab.requests().len(), 1);
            leaves(&mut lab, id);
        }
    });
}

#[test]
fn a_host_that_stops_reading_but_answers_is_heard() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Rude);
        let id = lab.client();
        lab.client_send(id, "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\nabc");
        lab.run();
        lab.client_send(id, vec![b'z'; 400]);
        lab.run();
        lab.client_send(id, vec![b'z'; 497]);
        lab.run();
        assert_eq!(statuses(&lab, id), [413]);
        assert_eq!((lab.open_wires(), lab.outcomes().len()), (0, 1));
    });
}

/// Answers at the head, a little late, and closes.
struct Rude;

impl homing_conformance::memory::Upstream for Rude {
    fn respond(&mut self, _: &str, _: &Request) -> Vec<Act> {
        vec![]
    }

    fn early(&mut self, _: &str, _: &Request) -> Option<Vec<Act>> {
        Some(vec![
            Act::Bytes(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n".to_vec()),
            Act::Close,
        ])
    }
}

#[test]
fn the_retry_policy_asks_another_host() {
    ways(|seed| {
        for (retry, status, why) in [
            (on(|on| on.server_error = true), 500, Move::Retried),
            (on(|on| on.gateway_error = true), 503, Move::Retried),
        ] {
            let first = std::cell::Cell::new(true);
            let mut lab = lab(two_hosts(retry), seed).with(move |host: &str, request: &Request| {
                if first.replace(false) {
                    answer(format!("HTTP/1.1 {status} Bad\r\ncontent-length: 3\r\n\r\nbad"))
                } else {
                    ok(&format!("{host} {}", request.body.len()))
                }
            });
            let id = sent(&mut lab, "PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc");
            let hosts: Vec<_> = lab.requests().iter().map(|(host, _)| host.clone()).collect();
            assert_ne!(hosts[0], hosts[1]);
            assert_eq!(lab.client_responses(id, &[])[0].text(), format!("{} 3", hosts[1]));
            let outcome = lab.outcomes()[0].outcome;
            assert_eq!((outcome.fate, outcome.tries, outcome.status), (Fate::Moved(why), 2, 200));
        }
    });
}

#[test]
fn a_retried_request_is_in_flight_at_one_host_at_a_time() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster_with("app", &[HOST, OTHER], Balance::LeastRequest);
        builder.route_with("/", app, |forward: &mut Forward| {
            forward.retry = Retry { attempts: 1, ..on(|on| on.server_error = true) };
        });
        let cells = [HOST, OTHER].map(|host| builder.cell(host));
        let mut lab = lab(builder, seed)
            .with(|_: &str, _: &Request| answer("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"));
        sent(&mut lab, GET.repeat(2));
        assert_eq!(lab.outcomes().len(), 2);
        assert_eq!(cells.map(|cell| cell.active()), [0, 0]);
    });
}

#[test]
fn a_retry_that_is_used_up_passes_the_last_answer_on() {
    ways(|seed| {
        let mut lab = lab(two_hosts(on(|on| on.server_error = true)), seed)
            .with(|_: &str, _: &Request| answer("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"));
        let id = sent(&mut lab, GET);
        assert_eq!(lab.client_responses(id, &[])[0].text(), "no");
        assert_eq!((lab.requests().len(), endings(&lab)), (3, vec![Ending::Complete]));
        let id = sent(&mut lab, POST);
        assert_eq!(statuses(&lab, id), [500]);
        assert_eq!(lab.requests().len(), 4, "a POST is not tried again");
    });
}

#[test]
fn a_reset_is_retried_where_the_policy_says_so() {
    ways(|seed| {
        let first = std::cell::Cell::new(true);
        let mut lab = lab(two_hosts(on(|on| on.reset = true)), seed).with(move |_: &str, _: &Request| {
            if first.replace(false) { vec![Act::Reset] } else { ok("second") }
        });
        let id = sent(&mut lab, GET);
        assert_eq!(lab.client_responses(id, &[])[0].text(), "second");
        assert_eq!(lab.outcomes()[0].outcome.fate, Fate::Moved(Move::Reset));
    });
}

#[test]
fn a_try_can_have_a_time_of_its_own() {
    ways(|seed| {
        let mut retry = on(|on| on.gateway_error = true);
        retry.per_try_timeout = seconds(2);
        let first = std::cell::Cell::new(true);
        let mut lab = lab(two_hosts(retry), seed).with(move |_: &str, _: &Request| {
            if first.replace(false) { vec![Act::Hold] } else { ok("second") }
        });
        let id = sent(&mut lab, GET);
        lab.advance(seconds(3));
        assert_eq!(lab.client_responses(id, &[])[0].text(), "second");
        assert_eq!(lab.outcomes()[0].outcome.tries, 2);
    });
}

#[test]
fn an_upgrade_is_retried_before_it_is_answered() {
    ways(|seed| {
        let first = std::cell::Cell::new(true);
        let mut lab = lab(two_hosts(on(|on| on.reset = true)), seed).with(move |_: &str, _: &Request| {
            if first.replace(false) { vec![Act::Close] } else { ok("declined") }
        });
        let id = sent(
            &mut lab,
            format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n{GET}"),
        );
        assert_eq!(statuses(&lab, id), [200, 200]);
    });
}

#[test]
fn a_large_request_is_not_kept_and_so_not_sent_again() {
    ways(|seed| {
        let mut lab = lab(two_hosts(on(|on| on.server_error = true)), seed)
            .with(|_: &str, _: &Request| answer("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"));
        let id = sent(
            &mut lab,
            format!("PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{}", "k".repeat(100_000)),
        );
        assert_eq!((statuses(&lab, id), lab.requests().len()), (vec![500], 1));
    });
}

#[test]
fn an_answer_that_ends_the_connection_says_so() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(Broken);
        let id = lab.client();
        lab.client_send(id, "PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n");
        lab.run();
        lab.client_send(id, vec![b'x'; 300_000]);
        lab.run();
        let response = &lab.client_responses(id, &[])[0];
        assert_eq!(response.status, 502);
        assert_eq!(response.field("connection") == Some("close"), lab.client_is_half_closed(id));
    });
}

/// Reads the head and then only a reset follows.
struct Broken;

impl homing_conformance::memory::Upstream for Broken {
    fn respond(&mut self, _: &str, _: &Request) -> Vec<Act> {
        vec![Act::Reset]
    }

    fn early(&mut self, _: &str, _: &Request) -> Option<Vec<Act>> {
        Some(vec![Act::Delay(0), Act::Close])
    }
}
