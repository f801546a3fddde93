//! The scenarios that every shell must pass, on monoio with the best ring that this kernel permits.
#![cfg(target_os = "linux")]

#[expect(unreachable_pub, reason = "public to the file that includes them, which is a crate of its own")]
#[cfg(test)]
#[path = "../../shell/tests/scenarios/mod.rs"]
mod scenarios;

#[cfg(test)]
fn run(job: homing_shell::Job) -> std::io::Result<()> {
    use homing_monoio::{Ring, probe};
    let ring = [Ring::Deferred, Ring::Cooperative].into_iter().find(|&ring| probe(ring).is_ok());
    match ring {
        Some(ring) => homing_monoio::run(job, ring),
        None => panic!("this kernel permits no ring, so the monoio shell cannot be tested here"),
    }
}

#[cfg(test)]
scenarios::every_scenario!(run);
