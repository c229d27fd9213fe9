//! Masking of response bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| durward_fuzz_targets::run_target("masking", input));
