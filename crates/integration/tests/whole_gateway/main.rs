//! Attacks on a whole gateway, in process. Each test asserts what the caller gets, and that nothing reached an upstream that
//! must not reach it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approval_attacks;
mod aws_attacks;
mod mcp_attacks;
mod upstream_http2;

/// The policies that the demo and the documentation use, without those for MCP: these gateways have no MCP server.
const SAMPLE_POLICIES: [&str; 5] = [
    include_str!("../../../../policies/10-connect.cedar"),
    include_str!("../../../../policies/20-reads.cedar"),
    include_str!("../../../../policies/30-guards.cedar"),
    include_str!("../../../../policies/40-approvals.cedar"),
    include_str!("../../../../policies/50-reveal.cedar"),
];
