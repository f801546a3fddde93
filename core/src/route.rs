//! Which route a request takes: listener, virtual host, path; and what the route does with it.
//!
//! The tables are compiled when configuration is read and immutable afterwards.

use core::time::Duration;

use crate::field::{FieldName, FieldValue, Status};
use crate::hosts::ClusterId;
use crate::path::PathRules;

/// Names a session policy within one snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PolicyId(pub u32);

/// A place in the configuration that gets its own counters.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListenerId(pub u32);

/// Routes of one listener, by host name and path.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct RouteTable {
    /// In order of declaration; the most specific domain wins, then the first route that matches.
    pub virtual_hosts: Vec<VirtualHost>,
    /// What is done to paths before they are looked up.
    pub paths: PathRules,
}

/// Names a route within one table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteRef {
    virtual_host: u32,
    route: u32,
}

/// The routes of a group of host names.
#[derive(Debug, Eq, PartialEq)]
pub struct VirtualHost {
    /// For messages.
    pub name: Box<str>,
    /// The host names it serves.
    pub domains: Vec<Domain>,
    /// In order; the first that matches is taken.
    pub routes: Vec<Route>,
}

/// A pattern for host names, in lower case and without a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Domain {
    /// `*`: every host name, and requests without one.
    Any,
    /// One name.
    Exact(Box<str>),
    /// `*.example.org` is stored as `.example.org`: every name that ends so and is longer.
    Suffix(Box<str>),
}

/// One route.
#[derive(Debug, Eq, PartialEq)]
pub struct Route {
    /// For messages and logs.
    pub name: Box<str>,
    /// Which paths it takes.
    pub path: PathMatch,
    /// What it does.
    pub action: Action,
}

/// Which paths a route takes. Compared with the raw path, without the query, case-sensitively.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// The beginning of the path, byte for byte as in Envoy's `prefix` (`/a` takes `/ab` too).
    Prefix(Box<str>),
}

/// What a route does with a request.
#[derive(Debug, Eq, PartialEq)]
pub enum Action {
    /// Sends it to a host of one of the clusters.
    Forward(Box<Forward>),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers with a fixed response.
    Respond {
        /// The status.
        status: Status,
        /// The body, `text/plain`.
        body: Box<str>,
    },
}

/// Forwarding to clusters.
#[derive(Debug, Eq, PartialEq)]
pub struct Forward {
    /// One cluster, or several with weights. Never empty, and the weights' sum is 1 to `u32::MAX`.
    pub clusters: Vec<WeightedCluster>,
    /// The session policy of the route; `None`: no affinity here.
    pub session: Session,
    /// How the path changes on the way to the upstream.
    pub rewrite: Option<Rewrite>,
    /// What `Host` becomes; `None`: it stays.
    pub host_rewrite: Option<FieldValue>,
    /// Changes of the request's fields.
    pub request_fields: FieldRules,
    /// Changes of the response's fields.
    pub response_fields: FieldRules,
    /// A response head must come within this time; `None`: the listener's limit; zero: no limit.
    pub response_timeout: Option<Duration>,
    /// When a request is tried again.
    pub retry: Retry,
    /// Whether `Upgrade` requests are passed on (WebSocket). On by default.
    pub upgrades: bool,
}

impl Forward {
    /// To one cluster, and all else as by default: no affinity, nothing rewritten, no retry policy, upgrades pass.
    pub fn to(cluster: ClusterId) -> Self {
        Self {
            clusters: vec![WeightedCluster { cluster, weight: 1, session: None }],
            session: Session::None,
            rewrite: None,
            host_rewrite: None,
            request_fields: FieldRules::default(),
            response_fields: FieldRules::default(),
            response_timeout: None,
            retry: Retry::default(),
            upgrades: true,
        }
    }
}

/// One cluster of a weighted route.
#[derive(Debug, Eq, PartialEq)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its share of new sessions.
    pub weight: u32,
    /// An entry with session settings of its own, if any; when one entry of a route has them, the draw comes first
    /// and decides which settings count.
    pub session: Option<Session>,
}

/// The session settings that count on a route, after inheritance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Session {
    /// No settings anywhere.
    None,
    /// Switched off by a more specific setting.
    Disabled,
    /// This policy.
    Policy(PolicyId),
}

/// A change of the path. The query stays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rewrite {
    /// The matched prefix (or exact path) becomes this.
    Prefix(Box<str>),
    /// The whole path becomes this.
    Path(Box<str>),
}

/// A redirect's target. Parts that are `None` stay as requested.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: Status,
    /// `https`, say.
    pub scheme: Option<Box<str>>,
    /// Another host name.
    pub host: Option<Box<str>>,
    /// Another port.
    pub port: Option<u16>,
    /// Another path; the query stays.
    pub path: Option<Rewrite>,
}

/// When and how often a request is tried again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retry {
    /// Further attempts after the first; zero: none.
    pub attempts: u8,
    /// What calls for one.
    pub on: RetryOn,
    /// One attempt's response head must come within this time; zero: no limit of its own.
    pub per_try_timeout: Duration,
}

/// What calls for another attempt. A request is tried again only while it is wholly kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the configuration")]
pub struct RetryOn {
    /// The connection could not be made.
    pub connect_failure: bool,
    /// The upstream closed or reset before a response head.
    pub reset: bool,
    /// A response with status 500 to 599, or no response.
    pub server_error: bool,
    /// A response with status 502, 503 or 504.
    pub gateway_error: bool,
}

/// Changes of a head's fields, in this order: remove, set, add.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FieldRules {
    /// Every line of these names goes.
    pub remove: Vec<FieldName>,
    /// Every line of the name goes and one is written.
    pub set: Vec<(FieldName, FieldValue)>,
    /// One more line.
    pub add: Vec<(FieldName, FieldValue)>,
}

impl RouteTable {
    /// The route for `host` (as in the `Host` field, port included or not) and `path` (without the query).
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<(RouteRef, &Route)> {
        // One virtual host for every name, as most tables have: the host's name decides nothing.
        if let [only] = self.virtual_hosts.as_slice()
            && matches!(only.domains.as_slice(), [Domain::Any])
        {
            return only.find(0, path);
        }
        let host = without_port(host);
        let mut best: Option<(usize, u32, &VirtualHost)> = None;
        for (position, candidate) in (0..).zip(&self.virtual_hosts) {
            let Some(rank) = candidate.domains.iter().filter_map(|domain| domain.rank(host)).max() else {
                continue;
            };
            if best.is_none_or(|best| rank > best.0) {
                best = Some((rank, position, candidate));
            }
        }
        let (_, position, found) = best?;
        found.find(position, path)
    }

    /// The route that [`RouteTable::find`] named.
    pub fn get(&self, at: RouteRef) -> Option<&Route> {
        self.virtual_hosts.get(at.virtual_host as usize)?.routes.get(at.route as usize)
    }
}

impl VirtualHost {
    /// The first of its routes that takes `path`; `position` is its own in the table.
    fn find(&self, position: u32, path: &[u8]) -> Option<(RouteRef, &Route)> {
        let (route, found) = (0..).zip(&self.routes).find(|(_, route)| route.path.matches(path))?;
        Some((RouteRef { virtual_host: position, route }, found))
    }
}

impl Domain {
    /// How specific the match is; `None`: no match. An exact name beats every suffix, a long suffix a short one.
    fn rank(&self, host: &[u8]) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Suffix(suffix) => {
                let tail = host
                    .len()
                    .checked_sub(suffix.len())
                    .filter(|&at| at > 0)
                    .and_then(|at| host.get(at..))?;
                tail.eq_ignore_ascii_case(suffix.as_bytes()).then_some(suffix.len())
            }
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()).then_some(usize::MAX),
        }
    }
}

impl PathMatch {
    /// Whether the route takes `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
        }
    }

    /// The text that is compared.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }
}

/// A host name without its port; the brackets of an IPv6 address stay.
pub(crate) fn without_port(host: &[u8]) -> &[u8] {
    let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let front = host.get(..host.len() - digits).unwrap_or(host);
    match front {
        // `[::1]` has colons of its own: a port's colon follows the bracket.
        [b'[', name @ .., b':'] if name.last() != Some(&b']') => host,
        [name @ .., b':'] => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(domains: &[(&str, &str)]) -> RouteTable {
        let virtual_host = |&(name, domain): &(&str, &str)| VirtualHost {
            name: name.into(),
            domains: vec![match domain {
                "*" => Domain::Any,
                _ => domain
                    .strip_prefix('*')
                    .map_or_else(|| Domain::Exact(domain.into()), |suffix| Domain::Suffix(suffix.into())),
            }],
            routes: vec![Route {
                name: name.into(),
                path: PathMatch::Prefix("/".into()),
                action: Action::Respond { status: Status::UNAVAILABLE, body: "".into() },
            }],
        };
        RouteTable { virtual_hosts: domains.iter().map(virtual_host).collect(), ..RouteTable::default() }
    }

    #[test]
    fn the_most_specific_domain_wins() {
        let table =
            table(&[("any", "*"), ("suffix", "*.b.org"), ("longer", "*.a.b.org"), ("exact", "x.a.b.org")]);
        let name = |host: &str| table.find(host.as_bytes(), b"/").map(|(_, route)| &*route.name);
        assert_eq!(name("x.a.b.org:8080"), Some("exact"));
        assert_eq!(name("Y.A.b.org"), Some("longer"));
        assert_eq!(name("z.b.org"), Some("suffix"));
        assert_eq!(name(".b.org"), Some("any"));
        assert_eq!(name("[::1]:80"), Some("any"));
    }

    #[test]
    fn a_port_is_no_part_of_the_name() {
        assert_eq!(without_port(b"a:80"), b"a");
        assert_eq!(without_port(b"[::1]"), b"[::1]");
        assert_eq!(without_port(b"[::1]:80"), b"[::1]");
        assert_eq!(without_port(b"a:b"), b"a:b");
        assert_eq!(without_port(b"a:"), b"a");
        assert_eq!(without_port(b"80"), b"80");
        assert_eq!(without_port(b":80"), b"");
        assert_eq!(without_port(b"[::1]:"), b"[::1]");
        assert_eq!(without_port(b"[:80"), b"[:80");
    }
}
