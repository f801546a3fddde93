//! One cluster: its hosts, and the index from address text to host.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Admission, Endpoint, Health, HealthSet, HostCell, HostId};
use crate::balance::{Balance, Balancer};
use crate::limits::ADDRESS_MAX;

/// A host as configuration or discovery names it.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its share of new sessions, 1 to 65535.
    pub weight: u16,
    /// Hosts of a higher number get new sessions only as far as those of lower ones cannot take them.
    pub priority: u8,
    /// Its state, carried over from the previous snapshot when the host was in it.
    pub cell: Arc<HostCell>,
}

/// A cluster as configuration names it; [`Cluster::compile`] makes it usable.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The name routes use.
    pub name: Box<str>,
    /// The hosts, in order.
    pub hosts: Vec<HostSpec>,
    /// How sessions without a home are placed.
    pub balance: Balance,
    /// The statuses in which a session's own host may be used (`overrideHostStatus`).
    pub override_status: HealthSet,
    /// When fewer than this percentage of hosts can take new sessions, health is ignored for placing
    /// (Envoy's panic mode; Envoy's default is 50). Zero, the default here, never ignores it.
    pub panic_percent: u8,
}

/// One upstream host.
#[derive(Debug)]
pub struct Host {
    address: Box<str>,
    endpoint: Endpoint,
    weight: u16,
    priority: u8,
    written: (Health, Admission),
    cell: Arc<HostCell>,
}

/// The hosts that a route can lead to, with everything needed to find or choose one.
#[derive(Debug)]
pub struct Cluster {
    name: Box<str>,
    hosts: Box<[Host]>,
    index: HashTable<u32>,
    balancer: Balancer,
    override_status: HealthSet,
}

/// Why a cluster cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterError {
    /// Two hosts have the same address, so a token could not tell them apart.
    Duplicate(Box<str>),
    /// The address is longer than a token may carry.
    AddressTooLong(Box<str>),
    /// A weight of zero; use the admission `draining` to keep new sessions away.
    ZeroWeight(Box<str>),
}

impl core::fmt::Display for ClusterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Duplicate(address) => {
                write!(f, "host {address} appears twice; addresses must be unique in a cluster")
            }
            Self::AddressTooLong(address) => {
                write!(
                    f,
                    "host address {address:?} is longer than the {ADDRESS_MAX} bytes that a token may carry"
                )
            }
            Self::ZeroWeight(address) => {
                write!(
                    f,
                    "host {address} has weight 0; use 1 to 65535, or drain the host to keep new sessions away"
                )
            }
        }
    }
}

impl core::error::Error for ClusterError {}

impl Host {
    /// The address text as tokens carry it.
    #[inline]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its share of new sessions.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Its place in the order of priorities; 0 comes first.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Its state when its cluster was compiled: what the configuration says. The state now is in [`Host::cell`].
    pub fn written(&self) -> (Health, Admission) {
        self.written
    }

    /// Its state.
    #[inline]
    pub fn cell(&self) -> &HostCell {
        &self.cell
    }

    /// Its state, to be carried into the next snapshot.
    pub fn shared_cell(&self) -> &Arc<HostCell> {
        &self.cell
    }
}

impl Cluster {
    /// Checks the hosts and builds the index and the balancer's tables.
    pub fn compile(spec: ClusterSpec) -> Result<Self, ClusterError> {
        let mut hosts = Vec::with_capacity(spec.hosts.len());
        let mut index: HashTable<u32> = HashTable::with_capacity(spec.hosts.len());
        for (position, host) in (0_u32..).zip(spec.hosts) {
            let address = host.endpoint.address_text();
            if address.len() > ADDRESS_MAX {
                return Err(ClusterError::AddressTooLong(address));
            }
            if host.weight == 0 {
                return Err(ClusterError::ZeroWeight(address));
            }
            let known =
                |&at: &u32| hosts.get(at as usize).is_some_and(|host: &Host| *host.address == *address);
            if index.find(hash(address.as_bytes()), known).is_some() {
                return Err(ClusterError::Duplicate(address));
            }
            let hash_of =
                |&at: &u32| hosts.get(at as usize).map_or(0, |host: &Host| hash(host.address.as_bytes()));
            index.insert_unique(hash(address.as_bytes()), position, hash_of);
            let written = (host.cell.health(), host.cell.admission());
            hosts.push(Host {
                address,
                endpoint: host.endpoint,
                weight: host.weight,
                priority: host.priority,
                written,
                cell: host.cell,
            });
        }
        let hosts: Box<[Host]> = hosts.into();
        let balancer = Balancer::compile(spec.balance, spec.panic_percent, &hosts);
        Ok(Self { name: spec.name, hosts, index, balancer, override_status: spec.override_status })
    }

    /// Lets hosts that were in `previous` too live on with their cells, and retires those that are not here any more.
    /// Of a host's state, what is written differently from before is applied; the rest stays as it is now, so that
    /// changing a weight does not bring a host back that checks have found unhealthy.
    pub fn inherit(&mut self, previous: &Self) {
        for host in &mut self.hosts {
            let known = previous.find(host.address.as_bytes()).and_then(|id| previous.host(id));
            let Some(known) = known else { continue };
            let ((health, admission), before) = (host.written, known.written);
            if health != before.0 {
                known.cell.set_health(health);
            }
            if admission != before.1 {
                known.cell.set_admission(admission);
            }
            host.cell = Arc::clone(&known.cell);
        }
        for host in &previous.hosts {
            if self.find(host.address.as_bytes()).is_none() {
                host.cell.retire();
            }
        }
    }

    /// Whether what is set for the cluster as a whole is the same in `other`, whatever their hosts.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        self.override_status == other.override_status && self.balancer.has_settings_of(&other.balancer)
    }

    /// Retires all hosts: the cluster is not there any more.
    pub fn retire(&self) {
        self.hosts.iter().for_each(|host| host.cell.retire());
    }

    /// The name routes use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All hosts; a [`HostId`] is a position in it.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host with this id.
    #[inline]
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0 as usize)
    }

    /// Finds a host by its address text, byte for byte, in constant time (conformance §1.2).
    #[inline]
    pub fn find(&self, address: &[u8]) -> Option<HostId> {
        let same =
            |&at: &u32| self.hosts.get(at as usize).is_some_and(|host| host.address.as_bytes() == address);
        self.index.find(hash(address), same).map(|&at| HostId(at))
    }

    /// The statuses in which a session's own host may be used.
    pub fn override_status(&self) -> HealthSet {
        self.override_status
    }

    /// Chooses hosts for sessions that have none.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }
}

fn hash(address: &[u8]) -> u64 {
    use core::hash::{BuildHasher, Hasher};
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(address);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(addresses: &[&str]) -> ClusterSpec {
        let host = |text: &&str| HostSpec {
            endpoint: Endpoint::Tcp(text.parse().unwrap()),
            weight: 1,
            priority: 0,
            cell: Arc::default(),
        };
        ClusterSpec {
            name: "c".into(),
            hosts: addresses.iter().map(host).collect(),
            balance: Balance::RoundRobin,
            override_status: HealthSet::USABLE,
            panic_percent: 0,
        }
    }

    #[test]
    fn a_host_is_found_by_its_exact_text_only() {
        let cluster = Cluster::compile(spec(&["127.0.0.1:80", "[0:0::1]:81"])).unwrap();
        assert_eq!(cluster.find(b"127.0.0.1:80"), Some(HostId(0)));
        assert_eq!(cluster.find(b"[::1]:81"), Some(HostId(1)));
        assert_eq!(cluster.find(b"[0:0::1]:81"), None);
        assert_eq!(cluster.find(b"127.0.0.1:080"), None);
        assert_eq!(cluster.find(b""), None);
    }

    #[test]
    fn a_cluster_with_a_host_twice_is_refused() {
        let twice = Cluster::compile(spec(&["127.0.0.1:80", "127.0.0.1:80"]));
        assert_eq!(twice.unwrap_err(), ClusterError::Duplicate("127.0.0.1:80".into()));
    }
}
