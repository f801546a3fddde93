//! The cookie token decoder against prost and a naive reader.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::token_cookie(data));
