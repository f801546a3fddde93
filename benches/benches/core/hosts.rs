//! What must not cost more in a larger cluster: from an address text to a host, and a change of a host's health. And what
//! does: a new snapshot.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use homing_benches::hosts::{Hosts, SIZES, spec};
use homing_core::hosts::{Cluster, Health};
use homing_core::snapshot::Snapshot;
use homing_core::stats::Counters;
use homing_core::worker::{Control, Worker};

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

/// A host becomes unhealthy, or healthy again, while its cluster is in use: nothing is rebuilt.
pub(crate) fn flip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("health_flip");
    for size in SIZES {
        #[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
        let hosts = Hosts::new(size).expect("a cluster of distinct addresses");
        let mut turns =
            hosts.cluster.hosts().iter().cycle().zip([Health::Unhealthy, Health::Healthy].iter().cycle());
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| turns.next().map(|(host, &health)| host.cell().set_health(black_box(health))));
        });
    }
    group.finish();
}

/// A snapshot's way into use: compiled from hosts, made the successor of one with the same hosts, and taken up by one
/// worker. The first two are the control plane's work, off the workers.
pub(crate) fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10);
    for size in SIZES {
        #[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
        let compiled = || Snapshot::of_one(Cluster::compile(spec(size)).expect("distinct addresses"), None);
        group.bench_function(BenchmarkId::new("compile", size), |bencher| {
            bencher.iter_batched(
                || spec(size),
                |spec| Cluster::compile(black_box(spec)),
                BatchSize::PerIteration,
            );
        });
        let first = Arc::new(compiled());
        group.bench_function(BenchmarkId::new("inherit", size), |bencher| {
            bencher.iter_batched_ref(&compiled, |next| next.inherit(&first), BatchSize::PerIteration);
        });
        let control = Control::new(Arc::clone(&first));
        let mut worker = Worker::new(Arc::clone(&first), Arc::new(Counters::default()), None, 1);
        group.bench_function(BenchmarkId::new("take_up", size), |bencher| {
            bencher.iter(|| {
                control.publish(Arc::clone(&first));
                worker.publish(control.snapshot());
            });
        });
    }
    group.finish();
}
