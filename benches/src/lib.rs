//! Homing's benches.
