//! Everything that changes together: listeners, routes, policies, clusters and limits, published as a whole.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::affinity::Policy;
use crate::gate::Gate;
use crate::hosts::{Cluster, ClusterId, Host, HostRef};
use crate::limits::Limits;
use crate::route::{
    Action, Domain, Forward, ListenerId, PathMatch, PolicyId, Route, RouteTable, Session, VirtualHost,
};

/// One immutable state of the configuration. Built by the control plane, shared by all workers.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with each publication.
    pub generation: u64,
    /// What each listener serves; a [`ListenerId`] is a position in it.
    pub listeners: Vec<Listener>,
    /// The session policies; a [`PolicyId`] is a position in it.
    pub policies: Vec<Policy>,
    /// The clusters; a [`ClusterId`] is a position in it.
    pub clusters: Vec<Cluster>,
    /// Bounds and time-outs.
    pub limits: Limits,
}

/// What one listener serves.
#[derive(Debug)]
pub struct Listener {
    /// Its name, for messages and logs.
    pub name: Box<str>,
    /// Its routes.
    pub routes: RouteTable,
    /// The fields that every request and response gets.
    pub marks: Marks,
    /// Most client connections over all workers; zero: no cap but that of [`Limits::connections`].
    pub connections: u32,
    /// Counts them. It lives on from snapshot to snapshot.
    pub gate: Arc<Gate>,
}

/// The fields by which a proxy makes itself known.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the configuration")]
pub struct Marks {
    /// Appends the client's address to `x-forwarded-for`. On by default.
    pub forwarded_for: bool,
    /// Sets `x-forwarded-proto` when the client sent none or is not trusted. On by default.
    pub forwarded_proto: bool,
    /// Whether inbound `x-forwarded-*` and `x-request-id` are kept. Off by default: clients can forge them.
    pub trust_inbound: bool,
    /// Adds `x-request-id` where there is none. On by default.
    pub request_id: bool,
    /// Appends this pseudonym to `via` in both directions (RFC 9110 §7.6.3); `None`: no `via`.
    pub via: Option<Box<str>>,
    /// What happens to the response's `server` field.
    pub server: ServerField,
    /// Adds `date` to responses that lack it (RFC 9110 §6.6.1). On by default.
    pub date: bool,
}

/// What happens to the response's `server` field.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ServerField {
    /// The upstream's stays; none is added. Answers of our own carry none.
    #[default]
    Pass,
    /// Every response carries this value.
    Overwrite(Box<str>),
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            forwarded_for: true,
            forwarded_proto: true,
            trust_inbound: false,
            request_id: true,
            via: None,
            server: ServerField::Pass,
            date: true,
        }
    }
}

impl Snapshot {
    /// The smallest site, for embedders to begin with: one listener whose every request goes to `cluster`, under
    /// `policy` if there is one. All else is as by default, and open to change.
    pub fn of_one(cluster: Cluster, policy: Option<Policy>) -> Self {
        let mut forward = Forward::to(ClusterId(0));
        if policy.is_some() {
            forward.session = Session::Policy(PolicyId(0));
        }
        let route = Route {
            name: "all".into(),
            path: PathMatch::Prefix("/".into()),
            action: Action::Forward(Box::new(forward)),
        };
        let all = VirtualHost { name: "all".into(), domains: vec![Domain::Any], routes: vec![route] };
        let listener = Listener {
            name: "main".into(),
            routes: RouteTable { virtual_hosts: vec![all], ..RouteTable::default() },
            marks: Marks::default(),
            connections: 0,
            gate: Arc::default(),
        };
        Self {
            listeners: vec![listener],
            policies: policy.into_iter().collect(),
            clusters: vec![cluster],
            ..Self::default()
        }
    }

    /// Makes this the successor of `previous`, right before it is published: hosts and listeners that stay keep their
    /// state, hosts that leave are retired, and the generation counts on. Clusters and listeners are known by their
    /// names, hosts by their addresses within a cluster; see [`Cluster::inherit`] for a host's state.
    pub fn inherit(&mut self, previous: &Self) {
        self.generation = previous.generation.wrapping_add(1);
        for listener in &mut self.listeners {
            if let Some(known) = previous.listeners.iter().find(|known| known.name == listener.name) {
                listener.gate = Arc::clone(&known.gate);
            }
        }
        let mut stays: HashMap<&str, &Cluster, FixedState> =
            previous.clusters.iter().map(|cluster| (cluster.name(), cluster)).collect();
        for cluster in &mut self.clusters {
            if let Some(known) = stays.remove(cluster.name()) {
                cluster.inherit(known);
            }
        }
        stays.into_values().for_each(Cluster::retire);
    }

    /// The listener with this id.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.0 as usize)
    }

    /// The policy with this id.
    pub fn policy(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(id.0 as usize)
    }

    /// The cluster with this id.
    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(id.0 as usize)
    }

    /// The host that `at` names.
    pub fn host(&self, at: HostRef) -> Option<&Host> {
        self.cluster(at.cluster)?.host(at.host)
    }
}
