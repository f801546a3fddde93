//! Head edits in place against edits of a plain vector.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::edits(data));
