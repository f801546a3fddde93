//! The header and envelope token decoders against naive readers.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| homing_fuzz_harness::token_header_envelope(data));
