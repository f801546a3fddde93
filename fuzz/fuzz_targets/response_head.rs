//! Response heads against a strict, naive reader of RFC 9112.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::response_head(data));
