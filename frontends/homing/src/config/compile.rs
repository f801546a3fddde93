//! The model to the core's snapshot: names are joined, sessions inherited, clusters and policies compiled.
//!
//! A listener's flat list of routes means: the first route whose host and path match. The core finds the most
//! specific domain first and only then goes through paths, so each domain gets, in order, every route that one
//! of its patterns covers. The patterns that match a name form a chain from the most specific to `*`, and a
//! pattern covers all that are more specific; hence both ways of looking give the same route.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use homing_core::affinity::{Policy, PolicyError, PolicySpec};
use homing_core::hosts::{Cluster, ClusterId, ClusterSpec, Endpoint, HostCell, HostSpec};
use homing_core::limits::INSERT_MAX;
use homing_core::route::{
    Action, Domain, FieldRules, Forward, ListenerId, PathMatch, PolicyId, Rewrite, Route as CoreRoute,
    RouteTable, Session, VirtualHost, WeightedCluster,
};
use homing_core::snapshot::{Listener as CoreListener, Marks, ServerField, Snapshot};

use super::error::{Placed, Problems};
use super::gloo::ListenerOption;
use super::homing::{ActionModel, ClusterModel, ForwardModel, HostModel, Listener, Model, Route, Upstream};
use super::session::SessionModel;
use super::{Bind, BindAddress, Resolve, Settings, WATCH, default_workers};

/// Compiles `model` with the sessions that `options` bind to its listeners. The value is only good if no problem
/// was noted.
pub(super) fn compile(
    model: Model,
    options: &[ListenerOption],
    resolve: Resolve<'_>,
    problems: &mut Problems,
) -> Option<Settings> {
    unique_listeners(&model.listeners, problems);
    let bound = bind_options(&model, options, problems);
    let (policies, specs) = (Vec::new(), Vec::new());
    let mut compiler = Compiler { clusters: HashMap::new(), model: &model, policies, specs, problems };
    let clusters = compiler.clusters(resolve);
    let listeners: Vec<_> = model
        .listeners
        .iter()
        .zip(bound)
        .map(|(listener, bound)| compiler.listener(listener, bound))
        .collect();
    compiler.unused_routes();
    let (policies, specs) = (compiler.policies, compiler.specs);
    let bind = |(nth, listener): (u32, &Listener)| Bind {
        id: ListenerId(nth),
        name: listener.name.value.as_str().into(),
        gateway: listener.gateway.as_deref().map(Into::into),
        address: listener.address.value.clone(),
    };
    Some(Settings {
        listeners: (0..).zip(&model.listeners).map(bind).collect(),
        snapshot: Snapshot { generation: 1, listeners, policies, clusters, limits: model.limits.clone() },
        policies: specs,
        workers: model.workers.unwrap_or_else(default_workers),
        runtime: model.runtime.unwrap_or_default(),
        access_log: model.access_log,
        watch: model.watch.unwrap_or(WATCH),
    })
}

/// Names and addresses are each used once. Port 0 may be: the kernel gives each another port.
fn unique_listeners(listeners: &[Listener], problems: &mut Problems) {
    for (nth, this) in listeners.iter().enumerate() {
        let earlier = || listeners.iter().take(nth);
        if let Some(first) = earlier().find(|first| first.name.value == this.name.value) {
            let what = format!(
                "the name {:?} is already that of the listener at {}",
                this.name.value,
                first.at.line_text()
            );
            problems.add(&this.name.at, what, "give each listener a name of its own");
        }
        let chosen = matches!(&this.address.value, BindAddress::Tcp(address) if address.port() == 0);
        if let Some(first) = earlier().find(|first| !chosen && first.address.value == this.address.value) {
            let what = format!(
                "{} is already the address of the listener {:?}",
                this.address.value, first.name.value
            );
            problems.add(&this.address.at, what, "give each listener an address of its own");
        }
    }
}

/// The session that a document gives to each listener.
fn bind_options<'m>(
    model: &'m Model,
    options: &'m [ListenerOption],
    problems: &mut Problems,
) -> Vec<Option<&'m Placed<SessionModel>>> {
    let mut bound: Vec<Option<&ListenerOption>> = model.listeners.iter().map(|_| None).collect();
    for option in options {
        for target in &option.targets {
            let gateway = &target.gateway;
            let mut matched = false;
            for (listener, slot) in model.listeners.iter().zip(&mut bound) {
                let section =
                    target.section.as_ref().is_none_or(|section| section.value == listener.name.value);
                if listener.gateway.as_ref() != Some(&gateway.value) || !section {
                    continue;
                }
                matched = true;
                let place = target.section.as_ref().unwrap_or(gateway);
                match slot {
                    Some(other) if !core::ptr::eq(*other, option) => problems.add(
                        &place.at,
                        format!(
                            "the listener {:?} already has its session from {:?} at {}",
                            listener.name.value,
                            other.name,
                            other.at.line_text()
                        ),
                        "bind one document to each listener: a listener's name as `sectionName` narrows a target",
                    ),
                    _ => *slot = Some(option),
                }
                if let Some(own) = &listener.session {
                    problems.add(
                        &place.at,
                        format!(
                            "the listener {:?} has a `statefulSession` of its own at {}",
                            listener.name.value,
                            own.at.line_text()
                        ),
                        "keep one of the two",
                    );
                }
            }
            if !matched && model.all_listeners {
                unknown_target(model, gateway, target.section.as_ref(), problems);
            }
        }
    }
    bound.into_iter().map(|option| option.map(|option| &option.session)).collect()
}

fn unknown_target(
    model: &Model,
    gateway: &Placed<String>,
    section: Option<&Placed<String>>,
    problems: &mut Problems,
) {
    let inside =
        || model.listeners.iter().filter(|listener| listener.gateway.as_ref() == Some(&gateway.value));
    match section {
        Some(section) if inside().next().is_some() => {
            let names = list(inside().map(|listener| listener.name.value.as_str()));
            let what = format!("the gateway {:?} has no listener {:?}", gateway.value, section.value);
            problems.add(&section.at, what, format!("use one of: {names}"));
        }
        _ => {
            let what = format!("no listener belongs to a gateway {:?}", gateway.value);
            let names = list(model.listeners.iter().filter_map(|listener| listener.gateway.as_deref()));
            let remedy = format!("write `gateway: {}` at the listeners that are meant", gateway.value);
            let remedy = if names.is_empty() { remedy } else { format!("{remedy}, or use one of: {names}") };
            problems.add(&gateway.at, what, remedy);
        }
    }
}

/// Names, each once, in order.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen.join(", ")
}

struct Compiler<'m, 'p> {
    model: &'m Model,
    clusters: HashMap<&'m str, ClusterId>,
    policies: Vec<Policy>,
    specs: Vec<PolicySpec>,
    problems: &'p mut Problems,
}

/// The sessions of one route, compiled once however many domains it serves.
struct Sessions {
    route: Session,
    entries: Vec<Option<Session>>,
}

impl<'m> Compiler<'m, '_> {
    fn clusters(&mut self, resolve: Resolve<'_>) -> Vec<Cluster> {
        let model = self.model;
        let mut compiled = Vec::with_capacity(model.clusters.len());
        for (nth, cluster) in (0..).zip(&model.clusters) {
            if self.clusters.insert(cluster.name.value.as_str(), ClusterId(nth)).is_some() {
                let what = format!("the cluster {:?} is defined twice", cluster.name.value);
                self.problems.add(&cluster.name.at, what, "give each cluster a name of its own");
            }
            compiled.extend(self.cluster(cluster, resolve));
        }
        compiled
    }

    fn cluster(&mut self, cluster: &ClusterModel, resolve: Resolve<'_>) -> Option<Cluster> {
        let mut hosts = Vec::with_capacity(cluster.hosts.len());
        let mut seen: HashMap<Box<str>, &HostModel> = HashMap::with_capacity(cluster.hosts.len());
        for host in &cluster.hosts {
            for endpoint in self.endpoints(&host.address, resolve) {
                if let Some(first) = seen.insert(endpoint.address_text(), host) {
                    self.problems.add(
                        &host.address.at,
                        format!(
                            "{} is already a host here, at {}",
                            endpoint.address_text(),
                            first.address.at.line_text()
                        ),
                        "name each address once: a token could not tell the two apart",
                    );
                    continue;
                }
                let cell = Arc::new(HostCell::new(host.health, host.admission));
                hosts.push(HostSpec { endpoint, weight: host.weight, priority: host.priority, cell });
            }
        }
        let spec = ClusterSpec {
            name: cluster.name.value.as_str().into(),
            hosts,
            balance: cluster.balance,
            override_status: cluster.override_status,
            panic_percent: cluster.panic_percent,
        };
        Cluster::compile(spec)
            .inspect_err(|error| {
                self.problems.add(&cluster.at, error.to_string(), "change this cluster's hosts");
            })
            .ok()
    }

    /// The endpoints of one written host: one, or all addresses of its name.
    fn endpoints(&mut self, host: &Placed<Upstream>, resolve: Resolve<'_>) -> Vec<Endpoint> {
        let (name, port) = match &host.value {
            Upstream::Tcp(address) => return vec![Endpoint::Tcp(*address)],
            Upstream::Unix(path) => return vec![Endpoint::Unix(path.as_path().into())],
            Upstream::Name(name, port) => (name, *port),
        };
        let remedy =
            "check the name and the resolver (/etc/hosts, /etc/resolv.conf), or write the address itself";
        match resolve(name, port) {
            Ok(addresses) if addresses.is_empty() => {
                self.problems.add(&host.at, format!("the name {name:?} has no address"), remedy);
                Vec::new()
            }
            Ok(mut addresses) => {
                // Resolvers rotate their answers; every proxy and every start must see the same order.
                addresses.sort_unstable();
                addresses.dedup();
                addresses.into_iter().map(without_scope).map(Endpoint::Tcp).collect()
            }
            Err(error) => {
                self.problems.add(&host.at, format!("the name {name:?} cannot be resolved: {error}"), remedy);
                Vec::new()
            }
        }
    }

    fn listener(&mut self, listener: &'m Listener, bound: Option<&Placed<SessionModel>>) -> CoreListener {
        let inherited = match bound.or(listener.session.as_ref()) {
            Some(session) => self.session(session),
            None => Session::None,
        };
        let shared = self.model.routes.as_ref().map(|routes| routes.value.as_slice());
        let routes = listener.routes.as_deref().or(shared).unwrap_or_default();
        if listener.routes.is_none() && shared.is_none() {
            let remedy = "add `routes` here, or at the top of the file for all listeners";
            self.problems.add(&listener.at, "the listener has no routes", remedy);
        }
        // Routes at the top are checked once, with the first listener that uses them.
        shadowed(routes, self.problems);
        let sessions: Vec<_> =
            routes.iter().map(|route| self.sessions(route, inherited, &listener.marks)).collect();
        let name = listener.name.value.as_str().into();
        CoreListener {
            name,
            routes: self.table(routes, &sessions),
            marks: listener.marks.clone(),
            connections: listener.connections,
            gate: Arc::default(),
        }
    }

    fn unused_routes(&mut self) {
        let Some(shared) = &self.model.routes else { return };
        if self.model.all_listeners && self.model.listeners.iter().all(|listener| listener.routes.is_some()) {
            let what = "no listener uses these routes, since each has its own";
            self.problems.add(&shared.at, what, "remove them, or the `routes` of a listener");
        }
    }

    /// The policy of a block.
    fn session(&mut self, session: &Placed<SessionModel>) -> Session {
        let SessionModel::Policy(spec) = &session.value else { return Session::Disabled };
        match Policy::compile((**spec).clone()) {
            Ok(policy) => {
                let id = PolicyId(u32::try_from(self.policies.len()).unwrap_or(u32::MAX));
                self.policies.push(policy);
                self.specs.push((**spec).clone());
                Session::Policy(id)
            }
            Err(error) => {
                let (what, remedy) = describe(&error);
                self.problems.add(&session.at, what, remedy);
                Session::None
            }
        }
    }

    /// The most specific block counts: entry, then route, then listener.
    fn sessions(&mut self, route: &Route, inherited: Session, marks: &Marks) -> Sessions {
        let ActionModel::Forward(forward) = &route.action else {
            return Sessions { route: Session::None, entries: Vec::new() };
        };
        let own = match &forward.session {
            Some(session) => self.session(session),
            None => inherited,
        };
        let entries: Vec<_> = forward
            .entries
            .iter()
            .map(|entry| entry.session.as_ref().map(|session| self.session(session)))
            .collect();
        for entry in &forward.entries {
            let cluster = &entry.cluster;
            if !self.clusters.contains_key(cluster.value.as_str()) && self.model.all_clusters {
                let names = list(self.model.clusters.iter().map(|cluster| cluster.name.value.as_str()));
                let remedy = if names.is_empty() {
                    "add it to `clusters`".into()
                } else {
                    format!("use one of: {names}")
                };
                self.problems.add(&cluster.at, format!("there is no cluster {:?}", cluster.value), remedy);
            }
        }
        let policies = entries.iter().flatten().chain([&own]).filter_map(|session| match session {
            Session::Policy(PolicyId(id)) => self.policies.get(*id as usize),
            _ => None,
        });
        let session_bytes = policies.map(Policy::insert_max).max().unwrap_or(0);
        let largest = request_bytes(forward, marks).max(session_bytes + response_bytes(forward, marks));
        if largest > INSERT_MAX {
            let what = format!(
                "this route may add {largest} bytes to a head, and {INSERT_MAX} is the most that fits"
            );
            self.problems.add(&route.at, what, "shorten its headers, rewrites or the cookie's attributes");
        }
        Sessions { route: own, entries }
    }

    /// One virtual host for each domain, with every route that covers it.
    fn table(&self, routes: &[Route], sessions: &[Sessions]) -> RouteTable {
        let mut domains: Vec<&Domain> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for domain in routes.iter().flat_map(|route| &route.domains) {
            if seen.insert(domain_text(domain)) {
                domains.push(domain);
            }
        }
        let virtual_host = |domain: &&Domain| {
            let mut covering: Vec<(usize, &Route, &Sessions)> = Vec::new();
            for (nth, (route, sessions)) in routes.iter().zip(sessions).enumerate() {
                // What an earlier route takes whole need not be looked at here.
                if route.domains.iter().any(|wide| covers(wide, domain))
                    && !covering.iter().any(|(_, earlier, _)| path_covers(&earlier.path, &route.path))
                {
                    covering.push((nth, route, sessions));
                }
            }
            VirtualHost {
                name: domain_text(domain).into(),
                domains: vec![(*domain).clone()],
                routes: covering
                    .iter()
                    .map(|(nth, route, sessions)| self.route(*nth, route, sessions))
                    .collect(),
            }
        };
        RouteTable { virtual_hosts: domains.iter().map(virtual_host).collect() }
    }

    fn route(&self, nth: usize, route: &Route, sessions: &Sessions) -> CoreRoute {
        let name = route.name.clone().unwrap_or_else(|| format!("route-{}", nth + 1));
        let action = match &route.action {
            ActionModel::Redirect(redirect) => Action::Redirect(redirect.clone()),
            ActionModel::Respond { status, body } => {
                Action::Respond { status: *status, body: body.as_str().into() }
            }
            ActionModel::Forward(forward) => Action::Forward(Box::new(self.forward(forward, sessions))),
        };
        CoreRoute { name: name.into(), path: route.path.clone(), action }
    }

    fn forward(&self, forward: &ForwardModel, sessions: &Sessions) -> Forward {
        let entries = forward.entries.iter().zip(&sessions.entries).filter_map(|(entry, session)| {
            let cluster = *self.clusters.get(entry.cluster.value.as_str())?;
            Some(WeightedCluster { cluster, weight: entry.weight, session: *session })
        });
        Forward {
            clusters: entries.collect(),
            session: sessions.route,
            rewrite: forward.rewrite.clone(),
            host_rewrite: forward.host_rewrite.clone(),
            request_fields: forward.request.clone(),
            response_fields: forward.response.clone(),
            response_timeout: forward.timeout,
            retry: forward.retry.clone(),
            upgrades: forward.upgrades,
        }
    }
}

/// What is wrong with a policy, and the remedy, which the core puts behind a semicolon.
fn describe(error: &PolicyError) -> (String, String) {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((what, remedy)) => (what.into(), remedy.into()),
        None => (text, "change this session block".into()),
    }
}

/// A resolved address without scope and flow: a token's text has neither.
fn without_scope(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() == 0 => SocketAddr::new((*v6.ip()).into(), v6.port()),
        other => other,
    }
}

/// Notes routes that can never be taken because an earlier one takes all their requests.
fn shadowed(routes: &[Route], problems: &mut Problems) {
    for (nth, this) in routes.iter().enumerate() {
        let by = routes.iter().take(nth).find(|earlier| {
            let hosts =
                this.domains.iter().all(|domain| earlier.domains.iter().any(|wide| covers(wide, domain)));
            hosts && path_covers(&earlier.path, &this.path)
        });
        if let Some(by) = by {
            let what =
                format!("this route is never taken: the one at {} takes all its requests", by.at.line_text());
            problems.add(&this.at, what, "put the more specific route first");
        }
    }
}

/// Whether every name that `narrow` matches is matched by `wide`.
fn covers(wide: &Domain, narrow: &Domain) -> bool {
    match (wide, narrow) {
        (Domain::Any, _) => true,
        (Domain::Suffix(wide), Domain::Suffix(narrow)) => narrow.ends_with(&**wide),
        (Domain::Suffix(wide), Domain::Exact(name)) => name.len() > wide.len() && name.ends_with(&**wide),
        (Domain::Exact(wide), Domain::Exact(name)) => wide == name,
        (_, Domain::Any) | (Domain::Exact(_), Domain::Suffix(_)) => false,
    }
}

fn path_covers(wide: &PathMatch, narrow: &PathMatch) -> bool {
    match (wide, narrow) {
        (PathMatch::Prefix(wide), PathMatch::Prefix(narrow) | PathMatch::Exact(narrow)) => {
            narrow.starts_with(&**wide)
        }
        (PathMatch::Exact(wide), PathMatch::Exact(narrow)) => wide == narrow,
        (PathMatch::Exact(_), PathMatch::Prefix(_)) => false,
    }
}

/// The domain as it is written in a file.
pub(crate) fn domain_text(domain: &Domain) -> String {
    match domain {
        Domain::Any => "*".into(),
        Domain::Suffix(suffix) => format!("*{suffix}"),
        Domain::Exact(name) => name.to_string(),
    }
}

/// `name: value CRLF` around the name and the value.
const LINE: usize = 4;
/// The longest `x-forwarded-for` entry (an IPv6 address with a comma), `-proto`, and a UUID with its name.
const FORWARDED_FOR: usize = "x-forwarded-for".len() + LINE + 48;
const FORWARDED_PROTO: usize = "x-forwarded-proto".len() + LINE + "https".len();
const REQUEST_ID: usize = "x-request-id".len() + LINE + 36;
const DATE: usize = "date".len() + LINE + "Sun, 06 Nov 1994 08:49:37 GMT".len();

fn rules_bytes(rules: &FieldRules) -> usize {
    rules
        .set
        .iter()
        .chain(&rules.add)
        .map(|(name, value)| name.as_str().len() + value.as_str().len() + LINE)
        .sum()
}

fn via_bytes(marks: &Marks) -> usize {
    marks.via.as_ref().map_or(0, |via| "via".len() + LINE + "1.1 ".len() + via.len() + ", ".len())
}

/// The most that a request head can grow on this route.
fn request_bytes(forward: &ForwardModel, marks: &Marks) -> usize {
    let path = match &forward.rewrite {
        Some(Rewrite::Path(path) | Rewrite::Prefix(path)) => path.len(),
        None => 0,
    };
    let host = forward.host_rewrite.as_ref().map_or(0, |host| "host".len() + LINE + host.as_str().len());
    rules_bytes(&forward.request)
        + via_bytes(marks)
        + path
        + host
        + if marks.forwarded_for { FORWARDED_FOR } else { 0 }
        + if marks.forwarded_proto { FORWARDED_PROTO } else { 0 }
        + if marks.request_id { REQUEST_ID } else { 0 }
}

/// The most that a response head can grow on this route, its session apart.
fn response_bytes(forward: &ForwardModel, marks: &Marks) -> usize {
    let server = match &marks.server {
        ServerField::Pass => 0,
        ServerField::Overwrite(value) => "server".len() + LINE + value.len(),
    };
    rules_bytes(&forward.response) + via_bytes(marks) + server + if marks.date { DATE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_is_more_specific() {
        let any = Domain::Any;
        let wide = Domain::Suffix(".org".into());
        let narrow = Domain::Suffix(".example.org".into());
        let name = Domain::Exact("a.example.org".into());
        assert!(
            covers(&any, &wide) && covers(&wide, &narrow) && covers(&narrow, &name) && covers(&name, &name)
        );
        assert!(!covers(&wide, &any) && !covers(&narrow, &wide) && !covers(&name, &narrow));
        // A suffix asks for at least one letter before its dot.
        assert!(!covers(&wide, &Domain::Exact(".org".into())));
    }
}
