//! Event streams against a reader that has the whole text, in any segmentation and framing.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::sse(data));
