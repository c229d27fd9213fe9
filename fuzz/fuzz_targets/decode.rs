//! The operation decoder on any request.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| durward_fuzz_targets::run_target("decode", input));
