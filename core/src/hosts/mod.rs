//! Clusters and their hosts: the membership snapshot, the way from an address text to a host, and each host's
//! state.
//!
//! Membership is immutable and published as a whole. A host's *state* is a small atomic cell that lives on
//! from snapshot to snapshot, so a health flip rebuilds nothing, however many hosts there are.

mod cell;
mod cluster;

pub use cell::{Admission, Health, HealthSet, HostCell};
pub use cluster::{Cluster, ClusterError, ClusterSpec, Host, HostSpec};

use std::net::SocketAddr;
use std::path::Path;

/// Names a cluster within one snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u32);

/// Names a host within one cluster of one snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostId(pub u32);

/// Names a host within one snapshot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostRef {
    /// The host's cluster.
    pub cluster: ClusterId,
    /// The host within it.
    pub host: HostId,
}

/// Where a host listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Endpoint {
    /// An IPv4 or IPv6 address and port.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(Box<Path>),
}

impl Endpoint {
    /// The host's address text as tokens carry it: `127.0.0.1:9001`, `[::1]:9001`, or the bare socket path
    /// (conformance §1.2; addr-*).
    pub fn address_text(&self) -> Box<str> {
        match self {
            Self::Tcp(address) => address.to_string().into(),
            Self::Unix(path) => path.to_string_lossy().into(),
        }
    }
}
