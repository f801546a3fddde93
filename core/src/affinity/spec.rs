//! A session policy as configuration names it, and the checks it must pass.
//!
//! Envoy takes nearly everything here and breaks at run time (rows 20 to 28 of its ledger). What cannot work is refused
//! when the configuration is read.

use core::fmt;
use core::time::Duration;

use crate::field::{FieldName, Status, is_token_byte};
use crate::limits::{INSERT_MAX, PARAMETER_MAX};

/// A session policy as configuration names it; [`crate::affinity::Policy::compile`] makes it usable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicySpec {
    /// Where the token travels.
    pub carrier: CarrierSpec,
    /// Whether a good token whose host is gone or barred is refused instead of placed anew.
    pub strict: bool,
    /// The status of a strict refusal when the host is gone. A barred host always gives 503.
    pub gone_status: Status,
    /// Whether a strict refusal tells the client to drop its cookie when the host is gone. Off by default, as in Envoy.
    pub clear_dead: bool,
    /// Whether the session cookie is taken out before the request goes upstream (HAProxy's *indirect*).
    pub hide_from_upstream: bool,
    /// Whether responses that set our field also say `cache-control: private` (HAProxy's *nocache*).
    pub no_cache: bool,
    /// Re-issue a cookie of an active session when less than this much of its life is left; `None`: never, as Envoy.
    pub renew_before: Option<Duration>,
}

/// Where the token travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CarrierSpec {
    /// A cookie.
    Cookie(CookieSpec),
    /// A header of our own.
    Header {
        /// Its name.
        name: FieldName,
    },
    /// Wrapped around the upstream's own session header.
    Envelope {
        /// Its name.
        name: FieldName,
    },
    /// Behind the upstream's own session value in a URL, which it hands out in the `endpoint` event of an event stream.
    Sse {
        /// The query parameter that holds the value: at most [`PARAMETER_MAX`] letters, digits, `-`, `.`, `_` and `~`.
        parameter: Box<str>,
    },
}

/// The session cookie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieSpec {
    /// The cookie's name, an RFC 6265 token.
    pub name: Box<str>,
    /// The cookie's path; empty: no `Path`, every request is in scope.
    pub path: Box<str>,
    /// The cookie's life, of which whole seconds count, at most [`CookieSpec::TTL_MAX`]; zero: a browser session, and a
    /// token that never expires.
    pub ttl: Duration,
    /// Further attributes, in order; an empty value writes the bare name.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicyError {
    /// The cookie's name is empty or no token (Envoy takes it and cannot read it back: setc-055, setc-057, setc-059).
    CookieName(Box<str>),
    /// Browsers drop a cookie whose name has this prefix without what it promises.
    CookiePrefix {
        /// `__Host-` or `__Secure-`.
        prefix: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// The path does not begin with `/`, or holds `;`, a control or a byte outside ASCII.
    CookiePath(Box<str>),
    /// The life is longer than [`CookieSpec::TTL_MAX`].
    CookieTtl(Duration),
    /// The attribute's name is empty, or holds `;`, `=`, a control or a byte outside ASCII.
    AttributeName(Box<str>),
    /// The value of this attribute holds `;`, a control or a byte outside ASCII.
    AttributeValue(Box<str>),
    /// This attribute is written by Homing itself (Envoy writes it twice: setc-028 to setc-030).
    AttributeReserved(Box<str>),
    /// Browsers drop a cookie with this attribute unless it has `Secure` too.
    AttributeNeedsSecure(&'static str),
    /// The header's name means something else to HTTP or to the proxy; writing a token there would break messages.
    FieldReserved(FieldName),
    /// The parameter's name is empty, too long, or holds what URLs encode.
    Parameter(Box<str>),
    /// This setting makes sense for a cookie only.
    NeedsCookie(&'static str),
    /// `clear_dead` without `strict`: without refusals there is nothing to clear.
    ClearNeedsStrict,
    /// `renew_before` with a cookie that never expires.
    RenewNeedsTtl,
    /// `renew_before` is zero, or not shorter than the cookie's life.
    RenewBefore {
        /// What was asked for.
        renew_before: Duration,
        /// The cookie's life.
        ttl: Duration,
    },
    /// The longest line that the policy writes has this many bytes, more than [`INSERT_MAX`].
    InsertTooLong(usize),
}

impl CookieSpec {
    /// The longest life of a cookie: Envoy's bound.
    pub const TTL_MAX: Duration = Duration::from_secs(9_223_372_035);

    /// The part of `ttl` that counts.
    pub(super) fn ttl_secs(&self) -> u64 {
        self.ttl.as_secs()
    }

    fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|(have, _)| have.trim().eq_ignore_ascii_case(name))
    }

    fn check(&self) -> Result<(), PolicyError> {
        if self.name.is_empty() || !self.name.bytes().all(is_token_byte) {
            return Err(PolicyError::CookieName(self.name.clone()));
        }
        if !self.path.is_empty() && (!self.path.starts_with('/') || !is_attribute_text(&self.path)) {
            return Err(PolicyError::CookiePath(self.path.clone()));
        }
        if self.ttl_secs() > Self::TTL_MAX.as_secs() {
            return Err(PolicyError::CookieTtl(self.ttl));
        }
        self.attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))?;
        self.check_secure()
    }

    /// What browsers ask of a cookie before they store it (RFC 6265bis §4.1.3, §5.7).
    fn check_secure(&self) -> Result<(), PolicyError> {
        let prefixed =
            |prefix: &str| self.name.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix));
        let cross_site = |(name, value): &(Box<str>, Box<str>)| {
            name.trim().eq_ignore_ascii_case("samesite") && value.trim().eq_ignore_ascii_case("none")
        };
        let secure = self.has_attribute("secure");
        if prefixed("__Host-") {
            let missing = match () {
                () if !secure => "the attribute Secure",
                () if &*self.path != "/" => "the path /",
                () if self.has_attribute("domain") => "the absence of the attribute Domain",
                () => return Ok(()),
            };
            return Err(PolicyError::CookiePrefix { prefix: "__Host-", missing });
        }
        if prefixed("__Secure-") && !secure {
            return Err(PolicyError::CookiePrefix { prefix: "__Secure-", missing: "the attribute Secure" });
        }
        if !secure && self.attributes.iter().any(cross_site) {
            return Err(PolicyError::AttributeNeedsSecure("SameSite=None"));
        }
        if !secure && self.has_attribute("partitioned") {
            return Err(PolicyError::AttributeNeedsSecure("Partitioned"));
        }
        Ok(())
    }
}

impl PolicySpec {
    /// Checks everything but the length of what will be written.
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        match &self.carrier {
            CarrierSpec::Cookie(cookie) => {
                cookie.check()?;
                if let Some(renew_before) = self.renew_before {
                    check_renewal(renew_before, cookie)?;
                }
            }
            CarrierSpec::Header { name } | CarrierSpec::Envelope { name } => {
                if RESERVED_FIELDS.contains(&name.as_str()) {
                    return Err(PolicyError::FieldReserved(name.clone()));
                }
                self.check_cookie_only()?;
            }
            CarrierSpec::Sse { parameter } => {
                // RFC 3986 §2.3, the unreserved ones: others are written in several ways, of which we know one.
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
                if !(1..=PARAMETER_MAX).contains(&parameter.len()) || !parameter.bytes().all(is_plain) {
                    return Err(PolicyError::Parameter(parameter.clone()));
                }
                self.check_cookie_only()?;
            }
        }
        if self.clear_dead && !self.strict { Err(PolicyError::ClearNeedsStrict) } else { Ok(()) }
    }

    /// What only a cookie can do is refused for other carriers.
    fn check_cookie_only(&self) -> Result<(), PolicyError> {
        let cookie_only = [
            (self.hide_from_upstream, "hide_from_upstream"),
            (self.clear_dead, "clear_dead"),
            (self.renew_before.is_some(), "renew_before"),
        ];
        match cookie_only.iter().find(|(is_set, _)| *is_set) {
            Some(&(_, setting)) => Err(PolicyError::NeedsCookie(setting)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookieName(name) => write!(
                f,
                "cookie name {name:?} is not an RFC 6265 token; use letters, digits and any of !#$%&'*+-.^_`|~"
            ),
            Self::CookiePrefix { prefix, missing } => write!(
                f,
                "cookie name begins with {prefix}, which browsers accept only with {missing}; add it or rename the cookie"
            ),
            Self::CookiePath(path) => write!(
                f,
                "cookie path {path:?} must begin with / and hold printable ASCII without ';'; percent-encode the rest, \
                 or leave the path empty"
            ),
            Self::CookieTtl(ttl) => write!(
                f,
                "cookie ttl {} s is longer than {} s; use a shorter one, or 0 for a session cookie",
                ttl.as_secs(),
                CookieSpec::TTL_MAX.as_secs()
            ),
            Self::AttributeName(name) => write!(
                f,
                "cookie attribute name {name:?} must be printable ASCII without ';' and '=', and not empty; \
                 a value goes into the attribute's own value"
            ),
            Self::AttributeValue(name) => write!(
                f,
                "the value of cookie attribute {name:?} must be printable ASCII without ';'; \
                 make what follows a ';' an attribute of its own"
            ),
            Self::AttributeReserved(name) => write!(
                f,
                "cookie attribute {name:?} is written by Homing itself; remove it, and use ttl for the cookie's life and \
                 path for its path"
            ),
            Self::AttributeNeedsSecure(name) => {
                write!(
                    f,
                    "cookie attribute {name} is accepted by browsers only with Secure; add the attribute Secure"
                )
            }
            Self::FieldReserved(name) => write!(
                f,
                "header name {:?} means something else to HTTP or the proxy; choose a name of its own, such as x-session",
                name.as_str()
            ),
            Self::Parameter(name) => write!(
                f,
                "parameter {name:?} must be 1 to {PARAMETER_MAX} letters, digits, '-', '.', '_' and '~'; write the name as \
                 it stands in the upstream's URLs"
            ),
            Self::NeedsCookie(setting) => {
                write!(
                    f,
                    "{setting} works with a session cookie only; remove it, or carry the session in a cookie"
                )
            }
            Self::ClearNeedsStrict => {
                write!(
                    f,
                    "clear_dead clears cookies of refused sessions, and without strict none is; set strict or remove it"
                )
            }
            Self::RenewNeedsTtl => {
                write!(
                    f,
                    "renew_before needs a cookie that expires; give the cookie a ttl of a second or more, or remove it"
                )
            }
            Self::RenewBefore { renew_before, ttl } => write!(
                f,
                "renew_before is {renew_before:?} with a cookie ttl of {ttl:?}; it must be above zero and below the ttl"
            ),
            Self::InsertTooLong(bytes) => write!(
                f,
                "the session field can be {bytes} bytes long, more than the {INSERT_MAX} that fit; \
                 shorten its name, path or attributes"
            ),
        }
    }
}

impl core::error::Error for PolicyError {}

fn check_attribute(name: &str, value: &str) -> Result<(), PolicyError> {
    if name.trim().is_empty() || name.contains('=') || !is_attribute_text(name) {
        return Err(PolicyError::AttributeName(name.into()));
    }
    if ["httponly", "max-age", "path", "expires"].contains(&&*name.trim().to_ascii_lowercase()) {
        return Err(PolicyError::AttributeReserved(name.into()));
    }
    if is_attribute_text(value) { Ok(()) } else { Err(PolicyError::AttributeValue(name.into())) }
}

fn check_renewal(renew_before: Duration, cookie: &CookieSpec) -> Result<(), PolicyError> {
    if cookie.ttl_secs() == 0 {
        return Err(PolicyError::RenewNeedsTtl);
    }
    if renew_before.is_zero() || renew_before >= Duration::from_secs(cookie.ttl_secs()) {
        return Err(PolicyError::RenewBefore { renew_before, ttl: cookie.ttl });
    }
    Ok(())
}

/// RFC 6265 §4.1.1: any character except controls and `;`. Characters are ASCII there.
fn is_attribute_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b';')
}

/// Fields that a token would break or that would break the token: those of the connection and of framing (RFC 9110 §7.6.1,
/// RFC 9112 §6), those that route and describe the message, cookies, and those that the proxy writes itself.
/// Envoy takes them all and, say, sends `content-length: MTI3…` (hdr-074 to hdr-090, env-114 to env-116).
const RESERVED_FIELDS: [&str; 29] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-proto",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::Policy;

    fn attributes(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    fn cookie(name: &str, path: &str, pairs: &[(&str, &str)]) -> PolicySpec {
        let (ttl, attributes) = (Duration::from_secs(60), attributes(pairs));
        spec(CarrierSpec::Cookie(CookieSpec { name: name.into(), path: path.into(), ttl, attributes }))
    }

    fn spec(carrier: CarrierSpec) -> PolicySpec {
        let (strict, clear_dead, hide_from_upstream, no_cache) = (false, false, false, false);
        let gone_status = Status::UNAVAILABLE;
        PolicySpec {
            carrier,
            strict,
            gone_status,
            clear_dead,
            hide_from_upstream,
            no_cache,
            renew_before: None,
        }
    }

    fn error(spec: PolicySpec) -> PolicyError {
        Policy::compile(spec).unwrap_err()
    }

    #[test]
    fn a_cookie_that_cannot_be_read_back_is_refused() {
        for name in ["", "a b", "a=b", "a;b", "a\"b", " s", "caf\u{e9}", "a\r\nx-evil: 1"] {
            assert_eq!(error(cookie(name, "/", &[])), PolicyError::CookieName(name.into())); // setc-039 to setc-059
        }
        for path in ["foo", "/; Domain=evil", "/\r\nx-evil: 1", "/caf\u{e9}", "/\t"] {
            assert_eq!(error(cookie("s", path, &[])), PolicyError::CookiePath(path.into())); // setc-016, setc-021, setc-047
        }
        for path in ["", "/", "/a b", "/foo?x=1", "//"] {
            Policy::compile(cookie("$s", path, &[])).unwrap();
        }
    }

    #[test]
    fn attributes_that_would_split_or_repeat_are_refused() {
        for name in ["", " ", "a=b", "a;b", "a\nb", "caf\u{e9}"] {
            assert_eq!(error(cookie("s", "/", &[(name, "")])), PolicyError::AttributeName(name.into()));
        }
        for value in ["a; b=c", "a\r\n", "\0", "\u{7f}"] {
            assert_eq!(error(cookie("s", "/", &[("X", value)])), PolicyError::AttributeValue("X".into())); // setc-032
        }
        for name in ["HttpOnly", "max-age", " Path", "EXPIRES"] {
            assert_eq!(error(cookie("s", "/", &[(name, "1")])), PolicyError::AttributeReserved(name.into())); // setc-028
        }
        Policy::compile(cookie("s", "/", &[("X", "a\"b"), ("X", " lead trail "), ("A B", "")])).unwrap(); // setc-033 to -036
    }

    #[test]
    fn what_browsers_would_drop_is_refused() {
        let missing = |name: &str, path: &str, pairs: &[(&str, &str)]| match error(cookie(name, path, pairs))
        {
            PolicyError::CookiePrefix { missing, .. } => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing("__Host-s", "/", &[]), "the attribute Secure"); // setc-038
        assert_eq!(missing("__host-s", "", &[("secure", "")]), "the path /");
        assert_eq!(
            missing("__Host-s", "/", &[("Secure", ""), ("Domain", "a")]),
            "the absence of the attribute Domain"
        );
        assert_eq!(missing("__Secure-s", "/", &[]), "the attribute Secure");
        Policy::compile(cookie("__Host-s", "/", &[("Secure", "")])).unwrap();
        Policy::compile(cookie("__Secure-s", "/a", &[("Secure", ""), ("Domain", "a")])).unwrap();
        let needs = PolicyError::AttributeNeedsSecure;
        assert_eq!(error(cookie("s", "/", &[("SameSite", "None")])), needs("SameSite=None"));
        assert_eq!(error(cookie("s", "/", &[("partitioned", "")])), needs("Partitioned"));
        Policy::compile(cookie("s", "/", &[("SameSite", "Lax")])).unwrap();
        Policy::compile(cookie("s", "/", &[("SameSite", "none"), ("Secure", "")])).unwrap();
    }

    #[test]
    fn lives_and_renewals_must_fit() {
        let with = |ttl: u64, renew_before: Option<u64>| {
            let mut spec = cookie("s", "/", &[]);
            if let CarrierSpec::Cookie(cookie) = &mut spec.carrier {
                cookie.ttl = Duration::from_secs(ttl);
            }
            Policy::compile(PolicySpec { renew_before: renew_before.map(Duration::from_secs), ..spec })
                .map(drop)
        };
        let secs = Duration::from_secs;
        assert_eq!(with(9_223_372_035, None), Ok(()));
        assert_eq!(with(9_223_372_036, None), Err(PolicyError::CookieTtl(secs(9_223_372_036)))); // cfg-015
        assert_eq!(with(60, Some(59)), Ok(()));
        assert_eq!(
            with(60, Some(60)),
            Err(PolicyError::RenewBefore { renew_before: secs(60), ttl: secs(60) })
        );
        assert_eq!(with(60, Some(0)), Err(PolicyError::RenewBefore { renew_before: secs(0), ttl: secs(60) }));
        assert_eq!(with(0, Some(1)), Err(PolicyError::RenewNeedsTtl));
    }

    #[test]
    fn fields_that_mean_something_else_are_refused() {
        let name = |name: &str| FieldName::new(name).unwrap();
        for taken in [
            "Host",
            "cookie",
            "set-cookie",
            "content-length",
            "transfer-encoding",
            "connection",
            "date",
            "location",
        ] {
            let refused = PolicyError::FieldReserved(name(taken));
            assert_eq!(error(spec(CarrierSpec::Header { name: name(taken) })), refused); // hdr-077 to hdr-090
            assert_eq!(error(spec(CarrierSpec::Envelope { name: name(taken) })), refused); // env-114 to env-116
        }
        let header = |change: fn(&mut PolicySpec)| {
            let mut spec = spec(CarrierSpec::Header { name: name("x-sess") });
            change(&mut spec);
            Policy::compile(spec).map(drop)
        };
        assert_eq!(header(|spec| spec.no_cache = true), Ok(()));
        assert_eq!(header(|spec| spec.clear_dead = true), Err(PolicyError::NeedsCookie("clear_dead")));
        assert_eq!(
            header(|spec| spec.hide_from_upstream = true),
            Err(PolicyError::NeedsCookie("hide_from_upstream"))
        );
        assert_eq!(
            header(|spec| spec.renew_before = Some(Duration::MAX)),
            Err(PolicyError::NeedsCookie("renew_before"))
        );
    }

    #[test]
    fn a_policy_must_fit_the_head() {
        let long = "a".repeat(INSERT_MAX);
        let fits = |error| matches!(error, PolicyError::InsertTooLong(bytes) if bytes > INSERT_MAX);
        assert!(fits(error(cookie(&long, "/", &[]))));
        assert!(fits(error(cookie("s", "/", &[("X", &long)]))));
        assert!(fits(error(spec(CarrierSpec::Envelope { name: FieldName::new(&long).unwrap() }))));
        let clear_dead = PolicySpec { clear_dead: true, ..cookie("s", "/", &[]) };
        assert_eq!(error(clear_dead), PolicyError::ClearNeedsStrict);
    }

    /// Every message says which setting, and what to do.
    #[test]
    fn messages_name_the_setting_and_the_remedy() {
        let cases = [
            (PolicyError::CookieName("a b".into()), "cookie name \"a b\"", "use letters"),
            (PolicyError::CookiePath("x".into()), "cookie path \"x\"", "leave the path empty"),
            (PolicyError::CookieTtl(Duration::MAX), "cookie ttl", "use a shorter one"),
            (PolicyError::AttributeReserved("Path".into()), "attribute \"Path\"", "remove it"),
            (PolicyError::NeedsCookie("clear_dead"), "clear_dead", "remove it"),
            (PolicyError::RenewNeedsTtl, "renew_before", "give the cookie a ttl"),
            (PolicyError::InsertTooLong(5000), "5000 bytes", "shorten"),
        ];
        for (error, setting, remedy) in cases {
            let text = error.to_string();
            assert!(text.contains(setting) && text.contains(remedy), "{text}");
        }
    }
}
