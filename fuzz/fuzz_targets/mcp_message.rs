//! The parsers of MCP messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| durward_fuzz_targets::run_target("mcp_message", input));
