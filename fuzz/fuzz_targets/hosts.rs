//! The host index against an ordered map.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::hosts(data));
