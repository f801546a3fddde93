//! `homing`: run, check, demo, token.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "planted")]
    homing_core::planted::choose(
        std::env::var("HOMING_PLANTED").map_or(0, |number| number.parse().unwrap_or(0)),
    );
    homing::cli::main()
}
