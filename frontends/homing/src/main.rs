//! `homing`: run, check, token.

use std::process::ExitCode;

fn main() -> ExitCode {
    homing::cli::main()
}
