//! Snapshots for tests, in a few words: clusters by address texts, routes by path prefix.
//!
//! A builder can be kept, changed and built again: a host keeps its state cell from one snapshot to the next, as
//! it does in the program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homing_core::affinity::{CarrierSpec, CookieSpec, Policy, PolicySpec};
use homing_core::balance::Balance;
use homing_core::field::{FieldName, FieldValue, Status};
use homing_core::hosts::{Cluster, ClusterId, ClusterSpec, Endpoint, HealthSet, HostCell, HostSpec};
use homing_core::limits::Limits;
use homing_core::path::PathRules;
use homing_core::route::{
    Action, Domain, Forward, PathMatch, PolicyId, Redirect, Route, RouteTable, VirtualHost,
};
use homing_core::snapshot::{Listener, Marks, Snapshot};

/// What a snapshot of one listener is to hold. Routes are tried in the order in which they were added.
#[derive(Default)]
pub struct Builder {
    /// Bounds and time-outs.
    pub limits: Limits,
    /// The fields that the listener adds.
    pub marks: Marks,
    /// What is done to paths before they are looked up.
    pub paths: PathRules,
    clusters: Vec<ClusterPlan>,
    policies: Vec<PolicySpec>,
    virtual_hosts: Vec<(String, Vec<RoutePlan>)>,
    cells: BTreeMap<String, Arc<HostCell>>,
    generation: u64,
}

#[derive(Clone, Debug)]
struct ClusterPlan {
    name: String,
    addresses: Vec<String>,
    balance: Balance,
}

type ActionPlan = Box<dyn Fn() -> Action>;
type RoutePlan = (PathMatch, ActionPlan);

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("clusters", &self.clusters).finish_non_exhaustive()
    }
}

impl Builder {
    /// Nothing yet; default limits and marks.
    pub fn new() -> Self {
        Self::default()
    }

    /// One cluster of `addresses`, round robin, and one route to it for every host name and path.
    pub fn forward(addresses: &[&str]) -> Self {
        let mut builder = Self::new();
        let app = builder.cluster("app", addresses);
        builder.route("/", app);
        builder
    }

    /// Adds a cluster with round robin, all weights 1.
    pub fn cluster(&mut self, name: &str, addresses: &[&str]) -> ClusterId {
        self.cluster_with(name, addresses, Balance::RoundRobin)
    }

    /// Adds a cluster.
    pub fn cluster_with(&mut self, name: &str, addresses: &[&str], balance: Balance) -> ClusterId {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        self.clusters.push(ClusterPlan { name: name.to_owned(), addresses, balance });
        ClusterId(id(self.clusters.len()))
    }

    /// Gives a cluster other hosts. Those that stay keep their cells.
    pub fn set_hosts(&mut self, cluster: ClusterId, addresses: &[&str]) {
        if let Some(plan) = self.clusters.get_mut(cluster.0 as usize) {
            plan.addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        }
    }

    /// Adds a session policy.
    pub fn policy(&mut self, spec: PolicySpec) -> PolicyId {
        self.policies.push(spec);
        PolicyId(id(self.policies.len()))
    }

    /// Adds a route by path prefix to one cluster, without a session policy.
    pub fn route(&mut self, prefix: &str, cluster: ClusterId) -> &mut Self {
        self.route_with(prefix, cluster, |_| {})
    }

    /// Adds a route by path prefix to one cluster, changed by `change`.
    pub fn route_with(
        &mut self,
        prefix: &str,
        cluster: ClusterId,
        change: impl Fn(&mut Forward) + 'static,
    ) -> &mut Self {
        self.action(prefix, move || {
            let mut forward = Forward::to(cluster);
            change(&mut forward);
            Action::Forward(Box::new(forward))
        })
    }

    /// Adds a route that redirects.
    pub fn redirect(&mut self, prefix: &str, redirect: Redirect) -> &mut Self {
        self.action(prefix, move || Action::Redirect(redirect.clone()))
    }

    /// Adds a route that answers by itself.
    pub fn respond(&mut self, prefix: &str, code: u16, body: &str) -> &mut Self {
        let body: Box<str> = body.into();
        self.action(prefix, move || Action::Respond { status: status(code), body: body.clone() })
    }

    /// Routes that are added from here on are for this host name: `*`, `*.example.org` or `example.org`.
    pub fn virtual_host(&mut self, domain: &str) -> &mut Self {
        self.virtual_hosts.push((domain.to_owned(), Vec::new()));
        self
    }

    fn action(&mut self, prefix: &str, action: impl Fn() -> Action + 'static) -> &mut Self {
        if self.virtual_hosts.is_empty() {
            self.virtual_host("*");
        }
        if let Some((_, routes)) = self.virtual_hosts.last_mut() {
            routes.push((PathMatch::Prefix(prefix.into()), Box::new(action)));
        }
        self
    }

    /// The cell of a host, made when first asked for.
    pub fn cell(&mut self, address: &str) -> Arc<HostCell> {
        Arc::clone(self.cells.entry(address.to_owned()).or_default())
    }

    /// The snapshot. Can be called again after changes.
    pub fn build(&mut self) -> Arc<Snapshot> {
        self.generation += 1;
        let plans = self.clusters.clone();
        let clusters = plans.into_iter().map(|plan| self.compile(plan)).collect();
        let policies = self.policies.iter().map(|spec| match Policy::compile(spec.clone()) {
            Ok(policy) => policy,
            Err(error) => panic!("the test's policy {spec:?} is refused: {error:?}"),
        });
        let virtual_hosts = self.virtual_hosts.iter().map(|(domain, routes)| VirtualHost {
            name: domain.as_str().into(),
            domains: vec![parse_domain(domain)],
            routes: routes
                .iter()
                .map(|(path, action)| Route {
                    name: path.as_str().into(),
                    path: path.clone(),
                    action: action(),
                })
                .collect(),
        });
        Arc::new(Snapshot {
            generation: self.generation,
            listeners: vec![Listener {
                name: "main".into(),
                routes: RouteTable { virtual_hosts: virtual_hosts.collect(), paths: self.paths },
                marks: self.marks.clone(),
                connections: 0,
                gate: Arc::default(),
            }],
            policies: policies.collect(),
            clusters,
            limits: self.limits.clone(),
        })
    }

    fn compile(&mut self, plan: ClusterPlan) -> Cluster {
        let hosts = plan.addresses.iter().map(|address| HostSpec {
            endpoint: endpoint(address),
            weight: 1,
            priority: 0,
            cell: self.cell(address),
        });
        let spec = ClusterSpec {
            name: plan.name.as_str().into(),
            hosts: hosts.collect(),
            balance: plan.balance,
            override_status: HealthSet::USABLE,
            panic_percent: 0,
        };
        match Cluster::compile(spec) {
            Ok(cluster) => cluster,
            Err(error) => panic!("the test's cluster is refused: {error}"),
        }
    }
}

/// A policy that carries the token in a cookie with this name; no path, no life time, not strict.
pub fn cookie_policy(name: &str) -> PolicySpec {
    policy(CarrierSpec::Cookie(CookieSpec {
        name: name.into(),
        path: "".into(),
        ttl: Duration::ZERO,
        attributes: Vec::new(),
    }))
}

/// A policy that carries the token in a header with this name; not strict.
pub fn header_policy(name: &str) -> PolicySpec {
    policy(CarrierSpec::Header { name: field_name(name) })
}

/// A policy that carries the token behind the value of this parameter, in the URL of an event stream; not strict.
pub fn sse_policy(parameter: &str) -> PolicySpec {
    policy(CarrierSpec::Sse { parameter: parameter.into() })
}

fn policy(carrier: CarrierSpec) -> PolicySpec {
    PolicySpec {
        carrier,
        strict: false,
        gone_status: Status::UNAVAILABLE,
        clear_dead: false,
        hide_from_upstream: false,
        no_cache: false,
        renew_before: None,
    }
}

/// A checked field name.
pub fn field_name(name: &str) -> FieldName {
    match FieldName::new(name) {
        Ok(name) => name,
        Err(error) => panic!("{name:?}: {error}"),
    }
}

/// A checked field value.
pub fn field_value(value: &str) -> FieldValue {
    match FieldValue::new(value) {
        Ok(value) => value,
        Err(error) => panic!("{value:?}: {error}"),
    }
}

/// A checked status.
pub fn status(code: u16) -> Status {
    match Status::new(code) {
        Ok(status) => status,
        Err(error) => panic!("{error}"),
    }
}

fn endpoint(address: &str) -> Endpoint {
    match address.parse() {
        Ok(address) => Endpoint::Tcp(address),
        Err(_) => Endpoint::Unix(std::path::Path::new(address).into()),
    }
}

fn parse_domain(text: &str) -> Domain {
    match text.strip_prefix('*') {
        Some("") => Domain::Any,
        Some(suffix) => Domain::Suffix(suffix.into()),
        None => Domain::Exact(text.into()),
    }
}

fn id(count: usize) -> u32 {
    u32::try_from(count - 1).unwrap_or(u32::MAX)
}
