//! Every token that can be minted is read back as it was.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::round_trip(data));
