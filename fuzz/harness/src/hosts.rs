//! Clusters: which host a text leads to, against an ordered map; and what the balancer may choose.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use homing_core::balance::{Balance, Cursor};
use homing_core::hosts::{
    Admission, Cluster, ClusterError, ClusterSpec, Endpoint, Health, HealthSet, Host, HostCell, HostId,
    HostSpec,
};
use homing_core::limits::ADDRESS_MAX;
use homing_core::rng::Rng;

use crate::input::{Input, seed_of};

/// The input as the hosts of a cluster, their states, and texts to look up.
pub fn hosts(data: &[u8]) {
    let mut input = Input::new(data);
    let balance = [Balance::RoundRobin, Balance::LeastRequest, Balance::Random][input.below(3)];
    let panic_percent = input.byte() % 101;
    let count = input.byte();
    let specs: Vec<HostSpec> = (0..count).map(|_| host(&mut input)).collect();
    let spec = ClusterSpec {
        name: "c".into(),
        hosts: specs.clone(),
        balance,
        override_status: HealthSet::USABLE,
        panic_percent,
    };
    let (map, refused) = reference(&specs);
    let cluster = match (Cluster::compile(spec), refused) {
        (Ok(cluster), None) => cluster,
        (Err(error), Some(expected)) => return assert_eq!(error, expected),
        (found, expected) => panic!("{:?}, expected {expected:?}", found.map(|_| ())),
    };
    assert_eq!(cluster.hosts().len(), specs.len());
    for (text, &position) in &map {
        assert_eq!(cluster.find(text.as_bytes()), Some(HostId(position)), "{text}");
        assert_eq!(cluster.host(HostId(position)).map(Host::address), Some(text.as_str()));
        for near in [&text[1..], &text[..text.len() - 1], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(cluster.find(near.as_bytes()).map(|id| id.0), map.get(near).copied(), "{near}");
        }
    }
    while !input.is_empty() {
        let length = input.below(40);
        let text = input.bytes(length);
        let expected = std::str::from_utf8(text).ok().and_then(|text| map.get(text).copied());
        assert_eq!(cluster.find(text).map(|id| id.0), expected, "{}", text.escape_ascii());
    }
    let one_level = specs.iter().all(|spec| Some(spec.priority) == specs.first().map(|first| first.priority));
    let check = if one_level { check_picks } else { check_levels };
    check(&cluster, &specs, panic_percent, seed_of(data));
}

fn host(input: &mut Input<'_>) -> HostSpec {
    let kind = input.byte();
    let port = u16::from(input.byte());
    let endpoint = match kind % 8 {
        0..=4 => Endpoint::Tcp(SocketAddr::from((Ipv4Addr::new(10, 0, 0, input.byte()), port))),
        5 | 6 => {
            let low = u16::from(input.byte());
            Endpoint::Tcp(SocketAddr::from((Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, low, 1), port)))
        }
        _ => Endpoint::Unix(std::path::Path::new(&format!("/{}", "s".repeat(usize::from(port)))).into()),
    };
    let cell = Arc::new(HostCell::default());
    if kind & 0x40 != 0 {
        cell.set_health(Health::ALL[input.below(6)]);
        cell.set_admission(
            [Admission::Open, Admission::Draining, Admission::Leaving, Admission::Barred][input.below(4)],
        );
    }
    let weight = if kind & 0x80 != 0 { input.byte().into() } else { 1 };
    HostSpec { endpoint, weight, priority: kind >> 5 & 1, cell }
}

fn reference(specs: &[HostSpec]) -> (BTreeMap<String, u32>, Option<ClusterError>) {
    let mut map = BTreeMap::new();
    for (position, spec) in (0..).zip(specs) {
        let text = match &spec.endpoint {
            Endpoint::Tcp(address) => address.to_string(),
            Endpoint::Unix(path) => path.display().to_string(),
        };
        let boxed = || text.as_str().into();
        if text.len() > ADDRESS_MAX {
            return (map, Some(ClusterError::AddressTooLong(boxed())));
        }
        if spec.weight == 0 {
            return (map, Some(ClusterError::ZeroWeight(boxed())));
        }
        if map.contains_key(&text) {
            return (map, Some(ClusterError::Duplicate(boxed())));
        }
        map.insert(text, position);
    }
    (map, None)
}

/// A balancer with priorities chooses nobody who is closed, and nobody unwell but where a whole level is; it finds whoever
/// is well, and prefers anybody who is to the one to be avoided.
fn check_levels(cluster: &Cluster, specs: &[HostSpec], panic_percent: u8, seed: u64) {
    let is_open = |spec: &&HostSpec| spec.cell.admission() == Admission::Open;
    let well: Vec<HostId> = (0..)
        .map(HostId)
        .zip(specs)
        .filter(|(_, spec)| spec.cell.takes_new_sessions())
        .map(|(id, _)| id)
        .collect();
    let may_panic = |priority: u8| {
        let level = || specs.iter().filter(is_open).filter(move |spec| spec.priority == priority);
        let well = level().filter(|spec| spec.cell.takes_new_sessions()).count();
        well * 100 < usize::from(panic_percent) * level().count()
    };
    let (mut rng, mut cursor) = (Rng::seeded(seed), Cursor::default());
    for _ in 0..32 {
        let avoid = (rng.below(2) == 0).then(|| HostId(rng.below(u32::try_from(specs.len()).unwrap_or(0))));
        let Some(id) = cluster.balancer().pick(cluster.hosts(), &mut cursor, &mut rng, avoid) else {
            assert!(well.is_empty(), "nobody is chosen of {well:?}");
            continue;
        };
        let spec = &specs[id.0 as usize];
        assert!(is_open(&spec), "{id:?} is closed");
        assert!(well.contains(&id) || may_panic(spec.priority), "{id:?} is not well");
        let others = well.iter().any(|other| *other != id);
        assert!(avoid != Some(id) || !others, "{id:?} is to be avoided");
    }
}

/// A balancer chooses whoever takes new sessions; health counts for nothing when too few of the open hosts are well;
/// who is to be avoided is chosen only when there is nobody else.
fn check_picks(cluster: &Cluster, specs: &[HostSpec], panic_percent: u8, seed: u64) {
    let admits = |spec: &&HostSpec| spec.cell.admission() == Admission::Open;
    let open = specs.iter().filter(admits).count();
    let well = specs.iter().filter(|spec| spec.cell.takes_new_sessions()).count();
    let panics = well * 100 < usize::from(panic_percent) * open;
    let usable: Vec<HostId> = (0..)
        .map(HostId)
        .zip(specs)
        .filter(|(_, spec)| if panics { admits(spec) } else { spec.cell.takes_new_sessions() })
        .map(|(id, _)| id)
        .collect();
    let mut rng = Rng::seeded(seed);
    let mut cursor = Cursor::default();
    for _ in 0..32 {
        let bound = u32::try_from(specs.len()).unwrap_or(0);
        let avoid = (rng.below(2) == 0).then(|| HostId(rng.below(bound)));
        match cluster.balancer().pick(cluster.hosts(), &mut cursor, &mut rng, avoid) {
            Some(id) => {
                assert!(usable.contains(&id), "{id:?} takes no new sessions");
                assert!(avoid != Some(id) || usable.len() == 1, "{id:?} is to be avoided");
            }
            None => assert!(usable.is_empty(), "nobody is chosen of {usable:?}"),
        }
    }
}
