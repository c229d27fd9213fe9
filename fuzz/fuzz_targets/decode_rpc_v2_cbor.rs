//! The decoder on requests of the rpc-v2-cbor protocol.
#![no_main]

#[path = "../one_protocol.rs"]
mod one_protocol;

use durward_catalog::AwsProtocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: one_protocol::Input<'_>| one_protocol::run(AwsProtocol::RpcV2Cbor, input));
