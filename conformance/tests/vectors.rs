//! Every recorded vector runs through the core in memory and must be in exactly the class that the committed lists say.

use std::collections::{BTreeMap, BTreeSet};

use homing_conformance::vectors::classes::{ABSENT, Class, DIVERGENCE, Lists, SAME, classify, committed};
use homing_conformance::vectors::{Mode, Vector, all, ledger, table};

/// Runs the vectors of one mode and holds each against its list. All that is wrong is told at once.
fn run(mode: Mode) {
    let (lists, vectors) = match (committed(), all()) {
        (Ok(lists), Ok(vectors)) => (lists, vectors),
        (Err(error), _) | (_, Err(error)) => return assert_eq!(error, ""),
    };
    let vectors: Vec<Vector> = vectors.into_iter().filter(|vector| vector.mode == mode).collect();
    assert!(!vectors.is_empty(), "there are no vectors of the mode {}", mode.as_str());
    let mut wrong = Vec::new();
    for vector in &vectors {
        let listed = lists.get(vector.id.as_str()).copied().unwrap_or(("none", ""));
        let found = match classify(vector) {
            Ok(class) => class.listed(),
            Err(differences) => {
                let told: Vec<String> = differences.iter().map(|found| format!("    {found}")).collect();
                ("no list: no row of the ledger explains", format!("\n{}", told.join("\n")))
            }
        };
        if found.0 != listed.0 || found.1 != listed.1 {
            wrong.push(format!(
                "{} ({})\n  listed: {} {}\n  found:  {} {}",
                vector.id, vector.note, listed.0, listed.1, found.0, found.1
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors are not in their class. If this is meant, write the lists anew with\n\
         cargo run -p homing-conformance --bin classify\nand review the change.\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}

#[test]
fn cookie() {
    run(Mode::Cookie);
}

#[test]
fn header() {
    run(Mode::Header);
}

#[test]
fn envelope() {
    run(Mode::Envelope);
}

#[test]
fn routing() {
    run(Mode::Routing);
}

#[test]
fn perroute() {
    run(Mode::PerRoute);
}

#[test]
fn hcm() {
    run(Mode::Hcm);
}

#[test]
fn config() {
    run(Mode::Config);
}

/// Each vector is in exactly one list, each list is in the order of the vectors, and nothing else is listed.
#[test]
fn every_vector_is_in_exactly_one_list() {
    let listed = committed().unwrap();
    let vectors = all().unwrap();
    let position: BTreeMap<&str, usize> =
        vectors.iter().enumerate().map(|(at, vector)| (vector.id.as_str(), at)).collect();
    for (id, at) in &position {
        assert!(listed.contains_key(id), "{id} (line {}) is in no list", at + 1);
    }
    assert_eq!(listed.len(), vectors.len(), "the lists name vectors that do not exist");
    for text in [SAME, DIVERGENCE, ABSENT] {
        let order: Vec<usize> =
            text.lines().map(|line| position[line.split('\t').next().unwrap_or(line)]).collect();
        assert!(order.is_sorted(), "a list is out of order");
    }
}

/// What Homing lacks may only become less. Lower these numbers when it does.
#[test]
fn the_list_of_absent_features_only_shrinks() {
    let mut features: BTreeMap<&str, usize> = BTreeMap::new();
    for line in ABSENT.lines() {
        let feature = line.split_once('\t').unwrap().1;
        *features.entry(feature).or_default() += 1;
    }
    let most: BTreeMap<&str, usize> = [
        ("aggregate clusters", 8),
        ("circuit breakers", 10),
        ("consistent hashing", 6),
        ("envoy configuration", 30),
        ("filter chains", 9),
        ("hedging", 2),
        ("http/2", 7),
        ("internal redirects", 2),
        ("outlier detection", 2),
        ("path normalisation", 15),
        ("request mirroring", 4),
        ("subset balancing", 6),
    ]
    .into();
    for (feature, count) in &features {
        let most = most.get(feature).copied().unwrap_or(0);
        assert!(*count <= most, "{count} vectors lack {feature:?}, and at most {most} did so far");
    }
}

/// A row of the ledger that no vector uses is a claim without evidence; a vector's row must exist.
#[test]
fn every_row_of_the_ledger_is_used_and_lists_its_vectors() {
    let mut used: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for line in DIVERGENCE.lines() {
        let mut parts = line.split('\t');
        let (id, rows) = (parts.next().unwrap(), parts.next().unwrap());
        for row in rows.split(',') {
            used.entry(row.parse().unwrap()).or_default().push(id.to_owned());
        }
    }
    let entries = ledger::entries();
    let numbers: BTreeSet<u16> = entries.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers.len(), entries.len(), "a number stands twice");
    for row in used.keys() {
        assert!(numbers.contains(row), "row {row} is used, but not in the ledger");
    }
    for entry in &entries {
        let vectors = used.get(&entry.number).map(|ids| ledger::named(ids));
        assert!(vectors.is_some(), "row {} ({}) is used by no vector", entry.number, entry.title);
        assert_eq!(entry.get("Vectors"), vectors.as_deref(), "row {}; run classify", entry.number);
    }
}

/// The table of compatibility in the project's README says what the ledger and the lists say.
#[test]
fn the_readme_has_the_table_of_the_ledger() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let written = table::with_table(&readme, SAME, DIVERGENCE, ABSENT).unwrap();
    assert!(written == readme, "run: cargo run -p homing-conformance --bin classify\n{written}");
    for entry in ledger::entries() {
        assert!(readme.contains(&format!("| {} |", entry.title)), "row {} is missing", entry.number);
    }
}

/// The runner itself must be able to fail: a vector whose record is changed is no longer in its class.
#[test]
fn a_changed_record_is_noticed() {
    let mut lists = Lists::default();
    let changed = |id: &str, change: fn(&mut Vector)| {
        let mut vector = all().unwrap().into_iter().find(|vector| vector.id == id).unwrap();
        assert_eq!(classify(&vector), Ok(Class::Same), "{id}");
        change(&mut vector);
        classify(&vector)
    };
    let later = changed("setc-004", |vector| vector.now += 1);
    assert!(later.is_err(), "an expiry that is a second off: {later:?}");
    let other_host = changed("setc-048", |vector| {
        for host in vector.observed.repeats.iter_mut().flatten() {
            "127.0.0.1:21103".clone_into(host);
        }
    });
    assert!(other_host.is_err(), "another host than the token's: {other_host:?}");
    let counted = changed("setc-048", |vector| vector.observed.stats_delta_over_repeats.clear());
    assert!(counted.is_err(), "counters: {counted:?}");
    let status = changed("setc-093", |vector| vector.observed.status = Some(201));
    assert!(status.is_err(), "status: {status:?}");
    lists.add("x", Mode::Cookie, &Class::Same);
    assert_eq!(lists.same, "x\n");
}
