//! Homing's own file: from the tree to a model in which every single value is already what it must be.
//!
//! What concerns several places at once (names that refer to each other, duplicates, sums) is checked when the
//! model is compiled.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use homing_core::balance::Balance;
use homing_core::field::{FieldValue, Status};
use homing_core::hosts::{Admission, Health, HealthSet};
use homing_core::limits::{HEADROOM, INSERT_MAX, Limits, WINDOW_SMALL};
use homing_core::route::{Domain, FieldRules, PathMatch, Redirect, Retry, RetryOn, Rewrite};
use homing_core::snapshot::{Marks, ServerField};

use super::error::{At, Placed, Problems};
use super::limits;
use super::reader::{
    Fields, any_text, boolean, choice, field_name, field_value, list, placed, some, status, text, time, whole,
};
use super::session::{Dialect, SessionModel, session};
use super::tree::{Kind, Node};
use super::{AccessLog, BindAddress, LogTarget, Runtime};

/// Longest path of a unix socket on Linux, without the final NUL.
const SOCKET_PATH_MAX: usize = 107;
/// Longest body of a fixed response, in bytes: it leaves with its head from the smallest window.
const BODY_MAX: usize = 8 * 1024;
const _: () = assert!(BODY_MAX <= WINDOW_SMALL - HEADROOM - INSERT_MAX, "a fixed response must fit a window");

/// One file.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) listeners: Vec<Listener>,
    /// Whether every listener could be read; if not, a name that is missing may be there.
    pub(super) all_listeners: bool,
    /// The routes of listeners that have none of their own.
    pub(super) routes: Option<Placed<Vec<Route>>>,
    pub(super) clusters: Vec<ClusterModel>,
    /// Whether every cluster could be read.
    pub(super) all_clusters: bool,
    pub(super) limits: Limits,
    pub(super) workers: Option<usize>,
    pub(super) runtime: Option<Runtime>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) watch: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) at: At,
    pub(super) name: Placed<String>,
    pub(super) gateway: Option<String>,
    pub(super) address: Placed<BindAddress>,
    pub(super) session: Option<Placed<SessionModel>>,
    pub(super) marks: Marks,
    /// Most client connections; zero: no cap of its own.
    pub(super) connections: u32,
    pub(super) routes: Option<Vec<Route>>,
}

#[derive(Debug)]
pub(super) struct Route {
    pub(super) at: At,
    pub(super) name: Option<String>,
    pub(super) domains: Vec<Domain>,
    pub(super) path: PathMatch,
    pub(super) action: ActionModel,
}

#[derive(Debug)]
pub(super) enum ActionModel {
    Forward(Box<ForwardModel>),
    Redirect(Redirect),
    Respond { status: Status, body: String },
}

#[derive(Debug)]
pub(super) struct ForwardModel {
    pub(super) entries: Vec<Entry>,
    pub(super) session: Option<Placed<SessionModel>>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) host_rewrite: Option<FieldValue>,
    pub(super) request: FieldRules,
    pub(super) response: FieldRules,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Retry,
    pub(super) upgrades: bool,
}

/// One cluster of a route.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cluster: Placed<String>,
    pub(super) weight: u32,
    pub(super) session: Option<Placed<SessionModel>>,
}

#[derive(Debug)]
pub(super) struct ClusterModel {
    pub(super) at: At,
    pub(super) name: Placed<String>,
    pub(super) balance: Balance,
    pub(super) panic_percent: u8,
    pub(super) override_status: HealthSet,
    pub(super) hosts: Vec<HostModel>,
}

#[derive(Clone, Debug)]
pub(super) struct HostModel {
    pub(super) address: Placed<Upstream>,
    pub(super) weight: u16,
    pub(super) priority: u8,
    pub(super) health: Health,
    pub(super) admission: Admission,
}

/// Where a host listens, before names are resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Name(String, u16),
}

/// Reads a file's own document.
pub(super) fn read(document: &Node, problems: &mut Problems) -> Option<Model> {
    let mut fields = Fields::open(document, "the configuration", problems)?;
    let example = "listeners: [{ name: web, address: \"127.0.0.1:8080\" }]";
    let listeners = fields.required("listeners", example, problems, some(listener));
    let routes = fields.optional("routes", problems, placed(routes));
    let clusters = fields.optional("clusters", problems, list(cluster));
    let limits = fields.optional("limits", problems, limits::limits).unwrap_or_default();
    let workers = fields.optional("workers", problems, workers);
    let runtime = fields.optional("runtime", problems, choice(&Runtime::NAMES));
    let access_log = fields.optional("accessLog", problems, access_log);
    let watch = fields.optional("reload", problems, reload);
    fields.finish(problems);
    let (clusters, all_clusters) = clusters.unwrap_or((Vec::new(), true));
    let (listeners, all_listeners) = listeners?;
    Some(Model {
        listeners,
        all_listeners,
        routes,
        clusters,
        all_clusters,
        limits,
        workers,
        runtime,
        access_log,
        watch,
    })
}

/// Most workers that can be asked for.
pub(super) const WORKERS_MAX: usize = 1024;
/// Envoy's bound on a host's priority.
const PRIORITY_MAX: u8 = 127;

fn workers(node: &Node, problems: &mut Problems) -> Option<usize> {
    whole(1..=WORKERS_MAX as u64)(node, problems).and_then(|count| usize::try_from(count).ok())
}

/// How often the files are looked at; zero: never.
fn reload(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let mut fields = Fields::open(node, "`reload`", problems)?;
    let watch = fields.required("watch", "watch: 1s", problems, |node, problems| {
        let watch = time(node, problems)?;
        if !watch.is_zero() && watch < WATCH_MIN {
            let what = format!("{} is too often to look at the files", node.describe());
            problems.add(&node.at, what, "write 10ms or more, or 0s to reload on SIGHUP alone");
            return None;
        }
        Some(watch)
    });
    fields.finish(problems);
    watch
}

/// The files are not looked at more often than this.
const WATCH_MIN: Duration = Duration::from_millis(10);

fn access_log(node: &Node, problems: &mut Problems) -> Option<AccessLog> {
    let mut fields = Fields::open(node, "the access log", problems)?;
    let target = fields.required("to", "to: stdout", problems, |node, problems| {
        let target = text(node, problems)?;
        if target == "stdout" {
            return Some(LogTarget::Stdout);
        }
        if !target.contains('/') {
            let what = format!("{} is neither stdout nor a path", node.describe());
            problems.add(
                &node.at,
                what,
                format!("write `stdout`, or a path with a slash, such as ./{target}"),
            );
            return None;
        }
        Some(LogTarget::File(target.into()))
    });
    fields.optional("format", problems, choice(&[("json", ())]));
    fields.finish(problems);
    Some(AccessLog { target: target? })
}

fn listener(node: &Node, problems: &mut Problems) -> Option<Listener> {
    let mut fields = Fields::open(node, "a listener", problems)?;
    let name = fields.required("name", "name: web", problems, placed(text));
    let gateway = fields.optional("gateway", problems, text);
    let address = fields.required("address", "address: 127.0.0.1:8080", problems, placed(bind_address));
    let session = fields.optional("statefulSession", problems, session(Dialect::Homing));
    let marks = marks(&mut fields, problems);
    let connections = fields.optional("connections", problems, whole(0..=u32::MAX.into()));
    let routes = fields.optional("routes", problems, routes);
    fields.finish(problems);
    let (name, address) = (name?, address?);
    let connections = connections.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    Some(Listener { at: node.at.clone(), name, gateway, address, session, marks, connections, routes })
}

fn bind_address(node: &Node, problems: &mut Problems) -> Option<BindAddress> {
    let text = text(node, problems)?;
    parse_bind(&text).inspect_err(|(what, remedy)| problems.add(&node.at, what, remedy)).ok()
}

/// Reads a listener's address; else what is wrong, and the remedy.
pub(super) fn parse_bind(text: &str) -> Result<BindAddress, (String, String)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(BindAddress::Unix);
    }
    text.parse().map(BindAddress::Tcp).map_err(|_| {
        (
            format!("{text:?} is not an address to listen on"),
            "write an IP address and a port, such as 127.0.0.1:8080 or \"[::]:8080\", or unix:/path".into(),
        )
    })
}

fn socket_path(path: &str) -> Result<PathBuf, (String, String)> {
    if !path.starts_with('/') || path.contains('\0') {
        let what = format!("{path:?} is not the path of a socket");
        return Err((what, "write an absolute path, such as unix:/run/app.sock".into()));
    }
    if path.len() > SOCKET_PATH_MAX {
        let what = format!(
            "the path of a socket is at most {SOCKET_PATH_MAX} bytes long, this one has {}",
            path.len()
        );
        return Err((what, "use a shorter path".into()));
    }
    Ok(path.into())
}

fn marks(fields: &mut Fields<'_>, problems: &mut Problems) -> Marks {
    let default = Marks::default();
    let mut switch = |key, default| fields.optional(key, problems, boolean).unwrap_or(default);
    let forwarded_for = switch("forwardedFor", default.forwarded_for);
    let forwarded_proto = switch("forwardedProto", default.forwarded_proto);
    let trust_inbound = switch("trustInbound", default.trust_inbound);
    let request_id = switch("requestId", default.request_id);
    let date = switch("date", default.date);
    let via = fields.optional("via", problems, |node, problems| {
        let name = text(node, problems)?;
        // RFC 9110 §7.6.3: a pseudonym is a token; a host with a port may stand for it.
        if let Some(c) =
            name.chars().find(|c| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~:[]".contains(*c))
        {
            problems.add(
                &node.at,
                format!("a pseudonym must not contain {c:?}"),
                "write one word, such as homing",
            );
            return None;
        }
        Some(name.into())
    });
    let server = fields.optional("server", problems, |node, problems| {
        text(node, problems)?;
        field_value(node, problems).map(|value| ServerField::Overwrite(value.as_str().into()))
    });
    Marks {
        forwarded_for,
        forwarded_proto,
        trust_inbound,
        request_id,
        via,
        server: server.unwrap_or_default(),
        date,
    }
}

fn routes(node: &Node, problems: &mut Problems) -> Option<Vec<Route>> {
    some(route)(node, problems).map(|(routes, _)| routes)
}

fn route(node: &Node, problems: &mut Problems) -> Option<Route> {
    let mut fields = Fields::open(node, "a route", problems)?;
    let name = fields.optional("name", problems, text);
    let domains = fields.optional("hosts", problems, some(domain));
    let path = match fields.optional("path", problems, path_match) {
        None if !fields.has("path") => Some(PathMatch::Prefix("/".into())),
        path => path,
    };
    let written: Vec<_> =
        ["forward", "redirect", "respond"].into_iter().filter(|key| fields.has(key)).collect();
    let action = match written.as_slice() {
        ["redirect"] => fields.optional("redirect", problems, redirect).map(ActionModel::Redirect),
        ["respond"] => fields.optional("respond", problems, respond),
        ["forward"] => forward(&mut fields, problems).map(|forward| ActionModel::Forward(Box::new(forward))),
        [] => {
            let remedy = "write one of `forward`, `redirect`, `respond`";
            problems.add(&node.at, "the route does not say what to do with a request", remedy);
            None
        }
        _ => {
            let what = format!("a route does one thing, but {} are written here", written.join(" and "));
            problems.add(&node.at, what, "keep one, or write several routes");
            return None;
        }
    };
    if written.first() == Some(&"forward") {
        fields.finish(problems);
    } else {
        finish_answer(fields, problems);
    }
    let domains = match domains {
        Some((domains, _)) => domains,
        None => vec![Domain::Any],
    };
    Some(Route { at: node.at.clone(), name, domains, path: path?, action: action? })
}

/// The keys of a route that only forwarding heeds.
const FORWARD_KEYS: [&str; 7] =
    ["headers", "hostRewrite", "retry", "rewrite", "statefulSession", "timeout", "upgrades"];

fn finish_answer(fields: Fields<'_>, problems: &mut Problems) {
    let known = ["name", "hosts", "path", "forward", "redirect", "respond"];
    fields.finish_with(problems, |key| {
        if FORWARD_KEYS.contains(&key) {
            return ("this is for routes that forward".into(), "remove it, or `forward` to a cluster".into());
        }
        ("there is no such key here".into(), super::reader::suggest(key, &known))
    });
}

fn domain(node: &Node, problems: &mut Problems) -> Option<Domain> {
    let given = text(node, problems)?;
    let name = given.to_ascii_lowercase();
    if name == "*" {
        return Some(Domain::Any);
    }
    let (suffix, rest) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, &*name),
    };
    let address = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let literal = !suffix && address.is_some_and(|address| matches!(address.parse(), Ok(IpAddr::V6(_))));
    let labels = rest.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    if !literal && !labels {
        let remedy = "write a name without a port, such as shop.example.org, \"*.example.org\" or \"*\"";
        problems.add(&node.at, format!("{given:?} is not a host name"), remedy);
        return None;
    }
    // The name without its star begins with the dot that keeps `badexample.org` out.
    Some(if suffix { Domain::Suffix(format!(".{rest}").into()) } else { Domain::Exact(rest.into()) })
}

fn path_match(node: &Node, problems: &mut Problems) -> Option<PathMatch> {
    let mut fields = Fields::open(node, "`path`", problems)?;
    let exact = fields.optional("exact", problems, url_path);
    let prefix = fields.optional("prefix", problems, url_path);
    let written = usize::from(fields.has("exact")) + usize::from(fields.has("prefix"));
    fields.finish(problems);
    if written != 1 {
        problems.add(&node.at, "a path is matched in exactly one way", "write `prefix: /…` or `exact: /…`");
        return None;
    }
    exact.map(PathMatch::Exact).or(prefix.map(PathMatch::Prefix))
}

/// A path as it is on the wire: `/`, then printable ASCII without `?` and `#`.
fn url_path(node: &Node, problems: &mut Problems) -> Option<Box<str>> {
    let path = text(node, problems)?;
    if !path.starts_with('/') {
        problems.add(
            &node.at,
            format!("{path:?} is no path: it must begin with `/`"),
            format!("write \"/{path}\""),
        );
        return None;
    }
    if let Some(c) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        problems.add(
            &node.at,
            format!("a path must not contain {c:?}"),
            "leave the query out and percent-encode the rest",
        );
        return None;
    }
    Some(path.into())
}

fn rewrite(node: &Node, problems: &mut Problems) -> Option<Rewrite> {
    let mut fields = Fields::open(node, "`rewrite`", problems)?;
    let prefix = fields.optional("prefix", problems, url_path);
    let path = fields.optional("path", problems, url_path);
    let written = usize::from(fields.has("path")) + usize::from(fields.has("prefix"));
    fields.finish(problems);
    if written != 1 {
        let remedy = "write `prefix: /…` to replace what matched, or `path: /…` to replace the whole path";
        problems.add(&node.at, "a path is rewritten in exactly one way", remedy);
        return None;
    }
    prefix.map(Rewrite::Prefix).or(path.map(Rewrite::Path))
}

fn redirect(node: &Node, problems: &mut Problems) -> Option<Redirect> {
    let mut fields = Fields::open(node, "`redirect`", problems)?;
    let status = fields.optional("status", problems, |node, problems| {
        status(node, problems).filter(|status| {
            let known = matches!(status.get(), 301 | 302 | 303 | 307 | 308);
            if !known {
                let what = format!("{} does not redirect", status.get());
                problems.add(&node.at, what, "use 301, 302, 303, 307 or 308");
            }
            known
        })
    });
    let scheme = fields.optional("scheme", problems, choice(&[("http", "http"), ("https", "https")]));
    let host = fields.optional("host", problems, |node, problems| match domain(node, problems)? {
        Domain::Exact(name) => Some(name),
        _ => {
            problems.add(&node.at, "a redirect needs one name", "write a name without `*`");
            None
        }
    });
    let port = fields.optional("port", problems, whole(1..=65535)).and_then(|port| u16::try_from(port).ok());
    let path = fields.optional("path", problems, rewrite);
    let changes = ["scheme", "host", "port", "path"].into_iter().any(|key| fields.has(key));
    fields.finish(problems);
    if !changes {
        let remedy = "write at least one of `scheme`, `host`, `port`, `path`";
        problems.add(&node.at, "a redirect that changes nothing leads back here for ever", remedy);
        return None;
    }
    let moved = Status::new(301).ok()?;
    Some(Redirect { status: status.unwrap_or(moved), scheme: scheme.map(Into::into), host, port, path })
}

fn respond(node: &Node, problems: &mut Problems) -> Option<ActionModel> {
    let mut fields = Fields::open(node, "`respond`", problems)?;
    let status = fields.required("status", "status: 204", problems, placed(status));
    let body = fields.optional("body", problems, placed(any_text));
    fields.finish(problems);
    let status = status?;
    if let Some(body) = &body
        && !body.value.is_empty()
        && status.value.is_bodiless()
    {
        let what = format!("a response with status {} has no body", status.value.get());
        problems.add(&body.at, what, "remove the body, or use another status");
    }
    if let Some(body) = &body
        && body.value.len() > BODY_MAX
    {
        let what =
            format!("a fixed body is at most {BODY_MAX} bytes long, this one has {}", body.value.len());
        problems.add(&body.at, what, "shorten it, or serve it from an upstream");
    }
    Some(ActionModel::Respond { status: status.value, body: body.map(|body| body.value).unwrap_or_default() })
}

fn forward(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<ForwardModel> {
    let entries = fields.optional("forward", problems, entries);
    let session = fields.optional("statefulSession", problems, session(Dialect::Homing));
    let rewrite = fields.optional("rewrite", problems, rewrite);
    let host_rewrite = fields.optional("hostRewrite", problems, |node, problems| {
        let name = text(node, problems)?;
        if name.chars().any(|c| !c.is_ascii_graphic() || "/@?#\\\"<>^`{|}".contains(c)) {
            problems.add(
                &node.at,
                format!("{name:?} cannot stand in `host`"),
                "write a host name, with or without a port",
            );
            return None;
        }
        field_value(node, problems)
    });
    let (request, response) = fields.optional("headers", problems, headers).unwrap_or_default();
    let timeout = fields.optional("timeout", problems, time);
    let retry = fields.optional("retry", problems, retry).unwrap_or_default();
    let upgrades = fields.optional("upgrades", problems, boolean).unwrap_or(true);
    Some(ForwardModel {
        entries: entries?,
        session,
        rewrite,
        host_rewrite,
        request,
        response,
        timeout,
        retry,
        upgrades,
    })
}

fn entries(node: &Node, problems: &mut Problems) -> Option<Vec<Entry>> {
    let mut fields = Fields::open(node, "`forward`", problems)?;
    let single = fields.optional("cluster", problems, placed(text));
    let several = fields.optional("clusters", problems, |node, problems| {
        let (entries, complete) = some(entry)(node, problems)?;
        let sum: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
        if complete && sum == 0 {
            problems.add(
                &node.at,
                "all weights are 0, so that no cluster can be drawn",
                "give one a weight of 1 or more",
            );
        }
        if sum > u64::from(u32::MAX) {
            problems.add(
                &node.at,
                format!("the weights add up to {sum}"),
                format!("keep the sum within {}", u32::MAX),
            );
        }
        Some(entries)
    });
    let written = usize::from(fields.has("cluster")) + usize::from(fields.has("clusters"));
    fields.finish(problems);
    if written != 1 {
        let remedy = "write `cluster: name`, or `clusters: [{ cluster: name, weight: 1 }, …]`";
        problems.add(&node.at, "a route forwards to one cluster or to a weighted list", remedy);
        return None;
    }
    single.map(|cluster| vec![Entry { cluster, weight: 1, session: None }]).or(several)
}

fn entry(node: &Node, problems: &mut Problems) -> Option<Entry> {
    let mut fields = Fields::open(node, "an entry", problems)?;
    let cluster = fields.required("cluster", "cluster: app", problems, placed(text));
    let weight = fields.required("weight", "weight: 1", problems, whole(0..=u32::MAX.into()));
    let session = fields.optional("statefulSession", problems, session(Dialect::Homing));
    fields.finish(problems);
    Some(Entry { cluster: cluster?, weight: u32::try_from(weight?).ok()?, session })
}

fn retry(node: &Node, problems: &mut Problems) -> Option<Retry> {
    let mut fields = Fields::open(node, "`retry`", problems)?;
    let attempts = fields.required("attempts", "attempts: 1", problems, whole(1..=u8::MAX.into()));
    let causes = fields.optional("on", problems, some(choice(&RETRY_CAUSES)));
    let per_try_timeout = fields.optional("perTryTimeout", problems, time).unwrap_or_default();
    fields.finish(problems);
    let mut on = RetryOn::default();
    let default = [Cause::ConnectFailure, Cause::Reset];
    for cause in causes.as_ref().map_or(default.as_slice(), |(causes, _)| causes) {
        match cause {
            Cause::ConnectFailure => on.connect_failure = true,
            Cause::Reset => on.reset = true,
            Cause::ServerError => on.server_error = true,
            Cause::GatewayError => on.gateway_error = true,
        }
    }
    Some(Retry { attempts: u8::try_from(attempts?).ok()?, on, per_try_timeout })
}

#[derive(Clone, Copy)]
enum Cause {
    ConnectFailure,
    Reset,
    ServerError,
    GatewayError,
}

/// In Envoy's words.
const RETRY_CAUSES: [(&str, Cause); 4] = [
    ("connect-failure", Cause::ConnectFailure),
    ("reset", Cause::Reset),
    ("5xx", Cause::ServerError),
    ("gateway-error", Cause::GatewayError),
];

fn headers(node: &Node, problems: &mut Problems) -> Option<(FieldRules, FieldRules)> {
    let mut fields = Fields::open(node, "`headers`", problems)?;
    let request = fields.optional("request", problems, rules);
    let response = fields.optional("response", problems, rules);
    fields.finish(problems);
    Some((request.unwrap_or_default(), response.unwrap_or_default()))
}

fn rules(node: &Node, problems: &mut Problems) -> Option<FieldRules> {
    let mut fields = Fields::open(node, "the rules for headers", problems)?;
    let remove = fields.optional("remove", problems, some(free_name));
    let set = fields.optional("set", problems, some(pair));
    let add = fields.optional("add", problems, some(pair));
    fields.finish(problems);
    Some(FieldRules {
        remove: remove.unwrap_or_default().0,
        set: set.unwrap_or_default().0,
        add: add.unwrap_or_default().0,
    })
}

fn pair(node: &Node, problems: &mut Problems) -> Option<(homing_core::field::FieldName, FieldValue)> {
    let mut fields = Fields::open(node, "a header", problems)?;
    let name = fields.required("name", "name: x-team", problems, free_name);
    let value = fields.required("value", "value: blue", problems, field_value);
    fields.finish(problems);
    Some((name?, value?))
}

/// Fields that frame a message or belong to one connection are the proxy's own (RFC 9110 §7.6.1, RFC 9112 §6).
const PROXY_FIELDS: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn free_name(node: &Node, problems: &mut Problems) -> Option<homing_core::field::FieldName> {
    let name = field_name(node, problems)?;
    if name.as_str() == "host" {
        problems.add(&node.at, "`host` is not changed by rules", "use `hostRewrite`");
        return None;
    }
    if PROXY_FIELDS.contains(&name.as_str()) {
        let what = format!("`{}` is written by the proxy itself", name.as_str());
        problems.add(&node.at, what, "remove this rule");
        return None;
    }
    Some(name)
}

fn cluster(node: &Node, problems: &mut Problems) -> Option<ClusterModel> {
    let mut fields = Fields::open(node, "a cluster", problems)?;
    let name = fields.required("name", "name: app", problems, placed(text));
    let balances = [
        ("roundRobin", Balance::RoundRobin),
        ("leastRequest", Balance::LeastRequest),
        ("random", Balance::Random),
    ];
    let balance = fields.optional("balance", problems, choice(&balances)).unwrap_or_default();
    let panic_percent = fields.optional("panicPercent", problems, whole(0..=100)).unwrap_or_default();
    let override_status = fields.optional("overrideHostStatus", problems, list(health));
    let hosts = fields.required("hosts", "hosts: [\"10.0.0.1:80\"]", problems, some(host));
    fields.finish(problems);
    let override_status = override_status.map_or(HealthSet::USABLE, |(statuses, _)| {
        statuses.into_iter().fold(HealthSet::EMPTY, HealthSet::with)
    });
    let panic_percent = u8::try_from(panic_percent).unwrap_or_default();
    let (name, (hosts, _)) = (name?, hosts.unwrap_or_default());
    Some(ClusterModel { at: node.at.clone(), name, balance, panic_percent, override_status, hosts })
}

fn health(node: &Node, problems: &mut Problems) -> Option<Health> {
    choice(&Health::ALL.map(|health| (health.as_str(), health)))(node, problems)
}

fn host(node: &Node, problems: &mut Problems) -> Option<HostModel> {
    if !matches!(node.kind, Kind::Map(_)) {
        let address = placed(upstream)(node, problems)?;
        return Some(HostModel {
            address,
            weight: 1,
            priority: 0,
            health: Health::default(),
            admission: Admission::default(),
        });
    }
    let mut fields = Fields::open(node, "a host", problems)?;
    let address = fields.required("address", "address: 10.0.0.1:80", problems, placed(upstream));
    let weight = fields.optional("weight", problems, whole(1..=u16::MAX.into()));
    let priority = fields.optional("priority", problems, whole(0..=PRIORITY_MAX.into()));
    let status = fields.optional("health", problems, health).unwrap_or_default();
    let admissions = [Admission::Open, Admission::Draining, Admission::Leaving, Admission::Barred];
    let admission = fields.optional("admission", problems, choice(&admissions.map(|it| (it.as_str(), it))));
    fields.finish(problems);
    let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    let priority = priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or_default();
    let admission = admission.unwrap_or_default();
    Some(HostModel { address: address?, weight, priority, health: status, admission })
}

fn upstream(node: &Node, problems: &mut Problems) -> Option<Upstream> {
    let text = text(node, problems)?;
    parse_upstream(&text).inspect_err(|(what, remedy)| problems.add(&node.at, what, remedy)).ok()
}

/// Reads a host's address; else what is wrong, and the remedy.
pub(super) fn parse_upstream(text: &str) -> Result<Upstream, (String, String)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(Upstream::Unix);
    }
    let wrong = || {
        (
            format!("{text:?} is not the address of a host"),
            "write address and port, such as 10.0.0.1:80, \"[::1]:80\" or app.internal:80, or unix:/path"
                .to_owned(),
        )
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(wrong()) } else { Ok(Upstream::Tcp(address)) };
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    // A last label of digits alone would be a mistyped IPv4 address (10.0.0.256), never a name (RFC 3696 §2).
    let numeric = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if !name.split('.').all(label) || numeric {
        return Err(wrong());
    }
    Ok(Upstream::Name(name.into(), port))
}
