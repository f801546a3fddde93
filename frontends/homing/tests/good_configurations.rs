//! What good configurations mean: the examples, the manual, inheritance, Gloo's documents, and the order of routes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use homing::config::{
    BindAddress, ConfigError, FlagSession, Flags, LogTarget, Runtime, Settings, compile_texts,
};
use homing_core::affinity::{CarrierSpec, PolicySpec};
use homing_core::hosts::{Admission, Health, HealthSet, Host};
use homing_core::limits::Limits;
use homing_core::rng::Rng;
use homing_core::route::{Action, Forward, PolicyId, Rewrite, Route, Session};
use homing_core::snapshot::ServerField;

/// Names resolve to what their tests need.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "three.test" => Ok(vec![
            ([0xfd00, 0, 0, 0, 0, 0, 0, 1], port).into(),
            ([10, 0, 0, 2], port).into(),
            ([10, 0, 0, 1], port).into(),
            ([10, 0, 0, 2], port).into(),
        ]),
        _ => Err(io::Error::other("no such name")),
    }
}

fn compile(text: &str) -> Result<Settings, ConfigError> {
    compile_texts(&[("homing.yaml", text)], &resolve)
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The route of a listener for a host and a path.
fn route<'s>(settings: &'s Settings, listener: usize, host: &str, path: &str) -> Option<&'s Route> {
    settings
        .snapshot
        .listeners
        .get(listener)?
        .routes
        .find(host.as_bytes(), path.as_bytes())
        .map(|(_, route)| route)
}

fn forward<'s>(settings: &'s Settings, listener: usize, path: &str) -> Option<&'s Forward> {
    match &route(settings, listener, "", path)?.action {
        Action::Forward(forward) => Some(forward),
        _ => None,
    }
}

/// The policy behind a session, as it was written.
fn spec(settings: &Settings, session: Session) -> Option<&PolicySpec> {
    match session {
        Session::Policy(PolicyId(id)) => settings.policies.get(id as usize),
        _ => None,
    }
}

/// The session of a path, in a word: `none`, `disabled`, the header's name, and `!` when strict.
fn session(settings: &Settings, listener: usize, path: &str) -> String {
    forward(settings, listener, path).map_or_else(|| "no route".into(), |found| word(settings, found.session))
}

fn word(settings: &Settings, session: Session) -> String {
    match (session, spec(settings, session)) {
        (Session::None, _) => "none".into(),
        (Session::Disabled, _) => "disabled".into(),
        (_, Some(PolicySpec { carrier: CarrierSpec::Header { name }, strict, .. })) => {
            format!("{}{}", name.as_str(), if *strict { "!" } else { "" })
        }
        (_, Some(PolicySpec { carrier: CarrierSpec::Cookie(cookie), .. })) => cookie.name.to_string(),
        (_, other) => format!("{other:?}"),
    }
}

#[test]
fn every_example_compiles() {
    let mut compiled = 0;
    for entry in std::fs::read_dir(docs().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let files = if path.is_dir() {
            vec![path.join("homing.yaml"), path.join("session.yaml")]
        } else {
            vec![path.clone()]
        };
        let texts: Vec<_> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let sources: Vec<_> =
            files.iter().zip(&texts).map(|(f, text)| (f.to_str().unwrap(), text.as_str())).collect();
        let settings = compile_texts(&sources, &resolve);
        assert!(settings.is_ok(), "{path:?}: {}", settings.unwrap_err());
        compiled += 1;
    }
    assert!(compiled >= 6, "only {compiled} examples were found");
}

#[test]
fn every_block_of_the_manual_and_the_readme_compiles() {
    for (page, at_least) in [("configuration.md", 5), ("../README.md", 1)] {
        let text = std::fs::read_to_string(docs().join(page)).unwrap();
        let blocks: Vec<_> =
            text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(blocks.len() >= at_least, "only {} blocks were found in {page}", blocks.len());
        for block in blocks {
            let settings = compile(block);
            assert!(settings.is_ok(), "{block}\n{}", settings.unwrap_err());
        }
    }
}

#[test]
fn the_readme_quotes_the_example_of_embedding() {
    let readme = std::fs::read_to_string(docs().join("../README.md")).unwrap();
    let example = std::fs::read_to_string(docs().join("../core/examples/embed.rs")).unwrap();
    let blocks: Vec<_> =
        readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(example.contains(block), "core/examples/embed.rs has no such lines:\n{block}");
    }
}

/// Each row of the manual's table of limits holds the key and the default; together they give the defaults.
#[test]
fn the_manual_names_every_limit_and_its_default() {
    let manual = std::fs::read_to_string(docs().join("configuration.md")).unwrap();
    let table = manual.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut limits = String::new();
    let mut rows = 0;
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        rows += 1;
        if cells[3] != "no cap" {
            limits.push_str(&format!("  {}: {}\n", cells[1], cells[3]));
        }
    }
    let text = format!("{MINIMAL}limits:\n{limits}");
    let settings = compile(&text).unwrap();
    assert_eq!(format!("{:?}", settings.snapshot.limits), format!("{:?}", Limits::default()));
    // One row for each field of the struct.
    let fields = format!("{:#?}", Limits::default())
        .lines()
        .filter(|line| line.starts_with("    ") && line.contains(": "))
        .count();
    assert_eq!(rows, fields);
}

const MINIMAL: &str = "\
listeners: [{ name: web, address: \"127.0.0.1:0\", routes: [{ forward: { cluster: app } }] }]
clusters: [{ name: app, hosts: [\"127.0.0.1:9001\"] }]
";

#[test]
fn what_is_not_written_has_the_defaults() {
    let settings = compile(MINIMAL).unwrap();
    assert_eq!(settings.runtime, Runtime::Auto);
    assert!((1..=1024).contains(&settings.workers));
    assert_eq!(settings.access_log, None);
    let marks = &settings.snapshot.listeners[0].marks;
    assert!(
        marks.forwarded_for
            && marks.forwarded_proto
            && marks.request_id
            && marks.date
            && !marks.trust_inbound
    );
    assert_eq!((&marks.via, &marks.server), (&None, &ServerField::Pass));
    let forward = forward(&settings, 0, "/any").unwrap();
    assert_eq!(forward.session, Session::None);
    assert_eq!(
        (forward.clusters.len(), forward.clusters[0].weight, forward.clusters[0].session),
        (1, 1, None)
    );
    assert_eq!((&forward.rewrite, &forward.host_rewrite, forward.response_timeout), (&None, &None, None));
    assert_eq!((forward.retry.attempts, forward.upgrades), (0, true));
    let cluster = &settings.snapshot.clusters[0];
    assert_eq!(cluster.override_status(), HealthSet::USABLE);
    let cell = cluster.hosts()[0].cell();
    assert_eq!(
        (cell.health(), cell.admission(), cluster.hosts()[0].weight()),
        (Health::Unknown, Admission::Open, 1)
    );
}

#[test]
fn every_value_reaches_its_place() {
    let text = std::fs::read_to_string(docs().join("examples/shop.yaml")).unwrap();
    let settings = compile(&text).unwrap();
    assert_eq!((settings.workers, settings.runtime), (4, Runtime::Auto));
    assert_eq!(settings.access_log.as_ref().unwrap().target, LogTarget::Stdout);
    assert_eq!(settings.snapshot.limits.request_body_bytes, Some(20 << 20));
    assert_eq!(settings.snapshot.limits.drain_timeout, Duration::from_secs(90));
    assert_eq!(settings.listeners[1].address, BindAddress::Unix("/run/homing/agents.sock".into()));
    let marks = &settings.snapshot.listeners[0].marks;
    assert_eq!(
        (marks.via.as_deref(), &marks.server),
        (Some("homing"), &ServerField::Overwrite("homing".into()))
    );
    let marks = &settings.snapshot.listeners[1].marks;
    assert!(
        !marks.forwarded_for
            && !marks.forwarded_proto
            && marks.trust_inbound
            && !marks.request_id
            && !marks.date
    );

    let Action::Forward(checkout) = &route(&settings, 0, "shop.example.org", "/checkout/1").unwrap().action
    else {
        panic!("checkout does not forward");
    };
    let policy = spec(&settings, checkout.session).unwrap();
    assert!(policy.strict && policy.clear_dead && policy.hide_from_upstream && policy.no_cache);
    assert_eq!(policy.renew_before, Some(Duration::from_secs(6 * 3600)));
    let CarrierSpec::Cookie(cookie) = &policy.carrier else { panic!("checkout has no cookie") };
    assert_eq!(
        (&*cookie.name, &*cookie.path, cookie.ttl),
        ("__Host-sid", "/", Duration::from_secs(12 * 3600))
    );
    let attributes: Vec<_> = cookie.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(attributes, [("Secure", ""), ("SameSite", "Lax")]);

    let Action::Forward(assets) = &route(&settings, 0, "shop.example.org", "/static/a.css").unwrap().action
    else {
        panic!("assets do not forward");
    };
    assert_eq!((assets.session, assets.retry.attempts), (Session::Disabled, 2));
    assert!(assets.retry.on.connect_failure && assets.retry.on.server_error);
    assert!(!assets.retry.on.reset && !assets.retry.on.gateway_error);

    let Action::Forward(shop) = &route(&settings, 0, "de.shop.example.org", "/").unwrap().action else {
        panic!("the shop does not forward");
    };
    assert_eq!(shop.clusters.iter().map(|entry| entry.weight).collect::<Vec<_>>(), [95, 5]);
    assert_eq!(shop.request_fields.remove[0].as_str(), "x-debug");
    assert_eq!(shop.request_fields.set[0].1.as_str(), "shop");
    assert_eq!(shop.response_fields.add[0].0.as_str(), "strict-transport-security");
    let Action::Redirect(redirect) = &route(&settings, 0, "other.org", "/x").unwrap().action else {
        panic!("everyone else is not redirected");
    };
    assert_eq!((redirect.status.get(), redirect.scheme.as_deref()), (308, Some("https")));
    assert_eq!(
        (redirect.host.as_deref(), redirect.port, &redirect.path),
        (Some("shop.example.org"), None, &None)
    );

    let agents = forward(&settings, 1, "/mcp").unwrap();
    assert_eq!(agents.rewrite, Some(Rewrite::Path("/rpc".into())));
    assert_eq!(agents.host_rewrite.as_ref().unwrap().as_str(), "agents.internal");
    assert_eq!((agents.response_timeout, agents.upgrades), (Some(Duration::ZERO), false));
    let policy = spec(&settings, agents.session).unwrap();
    assert!(matches!(&policy.carrier, CarrierSpec::Envelope { name } if name.as_str() == "mcp-session-id"));
    assert_eq!(policy.gone_status.get(), 404);
    assert!(route(&settings, 1, "", "/mcp/x").is_none());

    let hosts = settings.snapshot.clusters[0].hosts();
    assert_eq!((hosts[2].weight(), hosts[2].cell().health()), (2, Health::Degraded));
    assert_eq!(hosts.iter().map(Host::priority).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(settings.snapshot.clusters[3].hosts()[1].address(), "/run/agents/b.sock");
}

#[test]
fn the_most_specific_session_counts_and_nothing_is_merged() {
    let settings = compile(
        "
listeners:
  - name: web
    address: 127.0.0.1:8080
    statefulSession: { headerBased: { headerName: x-listener }, strict: true }
    routes:
      - path: { prefix: /inherit }
        forward: { cluster: a }
      - path: { prefix: /override }
        statefulSession: { headerBased: { headerName: x-route } }
        forward: { cluster: a }
      - path: { prefix: /off }
        statefulSession: { disabled: true }
        forward: { cluster: a }
      - path: { prefix: /entries }
        statefulSession: { disabled: true }
        forward:
          clusters:
            - { cluster: a, weight: 1, statefulSession: { headerBased: { headerName: x-entry } } }
            - { cluster: b, weight: 1, statefulSession: { disabled: true } }
            - { cluster: b, weight: 0 }
  - name: bare
    address: 127.0.0.1:8081
    routes:
      - path: { prefix: /on }
        statefulSession: { headerBased: { headerName: x-route } }
        forward: { cluster: a }
      - forward: { cluster: a }
clusters:
  - { name: a, hosts: [\"127.0.0.1:1\"] }
  - { name: b, hosts: [\"127.0.0.1:2\"] }
",
    )
    .unwrap();
    assert_eq!(session(&settings, 0, "/inherit"), "x-listener!");
    assert_eq!(session(&settings, 0, "/override"), "x-route");
    assert_eq!(session(&settings, 0, "/off"), "disabled");
    assert_eq!(session(&settings, 0, "/entries"), "disabled");
    let entries: Vec<_> = forward(&settings, 0, "/entries").unwrap().clusters.iter().collect();
    assert_eq!(entries[0].session.map(|own| word(&settings, own)), Some("x-entry".into()));
    assert_eq!(entries[1].session, Some(Session::Disabled));
    assert_eq!(entries[2].session, None);
    assert_eq!(session(&settings, 1, "/on"), "x-route");
    assert_eq!(session(&settings, 1, "/"), "none");
    assert_eq!(settings.policies.len(), settings.snapshot.policies.len());
}

const GATEWAYS: &str = "
listeners:
  - { name: a, gateway: http, address: \"127.0.0.1:8080\" }
  - { name: b, gateway: http, address: \"127.0.0.1:8081\" }
  - { name: c, gateway: other, address: \"127.0.0.1:8082\" }
  - { name: d, address: \"127.0.0.1:8083\" }
routes: [{ forward: { cluster: app } }]
clusters: [{ name: app, hosts: [\"127.0.0.1:9001\"] }]
";

/// A document as `kubectl get -o yaml` prints it.
fn gloo(targets: &[&str], carrier: &str) -> String {
    let target = |target: &&str| {
        let (gateway, section) = target.split_once('/').unwrap_or((target, ""));
        let section =
            if section.is_empty() { String::new() } else { format!("    sectionName: {section}\n") };
        format!("  - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: {gateway}\n{section}")
    };
    let targets: String = targets.iter().map(target).collect();
    format!(
        "apiVersion: gateway.solo.io/v1
kind: HttpListenerOption
metadata:
  annotations: {{ note: hello }}
  creationTimestamp: \"2026-11-23T12:00:00Z\"
  generation: 1
  name: session
  namespace: gloo-system
spec:
  options:
    statefulSession:
{carrier}  targetRefs:
{targets}status:
  statuses: {{}}
"
    )
}

const COOKIE: &str = "      cookieBased:\n        cookie: { name: sid, path: /, ttl: 3600s }\n";
const HEADER: &str = "      headerBased: { headerName: x-s }\n      strict: true\n";

#[test]
fn documents_of_gloo_bind_by_gateway_and_by_section() {
    let words = |documents: &[String]| -> Vec<String> {
        let mut sources = vec![("homing.yaml", GATEWAYS)];
        sources.extend(documents.iter().map(|document| ("session.yaml", document.as_str())));
        let settings = compile_texts(&sources, &resolve).unwrap();
        (0..4).map(|listener| session(&settings, listener, "/")).collect()
    };
    assert_eq!(words(&[]), ["none", "none", "none", "none"]);
    assert_eq!(words(&[gloo(&["http"], COOKIE)]), ["sid", "sid", "none", "none"]);
    assert_eq!(words(&[gloo(&["http/b"], HEADER)]), ["none", "x-s!", "none", "none"]);
    assert_eq!(words(&[gloo(&["http/a", "other"], COOKIE)]), ["sid", "none", "sid", "none"]);
    assert_eq!(
        words(&[gloo(&["http/a"], COOKIE), gloo(&["http/b", "other"], HEADER)]),
        ["sid", "x-s!", "x-s!", "none"]
    );
    // Inside the file, before or behind Homing's own document.
    for text in [
        format!("{GATEWAYS}---\n{}", gloo(&["http"], COOKIE)),
        format!("{}---\n{GATEWAYS}", gloo(&["http"], COOKIE)),
    ] {
        assert_eq!(session(&compile(&text).unwrap(), 1, "/"), "sid");
    }
}

#[test]
fn a_gloo_cookie_means_what_it_means_there() {
    let settings = compile(&format!("{GATEWAYS}---\n{}", gloo(&["http"], COOKIE))).unwrap();
    let CarrierSpec::Cookie(cookie) = &settings.policies[0].carrier else { panic!("no cookie") };
    assert_eq!((&*cookie.name, &*cookie.path, cookie.ttl), ("sid", "/", Duration::from_secs(3600)));
    assert!(cookie.attributes.is_empty());
    let policy = &settings.policies[0];
    assert!(!policy.strict && !policy.clear_dead && !policy.hide_from_upstream && !policy.no_cache);
    assert_eq!((policy.gone_status.get(), policy.renew_before), (503, None));
}

#[test]
fn all_addresses_of_a_name_become_hosts_in_a_stable_order() {
    let settings = compile(&MINIMAL.replace("127.0.0.1:9001", "three.test:80")).unwrap();
    let hosts: Vec<_> =
        settings.snapshot.clusters[0].hosts().iter().map(homing_core::hosts::Host::address).collect();
    assert_eq!(hosts, ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
}

/// A flat list of routes means: the first whose host and path match. Random lists are compared with a plain search.
#[test]
fn the_first_route_that_matches_is_taken() {
    const DOMAINS: [&str; 7] = ["*", "*.org", "*.b.org", "*.a.b.org", "a.b.org", "b.org", "c.com"];
    const HOSTS: [&str; 8] = ["b.org", "a.b.org", "x.a.b.org", "x.b.org", "x.org", "c.com", "x.com", "org"];
    const PATHS: [&str; 4] = ["/", "/a", "/a/b", "/c"];
    let seed = 20_261_123;
    let mut rng = Rng::seeded(seed);
    let mut pick = |below: usize| rng.below(u32::try_from(below).unwrap()) as usize;
    let mut compared = 0;
    for _ in 0..300 {
        let routes: Vec<(Vec<&str>, &str, bool)> = (0..1 + pick(5))
            .map(|_| {
                let domains = (0..1 + pick(2)).map(|_| DOMAINS[pick(DOMAINS.len())]).collect();
                (domains, PATHS[pick(PATHS.len())], pick(2) == 0)
            })
            .collect();
        let text: String = routes
            .iter()
            .enumerate()
            .map(|(nth, (domains, path, exact))| {
                let kind = if *exact { "exact" } else { "prefix" };
                let (status, hosts) = (200 + nth, format!("{domains:?}"));
                format!("      - {{ hosts: {hosts}, path: {{ {kind}: {path} }}, respond: {{ status: {status} }} }}\n")
            })
            .collect();
        let text = format!("listeners:\n  - name: web\n    address: 127.0.0.1:0\n    routes:\n{text}");
        // Lists with a route that is never taken are refused; that has its own tests.
        let Ok(settings) = compile(&text) else { continue };
        for host in HOSTS {
            for path in PATHS {
                let expected = routes.iter().position(|(domains, wanted, exact)| {
                    let name = domains.iter().any(|domain| match domain.strip_prefix('*') {
                        Some(suffix) => {
                            host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty()
                        }
                        None => *domain == host,
                    });
                    name && if *exact { path == *wanted } else { path.starts_with(wanted) }
                });
                let found = route(&settings, 0, host, path).map(|route| match &route.action {
                    Action::Respond { status, .. } => usize::from(status.get()) - 200,
                    _ => usize::MAX,
                });
                assert_eq!(found, expected, "seed {seed}: {host} {path} in\n{text}");
                compared += 1;
            }
        }
    }
    assert!(compared > 2_000, "only {compared} look-ups were compared");
}

#[test]
fn options_alone_make_a_configuration() {
    let flags = Flags {
        listen: vec!["127.0.0.1:8080".into(), "unix:/tmp/h.sock".into()],
        upstream: vec!["127.0.0.1:9001".into(), "[::1]:9002".into()],
        session: Some(FlagSession::Cookie { name: "sid".into(), ttl: Some("60s".into()) }),
        strict: true,
    };
    let settings = flags.compile().unwrap();
    let addresses: Vec<_> = settings.listeners.iter().map(|bind| bind.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "unix:/tmp/h.sock"]);
    assert_eq!((session(&settings, 0, "/"), session(&settings, 1, "/")), ("sid".into(), "sid".into()));
    let policy = &settings.policies[0];
    let CarrierSpec::Cookie(cookie) = &policy.carrier else { panic!("no cookie") };
    assert_eq!((&*cookie.path, cookie.ttl, policy.strict), ("/", Duration::from_secs(60), true));
    assert_eq!(settings.snapshot.clusters[0].hosts().len(), 2);
}

#[test]
fn options_that_are_wrong_are_named() {
    let flags = Flags {
        listen: vec!["8080".into()],
        upstream: vec!["10.0.0.1".into()],
        session: Some(FlagSession::Cookie { name: "a b".into(), ttl: Some("60".into()) }),
        strict: false,
    };
    let error = flags.compile().unwrap_err().to_string();
    let mut lines: Vec<_> = error.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "--cookie: a cookie name must not contain ' '; use letters, digits, `-` and `_`",
            "--listen: \"8080\" is not an address to listen on; write an IP address and a port, such as \
             127.0.0.1:8080 or \"[::]:8080\", or unix:/path",
            "--ttl: \"60\" is no duration: it lacks a unit; write a number with a unit, such as 500ms, 60s, 1m30s or 2h",
            "--upstream: \"10.0.0.1\" is not the address of a host; write address and port, such as 10.0.0.1:80, \
             \"[::1]:80\" or app.internal:80, or unix:/path",
        ]
    );
}

#[test]
fn caps_and_looks_at_the_files_have_defaults_and_can_be_set() {
    let text = "listeners:\n- { name: a, address: \"127.0.0.1:1\" }\n\
                - { name: b, address: \"127.0.0.1:2\", connections: 7 }\n\
                routes: [{ respond: { status: 204 } }]\n";
    let settings = compile(text).unwrap();
    let caps: Vec<_> = settings.snapshot.listeners.iter().map(|listener| listener.connections).collect();
    assert_eq!((caps, settings.watch), (vec![0, 7], Duration::from_secs(1)));
    for (written, watch) in [("0s", Duration::ZERO), ("10ms", Duration::from_millis(10))] {
        let settings = compile(&format!("{text}reload: {{ watch: {written} }}\n")).unwrap();
        assert_eq!(settings.watch, watch);
    }
}
