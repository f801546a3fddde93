//! The scenarios that every shell must pass, on tokio.

#[expect(unreachable_pub, reason = "public to the file that includes them, which is a crate of its own")]
#[cfg(test)]
#[path = "../../shell/tests/scenarios/mod.rs"]
mod scenarios;

scenarios::every_scenario!(homing_tokio::run);
