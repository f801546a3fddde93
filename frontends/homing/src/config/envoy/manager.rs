//! The HTTP connection manager: what a listener does with requests before and after their route.

use core::time::Duration;

use homing_core::limits::{FIELDS_MAX, Limits};
use homing_core::path::PathRules;
use homing_core::snapshot::{Marks, ServerField};

use super::super::error::{At, Placed, Problems};
use super::super::homing::Route;
use super::super::reader::{boolean, field_value, text, wrong};
use super::super::session::SessionModel;
use super::super::tree::{Kind, Node};
use super::super::{AccessLog, LogTarget};
use super::Once;
use super::message::{Message, choice, items, number, time};
use super::routes::{Around, route_config, upgrades};
use super::session::{FILTER, filter};

/// The manager's type.
pub(super) const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const FILE_LOG: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT_LOG: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

/// What a listener gets from its manager.
pub(super) struct Manager {
    pub(super) session: Option<Placed<SessionModel>>,
    pub(super) marks: Marks,
    pub(super) paths: PathRules,
    /// None: they could not be read.
    pub(super) routes: Option<Vec<Route>>,
}

/// What all managers must agree on.
#[derive(Default)]
pub(super) struct Shared {
    keep_alive: Once<Duration>,
    body_idle: Once<Duration>,
    head_wait: Once<Duration>,
    linger: Once<Duration>,
    head_kib: Once<u64>,
    fields: Once<u64>,
    log: LogPlace,
}

#[derive(Default)]
struct LogPlace(Option<(Option<LogTarget>, At)>);

impl Shared {
    /// `limits` with what the managers say.
    pub(super) fn limits(&mut self, mut limits: Limits) -> Limits {
        let idle = core::mem::take(&mut self.body_idle).value();
        for (to, value) in [
            (&mut limits.keep_alive_timeout, core::mem::take(&mut self.keep_alive).value()),
            (&mut limits.body_idle_timeout, idle),
            (&mut limits.tunnel_idle_timeout, idle),
            (&mut limits.request_head_timeout, core::mem::take(&mut self.head_wait).value()),
            (&mut limits.linger_timeout, core::mem::take(&mut self.linger).value()),
        ] {
            *to = value.unwrap_or(*to);
        }
        let whole = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
        if let Some(kib) = whole(core::mem::take(&mut self.head_kib).value()) {
            limits.request_head_bytes = kib * 1024;
        }
        limits.fields = whole(core::mem::take(&mut self.fields).value()).unwrap_or(limits.fields);
        limits
    }

    /// Where requests are logged.
    pub(super) fn access_log(self) -> Option<AccessLog> {
        self.log.0.and_then(|(target, _)| target).map(|target| AccessLog { target })
    }

    /// Homing has one log for all listeners.
    fn log(&mut self, target: Option<LogTarget>, at: &At, problems: &mut Problems) {
        match &self.log.0 {
            None => self.log.0 = Some((target, at.clone())),
            Some((first, _)) if *first == target => {}
            Some((_, first)) => {
                let what = format!(
                    "Homing has one access log for all listeners, and it goes elsewhere at {}",
                    first.line_text()
                );
                problems.add(at, what, "log to one place, or nowhere, in all listeners");
            }
        }
    }
}

/// Reads the rest of a manager; `message` is at its beginning.
pub(super) fn read(
    mut message: Message<'_>,
    shared: &mut Shared,
    problems: &mut Problems,
) -> Option<Manager> {
    let at = &message.node.at;
    // AUTO also takes HTTP/2 with prior knowledge, which Homing answers with 505.
    message.optional("codec_type", problems, choice(&[("AUTO", 0, ()), ("HTTP1", 1, ())]));
    let marks = marks(&mut message, problems);
    let paths = PathRules {
        normalize: message.optional("normalize_path", problems, boolean).unwrap_or(false),
        merge_slashes: message.optional("merge_slashes", problems, boolean).unwrap_or(false),
    };
    limits(&mut message, shared, problems);
    message.optional("http_protocol_options", problems, http1);
    let log = message.optional("access_log", problems, access_log);
    shared.log(log.flatten(), at, problems);
    let upgrades = message.optional("upgrade_configs", problems, upgrades).unwrap_or(false);
    let example = "http_filters: [{ name: …, typed_config: { … } }]";
    let filters = message.required("http_filters", example, problems, filters).unwrap_or_default();
    let around = Around { filter: filters.name.as_deref(), upgrades };
    let example = "route_config: { virtual_hosts: […] }";
    let routes = message
        .required("route_config", example, problems, |node, problems| route_config(node, around, problems));
    fixed(&mut message, problems);
    message.finish(problems);
    Some(Manager { session: filters.session, marks, paths, routes })
}

/// Switches that can only say what Homing does.
fn fixed(message: &mut Message<'_>, problems: &mut Problems) {
    let kept = [("IMPLEMENTATION_SPECIFIC_DEFAULT", 0, ()), ("KEEP_UNCHANGED", 1, ())];
    message.optional("path_with_escaped_slashes_action", problems, choice(&kept));
    message.fixed("add_user_agent", false, problems);
    message.fixed("always_set_request_id_in_response", false, problems);
    message.fixed("strip_matching_host_port", false, problems);
    message.fixed("strip_any_host_port", false, problems);
    message.fixed("strip_trailing_host_dot", false, problems);
    message.optional("xff_num_trusted_hops", problems, number(0..=0));
    // The upstream answers `expect: 100-continue`, whatever is written here.
    message.optional("proxy_100_continue", problems, boolean);
    // The names of counters.
    message.set_aside(&["stat_prefix"]);
}

/// The fields that requests and responses get.
fn marks(message: &mut Message<'_>, problems: &mut Problems) -> Marks {
    // At the edge Envoy trusts nothing that a client says about itself.
    let is_edge = message.optional("use_remote_address", problems, boolean).unwrap_or(false);
    let skips = message.optional("skip_xff_append", problems, boolean).unwrap_or(false);
    let request_id = message.optional("generate_request_id", problems, boolean).unwrap_or(true);
    let server = message.optional("server_name", problems, |node, problems| {
        text(node, problems)?;
        field_value(node, problems)
    });
    let transformations = [("OVERWRITE", 0, true), ("PASS_THROUGH", 2, false)];
    let overwrites =
        message.optional("server_header_transformation", problems, choice(&transformations)).unwrap_or(true);
    let name = server.as_ref().map_or("envoy", |server| server.as_str());
    Marks {
        forwarded_for: is_edge && !skips,
        forwarded_proto: true,
        trust_inbound: !is_edge,
        request_id,
        via: None,
        server: if overwrites { ServerField::Overwrite(name.into()) } else { ServerField::Pass },
        date: true,
    }
}

/// Bounds and time-outs, with Envoy's defaults where those are not Homing's.
fn limits(message: &mut Message<'_>, shared: &mut Shared, problems: &mut Problems) {
    let at = &message.node.at;
    let (idle, fields) =
        message.optional("common_http_protocol_options", problems, common).unwrap_or_default();
    let hour = Duration::from_secs(3600);
    let (value, place) = idle.unwrap_or((hour, at.clone()));
    shared.keep_alive.add(value, &place, "the time-out for idle connections", problems);
    let (value, place) = fields.unwrap_or((FIELDS_MAX as u64, at.clone()));
    shared.fields.add(value, &place, "the bound on header lines", problems);
    for (field, default, to, what) in [
        ("stream_idle_timeout", 300, &mut shared.body_idle, "the time-out for idle streams"),
        ("request_headers_timeout", 10, &mut shared.head_wait, "the time-out for request heads"),
        ("delayed_close_timeout", 1, &mut shared.linger, "the time for closing"),
    ] {
        let place = message.take(field);
        let value = place.map_or(Some(Duration::from_secs(default)), |node| time(node, problems));
        if let Some(value) = value {
            to.add(value, place.map_or(at, |node| &node.at), what, problems);
        }
    }
    let place = message.take("max_request_headers_kb");
    let value = place.map_or(Some(60), |node| number(1..=64)(node, problems));
    if let Some(value) = value {
        let at = place.map_or(at, |node| &node.at);
        shared.head_kib.add(value, at, "the bound on request heads", problems);
    }
}

type Written<T> = Option<(T, At)>;

fn common(node: &Node, problems: &mut Problems) -> Option<(Written<Duration>, Written<u64>)> {
    let mut message = Message::open(node, "`common_http_protocol_options`", problems)?;
    let idle = message
        .optional("idle_timeout", problems, |node, problems| Some((time(node, problems)?, node.at.clone())));
    let fields = message.optional("max_headers_count", problems, |node, problems| {
        Some((number(1..=FIELDS_MAX as u64)(node, problems)?, node.at.clone()))
    });
    message.optional("headers_with_underscores_action", problems, choice(&[("ALLOW", 0, ())]));
    message.finish(problems);
    Some((idle, fields))
}

/// Options of HTTP/1.
fn http1(node: &Node, problems: &mut Problems) -> Option<()> {
    let mut message = Message::open(node, "`http_protocol_options`", problems)?;
    // HTTP/1.0 is served, and trailers pass, whatever is written here.
    message.optional("accept_http_10", problems, boolean);
    message.optional("enable_trailers", problems, boolean);
    message.fixed("allow_absolute_url", true, problems);
    message.fixed("allow_chunked_length", false, problems);
    message.finish(problems);
    Some(())
}

/// Where Homing's own log goes; the inner `None`: nowhere.
#[expect(clippy::option_option, reason = "written but wrong differs from an empty list")]
fn access_log(node: &Node, problems: &mut Problems) -> Option<Option<LogTarget>> {
    let (mut targets, _) = items(|node, problems: &mut Problems| {
        let mut message = Message::open(node, "an access log", problems)?;
        let target = message.required("typed_config", "typed_config: { … }", problems, log_target);
        message.set_aside(&["name"]);
        message.finish(problems);
        target
    })(node, problems)?;
    if targets.len() > 1 {
        problems.add(&node.at, "Homing has one access log", "keep one of these");
    }
    Some(targets.pop())
}

fn log_target(node: &Node, problems: &mut Problems) -> Option<LogTarget> {
    let (mut message, kind) = Message::any(node, "an access log", problems)?;
    let target = match kind {
        STDOUT_LOG => Some(LogTarget::Stdout),
        FILE_LOG => message.required("path", "path: /var/log/access.log", problems, |node, problems| {
            Some(match text(node, problems)?.as_str() {
                "/dev/stdout" => LogTarget::Stdout,
                path => LogTarget::File(path.into()),
            })
        }),
        _ => {
            problems.add(
                &node.at,
                format!("Homing has no access log of the type {kind:?}"),
                format!("use {FILE_LOG} or {STDOUT_LOG}"),
            );
            return None;
        }
    };
    problems.note(&node.at, "Homing's access log has its own form, whatever format is written here");
    message.set_aside(&["log_format", "format", "json_format", "typed_json_format"]);
    message.finish(problems);
    target
}

/// The chain of HTTP filters, as far as it concerns sessions.
#[derive(Default)]
struct Filters {
    /// The session filter's name in the chain.
    name: Option<String>,
    session: Option<Placed<SessionModel>>,
}

/// At most one session filter, and the router behind it.
fn filters(node: &Node, problems: &mut Problems) -> Option<Filters> {
    let Kind::List(entries) = &node.kind else {
        wrong(node, problems, "a list", "write `- …` lines, or [a, b]");
        return None;
    };
    let mut found = Filters::default();
    let (mut is_routed, mut is_whole) = (false, true);
    for entry in entries {
        if is_routed {
            problems.add(&entry.at, "nothing comes behind the router", "put the router last");
        }
        match http_filter(entry, problems) {
            Some(HttpFilter::Router) => is_routed = true,
            Some(HttpFilter::Session(name, session)) => {
                if found.name.is_some() {
                    let remedy = "keep one session filter, or leave the chain to Envoy";
                    problems.add(&entry.at, "Homing has no filter chains with two session filters", remedy);
                }
                found = Filters { name: Some(name), session };
            }
            // It was told of, and may have been the router.
            None => is_whole = false,
        }
    }
    if is_whole && !is_routed {
        let remedy = "add { name: envoy.filters.http.router, typed_config: { \"@type\": … } } at the end";
        problems.add(&node.at, "the chain has no router", remedy);
    }
    Some(found)
}

enum HttpFilter {
    Router,
    Session(String, Option<Placed<SessionModel>>),
}

fn http_filter(node: &Node, problems: &mut Problems) -> Option<HttpFilter> {
    let mut message = Message::open(node, "a filter", problems)?;
    let name = message.required("name", "name: envoy.filters.http.router", problems, text);
    let disabled = message.optional("disabled", problems, boolean).unwrap_or(false);
    let found =
        message.required("typed_config", "typed_config: { \"@type\": … }", problems, |node, problems| {
            let (message, kind) = Message::any(node, "a filter", problems)?;
            match kind {
                ROUTER => {
                    router(message, problems);
                    Some(HttpFilter::Router)
                }
                FILTER => {
                    let session = filter(message, problems);
                    let session = session.map(|session| match disabled {
                        // It is in the chain for the routes that have settings of their own (pr-042 to pr-045).
                        true => Placed { value: SessionModel::Disabled, ..session },
                        false => session,
                    });
                    Some(HttpFilter::Session(name?, session))
                }
                _ => {
                    let remedy = "keep the session filter and the router, or leave the chain to Envoy";
                    problems.add(&node.at, format!("Homing has no filter {kind:?}"), remedy);
                    None
                }
            }
        });
    // Whether Envoy may start without it.
    message.set_aside(&["is_optional"]);
    message.finish(problems);
    found
}

fn router(mut message: Message<'_>, problems: &mut Problems) {
    message.fixed("start_child_span", false, problems);
    // Homing writes no x-envoy fields, whatever is written here; and counters are counters.
    message.optional("suppress_envoy_headers", problems, boolean);
    message.set_aside(&["dynamic_stats"]);
    message.finish(problems);
}
