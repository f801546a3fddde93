//! The configuration reader: never a panic, and a place for every mistake.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::config(data));
