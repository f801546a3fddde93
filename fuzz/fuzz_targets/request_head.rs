//! libFuzzer's way into `homing_fuzz_harness::request_head`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::request_head(data));
