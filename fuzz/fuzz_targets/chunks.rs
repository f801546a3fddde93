//! The chunk scanner against a naive reader, in any segmentation.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::chunks(data));
