//! `homing`: run, check, demo, token.

use std::process::ExitCode;

fn main() -> ExitCode {
    homing::cli::main()
}
