//! How long the access log's line of one request takes.

use std::hint::black_box;

use criterion::Criterion;
use homing_benches::log::Logged;

pub(crate) fn line(criterion: &mut Criterion) {
    let mut logged = Logged::new();
    criterion.bench_function("log/line", |bencher| {
        bencher
            .iter(|| logged.line(black_box(b"GET"), black_box(b"/catalogue/items?page=3&sort=price")).len());
    });
}
