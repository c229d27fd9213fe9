//! The fuzz targets: functions that read hostile bytes with one of the gateway's parsers and assert what must hold.
//!
//! Each target reads plain bytes or a small text form of a request (see the `request_text` module), so that a seed in
//! fuzz/seeds can be read and written by hand. libFuzzer runs the targets from fuzz/ (`cargo xtask fuzz`); `cargo test` runs
//! them over their seeds everywhere. A target panics where a promise is broken; otherwise it returns whether it accepted the
//! input, so that the test can tell a seed that exercises a parser from one that no longer reaches it.
//!
//! To add a target, add it to [`TARGETS`], add a program in fuzz/fuzz_targets, and seeds in fuzz/seeds.

mod aws_operation;
mod aws_signature;
mod masking;
mod mcp;
mod policy;
mod request_text;

/// A target by the name of its program and of its directory of seeds.
#[derive(Debug, Clone, Copy)]
pub struct FuzzTarget {
    pub name: &'static str,
    /// Whether the input was accepted.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const TARGETS: [FuzzTarget; 14] = [
    FuzzTarget { name: "chunked", run: aws_signature::read_chunked_body },
    FuzzTarget { name: "decode", run: aws_operation::decode_any_request },
    FuzzTarget { name: "decode_ec2", run: aws_operation::decode_ec2 },
    FuzzTarget { name: "decode_json", run: aws_operation::decode_json },
    FuzzTarget { name: "decode_query", run: aws_operation::decode_query },
    FuzzTarget { name: "decode_rest_json", run: aws_operation::decode_rest_json },
    FuzzTarget { name: "decode_rest_xml", run: aws_operation::decode_rest_xml },
    FuzzTarget { name: "decode_rpc_v2_cbor", run: aws_operation::decode_rpc_v2_cbor },
    FuzzTarget { name: "masking", run: masking::mask_response },
    FuzzTarget { name: "mcp_events", run: mcp::read_event_stream },
    FuzzTarget { name: "mcp_message", run: mcp::read_messages },
    FuzzTarget { name: "policy", run: policy::load_policy_text },
    FuzzTarget { name: "session_token", run: aws_signature::open_session_token },
    FuzzTarget { name: "sigv4", run: aws_signature::parse_signature },
];

/// Runs the target of this name; for the programs in fuzz/fuzz_targets.
///
/// # Panics
/// If there is no such target, or a promise is broken.
pub fn run_target(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let _accepted = (target.expect("the programs name targets of the table").run)(input);
}
