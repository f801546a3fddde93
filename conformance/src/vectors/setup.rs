//! From a vector's configuration to a snapshot of Homing's core, or to the reason why there is none: a [`Feature`] that
//! Homing lacks, or something that it refuses when configuration is read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use homing_core::affinity::{Policy, PolicyError};
use homing_core::balance::Balance;
use homing_core::field::{FieldError, Status};
use homing_core::hosts::{
    Admission, Cluster, ClusterId, ClusterSpec, Endpoint, HealthSet, HostCell, HostSpec,
};
use homing_core::limits::Limits;
use homing_core::path::PathRules;
use homing_core::route::{
    Action, Domain, FieldRules, Forward, PathMatch, PolicyId, Redirect, Retry, RetryOn, Rewrite, Route,
    RouteTable, Session, VirtualHost, WeightedCluster,
};
use homing_core::snapshot::{Listener, Marks, ServerField, Snapshot};
use serde_json::Value;

use super::config::{
    ClusterConfig, Config, HealthStatus, HostConfig, Overrides, PathConfig, PerRoute, RetryPolicy,
    RouteAction, RouteConfig, StatefulSession, VirtualHostConfig, duration,
};
use super::{Vector, bootstrap, run};

/// The stateful session filter's name.
const FILTER: &str = "envoy.filters.http.stateful_session";

/// Something that Envoy has and Homing does not.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Feature {
    /// A cluster made of clusters.
    AggregateClusters,
    /// Bounds on requests in flight.
    CircuitBreakers,
    /// Ring hash, Maglev, hash policies.
    ConsistentHashing,
    /// Two session filters in one chain.
    FilterChains,
    /// A second attempt while the first is still awaited.
    Hedging,
    /// HTTP/2.
    Http2,
    /// Following an upstream's redirect.
    InternalRedirects,
    /// Taking hosts out that answer badly.
    OutlierDetection,
    /// Sending a copy of the request elsewhere.
    RequestMirroring,
    /// Choosing among a part of a cluster's hosts.
    SubsetBalancing,
}

impl Feature {
    /// The name used in `vectors/absent.txt`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AggregateClusters => "aggregate clusters",
            Self::CircuitBreakers => "circuit breakers",
            Self::ConsistentHashing => "consistent hashing",
            Self::FilterChains => "filter chains",
            Self::Hedging => "hedging",
            Self::Http2 => "http/2",
            Self::InternalRedirects => "internal redirects",
            Self::OutlierDetection => "outlier detection",
            Self::RequestMirroring => "request mirroring",
            Self::SubsetBalancing => "subset balancing",
        }
    }
}

/// Why a vector's configuration makes no snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It needs this.
    Absent(Feature),
    /// Homing takes no such policy.
    Policy(PolicyError),
    /// Homing takes no such name or status.
    Field(FieldError),
    /// The form is not Envoy's.
    Form(String),
    /// Homing takes no such bootstrap.
    Bootstrap {
        /// The first field that it refuses.
        path: Box<str>,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(feature) => write!(f, "absent: {}", feature.as_str()),
            Self::Policy(error) => write!(f, "{error}"),
            Self::Field(error) => write!(f, "{error}"),
            Self::Form(error) => write!(f, "{error}"),
            Self::Bootstrap { path, what } => write!(f, "{path}: {what}"),
        }
    }
}

impl From<Feature> for Refusal {
    fn from(feature: Feature) -> Self {
        Self::Absent(feature)
    }
}

/// A vector's configuration, ready to run.
#[derive(Debug)]
pub struct Setup {
    /// One listener; its cluster's hosts have the addresses that were recorded.
    pub snapshot: Arc<Snapshot>,
    /// Whether Envoy counts at all, by policy; the last one stands for "no policy".
    counted: Vec<bool>,
    /// The route's filter is there, but carries no session state: Envoy counts it as `no_session`.
    stateless: bool,
}

impl Setup {
    /// A snapshot of one listener that was made elsewhere; nothing is counted.
    pub fn of(snapshot: Snapshot) -> Self {
        Self { snapshot: Arc::new(snapshot), counted: Vec::new(), stateless: false }
    }

    /// Whether Envoy has counters for requests under this policy (conformance §2.1).
    pub fn is_counted(&self, session: Session) -> bool {
        match session {
            Session::Policy(id) => self.counted.get(id.0 as usize).copied().unwrap_or(false),
            Session::None => self.stateless,
            Session::Disabled => true,
        }
    }
}

/// Builds what a vector of any mode but `config` runs with.
///
/// # Errors
/// What keeps it from running.
pub fn prepare(vector: &Vector) -> Result<Setup, Refusal> {
    let config = &vector.config;
    if let Some(feature) = missing_from_listener(vector) {
        return Err(feature.into());
    }
    let mut builder = Builder {
        vector,
        policies: Vec::new(),
        counted: Vec::new(),
        clusters: Vec::new(),
        absent: BTreeMap::new(),
    };
    let base = builder.base()?;
    let virtual_hosts = match &config.virtual_hosts {
        Some(hosts) => {
            hosts.iter().map(|host| builder.virtual_host(host, base)).collect::<Result<Vec<_>, _>>()?
        }
        None => vec![builder.plain_host(base)?],
    };
    let manager = config.hcm.as_ref();
    let marks = Marks {
        forwarded_for: manager.is_some_and(|manager| manager.use_remote_address),
        forwarded_proto: true,
        trust_inbound: true,
        request_id: true,
        via: None,
        server: ServerField::Overwrite("envoy".into()),
        date: true,
    };
    let paths = manager.map_or_else(PathRules::default, |manager| PathRules {
        normalize: manager.normalize_path,
        merge_slashes: manager.merge_slashes,
    });
    let routes = RouteTable { virtual_hosts, paths };
    let listener = Listener { name: "vector".into(), routes, marks, connections: 0, gate: Arc::default() };
    let taken = listener.routes.find(b"t.example", &run::path_of(vector));
    if let Some(feature) = taken.and_then(|(_, route)| builder.absent.get(route.path.as_str())) {
        return Err((*feature).into());
    }
    let clusters = builder.clusters.into_iter().map(|(_, cluster)| cluster).collect();
    // Envoy's default for a route without a time-out of its own.
    let limits = Limits { response_timeout: Duration::from_secs(15), ..Limits::default() };
    let snapshot =
        Snapshot { generation: 1, listeners: vec![listener], policies: builder.policies, clusters, limits };
    let stateless = config.stat_prefix.is_some() && config.session_state.is_none() && !config.has_no_filter;
    Ok(Setup { snapshot: Arc::new(snapshot), counted: builder.counted, stateless })
}

/// Judges the configuration of a `config` vector, in the form in which Envoy was given it.
///
/// # Errors
/// Why Homing takes no such configuration.
pub fn validate(vector: &Vector) -> Result<(), Refusal> {
    let bootstrap = bootstrap::of_case(&vector.config).map_err(Refusal::Form)?;
    let Err(error) = bootstrap::load(&bootstrap) else { return Ok(()) };
    let Some(problem) = error.problems().first() else { return Err(Refusal::Form("nothing".into())) };
    // The core's own words, where the core has any.
    if let Err(refusal @ (Refusal::Policy(_) | Refusal::Field(_))) = policies(&vector.config) {
        return Err(refusal);
    }
    Err(Refusal::Bootstrap { path: problem.at.path.clone(), what: problem.what.clone() })
}

/// Compiles the session policies of a `config` vector one by one.
fn policies(config: &Config) -> Result<(), Refusal> {
    let form = |error: serde_json::Error| Refusal::Form(error.to_string());
    let mut sessions = Vec::new();
    // A listener without the filter has `null` in its place.
    if let Some(filter) = &config.filter {
        sessions.push(StatefulSession::read(filter.clone())?);
    }
    let routes: Option<Vec<RouteConfig>> =
        config.routes.clone().map(serde_json::from_value).transpose().map_err(form)?;
    let host: Option<Overrides> =
        config.typed_per_filter_config.clone().map(serde_json::from_value).transpose().map_err(form)?;
    let routes = routes.into_iter().flatten().map(|route| route.typed_per_filter_config);
    for overrides in routes.chain(host) {
        let Some(value) = overrides.get(FILTER) else { continue };
        match PerRoute::read(value.clone())? {
            PerRoute::Disabled => {}
            PerRoute::Session(session) => sessions.push(session),
        }
    }
    for session in &sessions {
        if let Some(spec) = session.policy()? {
            Policy::compile(spec).map_err(Refusal::Policy)?;
        }
    }
    Ok(())
}

/// The session settings of a place in the configuration.
#[derive(Clone, Copy, Debug)]
struct Setting(Session);

/// Makes the parts of a snapshot.
struct Builder<'v> {
    vector: &'v Vector,
    policies: Vec<Policy>,
    counted: Vec<bool>,
    clusters: Vec<(String, Cluster)>,
    /// Routes that cannot be built, by path; they matter only to requests that take them.
    absent: BTreeMap<String, Feature>,
}

fn missing_from_listener(vector: &Vector) -> Option<Feature> {
    let config = &vector.config;
    let manager = config.hcm.as_ref();
    let is_http2 = vector.request.as_ref().is_some_and(|request| request.protocol.is_some())
        || manager.is_some_and(|manager| manager.codec_type.is_some());
    let several = config.session_state.is_some() && !config.filters_before.is_empty();
    match () {
        () if is_http2 => Some(Feature::Http2),
        () if several => Some(Feature::FilterChains),
        () => None,
    }
}

impl Builder<'_> {
    /// The settings of the filter itself.
    fn base(&mut self) -> Result<Setting, Refusal> {
        let config = &self.vector.config;
        let filter = match config.filters_before.as_slice() {
            [] => StatefulSession {
                state: config.session_state.clone(),
                strict: config.strict,
                gone_status: config.gone_status,
                stat_prefix: config.stat_prefix.clone(),
            },
            [only] if only.disabled => return Ok(Setting(Session::Disabled)),
            [only] => StatefulSession::read(only.typed_config.clone())?,
            _ => return Err(Feature::FilterChains.into()),
        };
        self.setting(&filter)
    }

    fn setting(&mut self, filter: &StatefulSession) -> Result<Setting, Refusal> {
        let Some(spec) = filter.policy()? else { return Ok(Setting(Session::None)) };
        let id = PolicyId(u32::try_from(self.policies.len()).unwrap_or(u32::MAX));
        self.policies.push(Policy::compile(spec).map_err(Refusal::Policy)?);
        self.counted.push(filter.stat_prefix.as_deref().is_some_and(|prefix| !prefix.is_empty()));
        Ok(Setting(Session::Policy(id)))
    }

    /// What a more specific place says; its key is the filter's name in the chain (pr-046, pr-047).
    fn overridden(&mut self, overrides: &Overrides) -> Result<Option<Setting>, Refusal> {
        let key = match self.vector.config.filters_before.as_slice() {
            [only] => only.name.as_str(),
            _ => FILTER,
        };
        let Some(value) = overrides.get(key) else { return Ok(None) };
        match PerRoute::read(value.clone())? {
            PerRoute::Disabled => Ok(Some(Setting(Session::Disabled))),
            PerRoute::Session(filter) => self.setting(&filter).map(Some),
        }
    }

    fn plain_host(&mut self, base: Setting) -> Result<VirtualHost, Refusal> {
        let name = match &self.vector.config.cluster {
            Some(Value::String(name)) => name.clone(),
            // Without a name the listener led to the plain cluster of three.
            _ => "c3".to_owned(),
        };
        let cluster = self.cluster(&name)?.unwrap_or(ClusterId(0));
        let clusters = vec![WeightedCluster { cluster, weight: 1, session: None }];
        let forward = self.forward(clusters, base);
        let route = Route {
            name: name.into(),
            path: PathMatch::Prefix("/".into()),
            action: Action::Forward(Box::new(forward)),
        };
        Ok(VirtualHost { name: "v".into(), domains: vec![Domain::Any], routes: vec![route] })
    }

    fn virtual_host(&mut self, host: &VirtualHostConfig, base: Setting) -> Result<VirtualHost, Refusal> {
        let setting = self.overridden(&host.typed_per_filter_config)?.unwrap_or(base);
        let domain = |text: &String| match text.strip_prefix('*') {
            Some("") => Domain::Any,
            Some(suffix) => Domain::Suffix(suffix.into()),
            None => Domain::Exact(text.as_str().into()),
        };
        let routes = host.routes.iter().map(|route| self.route(route, setting)).collect::<Result<_, _>>()?;
        Ok(VirtualHost {
            name: host.name.as_str().into(),
            domains: host.domains.iter().map(domain).collect(),
            routes,
        })
    }

    fn route(&mut self, route: &RouteConfig, inherited: Setting) -> Result<Route, Refusal> {
        let path = match &route.path {
            PathConfig::Prefix(text) => PathMatch::Prefix(text.as_str().into()),
            PathConfig::Path(text) => PathMatch::Exact(text.as_str().into()),
        };
        let setting = self.overridden(&route.typed_per_filter_config)?.unwrap_or(inherited);
        let action = match (&route.route, &route.redirect, &route.direct_response) {
            (Some(action), ..) => match self.action(action, setting) {
                Err(Refusal::Absent(feature)) => {
                    self.absent.insert(path.as_str().to_owned(), feature);
                    no_such_cluster()
                }
                other => other?,
            },
            (None, Some(redirect), _) => Action::Redirect(Redirect {
                status: Status::new(301).map_err(Refusal::Field)?,
                scheme: redirect.https_redirect.then(|| "https".into()),
                host: None,
                port: None,
                path: redirect.path_redirect.as_ref().map(|path| Rewrite::Path(path.as_str().into())),
            }),
            (None, None, Some(direct)) => Action::Respond {
                status: Status::new(direct.status).map_err(Refusal::Field)?,
                body: direct.body.inline_string.as_str().into(),
            },
            (None, None, None) => return Err(Refusal::Form("a route without an action".into())),
        };
        Ok(Route { name: path.as_str().into(), path, action })
    }

    fn action(&mut self, action: &RouteAction, setting: Setting) -> Result<Action, Refusal> {
        let absent = [
            (action.metadata_match.is_some(), Feature::SubsetBalancing),
            (action.request_mirror_policies.is_some(), Feature::RequestMirroring),
            (action.hash_policy.is_some(), Feature::ConsistentHashing),
            (action.hedge_policy.is_some(), Feature::Hedging),
            (action.internal_redirect_policy.is_some(), Feature::InternalRedirects),
        ];
        if let Some(&(_, feature)) = absent.iter().find(|(is_set, _)| *is_set) {
            return Err(feature.into());
        }
        let mut clusters = Vec::new();
        if let Some(name) = &action.cluster {
            let Some(cluster) = self.cluster(name)? else { return Ok(no_such_cluster()) };
            clusters.push(WeightedCluster { cluster, weight: 1, session: None });
        }
        for entry in action.weighted_clusters.iter().flat_map(|weighted| &weighted.clusters) {
            let Some(cluster) = self.cluster(&entry.name)? else { return Ok(no_such_cluster()) };
            let session = self.overridden(&entry.typed_per_filter_config)?.map(|setting| setting.0);
            clusters.push(WeightedCluster { cluster, weight: entry.weight, session });
        }
        let mut forward = self.forward(clusters, setting);
        forward.rewrite = action.prefix_rewrite.as_ref().map(|to| Rewrite::Prefix(to.as_str().into()));
        forward.response_timeout = action.timeout.as_deref().map(duration).transpose()?;
        if let Some(policy) = &action.retry_policy {
            forward.retry = retry(policy)?;
        }
        Ok(Action::Forward(Box::new(forward)))
    }

    fn forward(&self, clusters: Vec<WeightedCluster>, setting: Setting) -> Forward {
        let manager = self.vector.config.hcm.as_ref();
        Forward {
            clusters,
            session: setting.0,
            rewrite: None,
            host_rewrite: None,
            request_fields: FieldRules::default(),
            response_fields: FieldRules::default(),
            response_timeout: None,
            retry: Retry::default(),
            upgrades: manager.is_some_and(|manager| !manager.upgrade_configs.is_empty()),
        }
    }

    /// The cluster of this name, made when first asked for. None: Envoy does not know it either.
    fn cluster(&mut self, name: &str) -> Result<Option<ClusterId>, Refusal> {
        if let Some(at) = self.clusters.iter().position(|(known, _)| known == name) {
            return Ok(u32::try_from(at).ok().map(ClusterId));
        }
        let vector = self.vector;
        let config = match (&vector.config.virtual_hosts, &vector.cluster) {
            (None, Some(cluster)) => cluster.clone(),
            (None, None) => ClusterConfig::plain(&vector.hosts),
            (Some(_), _) => match vector.clusters.get(name) {
                Some(cluster) => cluster.clone(),
                None => return Ok(None),
            },
        };
        let cluster = config.compile(name, &vector.health)?;
        self.clusters.push((name.to_owned(), cluster));
        Ok(u32::try_from(self.clusters.len() - 1).ok().map(ClusterId))
    }
}

/// Envoy answers a route to a cluster that it does not know by itself; Homing refuses to load it.
fn no_such_cluster() -> Action {
    Action::Respond { status: Status::UNAVAILABLE, body: "".into() }
}

impl ClusterConfig {
    fn compile(&self, name: &str, found: &BTreeMap<String, HealthStatus>) -> Result<Cluster, Refusal> {
        if let Some(feature) = self.missing(!found.is_empty()) {
            return Err(feature.into());
        }
        let common = self.common_lb_config.clone().unwrap_or_default();
        let fails_in_panic = common.zone_aware_lb_config.is_some_and(|zone| zone.fail_traffic_on_panic);
        let override_status = match common.override_host_status {
            None => HealthSet::USABLE,
            Some(list) => list.statuses.iter().fold(HealthSet::EMPTY, |set, status| set.with(status.core())),
        };
        let balance = match self.lb_policy.as_deref() {
            Some("LEAST_REQUEST") => Balance::LeastRequest,
            Some("RANDOM") => Balance::Random,
            _ => Balance::RoundRobin,
        };
        let hosts = self.hosts.iter().map(|host| host.spec(found)).collect::<Result<_, _>>()?;
        let spec = ClusterSpec {
            name: name.into(),
            hosts,
            balance,
            override_status,
            // Envoy's default.
            panic_percent: if fails_in_panic { 0 } else { 50 },
        };
        Cluster::compile(spec).map_err(|error| Refusal::Form(error.to_string()))
    }

    /// `is_found`: what detection would find is known already.
    fn missing(&self, is_found: bool) -> Option<Feature> {
        match () {
            () if matches!(self.lb_policy.as_deref(), Some("RING_HASH" | "MAGLEV")) => {
                Some(Feature::ConsistentHashing)
            }
            () if self.kind.as_deref().is_some_and(|kind| kind.starts_with("aggregate")) => {
                Some(Feature::AggregateClusters)
            }
            () if self.circuit_breakers.is_some() => Some(Feature::CircuitBreakers),
            () if self.lb_subset_config.is_some() => Some(Feature::SubsetBalancing),
            () if self.outlier_detection.is_some() && !is_found => Some(Feature::OutlierDetection),
            () => None,
        }
    }
}

impl HostConfig {
    fn spec(&self, found: &BTreeMap<String, HealthStatus>) -> Result<HostSpec, Refusal> {
        let (address, configured, weight, priority) = match self {
            Self::Plain(address) => (address, None, 1, 0),
            Self::Full(full) => (&full.address, full.health_status, full.weight.unwrap_or(1), full.priority),
        };
        // What the resolver said when the vectors were recorded.
        let resolved = address.replace("localhost:", "127.0.0.1:");
        let endpoint = match resolved.parse() {
            Ok(address) => Endpoint::Tcp(address),
            Err(error) => return Err(Refusal::Form(format!("host {address:?}: {error}"))),
        };
        let status = found.get(&resolved).copied().or(configured).unwrap_or(HealthStatus::Unknown);
        let cell = Arc::new(HostCell::new(status.core(), Admission::Open));
        Ok(HostSpec { endpoint, weight, priority, cell })
    }
}

fn retry(policy: &RetryPolicy) -> Result<Retry, Refusal> {
    let on = match policy.retry_on.as_str() {
        // Envoy's `5xx` takes connections that fail or end for a response with such a status.
        "5xx" => RetryOn { connect_failure: true, reset: true, server_error: true, gateway_error: false },
        "connect-failure" => RetryOn { connect_failure: true, ..RetryOn::default() },
        other => return Err(Refusal::Form(format!("retry_on {other:?}"))),
    };
    let per_try_timeout = policy.per_try_timeout.as_deref().map_or(Ok(Duration::ZERO), duration)?;
    Ok(Retry { attempts: policy.num_retries, on, per_try_timeout })
}
