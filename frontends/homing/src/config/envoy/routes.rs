//! Envoy's virtual hosts and routes.
//!
//! A host name takes the virtual host with the most specific domain, and its routes alone: there is no way back to `*`.

use core::time::Duration;

use homing_core::field::{FieldName, FieldValue, Status};
use homing_core::route::{Domain, FieldRules, PathMatch, Redirect, Retry, RetryOn, Rewrite};

use super::super::compile::domain_text;
use super::super::error::{At, Placed, Problems};
use super::super::homing::{
    ActionModel, BODY_MAX, Entry, ForwardModel, Route, domain, free_name, host_text, url_path,
};
use super::super::reader::{any_text, boolean, field_value, placed, text};
use super::super::session::SessionModel;
use super::super::tree::Node;
use super::message::{Message, choice, items, number, time};
use super::session::{overrides, set_text};

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// What routes take from around them.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The session filter's name in the chain; `None`: there is none.
    pub(super) filter: Option<&'a str>,
    /// Whether `Upgrade` requests are passed on.
    pub(super) upgrades: bool,
}

/// Reads a `RouteConfiguration`.
pub(super) fn route_config(node: &Node, around: Around<'_>, problems: &mut Problems) -> Option<Vec<Route>> {
    let mut message = Message::open(node, "`route_config`", problems)?;
    let mut domains: Vec<(Domain, At)> = Vec::new();
    let hosts = message.required(
        "virtual_hosts",
        "virtual_hosts: [{ name: all, domains: [\"*\"], routes: […] }]",
        problems,
        items(|node, problems: &mut Problems| virtual_host(node, around, &mut domains, problems)),
    );
    // Homing compares names without their port in any case, and always knows its clusters.
    message.optional("ignore_port_in_host_matching", problems, boolean);
    message.optional("validate_clusters", problems, boolean);
    message.set_aside(&["name"]);
    message.finish(problems);
    Some(hosts?.0.into_iter().flatten().collect())
}

fn virtual_host(
    node: &Node,
    around: Around<'_>,
    taken: &mut Vec<(Domain, At)>,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let mut message = Message::open(node, "a virtual host", problems)?;
    message.required("name", "name: all", problems, text);
    let domains = message.required(
        "domains",
        "domains: [\"*\"]",
        problems,
        items(|node, problems: &mut Problems| placed(host_pattern)(node, problems)),
    );
    let session = message.optional("typed_per_filter_config", problems, |node, problems| {
        overrides(node, around.filter, problems)
    });
    let routes = message.optional(
        "routes",
        problems,
        items(|node, problems: &mut Problems| route(node, around, session.as_ref(), problems)),
    );
    message.optional("require_tls", problems, choice(&[("NONE", 0, ())]));
    message.finish(problems);
    let domains = domains?.0;
    for domain in &domains {
        if let Some((_, first)) = taken.iter().find(|(known, _)| *known == domain.value) {
            let what =
                format!("{:?} is already a domain, at {}", domain_text(&domain.value), first.line_text());
            problems.add(&domain.at, what, "name each domain once");
        }
        taken.push((domain.value.clone(), domain.at.clone()));
    }
    let domains: Vec<_> = domains.into_iter().map(|domain| domain.value).collect();
    let mut routes: Vec<Route> = routes.unwrap_or_default().0;
    if routes.is_empty() {
        // A virtual host without routes takes its names all the same, and has nothing for them.
        routes.push(Route {
            at: node.at.clone(),
            name: None,
            domains: Vec::new(),
            path: PathMatch::Prefix("/".into()),
            action: ActionModel::Respond { status: Status::new(404).ok()?, body: String::new() },
        });
    }
    for route in &mut routes {
        route.domains.clone_from(&domains);
    }
    Some(routes)
}

/// A domain: `*`, a name, or a star and the end of names.
fn host_pattern(node: &Node, problems: &mut Problems) -> Option<Domain> {
    let given = text(node, problems)?;
    if given.ends_with('*') && given.len() > 1 {
        let remedy = "write whole names, or the end of names behind a `*`";
        problems.add(&node.at, "Homing has no match on the beginning of a name", remedy);
        return None;
    }
    if given.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        let what = format!("{given:?} has a port, and Homing compares names without their port");
        problems.add(&node.at, what, "write the name alone");
        return None;
    }
    match given.to_ascii_lowercase().strip_prefix('*') {
        Some(end) if !end.is_empty() && !end.starts_with('.') => {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !end.chars().all(known) {
                problems.add(
                    &node.at,
                    format!("{given:?} is not the end of a name"),
                    "write \"*.example.org\"",
                );
                return None;
            }
            Some(Domain::Suffix(end.into()))
        }
        _ => domain(node, problems),
    }
}

fn route(
    node: &Node,
    around: Around<'_>,
    inherited: Option<&Placed<SessionModel>>,
    problems: &mut Problems,
) -> Option<Route> {
    let mut message = Message::open(node, "a route", problems)?;
    let name = message.optional("name", problems, set_text);
    let path = message.required("match", "match: { prefix: / }", problems, path_match);
    let session = message
        .optional("typed_per_filter_config", problems, |node, problems| {
            overrides(node, around.filter, problems)
        })
        .or_else(|| inherited.cloned());
    let request = rules(&mut message, ["request_headers_to_add", "request_headers_to_remove"], problems);
    let response = rules(&mut message, ["response_headers_to_add", "response_headers_to_remove"], problems);
    let actions = ["route", "redirect", "direct_response"];
    let written: Vec<_> = actions.into_iter().filter(|field| message.has(field)).collect();
    let action = match written.as_slice() {
        ["route"] => message.optional("route", problems, |node, problems| {
            let mut forward = forward(node, around, problems)?;
            forward.session = session;
            (forward.request, forward.response) = (request, response);
            Some(ActionModel::Forward(Box::new(forward)))
        }),
        ["redirect"] => message.optional("redirect", problems, redirect).map(ActionModel::Redirect),
        ["direct_response"] => message.optional("direct_response", problems, direct_response),
        _ => {
            let remedy = "write one of `route`, `redirect`, `direct_response`";
            problems.add(&node.at, "a route does exactly one thing", remedy);
            None
        }
    };
    if written.first() != Some(&"route") && RULES.iter().any(|field| message.has(field)) {
        let what = "Homing changes headers on routes that forward, and on no others";
        problems.add(&node.at, what, "remove the headers to add and to remove");
    }
    // Of the actions, what was not read was told of as a whole.
    message.set_aside(&actions);
    message.set_aside(&["metadata", "stat_prefix"]);
    message.finish(problems);
    Some(Route { at: node.at.clone(), name, domains: Vec::new(), path: path?, action: action? })
}

fn path_match(node: &Node, problems: &mut Problems) -> Option<PathMatch> {
    let mut message = Message::open(node, "`match`", problems)?;
    let prefix = message.optional("prefix", problems, url_path);
    let path = message.optional("path", problems, url_path);
    let before = problems.count();
    message.fixed("case_sensitive", true, problems);
    let written = usize::from(message.has("prefix")) + usize::from(message.has("path"));
    message.finish(problems);
    if written != 1 && problems.count() == before {
        let remedy = "write `prefix: /…` or `path: /…`";
        problems.add(&node.at, "a path is matched in exactly one way", remedy);
    }
    prefix.map(PathMatch::Prefix).or(path.map(PathMatch::Exact))
}

/// Envoy's default: a response must have come within this time.
pub(super) const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

fn forward(node: &Node, around: Around<'_>, problems: &mut Problems) -> Option<ForwardModel> {
    let mut message = Message::open(node, "`route`", problems)?;
    let single = message.optional("cluster", problems, placed(text));
    let several =
        message.optional("weighted_clusters", problems, |node, problems| weighted(node, around, problems));
    let written = usize::from(message.has("cluster")) + usize::from(message.has("weighted_clusters"));
    let rewrite = message.optional("prefix_rewrite", problems, url_path).map(Rewrite::Prefix);
    let host_rewrite = message.optional("host_rewrite_literal", problems, host_text);
    message.fixed("auto_host_rewrite", false, problems);
    let timeout = message.optional("timeout", problems, time).unwrap_or(ROUTE_TIMEOUT);
    let retry = message.optional("retry_policy", problems, retry).unwrap_or_default();
    let upgrades = message.optional("upgrade_configs", problems, upgrades);
    let before = problems.count();
    message.finish(problems);
    if written != 1 {
        if problems.count() == before {
            let remedy = "write `cluster: name` or `weighted_clusters: { clusters: […] }`";
            problems.add(&node.at, "a route leads to one cluster or to a weighted list", remedy);
        }
        return None;
    }
    let entries = single.map(|cluster| vec![Entry { cluster, weight: 1, session: None }]).or(several)?;
    Some(ForwardModel {
        entries,
        session: None,
        rewrite,
        host_rewrite,
        request: FieldRules::default(),
        response: FieldRules::default(),
        timeout: Some(timeout),
        retry,
        upgrades: upgrades.unwrap_or(around.upgrades),
    })
}

fn weighted(node: &Node, around: Around<'_>, problems: &mut Problems) -> Option<Vec<Entry>> {
    let mut message = Message::open(node, "`weighted_clusters`", problems)?;
    let example = "clusters: [{ name: app, weight: 1 }]";
    let entries = message.required(
        "clusters",
        example,
        problems,
        items(|node, problems: &mut Problems| entry(node, around, problems)),
    );
    message.finish(problems);
    let (entries, complete) = entries?;
    let sum: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    if complete && !(1..=u64::from(u32::MAX)).contains(&sum) {
        let what = format!("the weights add up to {sum}");
        problems.add(&node.at, what, format!("keep the sum from 1 to {}", u32::MAX));
    }
    Some(entries)
}

fn entry(node: &Node, around: Around<'_>, problems: &mut Problems) -> Option<Entry> {
    let mut message = Message::open(node, "a weighted cluster", problems)?;
    let cluster = message.required("name", "name: app", problems, placed(text));
    let weight = message.optional("weight", problems, number(0..=u32::MAX.into())).unwrap_or_default();
    let session = message.optional("typed_per_filter_config", problems, |node, problems| {
        overrides(node, around.filter, problems)
    });
    message.finish(problems);
    Some(Entry { cluster: cluster?, weight: u32::try_from(weight).ok()?, session })
}

/// Whether upgrades pass. Homing passes all kinds or none.
pub(super) fn upgrades(node: &Node, problems: &mut Problems) -> Option<bool> {
    let read = |node: &Node, problems: &mut Problems| {
        let mut message = Message::open(node, "an upgrade", problems)?;
        message.required("upgrade_type", "upgrade_type: websocket", problems, |node, problems| {
            let kind = text(node, problems)?;
            if !kind.eq_ignore_ascii_case("websocket") {
                let what = format!("Homing does not honour upgrades to {kind:?} by name");
                problems.add(&node.at, what, "write websocket, with which upgrades of every kind pass");
            }
            Some(())
        });
        let enabled = message.optional("enabled", problems, boolean);
        message.finish(problems);
        Some(enabled.unwrap_or(true))
    };
    // An empty list says nothing.
    items(read)(node, problems).and_then(|(found, _)| found.into_iter().next())
}

fn retry(node: &Node, problems: &mut Problems) -> Option<Retry> {
    let mut message = Message::open(node, "`retry_policy`", problems)?;
    let on = message.optional("retry_on", problems, retry_on).unwrap_or_default();
    let attempts = message.optional("num_retries", problems, number(0..=u8::MAX.into())).unwrap_or(1);
    let per_try_timeout = message.optional("per_try_timeout", problems, time).unwrap_or_default();
    // A retry goes to another host anyway, as long as there is one.
    message.optional("host_selection_retry_max_attempts", problems, number(0..=u64::MAX));
    message.optional("retry_host_predicate", problems, items(previous_hosts));
    message.finish(problems);
    let attempts = if on == RetryOn::default() { 0 } else { u8::try_from(attempts).ok()? };
    Some(Retry { attempts, on, per_try_timeout })
}

/// Envoy's words, which for `5xx`, `gateway-error` and `reset` take a connection that fails for such a response.
fn retry_on(node: &Node, problems: &mut Problems) -> Option<RetryOn> {
    let text = any_text(node, problems)?;
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "reset" => (on.connect_failure, on.reset) = (true, true),
            "5xx" => (on.connect_failure, on.reset, on.server_error) = (true, true, true),
            "gateway-error" => (on.connect_failure, on.reset, on.gateway_error) = (true, true, true),
            _ => problems.add(
                &node.at,
                format!("Homing has no retries on {word:?}"),
                "use connect-failure, reset, 5xx or gateway-error",
            ),
        }
    }
    Some(on)
}

fn previous_hosts(node: &Node, problems: &mut Problems) -> Option<()> {
    let mut message = Message::open(node, "a predicate", problems)?;
    message.required("name", "name: previous_hosts", problems, text);
    message.required("typed_config", "typed_config: { \"@type\": … }", problems, |node, problems| {
        Message::of_type(node, "a predicate", PREVIOUS_HOSTS, problems)?.finish(problems);
        Some(())
    });
    message.finish(problems);
    Some(())
}

fn redirect(node: &Node, problems: &mut Problems) -> Option<Redirect> {
    let mut message = Message::open(node, "`redirect`", problems)?;
    let https = message.optional("https_redirect", problems, boolean).unwrap_or(false);
    let scheme = message.optional("scheme_redirect", problems, |node, problems| {
        let known = [("http", 0, "http"), ("https", 1, "https")];
        choice(&known)(node, problems)
    });
    let host = message.optional("host_redirect", problems, |node, problems| match domain(node, problems)? {
        Domain::Exact(name) => Some(name),
        _ => {
            problems.add(&node.at, "a redirect needs one name", "write a name without `*`");
            None
        }
    });
    let port = message.optional("port_redirect", problems, number(1..=u16::MAX.into()));
    let path = message.optional("path_redirect", problems, url_path).map(Rewrite::Path);
    let prefix = message.optional("prefix_rewrite", problems, url_path).map(Rewrite::Prefix);
    let codes = [
        ("MOVED_PERMANENTLY", 0, 301),
        ("FOUND", 1, 302),
        ("SEE_OTHER", 2, 303),
        ("TEMPORARY_REDIRECT", 3, 307),
        ("PERMANENT_REDIRECT", 4, 308),
    ];
    let code = message.optional("response_code", problems, choice(&codes)).unwrap_or(301);
    message.fixed("strip_query", false, problems);
    let twice = (https && message.has("scheme_redirect"))
        || (message.has("path_redirect") && message.has("prefix_rewrite"));
    let before = problems.count();
    message.finish(problems);
    let scheme = if https { Some("https") } else { scheme };
    if twice {
        let what = "the scheme and the path are each redirected in one way";
        problems.add(&node.at, what, "keep one of the fields");
    }
    let changes = scheme.is_some() || host.is_some() || port.is_some() || path.is_some() || prefix.is_some();
    if !changes && problems.count() == before {
        let remedy = "write where it leads: another scheme, host, port or path";
        problems.add(&node.at, "a redirect that changes nothing leads back here for ever", remedy);
    }
    Some(Redirect {
        status: Status::new(code).ok()?,
        scheme: scheme.map(Into::into),
        host,
        port: port.and_then(|port| u16::try_from(port).ok()),
        path: path.or(prefix),
    })
}

fn direct_response(node: &Node, problems: &mut Problems) -> Option<ActionModel> {
    let mut message = Message::open(node, "`direct_response`", problems)?;
    let status = message.required("status", "status: 204", problems, |node, problems| {
        let code = number(200..=599)(node, problems)?;
        Status::new(u16::try_from(code).ok()?).ok()
    });
    let body = message.optional("body", problems, |node, problems| {
        let mut message = Message::open(node, "`body`", problems)?;
        let text = message.optional("inline_string", problems, placed(any_text));
        message.finish(problems);
        text
    });
    message.finish(problems);
    let status = status?;
    if let Some(body) = &body {
        if status.is_bodiless() && !body.value.is_empty() {
            let what = format!("a response with status {} has no body", status.get());
            problems.add(&body.at, what, "remove the body, or use another status");
        }
        if body.value.len() > BODY_MAX {
            let what =
                format!("the body has {} bytes, and {BODY_MAX} is the most that fits", body.value.len());
            problems.add(&body.at, what, "shorten it");
        }
    }
    Some(ActionModel::Respond { status, body: body.map(|body| body.value).unwrap_or_default() })
}

/// The fields that change headers.
const RULES: [&str; 4] = [
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
];

fn rules(message: &mut Message<'_>, [add, remove]: [&'static str; 2], problems: &mut Problems) -> FieldRules {
    let remove = message.optional(remove, problems, items(free_name)).unwrap_or_default().0;
    let mut rules = FieldRules { remove, ..FieldRules::default() };
    for option in message.optional(add, problems, items(header_option)).unwrap_or_default().0 {
        let to = if option.replaces { &mut rules.set } else { &mut rules.add };
        to.push((option.name, option.value));
    }
    rules
}

struct HeaderOption {
    name: FieldName,
    value: FieldValue,
    replaces: bool,
}

fn header_option(node: &Node, problems: &mut Problems) -> Option<HeaderOption> {
    let mut message = Message::open(node, "a header to add", problems)?;
    let header =
        message.required("header", "header: { key: x-team, value: blue }", problems, |node, problems| {
            let mut message = Message::open(node, "`header`", problems)?;
            let name = message.required("key", "key: x-team", problems, free_name);
            let value = message.required("value", "value: blue", problems, |node, problems| {
                let value = field_value(node, problems)?;
                if value.as_str().contains('%') {
                    problems.add(&node.at, "Homing has no formatted values", "write a value without `%`");
                }
                Some(value)
            });
            message.finish(problems);
            Some((name?, value?))
        });
    let actions = [("APPEND_IF_EXISTS_OR_ADD", 0, false), ("OVERWRITE_IF_EXISTS_OR_ADD", 2, true)];
    let replaces = message.optional("append_action", problems, choice(&actions)).unwrap_or(false);
    message.finish(problems);
    let (name, value) = header?;
    Some(HeaderOption { name, value, replaces })
}
