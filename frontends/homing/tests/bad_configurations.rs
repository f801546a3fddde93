//! Every kind of mistake in a configuration, with the exact words and place of what is said about it.
#![expect(clippy::too_many_lines, reason = "tables are long")]

use std::io;
use std::net::SocketAddr;

use homing::config::compile_texts;

const LISTENER: &str = "\
listeners:
  - name: web
    gateway: http
    address: 127.0.0.1:8080
    routes:
      - path: { prefix: / }
        forward: { cluster: app }
";

const CLUSTER: &str = "\
clusters:
  - name: app
    hosts: [\"127.0.0.1:9001\"]
";

const TARGET: &str = "  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: http
";

const OPTIONS: &str = "  options:
    statefulSession:
      headerBased:
        headerName: x-session-id
";

/// A file whose listener has this session.
fn session(block: &str) -> String {
    let block = format!("    statefulSession:\n{}    routes:\n", indented(block));
    [&LISTENER.replace("    routes:\n", &block), CLUSTER].concat()
}

/// A file with these routes.
fn route(routes: &str) -> String {
    let head = "listeners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes:\n";
    [head, &indented(routes), CLUSTER].concat()
}

/// A good file, and behind it a document of Gloo with this specification.
fn gloo(spec: &str) -> String {
    [LISTENER, CLUSTER, "---\n", &option("session", spec)].concat()
}

fn option(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.solo.io/v1\nkind: HttpListenerOption\nmetadata:\n  name: {name}\n  namespace: gloo-system\nspec:\n{spec}"
    )
}

fn indented(block: &str) -> String {
    block.lines().map(|line| format!("      {line}\n")).collect()
}

fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "empty.test" => Ok(Vec::new()),
        "two.test" => Ok(vec![([10, 0, 0, 2], port).into(), ([10, 0, 0, 1], port).into()]),
        _ => Err(io::Error::other("no such name")),
    }
}

/// Each text is refused in exactly these words.
fn refused(cases: &[(&str, String, &[&str])]) {
    for (name, text, problems) in cases {
        let error = compile_texts(&[("homing.yaml", text)], &resolve)
            .err()
            .map_or_else(String::new, |e| e.to_string());
        let said: Vec<_> = error.lines().collect();
        assert_eq!(said, *problems, "{name}:\n{text}");
    }
}

#[test]
fn what_the_cases_change_is_good_itself() {
    for text in [
        [LISTENER, CLUSTER].concat(),
        session("headerBased: { headerName: x-s }"),
        route("- forward: { cluster: app }"),
        gloo(&[TARGET, OPTIONS].concat()),
    ] {
        compile_texts(&[("homing.yaml", &text)], &resolve).unwrap();
    }
}

#[test]
fn files_are_told_apart() {
    let own = [LISTENER, CLUSTER, "wrokers: 2\n"].concat();
    let beside = option("session", &[&TARGET.replace("name: http", "name: web"), OPTIONS].concat());
    let error = compile_texts(&[("homing.yaml", &own), ("session.yaml", &beside)], &resolve).unwrap_err();
    assert_eq!(
        error.to_string(),
        "homing.yaml:11:1: wrokers: there is no such key here; did you mean `workers`?\n\
         session.yaml:10:11: spec.targetRefs[0].name: no listener belongs to a gateway \"web\"; write `gateway: web` \
         at the listeners that are meant, or use one of: http"
    );
    assert_eq!(error.problems().len(), 2);
    assert_eq!(&*error.problems()[1].at.source, "session.yaml");
}

#[test]
fn yaml_that_cannot_be_read() {
    refused(&[
        (
            "tab indentation",
            "listeners:\n\t- name: web\n".to_owned(),
            &[
                r#"homing.yaml:2:2: this is not YAML: tabs disallowed within this context (block indentation); check the indentation, and put quotes around a value that begins with one of `[ { * & ! % @` or holds `: ` (write "*.example.org" and "[::1]:80")"#,
            ],
        ),
        (
            "an unquoted bracket",
            "listeners:\n  - name: web\n    address: [::]:8080\n".to_owned(),
            &[
                r#"homing.yaml:3:18: this is not YAML: while parsing a block mapping, did not find expected key; check the indentation, and put quotes around a value that begins with one of `[ { * & ! % @` or holds `: ` (write "*.example.org" and "[::1]:80")"#,
            ],
        ),
        (
            "an unquoted star",
            route("- hosts: [*.example.org]\n  forward: { cluster: app }"),
            &[
                r#"homing.yaml:5:17: this is not YAML: reference to unknown value; check the indentation, and put quotes around a value that begins with one of `[ { * & ! % @` or holds `: ` (write "*.example.org" and "[::1]:80")"#,
            ],
        ),
        (
            "an empty file",
            "# nothing\n".to_owned(),
            &[
                "homing.yaml: there is no configuration of Homing here; write a document with `listeners` and `clusters`, or use --listen and --upstream",
            ],
        ),
        (
            "a scalar file",
            "5\n".to_owned(),
            &[
                "homing.yaml:1:1: the configuration is a mapping, but the number 5 is written here; write `key: value` lines",
            ],
        ),
        (
            "two configurations",
            [LISTENER, CLUSTER, "---\n", LISTENER, CLUSTER].concat(),
            &[
                "homing.yaml:12:1: this is a second configuration of Homing; the first is at homing.yaml:1; join the two, or begin a document of Gloo with apiVersion and kind",
            ],
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind() {
    refused(&[
        (
            "unknown top-level key",
            [LISTENER, CLUSTER, "listner: []\n"].concat(),
            &["homing.yaml:11:1: listner: there is no such key here; did you mean `listeners`?"],
        ),
        (
            "unknown key far from any",
            [LISTENER, CLUSTER, "zzz: 1\n"].concat(),
            &[
                "homing.yaml:11:1: zzz: there is no such key here; use one of: listeners, routes, clusters, limits, workers, runtime, accessLog, reload",
            ],
        ),
        (
            "duplicate key",
            [LISTENER, CLUSTER, "workers: 2\nworkers: 3\n"].concat(),
            &["homing.yaml:12:1: workers: this key was already given on line 11; keep one of the two"],
        ),
        (
            "a key that is no text",
            [LISTENER, CLUSTER, "7: seven\n"].concat(),
            &["homing.yaml:11:1: a key must be text; put the key in quotes"],
        ),
        (
            "a key without a value",
            [LISTENER, CLUSTER, "workers:\n"].concat(),
            &["homing.yaml:11:8: workers: this key has no value; give it one or remove the key"],
        ),
        (
            "a mapping where a list belongs",
            ["listeners: { name: web }\n", CLUSTER].concat(),
            &["homing.yaml:1:12: listeners: expected a list, found a mapping; write `- …` lines, or [a, b]"],
        ),
        (
            "a list where a mapping belongs",
            [LISTENER.replace("{ prefix: / }", "[/]").as_str(), CLUSTER].concat(),
            &[
                "homing.yaml:6:15: listeners[0].routes[0].path: `path` is a mapping, but a list is written here; write `key: value` lines",
            ],
        ),
        (
            "a number where text belongs",
            [LISTENER.replace("name: web", "name: 80").as_str(), CLUSTER].concat(),
            &[
                "homing.yaml:2:11: listeners[0].name: expected text, found the number 80; put the value in quotes",
            ],
        ),
        (
            "text where a switch belongs",
            [LISTENER.replace("    gateway", "    date: yes\n    gateway").as_str(), CLUSTER].concat(),
            &[
                r#"homing.yaml:3:11: listeners[0].date: expected true or false, found "yes"; write `true` or `false`, without quotes"#,
            ],
        ),
        (
            "listeners missing",
            CLUSTER.to_owned(),
            &[
                r#"homing.yaml:1:1: `listeners` is missing; add it, for example `listeners: [{ name: web, address: "127.0.0.1:8080" }]`"#,
            ],
        ),
        (
            "no listener",
            ["listeners: []\n", CLUSTER].concat(),
            &["homing.yaml:1:12: listeners: this list is empty; add at least one item"],
        ),
        (
            "too many workers",
            [LISTENER, CLUSTER, "workers: 5000\n"].concat(),
            &[
                "homing.yaml:11:10: workers: expected a whole number from 1 to 1024, found the number 5000; choose one of these",
            ],
        ),
        (
            "workers as text",
            [LISTENER, CLUSTER, "workers: auto\n"].concat(),
            &[
                r#"homing.yaml:11:10: workers: expected a whole number from 1 to 1024, found "auto"; choose one of these"#,
            ],
        ),
        (
            "an unknown runtime",
            [LISTENER, CLUSTER, "runtime: tokyo\n"].concat(),
            &[r#"homing.yaml:11:10: runtime: "tokyo" is none of the known words; did you mean `tokio`?"#],
        ),
        (
            "an access log to nowhere",
            [LISTENER, CLUSTER, "accessLog: { to: stdot }\n"].concat(),
            &[
                r#"homing.yaml:11:18: accessLog.to: "stdot" is neither stdout nor a path; write `stdout`, or a path with a slash, such as ./stdot"#,
            ],
        ),
        (
            "a look at the files that comes too often",
            [LISTENER, CLUSTER, "reload: { watch: 1ms }\n"].concat(),
            &[
                r#"homing.yaml:11:18: reload.watch: "1ms" is too often to look at the files; write 10ms or more, or 0s to reload on SIGHUP alone"#,
            ],
        ),
        (
            "an unknown log format",
            [LISTENER, CLUSTER, "accessLog: { to: stdout, format: text }\n"].concat(),
            &[r#"homing.yaml:11:34: accessLog.format: "text" is none of the known words; use one of: json"#],
        ),
    ]);
}

#[test]
fn listeners_that_cannot_be() {
    refused(&[
        (
            "address missing",
            [LISTENER.replace("    address: 127.0.0.1:8080\n", "").as_str(), CLUSTER].concat(),
            &[
                "homing.yaml:2:5: listeners[0]: `address` is missing; add it, for example `address: 127.0.0.1:8080`",
            ],
        ),
        (
            "address unparsable",
            [LISTENER.replace("127.0.0.1:8080", "localhost:8080").as_str(), CLUSTER].concat(),
            &[
                r#"homing.yaml:4:14: listeners[0].address: "localhost:8080" is not an address to listen on; write an IP address and a port, such as 127.0.0.1:8080 or "[::]:8080", or unix:/path"#,
            ],
        ),
        (
            "socket path relative",
            [LISTENER.replace("127.0.0.1:8080", "unix:app.sock").as_str(), CLUSTER].concat(),
            &[
                r#"homing.yaml:4:14: listeners[0].address: "app.sock" is not the path of a socket; write an absolute path, such as unix:/run/app.sock"#,
            ],
        ),
        (
            "socket path too long",
            [LISTENER.replace("127.0.0.1:8080", &format!("unix:/{}", "x".repeat(110))).as_str(), CLUSTER]
                .concat(),
            &[
                "homing.yaml:4:14: listeners[0].address: the path of a socket is at most 107 bytes long, this one has 111; use a shorter path",
            ],
        ),
        (
            "duplicate listener name",
            [LISTENER, LISTENER.replace("listeners:\n", "").replace(":8080", ":8081").as_str(), CLUSTER]
                .concat(),
            &[
                r#"homing.yaml:8:11: listeners[1].name: the name "web" is already that of the listener at homing.yaml:2; give each listener a name of its own"#,
            ],
        ),
        (
            "duplicate address",
            [LISTENER, LISTENER.replace("listeners:\n", "").replace("web", "other").as_str(), CLUSTER]
                .concat(),
            &[
                r#"homing.yaml:10:14: listeners[1].address: 127.0.0.1:8080 is already the address of the listener "web"; give each listener an address of its own"#,
            ],
        ),
        (
            "a pseudonym with a space",
            [LISTENER.replace("    gateway", "    via: my proxy\n    gateway").as_str(), CLUSTER].concat(),
            &[
                "homing.yaml:3:10: listeners[0].via: a pseudonym must not contain ' '; write one word, such as homing",
            ],
        ),
        (
            "a server value with a line break",
            [LISTENER.replace("    gateway", "    server: \"a\\nb\"\n    gateway").as_str(), CLUSTER]
                .concat(),
            &[
                r#"homing.yaml:3:13: listeners[0].server: a field value must not contain '\n'; write it on one line, without control characters"#,
            ],
        ),
        (
            "no routes anywhere",
            ["listeners:\n  - name: web\n    address: 127.0.0.1:8080\n", CLUSTER].concat(),
            &[
                "homing.yaml:2:5: listeners[0]: the listener has no routes; add `routes` here, or at the top of the file for all listeners",
            ],
        ),
        (
            "shared routes unused",
            [LISTENER, CLUSTER, "routes:\n  - forward: { cluster: app }\n"].concat(),
            &[
                "homing.yaml:12:3: routes: no listener uses these routes, since each has its own; remove them, or the `routes` of a listener",
            ],
        ),
    ]);
}

#[test]
fn routes_that_cannot_be() {
    refused(&[
        (
            "unknown cluster",
            [LISTENER.replace("cluster: app", "cluster: ap").as_str(), CLUSTER].concat(),
            &[
                r#"homing.yaml:7:29: listeners[0].routes[0].forward.cluster: there is no cluster "ap"; use one of: app"#,
            ],
        ),
        (
            "unknown cluster, none defined",
            LISTENER.to_owned(),
            &[
                r#"homing.yaml:7:29: listeners[0].routes[0].forward.cluster: there is no cluster "app"; add it to `clusters`"#,
            ],
        ),
        (
            "no action",
            route("- path: { prefix: / }"),
            &[
                "homing.yaml:5:9: listeners[0].routes[0]: the route does not say what to do with a request; write one of `forward`, `redirect`, `respond`",
            ],
        ),
        (
            "two actions",
            route("- forward: { cluster: app }\n  respond: { status: 200 }"),
            &[
                "homing.yaml:5:9: listeners[0].routes[0]: a route does one thing, but forward and respond are written here; keep one, or write several routes",
            ],
        ),
        (
            "forwarding key on an answer",
            route("- respond: { status: 200 }\n  timeout: 5s\n  pth: { prefix: / }"),
            &[
                "homing.yaml:6:9: listeners[0].routes[0].timeout: this is for routes that forward; remove it, or `forward` to a cluster",
                "homing.yaml:7:9: listeners[0].routes[0].pth: there is no such key here; did you mean `path`?",
            ],
        ),
        (
            "weights all zero",
            route("- forward:\n    clusters:\n      - { cluster: app, weight: 0 }"),
            &[
                "homing.yaml:7:13: listeners[0].routes[0].forward.clusters: all weights are 0, so that no cluster can be drawn; give one a weight of 1 or more",
            ],
        ),
        (
            "weights too large",
            route("- forward:\n    clusters:\n      - { cluster: app, weight: 4294967295 }\n      - { cluster: app, weight: 4294967295 }"),
            &[
                "homing.yaml:7:13: listeners[0].routes[0].forward.clusters: the weights add up to 8589934590; keep the sum within 4294967295",
            ],
        ),
        (
            "weight missing",
            route("- forward:\n    clusters:\n      - { cluster: app }"),
            &[
                "homing.yaml:7:15: listeners[0].routes[0].forward.clusters[0]: `weight` is missing; add it, for example `weight: 1`",
            ],
        ),
        (
            "cluster and clusters",
            route("- forward: { cluster: app, clusters: [{ cluster: app, weight: 1 }] }"),
            &[
                "homing.yaml:5:18: listeners[0].routes[0].forward: a route forwards to one cluster or to a weighted list; write `cluster: name`, or `clusters: [{ cluster: name, weight: 1 }, …]`",
            ],
        ),
        (
            "path not absolute",
            route("- path: { prefix: api }\n  forward: { cluster: app }"),
            &[
                r#"homing.yaml:5:25: listeners[0].routes[0].path.prefix: "api" is no path: it must begin with `/`; write "/api""#,
            ],
        ),
        (
            "path with a query",
            route("- path: { exact: \"/a?b\" }\n  forward: { cluster: app }"),
            &[
                "homing.yaml:5:24: listeners[0].routes[0].path.exact: a path must not contain '?'; leave the query out and percent-encode the rest",
            ],
        ),
        (
            "path matched twice",
            route("- path: { exact: /a, prefix: /a }\n  forward: { cluster: app }"),
            &[
                "homing.yaml:5:15: listeners[0].routes[0].path: a path is matched in exactly one way; write `prefix: /…` or `exact: /…`",
            ],
        ),
        (
            "host with a port",
            route("- hosts: [\"a.example.org:80\"]\n  forward: { cluster: app }"),
            &[
                r#"homing.yaml:5:17: listeners[0].routes[0].hosts[0]: "a.example.org:80" is not a host name; write a name without a port, such as shop.example.org, "*.example.org" or "*""#,
            ],
        ),
        (
            "host with a star inside",
            route("- hosts: [\"a.*.org\"]\n  forward: { cluster: app }"),
            &[
                r#"homing.yaml:5:17: listeners[0].routes[0].hosts[0]: "a.*.org" is not a host name; write a name without a port, such as shop.example.org, "*.example.org" or "*""#,
            ],
        ),
        (
            "no host at all",
            route("- hosts: []\n  forward: { cluster: app }"),
            &[
                "homing.yaml:5:16: listeners[0].routes[0].hosts: this list is empty; add at least one item",
            ],
        ),
        (
            "a route never taken",
            route("- forward: { cluster: app }\n- path: { prefix: /api }\n  forward: { cluster: app }"),
            &[
                "homing.yaml:6:9: listeners[0].routes[1]: this route is never taken: the one at homing.yaml:5 takes all its requests; put the more specific route first",
            ],
        ),
        (
            "duration without unit",
            route("- forward: { cluster: app }\n  timeout: 30"),
            &[
                "homing.yaml:6:18: listeners[0].routes[0].timeout: expected a duration, found the number 30; write a number with a unit, such as 500ms, 60s, 1m30s or 2h",
            ],
        ),
        (
            "duration as text without unit",
            route("- forward: { cluster: app }\n  timeout: \"30\""),
            &[
                r#"homing.yaml:6:18: listeners[0].routes[0].timeout: "30" is no duration: it lacks a unit; write a number with a unit, such as 500ms, 60s, 1m30s or 2h"#,
            ],
        ),
        (
            "duration negative",
            route("- forward: { cluster: app }\n  timeout: -1s"),
            &[
                r#"homing.yaml:6:18: listeners[0].routes[0].timeout: "-1s" is no duration: it is below zero; write a number with a unit, such as 500ms, 60s, 1m30s or 2h"#,
            ],
        ),
        (
            "retry without attempts",
            route("- forward: { cluster: app }\n  retry: { on: [reset] }"),
            &[
                "homing.yaml:6:16: listeners[0].routes[0].retry: `attempts` is missing; add it, for example `attempts: 1`",
            ],
        ),
        (
            "retry on an unknown cause",
            route("- forward: { cluster: app }\n  retry: { attempts: 1, on: [connectfailure] }"),
            &[
                r#"homing.yaml:6:36: listeners[0].routes[0].retry.on[0]: "connectfailure" is none of the known words; did you mean `connect-failure`?"#,
            ],
        ),
        (
            "redirect that does not",
            route("- redirect: { status: 200, host: example.org }"),
            &[
                "homing.yaml:5:29: listeners[0].routes[0].redirect.status: 200 does not redirect; use 301, 302, 303, 307 or 308",
            ],
        ),
        (
            "redirect to itself",
            route("- redirect: { status: 301 }"),
            &[
                "homing.yaml:5:19: listeners[0].routes[0].redirect: a redirect that changes nothing leads back here for ever; write at least one of `scheme`, `host`, `port`, `path`",
            ],
        ),
        (
            "redirect to a pattern",
            route("- redirect: { host: \"*.example.org\" }"),
            &[
                "homing.yaml:5:27: listeners[0].routes[0].redirect.host: a redirect needs one name; write a name without `*`",
            ],
        ),
        (
            "interim status",
            route("- respond: { status: 100 }"),
            &[
                "homing.yaml:5:28: listeners[0].routes[0].respond.status: expected a final HTTP status, found the number 100; write a number from 200 to 599",
            ],
        ),
        (
            "body where none goes",
            route("- respond: { status: 204, body: hi }"),
            &[
                "homing.yaml:5:39: listeners[0].routes[0].respond.body: a response with status 204 has no body; remove the body, or use another status",
            ],
        ),
        (
            "body too long",
            route(&format!("- respond: {{ status: 200, body: {} }}", "b".repeat(8193))),
            &[
                "homing.yaml:5:39: listeners[0].routes[0].respond.body: a fixed body is at most 8192 bytes long, this one has 8193; shorten it, or serve it from an upstream",
            ],
        ),
        (
            "two rewrites",
            route("- forward: { cluster: app }\n  rewrite: { prefix: /a, path: /b }"),
            &[
                "homing.yaml:6:18: listeners[0].routes[0].rewrite: a path is rewritten in exactly one way; write `prefix: /…` to replace what matched, or `path: /…` to replace the whole path",
            ],
        ),
        (
            "host rewrite with a path",
            route("- forward: { cluster: app }\n  hostRewrite: example.org/a"),
            &[
                r#"homing.yaml:6:22: listeners[0].routes[0].hostRewrite: "example.org/a" cannot stand in `host`; write a host name, with or without a port"#,
            ],
        ),
        (
            "header name with a colon",
            route("- forward: { cluster: app }\n  headers: { request: { remove: [\":path\"] } }"),
            &[
                "homing.yaml:6:40: listeners[0].routes[0].headers.request.remove[0]: a field name must not contain ':'; use letters, digits and `-`",
            ],
        ),
        (
            "header value with a line break",
            route("- forward: { cluster: app }\n  headers: { response: { add: [{ name: x-a, value: \"a\\r\\nb: c\" }] } }"),
            &[
                r#"homing.yaml:6:58: listeners[0].routes[0].headers.response.add[0].value: a field value must not contain '\r'; write it on one line, without control characters"#,
            ],
        ),
        (
            "header of the proxy",
            route("- forward: { cluster: app }\n  headers: { request: { set: [{ name: Content-Length, value: \"0\" }] } }"),
            &[
                "homing.yaml:6:45: listeners[0].routes[0].headers.request.set[0].name: `content-length` is written by the proxy itself; remove this rule",
            ],
        ),
        (
            "host by rule",
            route("- forward: { cluster: app }\n  headers: { request: { set: [{ name: host, value: a }] } }"),
            &[
                "homing.yaml:6:45: listeners[0].routes[0].headers.request.set[0].name: `host` is not changed by rules; use `hostRewrite`",
            ],
        ),
        (
            "inserts too long",
            route(&"- forward: { cluster: app }\n  headers: { response: { set: [{ name: x-a, value: \"LONG\" }] } }".replace("LONG", &"v".repeat(4100))),
            &[
                "homing.yaml:5:9: listeners[0].routes[0]: this route may add 4144 bytes to a head, and 4096 is the most that fits; shorten its headers, rewrites or the cookie's attributes",
            ],
        ),
    ]);
}

#[test]
fn sessions_that_cannot_be() {
    refused(&[
        (
            "no carrier",
            session("strict: true"),
            &[
                "homing.yaml:6:7: listeners[0].statefulSession: the block does not say where the session travels; write `cookieBased`, `headerBased` or `envelope`, or `disabled: true` for no session",
            ],
        ),
        (
            "two carriers",
            session("headerBased: { headerName: x-s }\ncookieBased: { cookie: { name: sid } }"),
            &[
                "homing.yaml:6:7: listeners[0].statefulSession: a session travels one way, but several are written here; keep one of them",
            ],
        ),
        (
            "cookie missing",
            session("cookieBased: {}"),
            &[
                "homing.yaml:6:20: listeners[0].statefulSession.cookieBased: `cookie` is missing; add it, for example `cookie: { name: sid }`",
            ],
        ),
        (
            "cookie name missing",
            session("cookieBased: { cookie: { ttl: 60s } }"),
            &[
                "homing.yaml:6:30: listeners[0].statefulSession.cookieBased.cookie: `name` is missing; add it, for example `name: sid`",
            ],
        ),
        (
            "cookie name bad",
            session("cookieBased:\n  cookie:\n    name: \"a=b\""),
            &[
                "homing.yaml:8:17: listeners[0].statefulSession.cookieBased.cookie.name: a cookie name must not contain '='; use letters, digits, `-` and `_`",
            ],
        ),
        (
            "cookie name empty",
            session("cookieBased: { cookie: { name: \"\" } }"),
            &[
                "homing.yaml:6:38: listeners[0].statefulSession.cookieBased.cookie.name: this text is empty; write something, or remove the key",
            ],
        ),
        (
            "cookie path relative",
            session("cookieBased: { cookie: { name: sid, path: app } }"),
            &[
                r#"homing.yaml:6:49: listeners[0].statefulSession.cookieBased.cookie.path: a cookie path begins with `/`; write "/app", or "/" for every path"#,
            ],
        ),
        (
            "cookie path with a semicolon",
            session("cookieBased: { cookie: { name: sid, path: \"/;x\" } }"),
            &[
                "homing.yaml:6:49: listeners[0].statefulSession.cookieBased.cookie.path: an attribute of a cookie must not contain ';'; use printable ASCII characters without `;`",
            ],
        ),
        (
            "cookie ttl without unit",
            session("cookieBased: { cookie: { name: sid, ttl: 60 } }"),
            &[
                "homing.yaml:6:48: listeners[0].statefulSession.cookieBased.cookie.ttl: expected a duration, found the number 60; write a number with a unit, such as 500ms, 60s, 1m30s or 2h",
            ],
        ),
        (
            "cookie ttl too long",
            session("cookieBased: { cookie: { name: sid, ttl: 9223372036s } }"),
            &[
                r#"homing.yaml:6:48: listeners[0].statefulSession.cookieBased.cookie.ttl: "9223372036s" is no duration: it is too large; write at most 9223372035s"#,
            ],
        ),
        (
            "attribute written anyway",
            session("cookieBased: { cookie: { name: sid, attributes: [{ name: httponly }] } }"),
            &[
                "homing.yaml:6:64: listeners[0].statefulSession.cookieBased.cookie.attributes[0].name: the attribute HttpOnly is always written; remove it from the list",
            ],
        ),
        (
            "attribute twice",
            session("cookieBased: { cookie: { name: sid, secure: true, attributes: [{ name: Secure }] } }"),
            &[
                "homing.yaml:6:51: listeners[0].statefulSession.cookieBased.cookie.secure: the attribute Secure is given twice; keep one of the two",
            ],
        ),
        (
            "SameSite=None without Secure",
            session("cookieBased: { cookie: { name: sid, sameSite: None } }"),
            &[
                "homing.yaml:6:30: listeners[0].statefulSession.cookieBased.cookie: browsers drop a cookie with SameSite=None that is not Secure; add `secure: true`",
            ],
        ),
        (
            "Partitioned without Secure",
            session("cookieBased: { cookie: { name: sid, partitioned: true } }"),
            &[
                "homing.yaml:6:30: listeners[0].statefulSession.cookieBased.cookie: browsers drop a partitioned cookie that is not Secure; add `secure: true`",
            ],
        ),
        (
            "SameSite of another kind",
            session("cookieBased: { cookie: { name: sid, sameSite: lax } }"),
            &[
                r#"homing.yaml:6:53: listeners[0].statefulSession.cookieBased.cookie.sameSite: "lax" is none of the known words; did you mean `Lax`?"#,
            ],
        ),
        (
            "__Host- without its conditions",
            session("cookieBased: { cookie: { name: __Host-sid, secure: true } }"),
            &[
                "homing.yaml:6:30: listeners[0].statefulSession.cookieBased.cookie: browsers drop a cookie named __Host-… unless it is Secure, has the path / and no domain; write `path: /` and `secure: true`, and no `domain`",
            ],
        ),
        (
            "header name bad",
            session("headerBased: { headerName: \"x y\" }"),
            &[
                "homing.yaml:6:34: listeners[0].statefulSession.headerBased.headerName: a field name must not contain ' '; use letters, digits and `-`",
            ],
        ),
        (
            "header name reserved",
            session("headerBased: { headerName: Set-Cookie }"),
            &[
                "homing.yaml:6:34: listeners[0].statefulSession.headerBased.headerName: `set-cookie` has a meaning of its own and cannot carry a session; use a name of your own, such as x-session-id",
            ],
        ),
        (
            "header name key",
            session("headerBased: { name: x-s }"),
            &[
                "homing.yaml:6:20: listeners[0].statefulSession.headerBased: `headerName` is missing; add it, for example `headerName: x-session-id`",
                "homing.yaml:6:22: listeners[0].statefulSession.headerBased.name: there is no such key here; use one of: headerName",
            ],
        ),
        (
            "disabled false",
            session("disabled: false"),
            &[
                "homing.yaml:6:17: listeners[0].statefulSession.disabled: `disabled` can only be true; remove the whole block to inherit the session",
            ],
        ),
        (
            "disabled with more",
            session("disabled: true\nstrict: true"),
            &[
                "homing.yaml:7:7: listeners[0].statefulSession.strict: a session that is disabled has no further settings; remove this key, or remove `disabled`",
            ],
        ),
        (
            "gone status without strict",
            session("headerBased: { headerName: x-s }\nstatusOnStrictDestinationNotFound: 404"),
            &[
                "homing.yaml:7:42: listeners[0].statefulSession.statusOnStrictDestinationNotFound: only a strict session is refused; add `strict: true`, or remove this key",
            ],
        ),
        (
            "gone status not final",
            session("headerBased: { headerName: x-s }\nstrict: true\nstatusOnStrictDestinationNotFound: 99"),
            &[
                "homing.yaml:8:42: listeners[0].statefulSession.statusOnStrictDestinationNotFound: expected a final HTTP status, found the number 99; write a number from 200 to 599",
            ],
        ),
        (
            "cookie keys on a header",
            session(
                "headerBased: { headerName: x-s }\nstrict: true\nclearDeadCookie: true\nhideFromUpstream: true\nrenewBefore: 5s",
            ),
            &[
                "homing.yaml:8:24: listeners[0].statefulSession.clearDeadCookie: this is for cookies, and the session travels in a header; remove this key",
                "homing.yaml:9:25: listeners[0].statefulSession.hideFromUpstream: this is for cookies, and the session travels in a header; remove this key",
                "homing.yaml:10:20: listeners[0].statefulSession.renewBefore: only a cookie with a ttl of a second or more can be renewed; set the cookie's `ttl`, or remove this key",
            ],
        ),
        (
            "clearing without strict",
            session("cookieBased: { cookie: { name: sid } }\nclearDeadCookie: true"),
            &[
                "homing.yaml:7:24: listeners[0].statefulSession.clearDeadCookie: only a strict session is refused; add `strict: true`, or remove this key",
            ],
        ),
        (
            "renewal without ttl",
            session("cookieBased: { cookie: { name: sid } }\nrenewBefore: 5s"),
            &[
                "homing.yaml:7:20: listeners[0].statefulSession.renewBefore: only a cookie with a ttl of a second or more can be renewed; set the cookie's `ttl`, or remove this key",
            ],
        ),
        (
            "renewal longer than ttl",
            session("cookieBased: { cookie: { name: sid, ttl: 60s } }\nrenewBefore: 2m"),
            &[
                "homing.yaml:7:20: listeners[0].statefulSession.renewBefore: a session is renewed within its ttl; write a duration from 1s to less than the ttl of 60s",
            ],
        ),
        (
            "strict as text",
            session("headerBased: { headerName: x-s }\nstrict: \"yes\""),
            &[
                r#"homing.yaml:7:15: listeners[0].statefulSession.strict: expected true or false, found "yes"; write `true` or `false`, without quotes"#,
            ],
        ),
    ]);
}

#[test]
fn clusters_that_cannot_be() {
    refused(&[
        (
            "duplicate cluster",
            [LISTENER, CLUSTER, CLUSTER.replace("clusters:\n", "").as_str()].concat(),
            &[
                r#"homing.yaml:11:11: clusters[1].name: the cluster "app" is defined twice; give each cluster a name of its own"#,
            ],
        ),
        (
            "no hosts",
            [LISTENER, CLUSTER.replace("[\"127.0.0.1:9001\"]", "[]").as_str()].concat(),
            &["homing.yaml:10:12: clusters[0].hosts: this list is empty; add at least one item"],
        ),
        (
            "host unparsable",
            [LISTENER, CLUSTER.replace("127.0.0.1:9001", "10.0.0.256:80").as_str()].concat(),
            &[
                r#"homing.yaml:10:13: clusters[0].hosts[0]: "10.0.0.256:80" is not the address of a host; write address and port, such as 10.0.0.1:80, "[::1]:80" or app.internal:80, or unix:/path"#,
            ],
        ),
        (
            "host without port",
            [LISTENER, CLUSTER.replace("127.0.0.1:9001", "127.0.0.1").as_str()].concat(),
            &[
                r#"homing.yaml:10:13: clusters[0].hosts[0]: "127.0.0.1" is not the address of a host; write address and port, such as 10.0.0.1:80, "[::1]:80" or app.internal:80, or unix:/path"#,
            ],
        ),
        (
            "host with port 0",
            [LISTENER, CLUSTER.replace("127.0.0.1:9001", "127.0.0.1:0").as_str()].concat(),
            &[
                r#"homing.yaml:10:13: clusters[0].hosts[0]: "127.0.0.1:0" is not the address of a host; write address and port, such as 10.0.0.1:80, "[::1]:80" or app.internal:80, or unix:/path"#,
            ],
        ),
        (
            "host twice",
            [
                LISTENER,
                CLUSTER
                    .replace("\"127.0.0.1:9001\"", "\"127.0.0.1:9001\", { address: \"127.0.0.1:9001\" }")
                    .as_str(),
            ]
            .concat(),
            &[
                "homing.yaml:10:42: clusters[0].hosts[1].address: 127.0.0.1:9001 is already a host here, at homing.yaml:10; name each address once: a token could not tell the two apart",
            ],
        ),
        (
            "weight zero",
            [
                LISTENER,
                CLUSTER.replace("\"127.0.0.1:9001\"", "{ address: \"127.0.0.1:9001\", weight: 0 }").as_str(),
            ]
            .concat(),
            &[
                "homing.yaml:10:50: clusters[0].hosts[0].weight: expected a whole number from 1 to 65535, found the number 0; choose one of these",
            ],
        ),
        (
            "a priority above Envoy's",
            [
                LISTENER,
                CLUSTER
                    .replace("\"127.0.0.1:9001\"", "{ address: \"127.0.0.1:9001\", priority: 128 }")
                    .as_str(),
            ]
            .concat(),
            &[
                "homing.yaml:10:52: clusters[0].hosts[0].priority: expected a whole number from 0 to 127, found the number 128; choose one of these",
            ],
        ),
        (
            "unknown health",
            [
                LISTENER,
                CLUSTER
                    .replace("\"127.0.0.1:9001\"", "{ address: \"127.0.0.1:9001\", health: healthy }")
                    .as_str(),
            ]
            .concat(),
            &[
                r#"homing.yaml:10:50: clusters[0].hosts[0].health: "healthy" is none of the known words; did you mean `HEALTHY`?"#,
            ],
        ),
        (
            "unknown admission",
            [
                LISTENER,
                CLUSTER
                    .replace("\"127.0.0.1:9001\"", "{ address: \"127.0.0.1:9001\", admission: closed }")
                    .as_str(),
            ]
            .concat(),
            &[
                r#"homing.yaml:10:53: clusters[0].hosts[0].admission: "closed" is none of the known words; use one of: open, draining, leaving, barred"#,
            ],
        ),
        (
            "unknown status",
            [LISTENER, CLUSTER, "    overrideHostStatus: [HEALTHY, FOO]\n"].concat(),
            &[
                r#"homing.yaml:11:35: clusters[0].overrideHostStatus[1]: "FOO" is none of the known words; use one of: UNKNOWN, HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED"#,
            ],
        ),
        (
            "unknown balance",
            [LISTENER, CLUSTER, "    balance: round-robin\n"].concat(),
            &[
                r#"homing.yaml:11:14: clusters[0].balance: "round-robin" is none of the known words; did you mean `roundRobin`?"#,
            ],
        ),
        (
            "panic over 100",
            [LISTENER, CLUSTER, "    panicPercent: 101\n"].concat(),
            &[
                "homing.yaml:11:19: clusters[0].panicPercent: expected a whole number from 0 to 100, found the number 101; choose one of these",
            ],
        ),
        (
            "name unresolvable",
            [LISTENER, CLUSTER.replace("127.0.0.1:9001", "gone.invalid:80").as_str()].concat(),
            &[
                r#"homing.yaml:10:13: clusters[0].hosts[0]: the name "gone.invalid" cannot be resolved: no such name; check the name and the resolver (/etc/hosts, /etc/resolv.conf), or write the address itself"#,
            ],
        ),
        (
            "name without address",
            [LISTENER, CLUSTER.replace("127.0.0.1:9001", "empty.test:80").as_str()].concat(),
            &[
                r#"homing.yaml:10:13: clusters[0].hosts[0]: the name "empty.test" has no address; check the name and the resolver (/etc/hosts, /etc/resolv.conf), or write the address itself"#,
            ],
        ),
        (
            "names that meet",
            [LISTENER, CLUSTER.replace("\"127.0.0.1:9001\"", "\"two.test:80\", \"10.0.0.2:80\"").as_str()]
                .concat(),
            &[
                "homing.yaml:10:28: clusters[0].hosts[1]: 10.0.0.2:80 is already a host here, at homing.yaml:10; name each address once: a token could not tell the two apart",
            ],
        ),
    ]);
}

#[test]
fn limits_out_of_range() {
    refused(&[
        (
            "head too large",
            [LISTENER, CLUSTER, "limits: { requestHead: 1MiB }\n"].concat(),
            &[
                r#"homing.yaml:11:24: limits.requestHead: "1MiB" is out of range; write a size from 1024 to 65536 bytes"#,
            ],
        ),
        (
            "size without unit",
            [LISTENER, CLUSTER, "limits: { requestHead: \"4096\" }\n"].concat(),
            &[
                r#"homing.yaml:11:24: limits.requestHead: "4096" is no size: it lacks a unit; write a whole number with a unit, such as 512B, 64KiB or 10MiB"#,
            ],
        ),
        (
            "size as number",
            [LISTENER, CLUSTER, "limits: { requestBody: 4096 }\n"].concat(),
            &[
                "homing.yaml:11:24: limits.requestBody: expected a size, found the number 4096; write a whole number with a unit, such as 512B, 64KiB or 10MiB",
            ],
        ),
        (
            "fields too many",
            [LISTENER, CLUSTER, "limits: { fields: 101 }\n"].concat(),
            &[
                "homing.yaml:11:19: limits.fields: expected a whole number from 1 to 100, found the number 101; choose one of these",
            ],
        ),
        (
            "connections zero",
            [LISTENER, CLUSTER, "limits: { connections: 0 }\n"].concat(),
            &[
                "homing.yaml:11:24: limits.connections: expected a whole number from 1 to 4294967295, found the number 0; choose one of these",
            ],
        ),
        (
            "timeout misspelt",
            [LISTENER, CLUSTER, "limits: { connectTimout: 1s }\n"].concat(),
            &[
                "homing.yaml:11:11: limits.connectTimout: there is no such key here; did you mean `connectTimeout`?",
            ],
        ),
    ]);
}

#[test]
fn documents_of_gloo_that_cannot_be_honoured() {
    refused(&[
        (
            "another kind",
            [LISTENER, CLUSTER, "---\n", "apiVersion: v1\nkind: Service\nmetadata: { name: x }\n"].concat(),
            &[
                r#"homing.yaml:12:13: apiVersion: expected "gateway.solo.io/v1", found "v1"; only HttpListenerOption documents that target a Gateway are understood"#,
                r#"homing.yaml:13:7: kind: expected "HttpListenerOption", found "Service"; only HttpListenerOption documents that target a Gateway are understood"#,
            ],
        ),
        (
            "kind missing",
            [LISTENER, CLUSTER, "---\n", "apiVersion: gateway.solo.io/v1\nmetadata: { name: x }\n"].concat(),
            &[
                "homing.yaml:12:1: `kind` is missing; add it, for example `kind: HttpListenerOption`",
            ],
        ),
        (
            "another option",
            gloo(&[TARGET, OPTIONS, "    healthCheck:\n      path: /healthz\n"].concat()),
            &[
                "homing.yaml:26:5: spec.options.healthCheck: Homing honours `statefulSession` alone among Gloo's listener options; remove this option, or leave its job to another proxy",
            ],
        ),
        (
            "no session",
            gloo(&[TARGET, "  options: {}\n"].concat()),
            &[
                "homing.yaml:22:12: spec.options: `statefulSession` is missing; add it, for example `statefulSession: { headerBased: { headerName: x-session-id } }`",
            ],
        ),
        (
            "no targets",
            gloo(&["  targetRefs: []\n", OPTIONS].concat()),
            &[
                "homing.yaml:18:15: spec.targetRefs: this list is empty; add at least one item",
            ],
        ),
        (
            "target of another kind",
            gloo(&[TARGET.replace("Gateway", "Service").as_str(), OPTIONS].concat()),
            &[
                r#"homing.yaml:20:11: spec.targetRefs[0].kind: expected "Gateway", found "Service"; only HttpListenerOption documents that target a Gateway are understood"#,
            ],
        ),
        (
            "unknown gateway",
            gloo(&[TARGET.replace("name: http", "name: https").as_str(), OPTIONS].concat()),
            &[
                r#"homing.yaml:21:11: spec.targetRefs[0].name: no listener belongs to a gateway "https"; write `gateway: https` at the listeners that are meant, or use one of: http"#,
            ],
        ),
        (
            "unknown section",
            gloo(&[TARGET, "    sectionName: api\n", OPTIONS].concat()),
            &[
                r#"homing.yaml:22:18: spec.targetRefs[0].sectionName: the gateway "http" has no listener "api"; use one of: web"#,
            ],
        ),
        (
            "target in another namespace",
            gloo(&[TARGET, "    namespace: other\n", OPTIONS].concat()),
            &[
                r#"homing.yaml:22:16: spec.targetRefs[0].namespace: the target is in the namespace "other", but the document is in "gloo-system"; Homing knows gateways by name alone: remove this key"#,
            ],
        ),
        (
            "selectors",
            gloo(&[TARGET, "  targetSelectors: []\n", OPTIONS].concat()),
            &[
                "homing.yaml:22:3: spec.targetSelectors: there is no such key here; use one of: targetRefs, options",
            ],
        ),
        (
            "our key",
            gloo(&[TARGET, OPTIONS, "      clearDeadCookie: true\n"].concat()),
            &[
                "homing.yaml:26:7: spec.options.statefulSession.clearDeadCookie: Gloo has no such key; remove it here; Homing's further keys belong in the `statefulSession` of a listener or route",
            ],
        ),
        (
            "our carrier",
            gloo(&[TARGET, "  options:\n    statefulSession:\n      envelope: { headerName: x-s }\n"].concat()),
            &[
                "homing.yaml:24:7: spec.options.statefulSession.envelope: Gloo has no such key; remove it here; Homing's further keys belong in the `statefulSession` of a listener or route",
            ],
        ),
        (
            "our cookie key",
            gloo(&[TARGET, "  options:\n    statefulSession:\n      cookieBased: { cookie: { name: sid, secure: true } }\n"].concat()),
            &[
                "homing.yaml:24:43: spec.options.statefulSession.cookieBased.cookie.secure: Gloo has no such key; remove it here; Homing's further keys belong in the `statefulSession` of a listener or route",
            ],
        ),
        (
            "disabled",
            gloo(&[TARGET, "  options:\n    statefulSession: { disabled: true }\n"].concat()),
            &[
                "homing.yaml:23:22: spec.options.statefulSession: the block does not say where the session travels; write `cookieBased` or `headerBased`",
                "homing.yaml:23:24: spec.options.statefulSession.disabled: Gloo has no such key; remove it here; Homing's further keys belong in the `statefulSession` of a listener or route",
            ],
        ),
        (
            "two documents on one listener",
            [gloo(&[TARGET, OPTIONS].concat()).as_str(), "---\n", option("second", &[TARGET, "    sectionName: web\n", OPTIONS].concat()).as_str()].concat(),
            &[
                r#"homing.yaml:37:18: spec.targetRefs[0].sectionName: the listener "web" already has its session from "session" at homing.yaml:12; bind one document to each listener: a listener's name as `sectionName` narrows a target"#,
            ],
        ),
        (
            "a listener with a session of its own",
            [session("headerBased: { headerName: x-s }").as_str(), "---\n", option("session", &[TARGET, OPTIONS].concat()).as_str()].concat(),
            &[
                r#"homing.yaml:23:11: spec.targetRefs[0].name: the listener "web" has a `statefulSession` of its own at homing.yaml:6; keep one of the two"#,
            ],
        ),
        (
            "no gateway in the file",
            gloo(&[TARGET, OPTIONS].concat()).replace("    gateway: http\n", ""),
            &[
                r#"homing.yaml:20:11: spec.targetRefs[0].name: no listener belongs to a gateway "http"; write `gateway: http` at the listeners that are meant"#,
            ],
        ),
        (
            "alone",
            option("session", &[TARGET, OPTIONS].concat()),
            &[
                "homing.yaml: there is no configuration of Homing here; write a document with `listeners` and `clusters`, or use --listen and --upstream",
            ],
        ),
    ]);
}

#[test]
fn several_mistakes() {
    refused(&[
        (
            "several at once",
            [LISTENER.replace("cluster: app", "cluster: shop").replace("    gateway", "    adress: x\n    gateway").as_str(), CLUSTER.replace(":9001", ":x").replace("name: app", "name: api").as_str(), "    balance: fastest\nworkers: 0\n"].concat(),
            &[
                "homing.yaml:3:5: listeners[0].adress: there is no such key here; did you mean `address`?",
                r#"homing.yaml:8:29: listeners[0].routes[0].forward.cluster: there is no cluster "shop"; use one of: api"#,
                r#"homing.yaml:11:13: clusters[0].hosts[0]: "127.0.0.1:x" is not the address of a host; write address and port, such as 10.0.0.1:80, "[::1]:80" or app.internal:80, or unix:/path"#,
                r#"homing.yaml:12:14: clusters[0].balance: "fastest" is none of the known words; use one of: roundRobin, leastRequest, random"#,
                "homing.yaml:13:10: workers: expected a whole number from 1 to 1024, found the number 0; choose one of these",
            ],
        ),
        (
            "an alias is wrong where it is written",
            ["listeners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes: &all\n      - forward: { clutser: app }\n  - name: other\n    address: 127.0.0.1:8081\n    routes: *all\n", CLUSTER].concat(),
            &[
                "homing.yaml:5:18: listeners[0].routes[0].forward: a route forwards to one cluster or to a weighted list; write `cluster: name`, or `clusters: [{ cluster: name, weight: 1 }, …]`",
                "homing.yaml:5:20: listeners[0].routes[0].forward.clutser: there is no such key here; did you mean `cluster`?",
            ],
        ),
    ]);
}
