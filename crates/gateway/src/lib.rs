//! The line of DESIGN section 2, its listeners, its doors and the upstream transport.
//!
//! Start reading at [`line`]: it is the way of every request, step by step.

pub mod aws_frontend;
pub mod body;
mod client_socket;
mod event_stream;
pub mod gateway_services;
pub mod held_requests;
pub mod http1_framing;
mod keep_alive;
pub mod listener;
pub mod mcp_frontend;
pub mod outbound_http_client;
pub mod pipeline;
mod replay_guard;
pub mod resource_tags;
mod response_masker;
mod strict_http_stream;
pub mod upstream_client;
mod upstream_response;
