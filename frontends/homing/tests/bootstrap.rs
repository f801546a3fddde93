//! Envoy's bootstrap: what is taken and what it means, every kind of refusal with its words and place, what is noted,
//! and the program itself, started from one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use homing::config::{AccessLog, ConfigError, LogTarget, Settings, compile_bootstrap};
use homing_core::affinity::CarrierSpec;
use homing_core::balance::Balance;
use homing_core::field::FieldValue;
use homing_core::hosts::{Health, HealthSet, Host};
use homing_core::path::PathRules;
use homing_core::route::{Action, Domain, Forward, PathMatch, PolicyId, Rewrite, Route, Session};
use homing_core::snapshot::ServerField;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
const HEADER: &str =
    "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const PER_ROUTE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";

/// A bootstrap in parts, each in YAML's flow style, so that a case changes one.
struct Parts {
    /// Further fields of the bootstrap.
    top: String,
    /// Further fields of the manager.
    manager: String,
    /// The session filter's own fields.
    filter: String,
    /// Virtual hosts.
    hosts: String,
    /// Further fields of the cluster.
    cluster: String,
    /// Localities.
    endpoints: String,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            top: String::new(),
            manager: String::new(),
            filter: header("x-sess"),
            hosts: "{ name: v, domains: [\"*\"], routes: [{ match: { prefix: / }, route: { cluster: c } }] }"
                .into(),
            cluster: String::new(),
            endpoints: locality(&host(9001, "")),
        }
    }
}

impl Parts {
    /// With one virtual host of these routes.
    fn routes(routes: &str) -> Self {
        Self { hosts: format!("{{ name: v, domains: [\"*\"], routes: [{routes}] }}"), ..Self::default() }
    }

    /// With one route, whose action has these fields beside the cluster.
    fn action(fields: &str) -> Self {
        Self::routes(&format!("{{ match: {{ prefix: / }}, route: {{ cluster: c, {fields} }} }}"))
    }

    fn manager(fields: &str) -> Self {
        Self { manager: fields.into(), ..Self::default() }
    }

    fn filter(fields: &str) -> Self {
        Self { filter: fields.into(), ..Self::default() }
    }

    fn cluster(fields: &str) -> Self {
        Self { cluster: fields.into(), ..Self::default() }
    }

    fn listener(&self, name: &str, port: u16) -> String {
        let (manager, filter, hosts) = (&self.manager, &self.filter, &self.hosts);
        format!(
            "{{ name: {name}, address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}, \
             filter_chains: [{{ filters: [{{ name: hcm, typed_config: {{ \"@type\": {MANAGER}, stat_prefix: s, {manager} \
             http_filters: [{{ name: sticky, typed_config: {{ \"@type\": {FILTER}, {filter} }} }}, \
             {{ name: router, typed_config: {{ \"@type\": {ROUTER} }} }}], \
             route_config: {{ virtual_hosts: [{hosts}] }} }} }}] }}] }}"
        )
    }

    fn text(&self) -> String {
        let (top, listener) = (&self.top, self.listener("l", 8080));
        let (cluster, endpoints) = (&self.cluster, &self.endpoints);
        format!(
            "{top}\nstatic_resources:\n  listeners:\n  - {listener}\n  clusters:\n  - {{ name: c, {cluster} \
             load_assignment: {{ cluster_name: c, endpoints: [{endpoints}] }} }}\n"
        )
    }

    fn compile(&self) -> Result<Settings, ConfigError> {
        compile_bootstrap("b.yaml", &self.text(), &resolve)
    }

    fn settings(&self) -> Settings {
        match self.compile() {
            Ok(settings) => settings,
            Err(error) => unreachable!("{}\n{error}", self.text()),
        }
    }
}

fn header(name: &str) -> String {
    format!(
        "session_state: {{ name: envoy.http.stateful_session.header, typed_config: {{ \"@type\": {HEADER}, name: {name} }} }}"
    )
}

fn host(port: u16, more: &str) -> String {
    format!(
        "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}, {more} }}"
    )
}

fn locality(hosts: &str) -> String {
    format!("{{ lb_endpoints: [{hosts}] }}")
}

/// Two addresses of each family for `both.test`, one for `four.test`.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let four: SocketAddr = ([10, 0, 0, 1], port).into();
    let six: SocketAddr = ([0xfd00, 0, 0, 0, 0, 0, 0, 1], port).into();
    match name {
        "both.test" => Ok(vec![six, four]),
        "four.test" => Ok(vec![four]),
        _ => Err(io::Error::other("no such name")),
    }
}

fn route<'s>(settings: &'s Settings, host: &str, path: &str) -> Option<&'s Route> {
    let [listener] = settings.snapshot.listeners.as_slice() else { return None };
    listener.routes.find(host.as_bytes(), path.as_bytes()).map(|(_, route)| route)
}

fn forward<'s>(settings: &'s Settings, host: &str, path: &str) -> Option<&'s Forward> {
    match &route(settings, host, path)?.action {
        Action::Forward(forward) => Some(forward),
        _ => None,
    }
}

/// The session of a path in a word: the header's name with `!` when strict, `none`, `disabled`.
fn session(settings: &Settings, session: Session) -> String {
    let policy = match session {
        Session::None => return "none".into(),
        Session::Disabled => return "disabled".into(),
        Session::Policy(PolicyId(id)) => settings.policies.get(id as usize),
    };
    match policy.map(|policy| (&policy.carrier, policy.strict)) {
        Some((CarrierSpec::Header { name }, strict)) => {
            format!("{}{}", name.as_str(), if strict { "!" } else { "" })
        }
        other => format!("{other:?}"),
    }
}

fn session_of(settings: &Settings, path: &str) -> String {
    forward(settings, "", path).map_or_else(|| "no route".into(), |found| session(settings, found.session))
}

// ---------------------------------------------------------------- what is taken

#[test]
fn both_spellings_null_and_json_mean_the_same() {
    let snake = Parts { filter: format!("{}, strict: true", header("x-sess")), ..Parts::default() };
    let parts = Parts { cluster: "lb_policy: RANDOM, connect_timeout: 2s, ".into(), ..snake };
    let text = parts.text();
    let mut camel = text.clone();
    for (one, other) in [
        ("static_resources", "staticResources"),
        ("filter_chains", "filterChains"),
        ("typed_config", "typedConfig"),
        ("http_filters", "httpFilters"),
        ("route_config", "routeConfig"),
        ("virtual_hosts", "virtualHosts"),
        ("session_state", "sessionState"),
        ("socket_address", "socketAddress"),
        ("port_value: 8080", "portValue: \"8080\""),
        ("load_assignment", "loadAssignment"),
        ("lb_endpoints", "lbEndpoints"),
        ("lb_policy: RANDOM", "lbPolicy: 3, circuitBreakers: null"),
        ("connect_timeout: 2s", "connectTimeout: 2.000s"),
    ] {
        assert!(camel.contains(one), "{one}");
        camel = camel.replace(one, other);
    }
    for text in [text, camel] {
        let settings = compile_bootstrap("b.yaml", &text, &resolve).unwrap();
        assert_eq!(session_of(&settings, "/"), "x-sess!", "{text}");
        assert_eq!(settings.snapshot.limits.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.snapshot.clusters[0].hosts()[0].address(), "127.0.0.1:9001");
        assert!(settings.notes.is_empty(), "{:?}", settings.notes);
    }
}

#[test]
fn defaults_are_envoys() {
    let settings = Parts::default().settings();
    let limits = &settings.snapshot.limits;
    assert_eq!(limits.connect_timeout, Duration::from_secs(5));
    assert_eq!(limits.keep_alive_timeout, Duration::from_secs(3600));
    assert_eq!(limits.body_idle_timeout, Duration::from_secs(300));
    assert_eq!(limits.tunnel_idle_timeout, Duration::from_secs(300));
    assert_eq!(limits.request_head_bytes, 60 * 1024);
    let found = forward(&settings, "", "/").unwrap();
    assert_eq!(found.response_timeout, Some(Duration::from_secs(15)));
    assert!(!found.upgrades);
    let marks = &settings.snapshot.listeners[0].marks;
    assert_eq!(marks.server, ServerField::Overwrite("envoy".into()));
    assert!(marks.trust_inbound && !marks.forwarded_for && marks.request_id);
    assert_eq!(settings.snapshot.clusters[0].override_status(), HealthSet::USABLE);
}

#[test]
fn the_manager_steers_marks_limits_and_upgrades() {
    let settings = Parts::manager(
        "use_remote_address: true, generate_request_id: false, normalizePath: true, server_name: edge, codec_type: HTTP1, \
         upgrade_configs: [{ upgrade_type: websocket }], stream_idle_timeout: 7s, request_headers_timeout: 3s, \
         delayed_close_timeout: 0.5s, max_request_headers_kb: 8, http_protocol_options: { accept_http_10: true }, \
         common_http_protocol_options: { idle_timeout: 9s, max_headers_count: 50 }, \
         access_log: [{ name: a, typed_config: { \"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout } }],",
    )
    .settings();
    let limits = &settings.snapshot.limits;
    assert_eq!(limits.keep_alive_timeout, Duration::from_secs(9));
    assert_eq!(limits.body_idle_timeout, Duration::from_secs(7));
    assert_eq!(limits.request_head_timeout, Duration::from_secs(3));
    assert_eq!(limits.linger_timeout, Duration::from_millis(500));
    assert_eq!((limits.request_head_bytes, limits.fields), (8 * 1024, 50));
    let marks = &settings.snapshot.listeners[0].marks;
    assert_eq!(marks.server, ServerField::Overwrite("edge".into()));
    assert!(!marks.trust_inbound && marks.forwarded_for && !marks.request_id);
    assert!(forward(&settings, "", "/").unwrap().upgrades);
    let paths = settings.snapshot.listeners[0].routes.paths;
    assert_eq!(paths, PathRules { normalize: true, merge_slashes: false });
    assert_eq!(settings.access_log, Some(AccessLog { target: LogTarget::Stdout }));
    let passes = Parts::manager("server_header_transformation: PASS_THROUGH,").settings();
    assert_eq!(passes.snapshot.listeners[0].marks.server, ServerField::Pass);
}

/// Envoy looks at one virtual host only; Homing's own file would go on to `*`.
#[test]
fn a_host_name_takes_the_routes_of_its_virtual_host_alone() {
    let host = |domains: &str, path: &str| {
        format!(
            "{{ name: n{path}, domains: [{domains}], routes: [{{ match: {{ path: /{path} }}, route: {{ cluster: c }} }}] }}"
        )
    };
    let empty = "{ name: none, domains: [bare.example] }";
    let hosts = [
        host("\"*\"", "any"),
        host("\"*.b.example\", a.example", "some"),
        host("\"*-x.b.example\"", "end"),
        empty.into(),
    ];
    let settings = Parts { hosts: hosts.join(", "), ..Parts::default() }.settings();
    let takes = |host: &str, path: &str| forward(&settings, host, path).is_some();
    assert!(takes("other.example", "/any") && !takes("other.example", "/some"));
    assert!(takes("A.example", "/some") && !takes("a.example", "/any"));
    assert!(takes("c.b.example", "/some") && !takes("c.b.example", "/any"));
    assert!(takes("c-x.b.example", "/end") && !takes("c-x.b.example", "/some"));
    assert!(!takes("bare.example", "/any"));
    let found = route(&settings, "bare.example", "/any").map(|route| &route.action);
    assert!(matches!(found, Some(Action::Respond { status, .. }) if status.get() == 404));
    let first = route(&settings, "a.example", "/some").unwrap();
    assert_eq!(first.path, PathMatch::Exact("/some".into()));
    let domains = &settings.snapshot.listeners[0].routes.virtual_hosts[1].domains;
    assert_eq!(*domains, [Domain::Suffix(".b.example".into())]);
}

/// The most specific override counts: weighted entry, route, virtual host, filter; its key is the filter's own name.
#[test]
fn overrides_are_inherited_as_in_envoy() {
    let own = |key: &str, block: &str| {
        format!("typed_per_filter_config: {{ {key}: {{ \"@type\": {PER_ROUTE}, {block} }} }}")
    };
    let stateful = |name: &str| format!("stateful_session: {{ {}, strict: true }}", header(name));
    let routes = [
        format!(
            "{{ match: {{ prefix: /off }}, route: {{ cluster: c }}, {} }}",
            own("sticky", "disabled: true")
        ),
        format!(
            "{{ match: {{ prefix: /own }}, route: {{ cluster: c }}, {} }}",
            own("sticky", &stateful("x-own"))
        ),
        format!(
            "{{ match: {{ prefix: /no }}, route: {{ cluster: c }}, {} }}",
            own("sticky", "stateful_session: {}")
        ),
        format!(
            "{{ match: {{ prefix: /key }}, route: {{ cluster: c }}, {} }}",
            own("other", "disabled: true")
        ),
        format!(
            "{{ match: {{ prefix: /w }}, route: {{ weighted_clusters: {{ clusters: [{{ name: c, weight: 1, {} }}] }} }}, {} }}",
            own("sticky", &stateful("x-entry")),
            own("sticky", &stateful("x-route"))
        ),
        "{ match: { prefix: / }, route: { cluster: c } }".into(),
    ];
    let parts = Parts::routes(&routes.join(", "));
    let settings = parts.settings();
    assert_eq!(session_of(&settings, "/off"), "disabled");
    assert_eq!(session_of(&settings, "/own"), "x-own!");
    assert_eq!(session_of(&settings, "/no"), "none");
    assert_eq!(session_of(&settings, "/key"), "x-sess");
    assert_eq!(session_of(&settings, "/w"), "x-route!");
    let entry = forward(&settings, "", "/w").unwrap().clusters[0].session.unwrap();
    assert_eq!(session(&settings, entry), "x-entry!");
    assert_eq!(session_of(&settings, "/"), "x-sess");
    let [note] = settings.notes.as_slice() else { unreachable!("{:?}", settings.notes) };
    assert_eq!(note.what, "this has no effect, here as in Envoy: the chain has no filter \"other\"");
    assert!(note.at.path.ends_with("routes[3].typed_per_filter_config.other"), "{note}");

    let host = format!(
        "{{ name: v, domains: [\"*\"], {}, routes: [{}] }}",
        own("sticky", &stateful("x-host")),
        routes.join(", ")
    );
    let settings = Parts { hosts: host, ..Parts::default() }.settings();
    assert_eq!(session_of(&settings, "/"), "x-host!");
    assert_eq!(session_of(&settings, "/off"), "disabled");
    // A filter that is switched off in the chain runs where an override is.
    let off =
        parts.text().replace("name: sticky, typed_config", "name: sticky, disabled: true, typed_config");
    let settings = compile_bootstrap("b.yaml", &off, &resolve).unwrap();
    assert_eq!(session_of(&settings, "/"), "disabled");
    assert_eq!(session_of(&settings, "/own"), "x-own!");
}

#[test]
fn actions_become_the_cores() {
    let settings = Parts::routes(
        "{ match: { prefix: /f }, name: first, route: { cluster: c, prefix_rewrite: /g, host_rewrite_literal: h.example, \
           timeout: 0s, retry_policy: { retry_on: \"gateway-error,connect-failure\", num_retries: 3, \
           per_try_timeout: 0.25s } }, request_headers_to_add: [{ header: { key: x-a, value: one } }, \
           { header: { key: x-b, value: two }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }], \
           response_headers_to_remove: [x-c] }, \
         { match: { prefix: /r }, redirect: { https_redirect: true, response_code: 3, prefix_rewrite: /s } }, \
         { match: { path: /d }, direct_response: { status: 418, body: { inline_string: tea } } }",
    )
    .settings();
    let found = forward(&settings, "", "/f").unwrap();
    assert_eq!(&*route(&settings, "", "/f").unwrap().name, "first");
    assert_eq!(found.rewrite, Some(Rewrite::Prefix("/g".into())));
    assert_eq!(found.host_rewrite.as_ref().map(FieldValue::as_str), Some("h.example"));
    assert_eq!(found.response_timeout, Some(Duration::ZERO));
    let on = found.retry.on;
    assert!(on.connect_failure && on.reset && on.gateway_error && !on.server_error);
    assert_eq!((found.retry.attempts, found.retry.per_try_timeout), (3, Duration::from_millis(250)));
    assert_eq!(found.request_fields.add[0].0.as_str(), "x-a");
    assert_eq!(found.request_fields.set[0].0.as_str(), "x-b");
    assert_eq!(found.response_fields.remove[0].as_str(), "x-c");
    match &route(&settings, "", "/r").unwrap().action {
        Action::Redirect(redirect) => {
            assert_eq!((redirect.status.get(), redirect.scheme.as_deref()), (307, Some("https")));
            assert_eq!(redirect.path, Some(Rewrite::Prefix("/s".into())));
        }
        other => unreachable!("{other:?}"),
    }
    let found = &route(&settings, "", "/d").unwrap().action;
    assert!(matches!(found, Action::Respond { status, body } if status.get() == 418 && &**body == "tea"));
}

#[test]
fn clusters_keep_weights_health_and_families() {
    let hosts = [
        host(1, "load_balancing_weight: 7"),
        host(2, "health_status: DEGRADED"),
        host(3, "health_status: 2"),
    ];
    let settings = Parts {
        endpoints: [locality(&hosts.join(", ")), locality(&host(4, ""))].join(", "),
        ..Parts::cluster(
            "type: STATIC, lb_policy: LEAST_REQUEST, common_lb_config: { healthy_panic_threshold: { value: 25 }, \
             override_host_status: { statuses: [HEALTHY, HEALTHY, 3] } },",
        )
    }
    .settings();
    let cluster = &settings.snapshot.clusters[0];
    let health: Vec<_> = cluster.hosts().iter().map(|host| host.cell().health()).collect();
    assert_eq!(health, [Health::Unknown, Health::Degraded, Health::Unhealthy, Health::Unknown]);
    assert_eq!(cluster.hosts()[0].weight(), 7);
    assert_eq!(cluster.override_status(), HealthSet::EMPTY.with(Health::Healthy).with(Health::Draining));
    assert!(cluster.balancer().counts_active(), "{:?}", Balance::LeastRequest);

    for (name, family, expected) in [
        ("both.test", "", vec!["[fd00::1]:80"]),
        ("four.test", "", vec!["10.0.0.1:80"]),
        ("both.test", "dns_lookup_family: V4_ONLY,", vec!["10.0.0.1:80"]),
        ("both.test", "dns_lookup_family: V4_PREFERRED,", vec!["10.0.0.1:80"]),
        ("both.test", "dns_lookup_family: ALL,", vec!["10.0.0.1:80", "[fd00::1]:80"]),
    ] {
        let endpoint = host(80, "").replace("127.0.0.1", name);
        let settings = Parts {
            endpoints: locality(&endpoint),
            ..Parts::cluster(&format!("type: STRICT_DNS, {family}"))
        }
        .settings();
        let hosts: Vec<_> = settings.snapshot.clusters[0].hosts().iter().map(Host::address).collect();
        assert_eq!(hosts, expected, "{name} {family}");
        assert_eq!(settings.notes[0].what, "this name is resolved once, at start; Envoy goes on asking");
    }
}

// ---------------------------------------------------------------- what is refused

/// The manager's path; what follows in the cases is below it.
const HCM: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

/// Each is refused in exactly these words, at this path.
#[test]
#[expect(clippy::too_many_lines, reason = "a table is long")]
fn what_cannot_be_honoured_is_named_by_its_path() {
    let rest = "remove this field, or leave its job to Envoy";
    let absent = |path: &str, feature: &str| (path.to_owned(), format!("Homing has no {feature}; {rest}"));
    let route = format!("{HCM}.route_config.virtual_hosts[0].routes[0]");
    let cluster = "static_resources.clusters[0]";
    let cases: Vec<(Parts, (String, String))> = vec![
        (Parts { top: "dynamic_resources: {}".into(), ..Parts::default() }, absent("dynamic_resources", "xDS")),
        (
            Parts::manager("codec_type: HTTP2,"),
            (format!("{HCM}.codec_type"), "Homing has no http/2; use one of: AUTO, HTTP1".into()),
        ),
        (Parts::manager("tracing: {},"), absent(&format!("{HCM}.tracing"), "tracing")),
        (
            Parts::manager("strem_idle_timeout: 5s,"),
            (
                format!("{HCM}.strem_idle_timeout"),
                "Homing does not honour this field; did you mean `stream_idle_timeout`?".into(),
            ),
        ),
        (
            Parts::manager("upgrade_configs: [{ upgrade_type: CONNECT }],"),
            (
                format!("{HCM}.upgrade_configs[0].upgrade_type"),
                "Homing does not honour upgrades to \"CONNECT\" by name; write websocket, with which upgrades of every \
                 kind pass"
                    .into(),
            ),
        ),
        (
            Parts::filter(&format!("{}, strict: \"yes\"", header("x-sess"))),
            (
                format!("{HCM}.http_filters[0].typed_config.strict"),
                "expected true or false, found \"yes\"; write `true` or `false`, without quotes".into(),
            ),
        ),
        (
            Parts::filter(&header("x-sess").replace("session.header,", "session.cookie,")),
            (
                format!("{HCM}.http_filters[0].typed_config.session_state.typed_config.@type"),
                "this session state cannot be of the type \
                 \"envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState\"; use \
                 envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"
                    .into(),
            ),
        ),
        (Parts::action("hash_policy: []"), absent(&format!("{route}.route.hash_policy"), "consistent hashing")),
        (
            Parts::action("retry_policy: { retry_on: retriable-4xx }"),
            (
                format!("{route}.route.retry_policy.retry_on"),
                "Homing has no retries on \"retriable-4xx\"; use connect-failure, reset, 5xx or gateway-error".into(),
            ),
        ),
        (
            Parts::action("timeout: 1m"),
            (
                format!("{route}.route.timeout"),
                "expected a duration, found \"1m\"; write seconds with an `s`, such as 60s or 0.25s".into(),
            ),
        ),
        (
            Parts::routes("{ match: { safe_regex: { regex: . } }, route: { cluster: c } }"),
            absent(&format!("{route}.match.safe_regex"), "regular expressions"),
        ),
        (
            Parts::routes("{ match: { prefix: /, headers: [] }, route: { cluster: c } }"),
            absent(&format!("{route}.match.headers"), "match on a request's headers"),
        ),
        (
            Parts::routes("{ match: { prefix: / }, route: { cluster: no } }"),
            (format!("{route}.route.cluster"), "there is no cluster \"no\"; use one of: c".into()),
        ),
        (
            Parts::routes("{ match: { prefix: / }, route: { cluster: c }, redirect: {} }"),
            (route.clone(), "a route does exactly one thing; write one of `route`, `redirect`, `direct_response`".into()),
        ),
        (
            Parts { hosts: "{ name: v, domains: [\"a.*\"] }".into(), ..Parts::default() },
            (
                format!("{HCM}.route_config.virtual_hosts[0].domains[0]"),
                "Homing has no match on the beginning of a name; write whole names, or the end of names behind a `*`"
                    .into(),
            ),
        ),
        (
            Parts { hosts: "{ name: v, domains: [\"a:80\"] }".into(), ..Parts::default() },
            (
                format!("{HCM}.route_config.virtual_hosts[0].domains[0]"),
                "\"a:80\" has a port, and Homing compares names without their port; write the name alone".into(),
            ),
        ),
        (Parts::cluster("circuit_breakers: {},"), absent(&format!("{cluster}.circuit_breakers"), "circuit breakers")),
        (
            Parts::cluster("lb_policy: RING_HASH,"),
            (
                format!("{cluster}.lb_policy"),
                "Homing has no consistent hashing; use one of: ROUND_ROBIN, LEAST_REQUEST, RANDOM".into(),
            ),
        ),
        (Parts::cluster("transport_socket: {},"), absent(&format!("{cluster}.transport_socket"), "TLS")),
        (
            Parts::cluster("common_lb_config: { override_host_status: { statuses: [FOO] } },"),
            (
                format!("{cluster}.common_lb_config.override_host_status.statuses[0]"),
                "\"FOO\" is not honoured here; use one of: UNKNOWN, HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED"
                    .into(),
            ),
        ),
        (
            Parts { endpoints: locality(&host(80, "").replace("127.0.0.1", "a.test")), ..Parts::default() },
            (
                format!(
                    "{cluster}.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address"
                ),
                "\"a.test\" is not an IP address; write an IP address, or `type: STRICT_DNS` at the cluster".into(),
            ),
        ),
    ];
    for (parts, (path, said)) in cases {
        let error = parts.compile().map_or_else(|error| error.problems().to_vec(), |_| Vec::new());
        let [problem] = error.as_slice() else { unreachable!("{}\n{error:#?}", parts.text()) };
        assert_eq!((&*problem.at.path, format!("{}; {}", problem.what, problem.remedy)), (&*path, said));
        assert!(problem.at.line > 0 && problem.at.column > 0, "{problem}");
    }
}

#[test]
fn the_form_itself_is_checked() {
    for (text, said) in [
        (Parts::default().text().replace(", {} }", " }").replace(ROUTER, FILTER), "the chain has no router"),
        (Parts::default().text().replace("name: sticky", "nam: sticky"), "`name` is missing"),
        (Parts::default().text().replace("filter_chains: [", "filter_chains: [{}, "), "`filters` is missing"),
        ("a: 1\n---\nb: 2\n".into(), "a bootstrap is one document, but there are 2 here"),
        ("[]".into(), "expected the bootstrap as a mapping, found a list"),
        ("node: { id: a }".into(), "`static_resources` is missing"),
        (
            "static_resources: { listeners: [], listeners: [] }".into(),
            "this field was already given on line 1",
        ),
        (
            "static_resources: { listeners: [] }".into(),
            "there are no listeners, so that nothing would be served",
        ),
        (Parts::manager("statPrefix: b,").text(), "this field was already given on line 4"),
    ] {
        let error = compile_bootstrap("b.yaml", &text, &resolve).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(said)), "{said}: {error:?}\n{text}");
    }
}

/// Homing has these once.
#[test]
fn listeners_and_clusters_must_agree_on_what_homing_has_once() {
    let default = Parts::default();
    let second = |parts: &Parts| {
        let both = format!("{}\n  - {}\n", default.listener("l", 8080), parts.listener("m", 8081));
        default.text().replace(&format!("{}\n", default.listener("l", 8080)), &both)
    };
    assert!(compile_bootstrap("b.yaml", &second(&default), &resolve).is_ok());
    let text = second(&Parts::manager("stream_idle_timeout: 1s,"));
    let error = compile_bootstrap("b.yaml", &text, &resolve).unwrap_err();
    let [problem] = error.problems() else { unreachable!("{error}") };
    assert_eq!(
        problem.what,
        "Homing has the time-out for idle streams once, and it has another value at b.yaml:4"
    );
    let log = "access_log: [{ name: a, typed_config: { \"@type\": x/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog } }],";
    let error = compile_bootstrap("b.yaml", &second(&Parts::manager(log)), &resolve).unwrap_err();
    assert!(error.to_string().contains("one access log for all listeners"), "{error}");
}

#[test]
fn what_has_less_effect_is_noted() {
    let mut parts = Parts {
        top: "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } }".into(),
        ..Parts::filter(&format!("{}, status_on_strict_destination_not_found: 404", header("x-sess")))
    };
    parts.manager = "access_log: [{ name: a, typed_config: { \"@type\": \
         x/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: { json_format: {} } } }],"
        .into();
    let notes: BTreeMap<_, _> =
        parts.settings().notes.into_iter().map(|note| (note.at.path.to_string(), note.what)).collect();
    let expected = [
        (
            format!("{HCM}.access_log[0].typed_config"),
            "Homing's access log has its own form, whatever format is written here",
        ),
        (
            format!("{HCM}.http_filters[0].typed_config.status_on_strict_destination_not_found"),
            "this has no effect, here as in Envoy: only a strict session is refused",
        ),
        ("admin".into(), "this has no effect: Homing has no admin page"),
    ];
    assert_eq!(notes, expected.into_iter().map(|(path, what)| (path, what.to_owned())).collect());
}

// ---------------------------------------------------------------- the program

/// Answers every request with 200 and its own address in `x-be`, and closes.
fn upstream() -> io::Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        for connection in socket.incoming().flatten() {
            let mut reader = BufReader::new(connection);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nx-be: {address}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
            );
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    Ok(address)
}

/// The program, ended with its test.
struct Program {
    child: Child,
    address: SocketAddr,
    log: String,
}

impl Program {
    fn start(path: &Path) -> io::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_homing"))
            .args(["run", "--runtime", "mio", "--workers", "1", "--envoy"])
            .arg(path)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let mut log = String::new();
        let mut reader = BufReader::new(stderr);
        while !log.contains("homing is ready") {
            if reader.read_line(&mut log)? == 0 {
                return Err(io::Error::other(log));
            }
        }
        let text = log.split(" on 127.0.0.1:").nth(1).unwrap_or_default();
        let port: String = text.chars().take_while(char::is_ascii_digit).collect();
        let port: u16 = port.parse().map_err(io::Error::other)?;
        Ok(Self { child, address: ([127, 0, 0, 1], port).into(), log })
    }

    /// The answer's head, in lower case names.
    fn ask(&self, target: &str, field: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        write!(stream, "GET {target} HTTP/1.1\r\nhost: a.example\r\n{field}connection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The manual's example, with ports that are free, in front of four hosts.
#[test]
fn the_program_serves_the_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/envoy/bootstrap.yaml");
    let mut text = std::fs::read_to_string(example).unwrap();
    let mut hosts = Vec::new();
    for port in [9001, 9002, 9003, 9004] {
        let host = upstream().unwrap();
        text = text.replace(&format!("port_value: {port}"), &format!("port_value: {}", host.port()));
        hosts.push(host.to_string());
    }
    text = text.replace("port_value: 8080", "port_value: 0");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bootstrap.yaml");
    std::fs::write(&path, text).unwrap();
    let program = Program::start(&path).unwrap();
    assert!(program.log.contains("admin: this has no effect: Homing has no admin page"), "{}", program.log);

    // A session in a cookie stays, though its route is weighted.
    let first = program.ask("/", "").unwrap();
    let home = field(&first, "x-be").unwrap().to_owned();
    let cookie = field(&first, "set-cookie").unwrap();
    assert!(cookie.ends_with("; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly"), "{first}");
    let line = format!("cookie: {}", cookie.split(';').next().unwrap());
    for _ in 0..6 {
        let answer = program.ask("/", &line).unwrap();
        assert_eq!((field(&answer, "x-be"), field(&answer, "set-cookie")), (Some(&*home), None), "{answer}");
    }
    // Where it is disabled, no session counts.
    let spread: std::collections::BTreeSet<String> = (0..4)
        .map(|_| field(&program.ask("/static/a", &line).unwrap(), "x-be").unwrap().to_owned())
        .collect();
    assert_eq!(spread, [hosts[0].clone(), hosts[1].clone()].into());
    // A header of its own for one route, strict, with the drained host still at work.
    let first = program.ask("/api/", "").unwrap();
    let (home, token) = (field(&first, "x-be").unwrap(), field(&first, "x-session-id").unwrap());
    for _ in 0..4 {
        let answer = program.ask("/api/", &format!("x-session-id: {token}")).unwrap();
        assert_eq!((field(&answer, "x-be"), field(&answer, "x-session-id")), (Some(home), None), "{answer}");
    }
    let token = |address: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_homing"))
            .args(["token", "encode", "--form", "header", "--address", address])
            .output()
            .unwrap();
        format!("x-session-id: {}", String::from_utf8(output.stdout).unwrap().trim())
    };
    let drained = program.ask("/api/", &token(&hosts[2])).unwrap();
    assert_eq!(field(&drained, "x-be"), Some(&*hosts[2]), "{drained}");
    let gone = program.ask("/api/", &token("127.0.0.1:1")).unwrap();
    assert!(gone.starts_with("HTTP/1.1 410 "), "{gone}");
    let direct = program.ask("/version", "").unwrap();
    assert!(direct.starts_with("HTTP/1.1 200 ") && direct.ends_with("\r\n\r\n7\n"), "{direct}");
}
