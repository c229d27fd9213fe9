//! The decoder on requests of the query protocol.
#![no_main]

#[path = "../one_protocol.rs"]
mod one_protocol;

use durward_catalog::AwsProtocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: one_protocol::Input<'_>| one_protocol::run(AwsProtocol::Query, input));
