//! Wall time of the core, one module per subject. `cargo bench -p homing-benches` runs all of it;
//! `cargo bench -p homing-benches -- find` what matches a name.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]

mod exchange;
mod hosts;
mod log;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    core,
    hosts::find,
    hosts::flip,
    hosts::publish,
    exchange::lookup,
    exchange::whole,
    log::line
);
criterion_main!(core);
