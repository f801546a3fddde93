//! The scan of a cookie line against a naive one.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::cookie_scan(data));
