//! Everything that changes together: listeners, routes, policies, clusters and limits, published as a whole.

use crate::affinity::Policy;
use crate::hosts::{Cluster, ClusterId, Host, HostRef};
use crate::limits::Limits;
use crate::route::{ListenerId, PolicyId, RouteTable};

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
}

/// The fields by which a proxy makes itself known.
#[derive(Clone, Debug)]
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
