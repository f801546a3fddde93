//! The stateful session filter's own messages: the filter, its session state, and what a more specific place says.

use core::time::Duration;

use homing_core::affinity::{CarrierSpec, CookieSpec, PolicySpec};
use homing_core::field::Status;

use super::super::error::{Placed, Problems};
use super::super::reader::{any_text, boolean, text};
use super::super::session::{
    SessionModel, attribute, check_browser_rules, cookie_name, cookie_path, session_field_name,
};
use super::super::tree::{Kind, Node};
use super::message::{Message, items, number, time};

/// The filter's type.
pub(super) const FILTER: &str = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
const PER_ROUTE: &str = "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";
const STATE: &str = "envoy.http.stateful_session.";
const STATE_TYPE: &str = "envoy.extensions.http.stateful_session.";

/// Reads the rest of a `StatefulSession`; `message` is at its beginning.
pub(super) fn filter(mut message: Message<'_>, problems: &mut Problems) -> Option<Placed<SessionModel>> {
    let before = problems.count();
    let at = message.node.at.clone();
    // Without one the filter is in the chain, and there is no session (setc-104 to setc-106).
    let carrier = message.take("session_state").map(|node| state(node, problems));
    let strict = message.optional("strict", problems, boolean).unwrap_or(false);
    let gone_status =
        message.optional("status_on_strict_destination_not_found", problems, |node, problems| {
            gone_status(node, strict, problems)
        });
    // The name of counters.
    message.set_aside(&["stat_prefix"]);
    message.finish(problems);
    let Some(carrier) = carrier else {
        return (problems.count() == before).then_some(Placed { value: SessionModel::None, at });
    };
    let carrier = carrier?;
    if problems.count() > before {
        return None;
    }
    let policy = PolicySpec {
        carrier,
        strict,
        gone_status: gone_status.unwrap_or(Status::UNAVAILABLE),
        clear_dead: false,
        hide_from_upstream: false,
        no_cache: false,
        renew_before: None,
    };
    Some(Placed { value: SessionModel::Policy(Box::new(policy)), at })
}

/// Zero is Envoy's way to say "the default", and without `strict` nothing is refused (strict-001, strict-020).
fn gone_status(node: &Node, strict: bool, problems: &mut Problems) -> Option<Status> {
    let number = number(0..=u32::MAX.into())(node, problems)?;
    if number == 0 {
        return None;
    }
    if !strict {
        problems.note(&node.at, "this has no effect, here as in Envoy: only a strict session is refused");
        return None;
    }
    let status = u16::try_from(number).ok().and_then(|number| Status::new(number).ok());
    if status.is_none() {
        let what = format!("expected a final HTTP status, found {}", node.describe());
        problems.add(&node.at, what, "write a number from 200 to 599");
    }
    status
}

/// Reads a session state, which Envoy looks up by name; its type must be that of the name.
fn state(node: &Node, problems: &mut Problems) -> Option<CarrierSpec> {
    let mut message = Message::open(node, "a session state", problems)?;
    let example = "name: envoy.http.stateful_session.cookie";
    let kind = message.required("name", example, problems, |node, problems| {
        let name = text(node, problems)?;
        let known =
            [("cookie", Carrier::Cookie), ("header", Carrier::Header), ("envelope", Carrier::Envelope)];
        let found = known.iter().find(|(known, _)| name.strip_prefix(STATE) == Some(known));
        if found.is_none() {
            let remedy = format!("use {STATE}cookie, {STATE}header or {STATE}envelope");
            problems.add(&node.at, format!("there is no session state {name:?}"), remedy);
        }
        found.map(|(_, kind)| *kind)
    });
    let example = "typed_config: { \"@type\": …, cookie: { name: sid } }";
    let carrier = message.required("typed_config", example, problems, |node, problems| {
        let kind = kind?;
        let message = Message::of_type(node, "this session state", &kind.type_name(), problems)?;
        kind.read(message, problems)
    });
    message.finish(problems);
    carrier
}

/// Which session state it is.
#[derive(Clone, Copy)]
enum Carrier {
    Cookie,
    Header,
    Envelope,
}

impl Carrier {
    fn type_name(self) -> String {
        let name = match self {
            Self::Cookie => "cookie.v3.CookieBasedSessionState",
            Self::Header => "header.v3.HeaderBasedSessionState",
            Self::Envelope => "envelope.v3.EnvelopeSessionState",
        };
        format!("{STATE_TYPE}{name}")
    }

    fn read(self, mut message: Message<'_>, problems: &mut Problems) -> Option<CarrierSpec> {
        let carrier = match self {
            Self::Cookie => {
                message.required("cookie", "cookie: { name: sid }", problems, cookie).map(CarrierSpec::Cookie)
            }
            Self::Header => message
                .required("name", "name: x-session-id", problems, session_field_name)
                .map(|name| CarrierSpec::Header { name }),
            Self::Envelope => message
                .required("header", "header: { name: x-session-id }", problems, |node, problems| {
                    let mut header = Message::open(node, "`header`", problems)?;
                    let name = header.required("name", "name: x-session-id", problems, session_field_name);
                    header.finish(problems);
                    name
                })
                .map(|name| CarrierSpec::Envelope { name }),
        };
        message.finish(problems);
        carrier
    }
}

fn cookie(node: &Node, problems: &mut Problems) -> Option<CookieSpec> {
    let mut message = Message::open(node, "`cookie`", problems)?;
    let name = message.required("name", "name: sid", problems, cookie_name);
    let path = message.optional("path", problems, |node, problems| match &node.kind {
        // As if it were not set.
        Kind::Text(text) if text.is_empty() => None,
        _ => cookie_path(node, problems),
    });
    let ttl = message.optional("ttl", problems, time).unwrap_or(Duration::ZERO);
    let attributes = message.optional("attributes", problems, items(cookie_attribute));
    message.finish(problems);
    // One that is given twice is written twice, as by Envoy.
    let attributes: Vec<_> = attributes.unwrap_or_default().0;
    let attributes = attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let cookie = CookieSpec { name: name?.into(), path: path.unwrap_or_default().into(), ttl, attributes };
    check_browser_rules(&cookie, node, problems);
    Some(cookie)
}

fn cookie_attribute(node: &Node, problems: &mut Problems) -> Option<(String, String)> {
    let mut message = Message::open(node, "an attribute", problems)?;
    let name = message.required("name", "name: Secure", problems, attribute::name);
    let value = message.optional("value", problems, attribute::value);
    message.finish(problems);
    Some((name?, value.unwrap_or_default()))
}

/// What `typed_per_filter_config` says about the session. Its keys are the names of filters as the chain has them, and
/// not their types' (pr-046, pr-047).
pub(super) fn overrides(
    node: &Node,
    filter: Option<&str>,
    problems: &mut Problems,
) -> Option<Placed<SessionModel>> {
    let Kind::Map(entries) = &node.kind else {
        problems.add(&node.at, "expected a mapping by the names of filters", "write `name: { … }`");
        return None;
    };
    let mut found = None;
    for (key, value) in entries {
        let Some(name) = key.text.as_deref() else {
            problems.add(&key.at, "a filter's name must be text", "put it in quotes");
            continue;
        };
        if Some(name) == filter {
            found = per_route(value, problems);
            continue;
        }
        if Message::any(value, "an override", problems).is_some() {
            let what = format!("this has no effect, here as in Envoy: the chain has no filter {name:?}");
            problems.note(&key.at, what);
        }
    }
    found
}

fn per_route(node: &Node, problems: &mut Problems) -> Option<Placed<SessionModel>> {
    let (mut message, kind) = Message::any(node, "an override", problems)?;
    let disabled = Placed { value: SessionModel::Disabled, at: node.at.clone() };
    let (is_wrapped, field) = match kind {
        PER_ROUTE => (false, "stateful_session"),
        FILTER_CONFIG => (true, "config"),
        _ => {
            let what = format!("the session filter has no settings for a place of the type {kind:?}");
            problems.add(&node.at, what, format!("use {PER_ROUTE}"));
            return None;
        }
    };
    let switch = message.take("disabled");
    let is_disabled = switch.and_then(|node| boolean(node, problems));
    let session = message.optional(field, problems, |node, problems| {
        if is_wrapped {
            return per_route(node, problems);
        }
        filter(Message::open(node, "`stateful_session`", problems)?, problems)
    });
    let has_session = message.has(field);
    if is_wrapped {
        // Whether Envoy may start without the filter.
        message.set_aside(&["is_optional"]);
    }
    message.finish(problems);
    match (is_disabled, switch) {
        (Some(true), Some(switch)) if has_session => {
            let remedy = format!("keep one of `disabled` and `{field}`");
            problems.add(&switch.at, "a session that is disabled has no settings", remedy);
            None
        }
        (Some(true), _) => Some(disabled),
        (Some(false), Some(switch)) if !is_wrapped => {
            let remedy = "remove the whole override to inherit the session";
            problems.add(&switch.at, "`disabled` can only be true", remedy);
            None
        }
        _ if has_session => session,
        // What was written in its place could not be read.
        (None, Some(_)) => None,
        _ => {
            let remedy = format!("write `disabled: true` or `{field}: {{ … }}`");
            problems.add(&node.at, "the override says nothing", remedy);
            None
        }
    }
}

/// A text that may be empty, for fields whose default is the empty text.
pub(super) fn set_text(node: &Node, problems: &mut Problems) -> Option<String> {
    any_text(node, problems).filter(|text| !text.is_empty())
}
