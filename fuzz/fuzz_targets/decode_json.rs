//! The operation decoder on requests of the AWS JSON protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| durward_fuzz_targets::run_target("decode_json", input));
