//! Clusters of the sizes that matter, and the addresses that tokens would name.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use homing_core::balance::Balance;
use homing_core::hosts::{Cluster, ClusterError, ClusterSpec, Endpoint, HealthSet, HostSpec};

/// From a small service to the largest that Homing promises a flat cost for.
pub const SIZES: [u32; 4] = [3, 100, 10_000, 100_000];

/// A cluster of `size` hosts and the address texts that the benches look up.
#[derive(Debug)]
pub struct Hosts {
    /// The cluster.
    pub cluster: Cluster,
    /// Addresses of hosts spread over the whole cluster, at most [`Self::PROBES`] of them. Looking up one host only
    /// would measure a warm cache line.
    pub present: Vec<Box<str>>,
    /// Addresses that look like hosts of the cluster but are not, as many.
    pub absent: Vec<Box<str>>,
}

impl Hosts {
    /// The most addresses in [`Self::present`] and [`Self::absent`].
    pub const PROBES: u32 = 256;

    /// Builds the cluster; `size` is at most 2^24, the hosts of 10.0.0.0/8.
    ///
    /// # Errors
    ///
    /// When the core refuses the cluster, which would be a fault of this bench.
    pub fn new(size: u32) -> Result<Self, ClusterError> {
        let probes = size.min(Self::PROBES);
        let chosen = || (0..probes).map(move |n| n * (size / probes));
        Ok(Self {
            cluster: Cluster::compile(spec(size))?,
            present: chosen().map(|n| endpoint(n, 9001).address_text()).collect(),
            absent: chosen().map(|n| endpoint(n, 9002).address_text()).collect(),
        })
    }
}

/// A cluster of `size` hosts as configuration names it.
pub fn spec(size: u32) -> ClusterSpec {
    let hosts = (0..size).map(|n| HostSpec {
        endpoint: endpoint(n, 9001),
        weight: 1,
        priority: 0,
        cell: Arc::default(),
    });
    ClusterSpec {
        name: "bench".into(),
        hosts: hosts.collect(),
        balance: Balance::RoundRobin,
        override_status: HealthSet::USABLE,
        panic_percent: 0,
    }
}

fn endpoint(number: u32, port: u16) -> Endpoint {
    let network = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    Endpoint::Tcp(SocketAddr::from((Ipv4Addr::from(network | number), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_is_what_it_claims_to_be() {
        for size in SIZES {
            let hosts = Hosts::new(size).unwrap();
            assert_eq!(hosts.cluster.hosts().len(), size as usize);
            assert_eq!(hosts.present.len(), size.min(Hosts::PROBES) as usize);
            assert!(hosts.present.iter().all(|address| hosts.cluster.find(address.as_bytes()).is_some()));
            assert!(hosts.absent.iter().all(|address| hosts.cluster.find(address.as_bytes()).is_none()));
        }
    }
}
