//! `homing`: run, check, demo, token.
fn main() {}
