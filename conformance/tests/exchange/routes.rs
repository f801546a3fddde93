//! Routes: which one is taken, and what it does beside forwarding.

use super::*;
use homing_conformance::build::status;
use homing_core::route::{Forward, Redirect, Rewrite};

#[test]
fn host_names_and_paths_choose_the_route() {
    ways(|seed| {
        let mut builder = Builder::new();
        builder.virtual_host("a.example").respond("/x", 201, "").respond("/", 202, "");
        builder.virtual_host("*.example").respond("/", 203, "");
        let mut lab = lab(builder, seed);
        let id = lab.client();
        for (host, path) in [("a.example", "/x"), ("A.example:80", "/y?/x"), ("b.example", "/x"), ("c", "/")]
        {
            lab.client_send(id, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
        lab.run();
        assert_eq!(statuses(&lab, id), [201, 202, 203, 404]);
        assert_eq!(endings(&lab), [Ending::Answered; 4]);
    });
}

#[test]
fn a_rewrite_changes_the_path_and_not_the_query() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        for (prefix, rewrite) in [
            ("/old", Rewrite::Prefix("/new".into())),
            ("/cut", Rewrite::Prefix("".into())),
            ("/one", Rewrite::Path("/fixed".into())),
        ] {
            builder.route_with(prefix, app, move |forward: &mut Forward| {
                forward.rewrite = Some(rewrite.clone());
            });
        }
        let mut lab = lab(builder, seed);
        let id = lab.client();
        for target in ["/old/a?b=/old", "/cut?x", "/cut/y", "/one/two?q", "http://h/old"] {
            lab.client_send(id, format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"));
        }
        lab.run();
        assert_eq!(statuses(&lab, id), [200; 5]);
        let targets: Vec<_> = lab.requests().iter().map(|(_, one)| one.target.as_str()).collect();
        assert_eq!(targets, ["/new/a?b=/old", "/?x", "/y", "/fixed?q", "/new"]);
    });
}

#[test]
fn redirects_say_where_to_go() {
    ways(|seed| {
        let redirect = |scheme: Option<&str>, port, path| Redirect {
            status: status(308),
            scheme: scheme.map(Into::into),
            host: None,
            port,
            path,
        };
        let mut builder = Builder::new();
        builder.redirect("/secure", redirect(Some("https"), None, None));
        builder.redirect("/port", redirect(None, Some(8443), None));
        builder.redirect("/path", redirect(None, None, Some(Rewrite::Prefix("/p".into()))));
        let mut lab = lab(builder, seed);
        let id = lab.client();
        for target in ["/secure/a?b", "/port", "/path/c?d"] {
            lab.client_send(id, format!("GET {target} HTTP/1.1\r\nhost: x.example:81\r\n\r\n"));
        }
        lab.run();
        let found = lab.client_responses(id, &[]);
        let places: Vec<_> = found.iter().map(|one| (one.status, one.field("location").unwrap())).collect();
        assert_eq!(
            places,
            [(308, "https://x.example/secure/a?b"), (308, "http://x.example:8443/port"), (308, "/p/c?d")]
        );
    });
}

#[test]
fn a_fixed_response_is_whole_and_keeps_the_connection() {
    ways(|seed| {
        let mut builder = Builder::new();
        let long = "z".repeat(20_000);
        builder.respond("/long", 200, &long).respond("/", 200, "fine\n");
        let mut lab = lab(builder, seed);
        let id = sent(
            &mut lab,
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\nhost: x\r\n\r\n\
             GET /long HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        );
        let found = lab.client_responses(id, &["POST", "HEAD", "GET", "GET"]);
        assert_eq!(found[0].text(), "fine\n");
        assert_eq!((found[1].text(), found[1].field("content-length")), (String::new(), Some("5")));
        assert_eq!(found[2].body.len(), 20_000);
        assert_eq!(found[3].field("connection"), Some("close"));
        assert!(found.iter().all(|one| one.field("date").is_some()));
        leaves(&mut lab, id);
    });
}

#[test]
fn an_answer_of_our_own_leaves_the_held_link_alone() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.respond("/here", 200, "").route("/", app);
        let mut lab = lab(builder, seed);
        let id = sent(&mut lab, format!("{GET}GET /here HTTP/1.1\r\nhost: x\r\n\r\n{GET}"));
        assert_eq!(statuses(&lab, id), [200; 3]);
        assert_eq!((lab.wires().len(), lab.open_wires()), (1, 1));
        let id = sent(&mut lab, "BROKEN\r\n\r\n");
        leaves(&mut lab, id);
        assert_eq!(lab.open_wires(), 1);
    });
}

#[test]
fn one_connection_can_go_to_several_clusters() {
    ways(|seed| {
        let mut builder = Builder::new();
        let (one, two) = (builder.cluster("one", &[HOST]), builder.cluster("two", &[OTHER]));
        builder.route("/1", one).route("/2", two);
        let mut lab = lab(builder, seed).with(|host: &str, _: &Request| ok(host));
        let id = lab.client();
        for target in ["/1", "/2", "/1", "/2"] {
            lab.client_send(id, format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"));
        }
        lab.run();
        let bodies: Vec<_> =
            lab.client_responses(id, &[]).iter().map(homing_conformance::message::Response::text).collect();
        assert_eq!(bodies, [HOST, OTHER, HOST, OTHER]);
        assert_eq!(lab.wires().len(), 2, "links come back from the pool");
    });
}

#[test]
fn a_redirect_never_leads_to_another_host_by_accident() {
    ways(|seed| {
        let to = |path: &str| Redirect {
            status: status(302),
            scheme: None,
            host: None,
            port: None,
            path: Some(Rewrite::Prefix(path.into())),
        };
        let mut builder = Builder::new();
        builder.redirect("/old/", to("/")).redirect("/cut", to(""));
        let mut lab = lab(builder, seed);
        let id = lab.client();
        for target in ["/old//evil.example/a", "/old/\\evil.example", "/cut//evil.example?q", "/cut/fine"] {
            lab.client_send(id, format!("GET {target} HTTP/1.1\r\nhost: x.example\r\n\r\n"));
        }
        lab.run();
        let found = lab.client_responses(id, &[]);
        let places: Vec<_> = found.iter().map(|one| one.field("location").unwrap()).collect();
        assert_eq!(places, ["/.//evil.example/a", "/./\\evil.example", "/.//evil.example?q", "/fine"]);
    });
}
