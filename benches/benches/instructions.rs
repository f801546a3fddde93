//! Instructions the core takes, counted by callgrind: the same on every run, so a change of 3 % is a change.
//! `benches/check-budgets.sh` compares them with `benches/budgets.txt`. Each name below is a line there.
#![allow(missing_docs, reason = "gungraun's macros make public items")]

use std::hint::black_box;

use gungraun::prelude::*;
use homing_benches::exchange::{Carries, Exchanged};
use homing_benches::hosts::Hosts;
use homing_benches::log::Logged;
use homing_benches::lookup::Lookups;
use homing_core::affinity::Verdict;
use homing_core::hosts::{Cluster, HostId};

/// A cluster and an address to look up in it. Set-up is not counted, and what it leaks is not dropped in the count.
type Subject = (&'static Cluster, &'static str);

fn present_in(size: u32) -> Subject {
    subject(size, |hosts| hosts.present.last())
}

fn absent_from(size: u32) -> Subject {
    subject(size, |hosts| hosts.absent.last())
}

#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
fn subject(size: u32, probe: fn(&Hosts) -> Option<&Box<str>>) -> Subject {
    let hosts: &'static Hosts =
        Box::leak(Box::new(Hosts::new(size).expect("a cluster of distinct addresses")));
    (&hosts.cluster, probe(hosts).expect("a cluster with hosts"))
}

#[library_benchmark]
#[bench::present_3(args = (3), setup = present_in)]
#[bench::present_100000(args = (100_000), setup = present_in)]
#[bench::absent_3(args = (3), setup = absent_from)]
#[bench::absent_100000(args = (100_000), setup = absent_from)]
fn cluster_find((cluster, address): Subject) -> Option<HostId> {
    cluster.find(black_box(address.as_bytes()))
}

/// A connection that has had its first exchange, so that what the first one allocates is not counted.
#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
fn warm(carries: Carries) -> &'static mut Exchanged {
    Box::leak(Box::new(Exchanged::new(100, carries).expect("a working set-up")))
}

/// An exchange that goes wrong would be a cheap one.
fn went_well(done: bool) {
    assert!(done, "the exchange did not go as it should");
}

#[library_benchmark]
#[bench::token(args = (Carries::Token), setup = warm, teardown = went_well)]
#[bench::small(args = (Carries::TokenAlone), setup = warm, teardown = went_well)]
#[bench::new_session(args = (Carries::Nothing), setup = warm, teardown = went_well)]
fn exchange(exchanged: &'static mut Exchanged) -> bool {
    exchanged.cycle()
}

#[expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to go on with")]
fn lookups(hosts: u32) -> &'static mut Lookups {
    Box::leak(Box::new(Lookups::new(hosts).expect("a working set-up")))
}

/// Likewise.
fn is_at_home(found: Option<Verdict>) {
    assert!(matches!(found, Some(Verdict::Pin(_))), "the token did not lead to its host: {found:?}");
}

#[library_benchmark]
#[bench::cookie(args = (100), setup = lookups, teardown = is_at_home)]
fn lookup(lookups: &'static mut Lookups) -> Option<Verdict> {
    lookups.find(black_box(b"/a?x"), black_box(Lookups::now()))
}

fn logged() -> &'static mut Logged {
    Box::leak(Box::default())
}

/// A line that was not written would be a cheap one.
fn are_two_lines(bytes: &'static [u8]) {
    assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 2, "no line was added");
}

#[library_benchmark]
#[bench::line(setup = logged, teardown = are_two_lines)]
fn log(logged: &'static mut Logged) -> &'static [u8] {
    logged.line(black_box(b"GET"), black_box(b"/catalogue/items?page=3&sort=price"))
}

library_benchmark_group!(name = core, benchmarks = [cluster_find, lookup, exchange, log]);
main!(library_benchmark_groups = core);
