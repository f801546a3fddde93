//! The whole exchange, and L1 alone.

use std::hint::black_box;

use criterion::Criterion;
use homing_benches::exchange::{Carries, Exchanged, cookies, policy};
use homing_benches::hosts::Hosts;
use homing_core::clock::UnixSecs;
use homing_core::hosts::ClusterId;

#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
pub(crate) fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    for (name, carries) in [("pinned", Carries::Token), ("minted", Carries::Nothing)] {
        for hosts in [3, 100, 100_000] {
            let mut exchanged = Exchanged::new(hosts, carries).expect("a working set-up");
            group.bench_function(format!("{name}/{hosts}"), |bencher| {
                bencher.iter(|| assert!(exchanged.cycle()));
            });
        }
    }
}

#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
pub(crate) fn lookup(criterion: &mut Criterion) {
    let hosts = Hosts::new(100).expect("a cluster of distinct addresses");
    let policy = policy().expect("a valid policy");
    let line = cookies(hosts.present.last().map(|address| &**address));
    criterion.bench_function("lookup/cookie", |bencher| {
        bencher.iter(|| {
            let mut lookup =
                policy.lookup(black_box(b"/a?x"), UnixSecs::new(1_795_000_000)).expect("in scope");
            lookup.offer(black_box(&line));
            lookup.read().find(&policy, [(ClusterId(0), &hosts.cluster)])
        });
    });
}
