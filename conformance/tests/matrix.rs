//! The HTTP matrix through the core, in memory: plain, then with seeded segmentation, short writes, missed turns and both
//! kinds of shell. The verdict must be the same each time.

#![expect(clippy::unwrap_used, reason = "a test, with more of it in helpers than in test functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use homing_conformance::build::Builder;
use homing_conformance::matrix::{CANARY, Case, Observed, all};
use homing_conformance::memory::{Act, Ended, Knobs, Lab};
use homing_conformance::message::Request;

const HOST: &str = "10.0.0.1:80";
/// The first is plain.
const SEEDS: u64 = 8;
const GROUPS: [&str; 10] = [
    "chunks",
    "codings",
    "fields",
    "lengths",
    "lines",
    "pipelines",
    "responses",
    "targets",
    "upgrades",
    "versions",
];

#[test]
fn the_matrix_is_complete() {
    let cases = all().unwrap();
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for case in &cases {
        *groups.entry(case.group()).or_default() += 1;
        assert!(names.insert(&case.name), "{} is there twice", case.name);
        assert!(!case.rfc.is_empty() && !case.note.is_empty(), "{} is not explained", case.name);
    }
    assert!(cases.len() >= 250, "{} cases", cases.len());
    assert!(groups.values().all(|&count| count >= 15), "{groups:?}");
    assert_eq!(groups.into_keys().collect::<Vec<_>>(), GROUPS, "a group that no test runs");
}

#[test]
fn lengths() {
    check("lengths");
}

#[test]
fn codings() {
    check("codings");
}

#[test]
fn chunks() {
    check("chunks");
}

#[test]
fn lines() {
    check("lines");
}

#[test]
fn fields() {
    check("fields");
}

#[test]
fn targets() {
    check("targets");
}

#[test]
fn versions() {
    check("versions");
}

#[test]
fn responses() {
    check("responses");
}

#[test]
fn pipelines() {
    check("pipelines");
}

#[test]
fn upgrades() {
    check("upgrades");
}

fn check(group: &str) {
    let mut wrong = Vec::new();
    for case in all().unwrap().into_iter().filter(|case| case.group() == group) {
        let case = Arc::new(case);
        let found = (0..SEEDS).map(|seed| (seed, run(&case, seed))).find(|(_, faults)| !faults.is_empty());
        if let Some((seed, faults)) = found {
            wrong.push(format!("{}, seed {seed}: {}", case.name, faults.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs a case and says what is wrong with it.
fn run(case: &Arc<Case>, seed: u64) -> Vec<String> {
    let knobs = if seed == 0 { Knobs::PLAIN } else { Knobs::drawn(seed) };
    let played = Arc::clone(case);
    let mut lab = Lab::new(Builder::forward(&[HOST]).build(), seed)
        .rough(knobs)
        .with(move |_: &str, request: &Request| script(&played, request));
    let id = lab.client();
    if case.stray && knobs.cut > 0 {
        if case.group() == "pipelines" {
            // The next request is on its way before the first response has come: no pause is possible.
            return Vec::new();
        }
        lab.client_send(id, &case.send.0);
        lab.advance(Duration::from_millis(50));
        lab.client_send(id, CANARY);
    } else {
        lab.client_send(id, case.sent());
    }
    if case.client_ends() {
        lab.client_half_close(id);
    }
    lab.run();
    let mut faults = Vec::new();
    if !case.verdict.ends_with("tunnelled") && !lab.client_is_half_closed(id) {
        faults.push("the connection does not end by itself".to_owned());
    }
    lab.client_half_close(id);
    lab.run();
    if !lab.client_is_closed(id) {
        faults.push(format!("the connection is not over: {:?}", lab.client_states(id)));
    }
    let observed = Observed {
        received: lab.client_received(id).to_vec(),
        reset: lab.client_ended(id) == Some(Ended::Reset),
        requests: lab.requests().iter().map(|(_, request)| request.clone()).collect(),
    };
    faults.extend(case.faults(&observed));
    if case.verdict.starts_with("refused") && !case.late && !lab.wires().is_empty() {
        faults.push("a refused request has opened a connection to the host".to_owned());
    }
    faults
}

fn script(case: &Case, request: &Request) -> Vec<Act> {
    let mut acts = vec![Act::Bytes(case.answer(request))];
    acts.extend(case.switches(request).then_some(Act::Echo));
    acts.extend(case.closes(request).then_some(Act::Close));
    acts
}
