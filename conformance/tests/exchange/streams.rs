//! A session in the URL of an event stream: rewritten on its way to the client, taken off again on its way back.

use super::*;
use homing_conformance::build::sse_policy;
use homing_conformance::memory::Ended;
use homing_core::affinity::PolicySpec;
use homing_core::limits::SSE_HELD_MAX;
use homing_core::route::{Forward, Rewrite, Session};
use homing_core::stats::Stream;

/// Behind a session of [`HOST`], and of [`OTHER`].
const AT_HOST: &str = ".MTAuMC4wLjE6ODA";
const AT_OTHER: &str = ".MTAuMC4wLjI6ODA";
const STREAM: &str = "GET /sse HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";

fn builder(hosts: &[&str], change: impl Fn(&mut PolicySpec)) -> Builder {
    let mut builder = Builder::new();
    let app = builder.cluster("app", hosts);
    let mut spec = sse_policy("sessionId");
    change(&mut spec);
    let policy = builder.policy(spec);
    builder.route_with("/old/", app, move |forward: &mut Forward| {
        forward.session = Session::Policy(policy);
        forward.rewrite = Some(Rewrite::Prefix("/v2/".into()));
    });
    builder.route_with("/plain", app, |forward: &mut Forward| forward.session = Session::Disabled);
    builder.route_with("/", app, move |forward: &mut Forward| forward.session = Session::Policy(policy));
    builder
}

/// One host behind the policy, which answers everything with `script`.
fn host(script: Vec<Act>, seed: u64) -> Lab {
    lab(builder(&[HOST], |_| {}), seed).with(move |_: &str, _: &Request| script.clone())
}

fn events(text: &str, head: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}\r\n{text}")
}

/// `text` in chunks of `size` bytes, with the last one.
fn in_chunks(text: &str, size: usize) -> String {
    let chunk = |part: &[u8]| format!("{:x};a=b\r\n{}\r\n", part.len(), String::from_utf8_lossy(part));
    text.as_bytes().chunks(size).map(chunk).collect::<String>() + "0\r\nx-t: 1\r\n\r\n"
}

fn streams(lab: &Lab) -> Vec<Option<Stream>> {
    lab.outcomes().iter().map(|record| record.outcome.stream).collect()
}

const EVENTS: &str = ": hi\n\nevent: endpoint\ndata: /m?sessionId=abc&x=1\n\nevent: message\ndata: {}\n\n";

fn rewritten() -> String {
    EVENTS.replace("abc", &format!("abc{AT_HOST}"))
}

#[test]
fn a_stream_is_rewritten_in_every_framing() {
    ways(|seed| {
        let fixed = format!("content-length: {}\r\n", EVENTS.len());
        let chunked = "transfer-encoding: chunked\r\ntrailer: x-t\r\n";
        for (response, closes) in [
            (events(EVENTS, &fixed), false),
            (events(&in_chunks(EVENTS, 1), chunked), false),
            (events(&in_chunks(EVENTS, 1000), chunked), false),
            (events(EVENTS, ""), true),
        ] {
            let mut script = answer(&response);
            script.extend(closes.then_some(Act::Close));
            let mut lab = host(script, seed);
            let id = sent(&mut lab, STREAM);
            let got = &lab.client_responses(id, &[])[0];
            assert_eq!(got.text(), rewritten(), "{response}");
            assert_eq!(got.field("content-length"), None);
            assert_eq!(got.all("transfer-encoding"), if closes { vec![] } else { vec!["chunked"] });
            assert_eq!((got.field("trailer"), got.trailers.len()), (None, 0));
            assert_eq!(got.field("connection") == Some("close"), closes);
            assert_eq!(lab.client_is_half_closed(id), closes);
            assert_eq!(
                (endings(&lab), streams(&lab)),
                (vec![Ending::Complete], vec![Some(Stream::Rewritten)])
            );
            assert!(lab.outcomes()[0].outcome.minted);
            assert_eq!(lab.counters().streams[Stream::Rewritten as usize].get(), 1);
            if !closes {
                // The link and the connection go on.
                lab.client_send(id, STREAM);
                lab.run();
                assert_eq!(lab.client_responses(id, &[])[1].text(), rewritten());
                assert_eq!(lab.wires().len(), 1);
            }
        }
    });
}

#[test]
fn http_1_0_gets_a_stream_that_ends_with_its_connection() {
    ways(|seed| {
        for (response, head) in [
            (EVENTS.to_owned(), format!("content-length: {}\r\n", EVENTS.len())),
            (in_chunks(EVENTS, 9), "transfer-encoding: chunked\r\n".to_owned()),
        ] {
            let mut lab = host(answer(events(&response, &head)), seed);
            let id = sent(&mut lab, "GET /sse HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
            let got = &lab.client_responses(id, &[])[0];
            assert_eq!(got.text(), rewritten());
            let length = (got.field("content-length"), got.field("transfer-encoding"));
            assert_eq!((length, got.field("connection")), ((None, None), Some("close")));
            assert!(lab.client_is_half_closed(id));
            assert_eq!(endings(&lab), [Ending::Complete]);
        }
    });
}

#[test]
fn what_is_no_plain_event_stream_passes_as_it_is() {
    ways(|seed| {
        let length = format!("content-length: {}\r\n", EVENTS.len());
        let of = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n{EVENTS}");
        for (response, stream) in [
            (of("200 OK", "content-type: text/plain\r\n"), None),
            (of("200 OK", "content-type: text/event-streams\r\n"), None),
            (of("200 OK", ""), None),
            (of("404 Not Found", "content-type: text/event-stream\r\n"), None),
            (of("206 Partial", "content-type: text/event-stream\r\n"), None),
            (
                of("200 OK", "content-type: text/event-stream\r\nContent-Encoding: gzip\r\n"),
                Some(Stream::Encoded),
            ),
            (
                of("200 OK", "content-type: text/event-stream\r\ncontent-encoding: identity, br\r\n"),
                Some(Stream::Encoded),
            ),
        ] {
            let mut lab = host(answer(&response), seed);
            let id = sent(&mut lab, STREAM);
            let got = &lab.client_responses(id, &[])[0];
            assert_eq!(
                (got.text(), got.field("content-length")),
                (EVENTS.to_owned(), Some(&*EVENTS.len().to_string()))
            );
            assert_eq!(
                (streams(&lab), lab.outcomes()[0].outcome.minted),
                (vec![stream], false),
                "{response}"
            );
        }
        for fields in [
            "Content-Type: Text/Event-Stream;charset=utf-8\r\n",
            "content-type: text/event-stream ; charset=utf-8\r\ncontent-encoding: Identity\r\n",
        ] {
            let mut lab = host(answer(of("200 OK", fields)), seed);
            let id = sent(&mut lab, STREAM);
            assert_eq!(lab.client_responses(id, &[])[0].text(), rewritten());
        }
        for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
            let response = format!("HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\netag: e\r\n\r\n");
            let mut lab = host(answer(response), seed);
            let id = sent(&mut lab, STREAM.replace("GET", method));
            let got = &lab.client_responses(id, &[method])[0];
            assert_eq!(
                (got.text(), got.field("transfer-encoding"), &*streams(&lab)),
                (String::new(), None, &[None][..])
            );
        }
        let mut lab = host(answer(of("200 OK", "content-type: text/event-stream\r\n")), seed);
        let id = sent(&mut lab, STREAM.replace("/sse", "/plain"));
        assert_eq!(lab.client_responses(id, &[])[0].text(), EVENTS);
    });
}

#[test]
fn the_clients_requests_go_home_with_the_upstreams_own_value() {
    ways(|seed| {
        for (target, upstream) in [
            (format!("/m?sessionId=abc{AT_OTHER}"), "/m?sessionId=abc"),
            (format!("/m?z=%20&sessionId=a%2Eb{AT_OTHER}&a=+&&b"), "/m?z=%20&sessionId=a%2Eb&a=+&&b"),
            (
                format!("/m?mysessionId=1{AT_HOST}&sessionId=2{AT_OTHER}"),
                "/m?mysessionId=1.MTAuMC4wLjE6ODA&sessionId=2",
            ),
            (format!("/m?sessionId=no&sessionId=abc{AT_OTHER}"), "/m?sessionId=no&sessionId=abc"),
            (format!("http://x/m?sessionId=abc{AT_OTHER}&q"), "/m?sessionId=abc&q"),
            (format!("/old/m?sessionId=abc{AT_OTHER}&q"), "/v2/m?sessionId=abc&q"),
            (format!("http://x/old/m?p&sessionId=abc{AT_OTHER}&q"), "/v2/m?p&sessionId=abc&q"),
        ] {
            let mut lab = lab(builder(&[HOST, OTHER], |_| {}), seed).with(|_: &str, _: &Request| ok("done"));
            for _ in 0..3 {
                let id = sent(
                    &mut lab,
                    format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"),
                );
                assert_eq!(statuses(&lab, id), [200]);
            }
            for (host, request) in lab.requests() {
                assert_eq!((&**host, &*request.target), (OTHER, upstream), "{target}");
            }
            assert!(lab.outcomes().iter().all(|record| record.outcome.reason() == "pinned"));
        }
    });
}

#[test]
fn a_session_without_an_address_is_placed_as_it_stands() {
    ways(|seed| {
        for (target, reason) in [
            ("/m", "placed.absent"),
            ("/m?a=b", "placed.absent"),
            ("/m?sessionId=", "placed.absent"),
            ("/m?sessionId=abc", "placed.malformed"),
            ("/m?sessionId=abc.MTAuMC4wLjE6ODA=", "placed.malformed"),
            ("/m?sessionId=.MTAuMC4wLjE6ODA", "placed.malformed"),
        ] {
            // Strict forgives what is no token.
            let mut lab = lab(builder(&[HOST], |spec| spec.strict = true), seed)
                .with(|_: &str, _: &Request| ok("done"));
            let id = sent(&mut lab, format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"));
            assert_eq!((statuses(&lab, id), lab.outcomes()[0].outcome.reason()), (vec![200], reason));
            assert_eq!(lab.requests()[0].1.target, target);
        }
    });
}

#[test]
fn a_session_whose_host_is_gone_moves_or_is_refused() {
    ways(|seed| {
        for strict in [false, true] {
            let mut lab = lab(builder(&[HOST], move |spec| spec.strict = strict), seed)
                .with(|_: &str, _: &Request| ok("done"));
            let id = sent(&mut lab, format!("GET /m?sessionId=abc{AT_OTHER} HTTP/1.1\r\nhost: x\r\n\r\n"));
            let reason = lab.outcomes()[0].outcome.reason();
            if strict {
                assert_eq!(
                    (statuses(&lab, id), reason, lab.requests().len()),
                    (vec![503], "refused.gone", 0)
                );
            } else {
                assert_eq!((statuses(&lab, id), reason), (vec![200], "placed.gone"));
                assert_eq!(lab.requests()[0].1.target, "/m?sessionId=abc");
            }
        }
    });
}

#[test]
fn a_stream_is_asked_for_without_a_coding() {
    ways(|seed| {
        for (request, codings) in [
            (
                "GET /sse HTTP/1.1\r\nhost: x\r\naccept: a/b, text/event-stream;q=1\r\naccept-encoding: gzip\r\n\r\n",
                "identity",
            ),
            ("GET /sse HTTP/1.1\r\nhost: x\r\naccept: text/html\r\naccept-encoding: gzip\r\n\r\n", "gzip"),
            (
                "GET /plain HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\naccept-encoding: gzip\r\n\r\n",
                "gzip",
            ),
        ] {
            let mut lab = host(ok("done"), seed);
            sent(&mut lab, request);
            assert_eq!(lab.requests()[0].1.all("accept-encoding"), [codings], "{request}");
        }
        let mut lab = host(ok("done"), seed);
        sent(&mut lab, STREAM);
        assert_eq!(lab.requests()[0].1.field("accept-encoding"), None);
    });
}

/// An open stream: what has come so far, and what is held of it.
#[test]
fn nothing_but_the_end_of_an_endpoint_event_waits() {
    ways(|seed| {
        let parts = [
            ": hi\r\n",
            "\r\nevent: endpoint\r\ndata: /m?sess",
            "ionId=ab",
            "c\r\n",
            "\r\n",
            "data: /m?sessionId=x\n",
            "\nevent: mess",
        ];
        // What the client has after each part.
        let seen = [
            ": hi\r\n".to_owned(),
            ": hi\r\n\r\nevent: endpoint\r\ndata: /m?sess".to_owned(),
            ": hi\r\n\r\nevent: endpoint\r\ndata: /m?sessionId=ab".to_owned(),
            ": hi\r\n\r\nevent: endpoint\r\ndata: /m?sessionId=abc".to_owned(),
            format!(": hi\r\n\r\nevent: endpoint\r\ndata: /m?sessionId=abc{AT_HOST}\r\n\r\n"),
            format!(
                ": hi\r\n\r\nevent: endpoint\r\ndata: /m?sessionId=abc{AT_HOST}\r\n\r\ndata: /m?sessionId=x"
            ),
            format!(
                ": hi\r\n\r\nevent: endpoint\r\ndata: /m?sessionId=abc{AT_HOST}\r\n\r\ndata: /m?sessionId=x\n\nevent: mess"
            ),
        ];
        let mut script = answer(events("", "transfer-encoding: chunked\r\n"));
        for part in parts {
            script.push(Act::Delay(20_000));
            script.extend(answer(format!("{:x}\r\n{part}\r\n", part.len())));
        }
        let mut lab = host(script, seed);
        let id = sent(&mut lab, STREAM);
        for seen in seen {
            lab.advance(seconds(20));
            let text = text(&lab, id);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| unchunked(body));
            assert_eq!(body.as_deref(), Some(&*seen));
        }
        lab.stop();
        lab.run();
        assert_eq!((endings(&lab), streams(&lab)), (vec![Ending::Stopped], vec![Some(Stream::Rewritten)]));
    });
}

/// The data of whole chunks.
fn unchunked(mut body: &str) -> String {
    let mut data = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or_default();
        assert!(size > 0 && rest[size..].starts_with("\r\n"), "no chunk: {body:?}");
        data += &rest[..size];
        body = &rest[size + 2..];
    }
    assert_eq!(body, "", "a chunk leaves whole");
    data
}

#[test]
fn an_event_that_is_not_finished_or_too_long_passes_as_it_is() {
    ways(|seed| {
        let long = format!("event: endpoint\ndata: /m?sessionId=abc&x={}\n\n", "y".repeat(3 * SSE_HELD_MAX));
        for (text, stream) in [
            ("event: endpoint\ndata: /m?sessionId=abc\n", Stream::Unfinished),
            ("event: endpoint\ndata: /m?session=abc\n\n", Stream::NoSession),
            ("event: message\ndata: /m?sessionId=abc\n\ndata: /m?sessionId=abc\r", Stream::NoEndpoint),
            (&long, Stream::TooLong),
        ] {
            for response in [
                events(text, &format!("content-length: {}\r\n", text.len())),
                events(&in_chunks(text, 7), "transfer-encoding: chunked\r\n"),
            ] {
                let mut lab = host(answer(response), seed);
                let id = sent(&mut lab, STREAM);
                assert_eq!(lab.client_responses(id, &[])[0].text(), text);
                assert_eq!((streams(&lab), lab.outcomes()[0].outcome.minted), (vec![Some(stream)], false));
            }
        }
    });
}

#[test]
fn many_endpoints_in_one_read_are_all_rewritten() {
    ways(|seed| {
        let text = "event: endpoint\ndata: ?sessionId=1\n\n".repeat(400);
        let response = events(&text, &format!("content-length: {}\r\n", text.len()));
        let mut lab = host(answer(response), seed);
        let id = sent(&mut lab, STREAM);
        let expected = text.replace("=1", &format!("=1{AT_HOST}"));
        assert_eq!(lab.client_responses(id, &[])[0].text(), expected);
    });
}

#[test]
fn a_stream_that_breaks_off_is_not_passed_for_a_whole_one() {
    ways(|seed| {
        let text = "event: endpoint\ndata: /m?sessionId=abc\r\n";
        for (response, ending) in [
            (events(text, "content-length: 900\r\n"), Ending::UpstreamReset),
            (
                events(
                    &in_chunks(text, 100).replace("0\r\nx-t: 1\r\n\r\n", ""),
                    "transfer-encoding: chunked\r\n",
                ),
                Ending::UpstreamReset,
            ),
        ] {
            let mut script = answer(response);
            script.push(Act::Close);
            let mut lab = host(script, seed);
            let id = sent(&mut lab, STREAM);
            let received = self::text(&lab, id);
            let body = received.split_once("\r\n\r\n").map(|(_, body)| unchunked(body));
            assert_eq!((body.as_deref(), lab.client_ended(id)), (Some(text), Some(Ended::Reset)));
            assert_eq!((endings(&lab), streams(&lab)), (vec![ending], vec![Some(Stream::Unfinished)]));
        }
        let mut lab = host(answer(events("5\r\nhello!!", "transfer-encoding: chunked\r\n")), seed);
        let id = sent(&mut lab, STREAM);
        assert_eq!(
            (lab.client_ended(id), endings(&lab)),
            (Some(Ended::Reset), vec![Ending::UpstreamMalformed])
        );
    });
}

#[test]
fn bytes_beyond_the_end_of_a_stream_end_the_link() {
    ways(|seed| {
        let mut lab =
            host(answer(events(&(in_chunks(EVENTS, 50) + "stray"), "transfer-encoding: chunked\r\n")), seed)
                .rough(Knobs::PLAIN);
        let id = sent(&mut lab, STREAM);
        lab.client_send(id, STREAM);
        lab.run();
        assert_eq!(lab.client_responses(id, &[]).len(), 2);
        assert_eq!((lab.wires().len(), lab.open_wires()), (2, 0));
    });
}

#[test]
fn a_shared_cache_is_told_when_so_configured() {
    ways(|seed| {
        let response = events(EVENTS, &format!("content-length: {}\r\n", EVENTS.len()));
        let mut lab = lab(builder(&[HOST], |spec| spec.no_cache = true), seed)
            .with(move |_: &str, _: &Request| answer(&response));
        let id = sent(&mut lab, STREAM);
        assert_eq!(lab.client_responses(id, &[])[0].field("cache-control"), Some("private"));
    });
}
