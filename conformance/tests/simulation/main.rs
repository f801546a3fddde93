//! Deterministic simulation: hundreds of small worlds, each drawn from one seed. Dozens of clients and several hosts
//! misbehave in every way there is a script for, while the configuration changes and the clock jumps.
//!
//! Every request carries a tag, in its target and all over its body; so does every response. What must hold:
//!
//! - No byte of one exchange appears in another, on either side, and responses come in the order of their requests.
//! - Each request is recorded once, and what reached its client was recorded.
//! - Every connection ends, every link is given back or closed, no host is counted busy for ever.
//! - Every row of the core's state tables is used by some seed: a row that nothing needs is a mistake.
//!
//! `HOMING_SEED=17 cargo test --test simulation` runs one seed alone.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a broken rule ends the test with a message")]

mod world;

use homing_core::exchange::machine::{JOINT, REQUEST_MOVES, RESPONSE_MOVES, Trace};
use world::World;

const SEEDS: u64 = 200;

#[test]
fn every_world_keeps_the_rules_and_together_they_use_every_row() {
    let alone: Option<u64> = std::env::var("HOMING_SEED").ok().map(|text| text.parse().unwrap());
    let seeds = alone.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut used = Trace::default();
    for seed in seeds {
        let told = Told(seed);
        let trace = World::new(seed).live();
        used.request |= trace.request;
        used.response |= trace.response;
        used.joint |= trace.joint;
        drop(told);
    }
    if alone.is_none() && cfg!(debug_assertions) {
        let unused: Vec<String> = [
            unused(&REQUEST_MOVES, used.request),
            unused(&RESPONSE_MOVES, used.response),
            unused(&JOINT, used.joint),
        ]
        .concat();
        assert!(unused.is_empty(), "rows of the state tables that no seed uses: {unused:#?}");
    }
}

fn unused(rows: &[impl std::fmt::Debug], used: u64) -> Vec<String> {
    let rows = rows.iter().enumerate().filter(|&(row, _)| used & (1 << row) == 0);
    rows.map(|(_, row)| format!("{row:?}")).collect()
}

/// Says which seed it was when a world breaks a rule.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HOMING_SEED={}", self.0);
        }
    }
}
