//! The session block, as Gloo writes it, with Homing's further keys beside Gloo's.
//!
//! A block stands for itself: the most specific one counts as a whole and nothing is merged (pr-008, pr-018).
//! A block without a carrier, which in Envoy quietly switches stickiness off, is refused here; `disabled: true`
//! says the same aloud.

use core::time::Duration;

use homing_core::affinity::{CarrierSpec, CookieSpec, PolicySpec};
use homing_core::field::{FieldName, Status, is_token_byte};
use homing_core::limits::PARAMETER_MAX;

use super::error::{Placed, Problems};
use super::reader::{Fields, any_text, boolean, choice, field_name, some, status, text, time};
use super::tree::Node;

/// Session settings as one place of the configuration has them.
#[derive(Clone, Debug)]
pub(super) enum SessionModel {
    /// No session, in Envoy's words a filter without a session state.
    None,
    /// `disabled: true`.
    Disabled,
    /// A policy.
    Policy(Box<PolicySpec>),
}

/// Whose keys are allowed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Dialect {
    /// Gloo's and ours.
    Homing,
    /// Gloo's only, so that the document stays valid there.
    Gloo,
}

/// Names that a session header must not have: they steer framing or routing, or carry other meanings
/// (row 26 of the ledger).
const RESERVED: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "keep-alive",
    "location",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a `statefulSession` block.
pub(super) fn session(dialect: Dialect) -> impl Fn(&Node, &mut Problems) -> Option<Placed<SessionModel>> {
    move |node, problems| {
        let before = problems.count();
        let mut fields = Fields::open(node, "the session block", problems)?;
        if dialect == Dialect::Homing && fields.has("disabled") {
            return disabled(node, fields, problems);
        }
        let carrier = carrier(dialect, node, &mut fields, problems);
        let extras =
            if dialect == Dialect::Homing { Extras::read(&mut fields, problems) } else { Extras::default() };
        let strict = fields.optional("strict", problems, boolean).unwrap_or(false);
        match dialect {
            Dialect::Homing => fields.finish(problems),
            Dialect::Gloo => fields.finish_with(problems, |_| gloo_only()),
        }
        let carrier = carrier?;
        extras.check(&carrier, strict, problems);
        if problems.count() > before {
            // The core checks the policy again, without places; once is enough.
            return None;
        }
        let policy = PolicySpec {
            carrier,
            strict,
            gone_status: extras.gone_status.map_or(Status::UNAVAILABLE, |status| status.value),
            clear_dead: extras.clear_dead.is_some_and(|on| on.value),
            hide_from_upstream: extras.hide.is_some_and(|on| on.value),
            no_cache: extras.no_cache,
            renew_before: extras.renew_before.map(|before| before.value),
        };
        Some(Placed { value: SessionModel::Policy(Box::new(policy)), at: node.at.clone() })
    }
}

/// What is wrong with a key of ours in a Gloo document.
fn gloo_only() -> (String, String) {
    (
        "Gloo has no such key".into(),
        "remove it here; Homing's further keys belong in the `statefulSession` of a listener or route".into(),
    )
}

fn disabled(node: &Node, mut fields: Fields<'_>, problems: &mut Problems) -> Option<Placed<SessionModel>> {
    let on = fields.get("disabled").and_then(|node| {
        let on = boolean(node, problems);
        if on == Some(false) {
            problems.add(
                &node.at,
                "`disabled` can only be true",
                "remove the whole block to inherit the session",
            );
        }
        on
    });
    fields.finish_with(problems, |_| {
        (
            "a session that is disabled has no further settings".into(),
            "remove this key, or remove `disabled`".into(),
        )
    });
    on.filter(|on| *on).map(|_| Placed { value: SessionModel::Disabled, at: node.at.clone() })
}

/// Exactly one of the carriers.
fn carrier(
    dialect: Dialect,
    node: &Node,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Option<CarrierSpec> {
    let cookie = fields.optional("cookieBased", problems, |node, problems| {
        let mut fields = Fields::open(node, "`cookieBased`", problems)?;
        let cookie = fields.required("cookie", "cookie: { name: sid }", problems, cookie(dialect));
        fields.finish(problems);
        Some(cookie.map(CarrierSpec::Cookie))
    });
    let header = fields
        .optional("headerBased", problems, header_name)
        .map(|name| name.map(|name| CarrierSpec::Header { name }));
    let envelope = match dialect {
        Dialect::Homing => fields
            .optional("envelope", problems, header_name)
            .map(|name| name.map(|name| CarrierSpec::Envelope { name })),
        Dialect::Gloo => None,
    };
    let sse = match dialect {
        Dialect::Homing => fields
            .optional("sse", problems, parameter)
            .map(|name| name.map(|parameter| CarrierSpec::Sse { parameter })),
        Dialect::Gloo => None,
    };
    let written =
        ["cookieBased", "headerBased", "envelope", "sse"].into_iter().filter(|key| fields.has(key)).count();
    match written {
        0 => {
            let remedy =
                "write `cookieBased`, `headerBased`, `envelope` or `sse`, or `disabled: true` for no session";
            let remedy =
                if dialect == Dialect::Gloo { "write `cookieBased` or `headerBased`" } else { remedy };
            problems.add(&node.at, "the block does not say where the session travels", remedy);
            None
        }
        1 => cookie.or(header).or(envelope).or(sse).flatten(),
        _ => {
            problems.add(
                &node.at,
                "a session travels one way, but several are written here",
                "keep one of them",
            );
            None
        }
    }
}

/// `{ headerName: X }`; the outer `Some` says that the block could be opened.
#[expect(clippy::option_option, reason = "written but wrong differs from not written")]
fn header_name(node: &Node, problems: &mut Problems) -> Option<Option<FieldName>> {
    let mut fields = Fields::open(node, "this block", problems)?;
    let name = fields.required("headerName", "headerName: x-session-id", problems, session_field_name);
    fields.finish(problems);
    Some(name)
}

/// The name of a header that may carry a session.
pub(super) fn session_field_name(node: &Node, problems: &mut Problems) -> Option<FieldName> {
    let name = field_name(node, problems)?;
    if RESERVED.contains(&name.as_str()) {
        problems.add(
            &node.at,
            format!("`{}` has a meaning of its own and cannot carry a session", name.as_str()),
            "use a name of your own, such as x-session-id",
        );
        return None;
    }
    Some(name)
}

/// `{ parameter: X }`; the outer `Some` says that the block could be opened.
#[expect(clippy::option_option, reason = "written but wrong differs from not written")]
fn parameter(node: &Node, problems: &mut Problems) -> Option<Option<Box<str>>> {
    let mut fields = Fields::open(node, "`sse`", problems)?;
    let name = fields.required("parameter", "parameter: sessionId", problems, |node, problems| {
        let name = text(node, problems)?;
        // RFC 3986 §2.3: others are written in several ways, and the name is compared byte for byte.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if name.len() > PARAMETER_MAX || !name.bytes().all(is_plain) {
            problems.add(
                &node.at,
                format!("the parameter {name:?} must be 1 to {PARAMETER_MAX} letters, digits, `-`, `.`, `_` and `~`"),
                "write the name as it stands in the URLs of the upstream, such as sessionId",
            );
            return None;
        }
        Some(name.into_boxed_str())
    });
    fields.finish(problems);
    Some(name)
}

fn cookie(dialect: Dialect) -> impl FnOnce(&Node, &mut Problems) -> Option<CookieSpec> {
    move |node, problems| {
        let mut fields = Fields::open(node, "`cookie`", problems)?;
        let name = fields.required("name", "name: sid", problems, cookie_name);
        let path = fields.optional("path", problems, cookie_path).unwrap_or_default();
        let ttl = fields.optional("ttl", problems, time).unwrap_or_default();
        let attributes = match dialect {
            Dialect::Homing => {
                let attributes = attributes(&mut fields, problems);
                fields.finish(problems);
                attributes
            }
            Dialect::Gloo => {
                fields.finish_with(problems, |_| gloo_only());
                Vec::new()
            }
        };
        let cookie = CookieSpec { name: name?.into(), path: path.into(), ttl, attributes };
        check_browser_rules(&cookie, node, problems);
        Some(cookie)
    }
}

/// The name of a session cookie.
pub(super) fn cookie_name(node: &Node, problems: &mut Problems) -> Option<String> {
    let name = text(node, problems)?;
    match name.bytes().find(|&byte| !is_token_byte(byte)) {
        Some(byte) => {
            problems.add(
                &node.at,
                format!("a cookie name must not contain {:?}", char::from(byte)),
                "use letters, digits, `-` and `_`",
            );
            None
        }
        None => Some(name),
    }
}

/// The path of a session cookie.
pub(super) fn cookie_path(node: &Node, problems: &mut Problems) -> Option<String> {
    let path = text(node, problems)?;
    if !path.starts_with('/') {
        problems.add(
            &node.at,
            "a cookie path begins with `/`",
            format!("write \"/{path}\", or \"/\" for every path"),
        );
        return None;
    }
    attribute_value(path, node, problems)
}

/// RFC 6265 §4.1.1: a value ends at `;`, and control bytes would split the head. Others than ASCII do not travel.
fn attribute_value(value: String, node: &Node, problems: &mut Problems) -> Option<String> {
    match value.chars().find(|c| *c == ';' || c.is_control() || !c.is_ascii()) {
        Some(c) => {
            problems.add(
                &node.at,
                format!("an attribute of a cookie must not contain {c:?}"),
                "use printable ASCII characters without `;`",
            );
            None
        }
        None => Some(value),
    }
}

/// The `attributes` list, and then the shorthands in a fixed order: Domain, Secure, SameSite, Partitioned.
fn attributes(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<(Box<str>, Box<str>)> {
    let mut all: Vec<Placed<(String, String)>> =
        fields.optional("attributes", problems, some(attribute)).map(|(list, _)| list).unwrap_or_default();
    let mut add = |placed: Option<Placed<Option<(&str, String)>>>| {
        if let Some(Placed { value: Some((name, value)), at }) = placed {
            all.push(Placed { value: (name.into(), value), at });
        }
    };
    let switch = |name: &'static str| {
        move |node: &Node, problems: &mut Problems| {
            let on = boolean(node, problems)?;
            Some(Placed { value: on.then(|| (name, String::new())), at: node.at.clone() })
        }
    };
    add(fields.optional("domain", problems, |node, problems| {
        let value = attribute_value(text(node, problems)?, node, problems)?;
        Some(Placed { value: Some(("Domain", value)), at: node.at.clone() })
    }));
    add(fields.optional("secure", problems, switch("Secure")));
    add(fields.optional("sameSite", problems, |node, problems| {
        let value = choice(&[("Strict", "Strict"), ("Lax", "Lax"), ("None", "None")])(node, problems)?;
        Some(Placed { value: Some(("SameSite", value.into())), at: node.at.clone() })
    }));
    add(fields.optional("partitioned", problems, switch("Partitioned")));
    for (nth, this) in all.iter().enumerate() {
        let same = |other: &&Placed<(String, String)>| other.value.0.eq_ignore_ascii_case(&this.value.0);
        if all.iter().take(nth).any(|other| same(&other)) {
            problems.add(
                &this.at,
                format!("the attribute {} is given twice", this.value.0),
                "keep one of the two",
            );
        }
    }
    all.into_iter().map(|placed| (placed.value.0.into(), placed.value.1.into())).collect()
}

fn attribute(node: &Node, problems: &mut Problems) -> Option<Placed<(String, String)>> {
    let mut fields = Fields::open(node, "an attribute", problems)?;
    let name = fields.required("name", "name: Secure", problems, attribute::name);
    let value = fields.optional("value", problems, attribute::value);
    fields.finish(problems);
    Some(Placed { value: (name?, value.unwrap_or_default()), at: node.at.clone() })
}

/// An attribute's two parts.
pub(super) mod attribute {
    use super::{Node, Problems, any_text, attribute_value, text};

    /// Any name but those that are written anyway.
    pub(in super::super) fn name(node: &Node, problems: &mut Problems) -> Option<String> {
        let name = attribute_value(text(node, problems)?, node, problems)?;
        if name.contains('=') {
            problems.add(&node.at, "an attribute's name must not contain '='", "write name and value apart");
            return None;
        }
        let own =
            [("HttpOnly", "is always written"), ("Max-Age", "follows from `ttl`"), ("Path", "is `path`")];
        if let Some((own, why)) = own.iter().find(|(own, _)| own.eq_ignore_ascii_case(&name)) {
            problems.add(&node.at, format!("the attribute {own} {why}"), "remove it from the list");
            return None;
        }
        Some(name)
    }

    /// May be empty.
    pub(in super::super) fn value(node: &Node, problems: &mut Problems) -> Option<String> {
        attribute_value(any_text(node, problems)?, node, problems)
    }
}

/// Browsers drop a cookie that breaks these rules, and every session with it (RFC 6265bis §4.1.2.7, §4.1.3; CHIPS).
pub(super) fn check_browser_rules(cookie: &CookieSpec, node: &Node, problems: &mut Problems) {
    let find = |name: &str| cookie.attributes.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
    let secure = find("Secure").is_some();
    if find("SameSite").is_some_and(|(_, value)| value.eq_ignore_ascii_case("None")) && !secure {
        problems.add(
            &node.at,
            "browsers drop a cookie with SameSite=None that is not Secure",
            "add `secure: true`",
        );
    }
    if find("Partitioned").is_some() && !secure {
        problems.add(&node.at, "browsers drop a partitioned cookie that is not Secure", "add `secure: true`");
    }
    if cookie.name.starts_with("__Secure-") && !secure {
        problems.add(
            &node.at,
            "browsers drop a cookie named __Secure-… that is not Secure",
            "add `secure: true`",
        );
    }
    if cookie.name.starts_with("__Host-") && (!secure || &*cookie.path != "/" || find("Domain").is_some()) {
        problems.add(
            &node.at,
            "browsers drop a cookie named __Host-… unless it is Secure, has the path / and no domain",
            "write `path: /` and `secure: true`, and no `domain`",
        );
    }
}

/// Homing's further keys.
#[derive(Default)]
struct Extras {
    gone_status: Option<Placed<Status>>,
    clear_dead: Option<Placed<bool>>,
    hide: Option<Placed<bool>>,
    no_cache: bool,
    renew_before: Option<Placed<Duration>>,
}

impl Extras {
    fn read(fields: &mut Fields<'_>, problems: &mut Problems) -> Self {
        use super::reader::placed;
        Self {
            gone_status: fields.optional("statusOnStrictDestinationNotFound", problems, placed(status)),
            clear_dead: fields.optional("clearDeadCookie", problems, placed(boolean)),
            hide: fields.optional("hideFromUpstream", problems, placed(boolean)),
            no_cache: fields.optional("noCache", problems, boolean).unwrap_or(false),
            renew_before: fields.optional("renewBefore", problems, placed(time)),
        }
    }

    /// What would have no effect is refused.
    fn check(&self, carrier: &CarrierSpec, strict: bool, problems: &mut Problems) {
        let cookie = match carrier {
            CarrierSpec::Cookie(cookie) => Some(cookie),
            _ => None,
        };
        if let Some(status) = &self.gone_status
            && !strict
        {
            problems.add(
                &status.at,
                "only a strict session is refused",
                "add `strict: true`, or remove this key",
            );
        }
        for on in
            [&self.clear_dead, &self.hide].into_iter().flatten().filter(|on| on.value && cookie.is_none())
        {
            problems.add(
                &on.at,
                "this is for cookies, and the session does not travel in one",
                "remove this key",
            );
        }
        if let Some(clear) = &self.clear_dead
            && clear.value
            && !strict
        {
            problems.add(
                &clear.at,
                "only a strict session is refused",
                "add `strict: true`, or remove this key",
            );
        }
        let Some(before) = &self.renew_before else { return };
        let ttl = cookie.map_or(0, |cookie| cookie.ttl.as_secs());
        if ttl == 0 {
            let what = "only a cookie with a ttl of a second or more can be renewed";
            problems.add(&before.at, what, "set the cookie's `ttl`, or remove this key");
        } else if before.value.as_secs() == 0 || before.value.as_secs() >= ttl {
            let remedy = format!("write a duration from 1s to less than the ttl of {ttl}s");
            problems.add(&before.at, "a session is renewed within its ttl", remedy);
        }
    }
}
