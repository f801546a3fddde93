//! Which class a vector is in, and the committed lists that say so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::compare::{Difference, compare};
use super::run::Run;
use super::setup::{self, Feature, Refusal};
use super::{Mode, Vector, ledger, run};

/// The committed lists.
pub const SAME: &str = include_str!("../../vectors/same.txt");
/// Id, rows of the ledger, what Homing does.
pub const DIVERGENCE: &str = include_str!("../../vectors/divergence.txt");
/// Id, feature.
pub const ABSENT: &str = include_str!("../../vectors/absent.txt");

/// What Homing does with a configuration that it does not take. The row says why; the message may change.
const REFUSED: &str = "refused";

/// What a vector shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Class {
    /// Homing does what Envoy does.
    Same,
    /// Homing does something else, for the reasons in these rows of the ledger.
    Divergence {
        /// The rows' numbers.
        rows: BTreeSet<u16>,
        /// What Homing does.
        behaviour: String,
    },
    /// Homing lacks what the vector needs.
    Absent(Feature),
}

/// Finds a vector's class by running it.
///
/// # Errors
/// The differences that no row of the ledger explains.
pub fn classify(vector: &Vector) -> Result<Class, Vec<Difference>> {
    let (difference, behaviour) = match vector.mode {
        Mode::Config => match (setup::validate(vector), vector.observed.accepted) {
            (Err(Refusal::Absent(feature)), _) => return Ok(Class::Absent(feature)),
            (Ok(()), Some(true)) | (Err(_), Some(false)) => return Ok(Class::Same),
            (Ok(()), _) => (Difference::Accepted, "accepted"),
            (Err(refusal), _) => (Difference::Rejected(refusal), REFUSED),
        },
        _ => match setup::prepare(vector) {
            Err(Refusal::Absent(feature)) => return Ok(Class::Absent(feature)),
            Err(refusal) => (Difference::Rejected(refusal), REFUSED),
            Ok(setup) => return classify_run(vector, &run::run(vector, &setup)),
        },
    };
    explained(vector, None, vec![difference], behaviour.to_owned())
}

/// Finds the class that a run of the vector shows, wherever it ran.
///
/// # Errors
/// The differences that no row of the ledger explains.
pub fn classify_run(vector: &Vector, run: &Run) -> Result<Class, Vec<Difference>> {
    match compare(vector, run) {
        same if same.is_empty() => Ok(Class::Same),
        differences => explained(vector, Some(run), differences, run.summary()),
    }
}

fn explained(
    vector: &Vector,
    run: Option<&Run>,
    differences: Vec<Difference>,
    behaviour: String,
) -> Result<Class, Vec<Difference>> {
    let mut rows = BTreeSet::new();
    let mut unexplained = Vec::new();
    for difference in differences {
        match ledger::row(vector, run, &difference) {
            Some(row) => {
                rows.insert(row);
            }
            None => unexplained.push(difference),
        }
    }
    if unexplained.is_empty() { Ok(Class::Divergence { rows, behaviour }) } else { Err(unexplained) }
}

impl Class {
    /// As the committed lists say it: the list's name and the rest of the line.
    pub fn listed(&self) -> (&'static str, String) {
        match self {
            Self::Same => ("same", String::new()),
            Self::Divergence { rows, behaviour } => {
                let rows: Vec<String> = rows.iter().map(u16::to_string).collect();
                ("divergence", format!("{}\t{behaviour}", rows.join(",")))
            }
            Self::Absent(feature) => ("absent", feature.as_str().to_owned()),
        }
    }
}

/// The three lists as they should be, in the order of the vectors.
#[derive(Debug, Default)]
pub struct Lists {
    /// `same.txt`.
    pub same: String,
    /// `divergence.txt`.
    pub divergence: String,
    /// `absent.txt`.
    pub absent: String,
    rows: BTreeMap<u16, Vec<String>>,
    counts: BTreeMap<Mode, [usize; 3]>,
}

impl Lists {
    /// Adds a vector to its list.
    pub fn add(&mut self, id: &str, mode: Mode, class: &Class) {
        let [same, divergence, absent] = self.counts.entry(mode).or_default();
        match class {
            Class::Same => *same += 1,
            Class::Divergence { .. } => *divergence += 1,
            Class::Absent(_) => *absent += 1,
        }
        let written = match class {
            Class::Same => writeln!(self.same, "{id}"),
            Class::Divergence { rows, behaviour } => {
                for row in rows {
                    self.rows.entry(*row).or_default().push(id.to_owned());
                }
                let rows: Vec<String> = rows.iter().map(u16::to_string).collect();
                writeln!(self.divergence, "{id}\t{}\t{}", rows.join(","), behaviour)
            }
            Class::Absent(feature) => writeln!(self.absent, "{id}\t{}", feature.as_str()),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }

    /// The vectors by row of the ledger, in order.
    pub fn rows(&self) -> BTreeMap<u16, Vec<String>> {
        self.rows.clone()
    }

    /// How many vectors of a mode are the same, diverge, and lack a feature.
    pub fn count(&self, mode: Mode) -> [usize; 3] {
        self.counts.get(&mode).copied().unwrap_or_default()
    }
}

/// The committed lists by id: the list's name and the rest of the line.
///
/// # Errors
/// Names an id that is listed twice.
pub fn committed() -> Result<BTreeMap<&'static str, (&'static str, &'static str)>, String> {
    let mut found = BTreeMap::new();
    for (list, text) in [("same", SAME), ("divergence", DIVERGENCE), ("absent", ABSENT)] {
        for line in text.lines() {
            let (id, rest) = line.split_once('\t').unwrap_or((line, ""));
            if found.insert(id, (list, rest)).is_some() {
                return Err(format!("{id} is listed twice"));
            }
        }
    }
    Ok(found)
}
