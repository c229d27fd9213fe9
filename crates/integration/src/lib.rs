//! A whole gateway in one process, for tests: [`TestGateway`] starts it with a fake AWS, two OIDC issuers and an MCP server
//! whose responses the test writes.
//!
//! The attack suites of this project are in `tests/whole_gateway`. A project that runs behind Durward can use the same crate
//! to try its own policies:
//!
//! ```
//! use durward_integration::{SdkRequest, TestGateway};
//!
//! # #[tokio::main]
//! # async fn main() {
//! let policies = r#"
//!     permit (principal, action == Action::"connect", resource);
//!     permit (principal, action in Aws::Action::"Read", resource);
//! "#;
//! let gateway = TestGateway::builder().aws().policies(policies).start().await;
//! gateway.fake_aws.put_object("reports", "q3.csv", "region,revenue\n");
//! let agent = gateway.sign_in_agent("build-agent").await;
//!
//! let read = gateway.call_aws(&agent, &SdkRequest::get_object("reports", "q3.csv")).await;
//! assert_eq!(read.status(), 200);
//! let written = gateway.call_aws(&agent, &SdkRequest::put_object("reports", "q3.csv", "")).await;
//! assert_eq!(written.status(), 403);
//! assert_eq!(gateway.upstream_call_count(), 1);
//! # }
//! ```
//!
//! Every function panics if it cannot do its work: the test that called it has failed then.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mcp_messages;
mod scripted_mcp_server;
mod test_gateway;
mod test_response;

pub use durward::demo::{SdkClient, SdkRequest};
pub use mcp_messages::{as_stateless_revision, initialize_request, tool_call, tools_list};
pub use scripted_mcp_server::{RESPONSE_GATE, ReceivedRequest, ScriptedMcpServer, http_response};
pub use test_gateway::{TestGateway, TestGatewayBuilder, wait_until};
pub use test_response::TestResponse;
