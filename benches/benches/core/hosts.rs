//! From an address text to a host: the step whose cost must not grow with the cluster.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use homing_benches::hosts::{Hosts, SIZES};

/// `Cluster::find` by the cluster's size, for addresses that are there and that are not.
pub(crate) fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster_find");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        #[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
        let hosts = Hosts::new(size).expect("a cluster of distinct addresses");
        for (kind, addresses) in [("present", &hosts.present), ("absent", &hosts.absent)] {
            let mut probes = addresses.iter().cycle();
            group.bench_function(BenchmarkId::new(kind, size), |bencher| {
                bencher
                    .iter(|| probes.next().map(|address| hosts.cluster.find(black_box(address.as_bytes()))));
            });
        }
    }
    group.finish();
}
