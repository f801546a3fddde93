//! The whole exchange, and L1 alone.

use std::hint::black_box;

use criterion::Criterion;
use homing_benches::exchange::{Carries, Exchanged};
use homing_benches::lookup::Lookups;

#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
pub(crate) fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    for (name, carries) in
        [("pinned", Carries::Token), ("minted", Carries::Nothing), ("small", Carries::TokenAlone)]
    {
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
    let mut lookups = Lookups::new(100).expect("a working set-up");
    criterion.bench_function("lookup/cookie", |bencher| {
        bencher.iter(|| lookups.find(black_box(b"/a?x"), black_box(Lookups::now())));
    });
}
