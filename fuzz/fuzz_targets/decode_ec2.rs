//! The decoder on requests of the ec2 protocol.
#![no_main]

#[path = "../one_protocol.rs"]
mod one_protocol;

use durward_catalog::AwsProtocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: one_protocol::Input<'_>| one_protocol::run(AwsProtocol::Ec2, input));
