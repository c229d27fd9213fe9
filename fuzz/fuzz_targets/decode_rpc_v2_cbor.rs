//! The operation decoder on requests of the RPC v2 CBOR protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| durward_fuzz_targets::run_target("decode_rpc_v2_cbor", input));
