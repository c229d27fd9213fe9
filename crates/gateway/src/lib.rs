//! The request pipeline, its listeners, the AWS and MCP front ends that are plugged into it, and the upstream client.
//!
//! Begin with [`pipeline`]: every request goes through it, step by step. Types are at the bottom (`exchange`, `outcome`), the
//! steps above them, the front ends on top; no file imports upwards. Every request that reaches an upstream was decided and
//! recorded first; the types of the pipeline enforce that.

mod approval_links;
mod aws_client;
pub mod aws_frontend;
pub mod body;
mod client_connection;
mod client_socket;
mod connect_policy;
mod connection_limits;
mod connections;
mod event_stream;
pub mod exchange;
pub mod front_end;
mod held_requests;
pub mod http1_framing;
mod keep_alive;
pub mod listener;
pub mod mcp_frontend;
mod memory_budget;
mod operation_digest;
pub mod outbound_http_client;
mod outcome;
pub mod pipeline;
mod recorded_stream;
mod refusal_recorder;
mod replay_guard;
pub mod resource_tags;
mod response_masker;
mod risk_assessor;
mod signing_key_cache;
mod strict_http_stream;
pub mod upstream_client;
pub mod upstream_response;

pub use approval_links::ApprovalLinks;
pub use aws_client::AwsClient;
pub use connection_limits::{ConnectionCounter, ConnectionLimits};
pub use connections::Connections;
pub use memory_budget::MemoryBudget;
pub use refusal_recorder::RefusalRecorder;
pub use response_masker::ResponseMasker;
pub use risk_assessor::RiskAssessor;
