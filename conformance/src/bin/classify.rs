//! Writes the three committed lists, the lines `Vectors` of the ledger, and the table of compatibility in the project's
//! README as they should be; the diff is for review.
//!
//! `cargo run -p homing-conformance --bin classify`

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use homing_conformance::vectors::classes::{Lists, classify};
use homing_conformance::vectors::{Mode, all, ledger, table};

/// As seen from this crate.
const README: &str = "../README.md";

fn main() -> ExitCode {
    match write() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(open) => {
            println!(
                "{open} vectors differ in a way that no row of the ledger explains; they are in no list"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<usize, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lists = Lists::default();
    let mut open = 0;
    for vector in all()? {
        match classify(&vector) {
            Ok(class) => lists.add(&vector.id, vector.mode, &class),
            Err(differences) => {
                open += 1;
                println!("{} ({})", vector.id, vector.note);
                for difference in differences {
                    println!("    {difference}");
                }
            }
        }
    }
    println!("{:<10}{:>8}{:>12}{:>8}", "mode", "same", "divergence", "absent");
    for mode in Mode::ALL {
        let [same, divergence, absent] = lists.count(mode);
        println!("{:<10}{same:>8}{divergence:>12}{absent:>8}", mode.as_str());
    }
    let save = |name: &str, text: &str| {
        fs::write(root.join(name), text).map_err(|error| format!("{name} cannot be written: {error}"))
    };
    save("vectors/same.txt", &lists.same)?;
    save("vectors/divergence.txt", &lists.divergence)?;
    save("vectors/absent.txt", &lists.absent)?;
    save("DIVERGENCES.md", &ledger::with_vectors(&lists.rows()))?;
    let readme = fs::read_to_string(root.join(README)).map_err(|error| format!("{README}: {error}"))?;
    save(README, &table::with_table(&readme, &lists.same, &lists.divergence, &lists.absent)?)?;
    Ok(open)
}
