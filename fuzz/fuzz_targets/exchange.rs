//! The exchange under any sequence of operations; invariants hold after each.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::exchange(data));
