//! What changes in a head on its way: hop-by-hop fields, host, marks, field rules.

use super::*;
use homing_conformance::build::{field_name, field_value};
use homing_core::path::PathRules;
use homing_core::route::Forward;
use homing_core::snapshot::ServerField;

const EMPTY_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn received(lab: &Lab) -> &Request {
    &lab.requests()[0].1
}

#[test]
fn what_is_meant_for_one_hop_stays_there() {
    ways(|seed| {
        let mut lab = one_host(
            "HTTP/1.1 200 OK\r\nconnection: x-own, keep-alive\r\nkeep-alive: timeout=5\r\nx-own: 1\r\n\
             x-end: 1\r\ncontent-length: 0\r\n\r\n",
            seed,
        );
        let id = sent(
            &mut lab,
            "GET /a HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, x-hop, cookie\r\nkeep-alive: 1\r\n\
             proxy-connection: keep-alive\r\nx-hop: 1\r\nte: gzip\r\ncookie: a=b\r\nx-end: 1\r\n\r\n",
        );
        let request = received(&lab);
        for gone in ["connection", "keep-alive", "proxy-connection", "x-hop", "te"] {
            assert_eq!(request.field(gone), None, "{gone}");
        }
        assert_eq!((request.field("x-end"), request.field("cookie")), (Some("1"), Some("a=b")));
        let response = &lab.client_responses(id, &[])[0];
        for gone in ["connection", "keep-alive", "x-own"] {
            assert_eq!(response.field(gone), None, "{gone}");
        }
        assert_eq!(response.field("x-end"), Some("1"));
    });
}

#[test]
fn everything_else_passes_byte_by_byte() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.marks.forwarded_for = false;
        builder.marks.forwarded_proto = false;
        builder.marks.request_id = false;
        builder.marks.trust_inbound = true;
        builder.marks.date = false;
        let response = "HTTP/1.1 299 Odd\r\nX-A:  two  spaces \r\nx-a: again\r\nContent-Length: 0\r\n\r\n";
        let request = "GET /%7Ea?b=c&&d HTTP/1.1\r\nHost: X:80\r\nX-Odd:tight\r\nx-empty:\r\n\r\n";
        let mut lab = lab(builder, seed).with(move |_: &str, _: &Request| answer(response));
        let id = sent(&mut lab, request);
        assert_eq!(String::from_utf8_lossy(&lab.wires()[0].1), request);
        assert_eq!(text(&lab, id), response);
    });
}

/// In one piece or byte by byte, one after the other on one connection, shorter or longer than before.
#[test]
fn a_path_in_its_normal_form_is_what_everybody_sees() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.paths = PathRules { normalize: true, merge_slashes: true };
        builder.respond("/hidden", 403, "").route("/", app);
        let mut lab = lab(builder, seed).with(move |_: &str, _: &Request| answer(EMPTY_OK));
        let id = sent(
            &mut lab,
            "POST /a/./b/%2e%2e//c%7E?x=/../y HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nb/..",
        );
        lab.client_send(id, b"GET http://x/a|b\\c HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.client_send(id, b"GET /a/..;p/%68idden HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.client_send(id, b"GET /%zz HTTP/1.1\r\nhost: x\r\n\r\n");
        lab.run();
        let seen: Vec<_> = lab.requests().iter().map(|(_, request)| request.target.clone()).collect();
        assert_eq!(seen, ["/a/c~?x=/../y", "/a%7Cb/c"]);
        assert_eq!(lab.requests()[0].1.body, b"b/..");
        let statuses: Vec<_> = lab.client_responses(id, &[]).iter().map(|response| response.status).collect();
        assert_eq!(statuses, [200, 200, 403, 400]);
    });
}

/// What no target may hold is not hidden by the dot segments behind it, and whatever normalising makes of a head that is too
/// long, it was too long.
#[test]
fn a_normal_form_does_not_hide_what_is_wrong_with_a_path() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.paths = PathRules { normalize: true, merge_slashes: true };
        builder.limits.request_head_bytes = 500;
        builder.route("/", app);
        let mut lab = lab(builder, seed).with(move |_: &str, _: &Request| answer(EMPTY_OK));
        for odd in ["\n", "\n\n", "\nhost: y\n\n", "\0", "\t", "\u{1}", "\u{7f}", "\u{e9}", "#", "#/x"] {
            for front in ["/", "/a", "http://x/a"] {
                for behind in ["/../b", "/./b", "//", "/%2e%2e/b"] {
                    let request = format!("GET {front}{odd}{behind} HTTP/1.1\r\nhost: x\r\n\r\n");
                    let id = sent(&mut lab, &request);
                    assert_eq!(statuses(&lab, id), [400], "{request:?}");
                }
            }
        }
        let id = sent(&mut lab, format!("GET /a{} HTTP/1.1\r\nhost: x\r\n\r\n", "/./.".repeat(150)));
        assert_eq!(statuses(&lab, id), [414]);
        assert!(lab.requests().is_empty());
    });
}

#[test]
fn an_untrusted_client_cannot_forge_marks() {
    ways(|seed| {
        let mut lab = one_host(EMPTY_OK, seed);
        sent(
            &mut lab,
            "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
             x-request-id: mine\r\n\r\n",
        );
        let request = received(&lab);
        assert_eq!(request.all("x-forwarded-for"), ["10.9.0.1"]);
        assert_eq!(request.all("x-forwarded-proto"), ["http"]);
        let ids = request.all("x-request-id");
        assert!(ids.len() == 1 && ids[0].len() == 36 && ids[0] != "mine", "{ids:?}");
        assert_eq!(request.field("via"), None);
    });
}

#[test]
fn a_trusted_clients_marks_are_kept_and_extended() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.marks.trust_inbound = true;
        builder.marks.via = Some("homing".into());
        let mut lab = lab(builder, seed).with(|_: &str, _: &Request| {
            answer("HTTP/1.0 200 OK\r\nvia: 1.1 b\r\ncontent-length: 0\r\n\r\n")
        });
        let id = sent(
            &mut lab,
            "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
             x-request-id: mine\r\nvia: 1.0 a\r\n\r\n",
        );
        let request = received(&lab);
        assert_eq!(request.all("x-forwarded-for"), ["1.2.3.4, 10.9.0.1"]);
        assert_eq!(request.all("x-forwarded-proto"), ["https"]);
        assert_eq!(request.all("x-request-id"), ["mine"]);
        assert_eq!(request.all("via"), ["1.0 a", "1.1 homing"]);
        assert_eq!(lab.client_responses(id, &[])[0].all("via"), ["1.1 b", "1.0 homing"]);
    });
}

#[test]
fn server_and_date_are_as_configured() {
    ways(|seed| {
        let mut builder = Builder::forward(&[HOST]);
        builder.marks.server = ServerField::Overwrite("homing".into());
        let mut lab = lab(builder, seed).with(|_: &str, request: &Request| {
            let date = if request.target == "/dated" { "date: then\r\n" } else { "" };
            answer(format!("HTTP/1.1 200 OK\r\nserver: a\r\nserver: b\r\n{date}content-length: 0\r\n\r\n"))
        });
        let id = sent(&mut lab, format!("{GET}GET /dated HTTP/1.1\r\nhost: x\r\n\r\n"));
        let found = lab.client_responses(id, &[]);
        assert_eq!(found[0].all("server"), ["homing"]);
        assert_eq!(found[0].all("date"), ["Mon, 10 Jun 2024 06:13:21 GMT"]);
        assert_eq!(found[1].all("date"), ["then"]);
    });
}

#[test]
fn the_host_line_says_what_the_target_and_the_route_say() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.route_with("/own", app, |forward: &mut Forward| {
            forward.host_rewrite = Some(field_value("inner.example"));
        });
        builder.route("/", app);
        let mut lab = lab(builder, seed);
        let id = sent(
            &mut lab,
            "GET http://there.example:81/a?b HTTP/1.1\r\nhost: here\r\n\r\n\
             GET /own HTTP/1.1\r\nhost: here\r\n\r\nGET http://bare.example HTTP/1.1\r\nhost: here\r\n\r\n",
        );
        assert_eq!(statuses(&lab, id), [200; 3]);
        let seen: Vec<_> =
            lab.requests().iter().map(|(_, one)| (one.target.as_str(), one.field("host").unwrap())).collect();
        assert_eq!(seen, [("/a?b", "there.example:81"), ("/own", "inner.example"), ("/", "bare.example")]);
    });
}

#[test]
fn field_rules_remove_then_set_then_add() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.route_with("/", app, |forward: &mut Forward| {
            for rules in [&mut forward.request_fields, &mut forward.response_fields] {
                rules.remove = vec![field_name("x-gone")];
                rules.set = vec![(field_name("x-set"), field_value("new"))];
                rules.add = vec![(field_name("x-add"), field_value("more"))];
            }
        });
        let lines = "x-gone: 1\r\nX-Gone: 2\r\nx-set: 1\r\nx-set: 2\r\nx-add: 1\r\n";
        let mut lab = lab(builder, seed).with(move |_: &str, _: &Request| {
            answer(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n"))
        });
        let id = sent(&mut lab, format!("GET / HTTP/1.1\r\nhost: x\r\n{lines}\r\n"));
        let (request, response) = (received(&lab), &lab.client_responses(id, &[])[0]);
        assert_eq!((request.all("x-gone"), response.all("x-gone")), (vec![], vec![]));
        assert_eq!((request.all("x-set"), response.all("x-set")), (vec!["new"], vec!["new"]));
        assert_eq!(request.all("x-add"), ["1", "more"]);
        assert_eq!(response.all("x-add"), ["1", "more"]);
    });
}

#[test]
fn a_head_that_fills_its_window_can_still_grow() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.route_with("/", app, |forward: &mut Forward| {
            let long = "v".repeat(3000);
            forward.request_fields.add = vec![(field_name("x-long"), field_value(&long))];
            forward.response_fields.add = vec![(field_name("x-long"), field_value(&long))];
        });
        let filler = "f".repeat(14_000);
        let response =
            format!("HTTP/1.1 200 OK\r\nx-f: {filler}\r\ncontent-length: 2000\r\n\r\n{}", "b".repeat(2000));
        let mut lab = lab(builder, seed).with(move |_: &str, _: &Request| answer(&response));
        let id = sent(
            &mut lab,
            format!(
                "POST / HTTP/1.1\r\nhost: x\r\nx-f: {filler}\r\ncontent-length: 2000\r\n\r\n{}",
                "a".repeat(2000)
            ),
        );
        let (request, response) = (received(&lab), &lab.client_responses(id, &[])[0]);
        assert_eq!((request.field("x-long").unwrap().len(), request.body.len()), (3000, 2000));
        assert_eq!((response.field("x-long").unwrap().len(), response.body.len()), (3000, 2000));
        assert_eq!((request.field("x-f").unwrap(), response.field("x-f").unwrap()), (&*filler, &*filler));
    });
}

#[test]
fn a_response_has_the_version_of_its_sender() {
    ways(|seed| {
        let mut lab =
            one_host("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", seed);
        let id = sent(&mut lab, GET);
        assert!(text(&lab, id).starts_with("HTTP/1.1 200 OK\r\n"), "{}", text(&lab, id));
    });
}
