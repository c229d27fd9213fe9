//! The response of an upstream, as its front end has read it and before it is masked.

use crate::body::BoxBody;
use bytes::Bytes;
use durward_catalog::{AwsProtocol, ServiceModel, ShapeId};
use durward_core::Refusal;
use durward_masking::{BodyFormat, MaskingPlan};
use http::response::Parts;
use http::{HeaderValue, header};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What is known of the fields of a response: which are sensitive, binary, or must come back as they are.
pub enum OwnedMaskingPlan {
    /// The output of an AWS operation.
    Aws {
        service: Arc<ServiceModel>,
        input_shape: Option<ShapeId>,
        output_shape: Option<ShapeId>,
        protocol: AwsProtocol,
    },
    /// Messages of an MCP server.
    Mcp,
}

impl OwnedMaskingPlan {
    pub fn as_masking_plan(&self) -> MaskingPlan<'_> {
        match self {
            Self::Aws { service, input_shape, output_shape, protocol } => {
                MaskingPlan::new(service, *input_shape, *output_shape, *protocol)
            }
            Self::Mcp => MaskingPlan::for_mcp(),
        }
    }
}

/// The body of a response.
pub enum UpstreamBody {
    /// Read whole, to be masked.
    Buffered { bytes: Bytes, content: BodyFormat },
    /// Passed on as it comes (object bodies, event streams).
    Stream(BoxBody),
    /// Read, masked and passed on event by event.
    Events(Box<dyn UpstreamEvents>),
}

impl UpstreamBody {
    pub fn empty() -> Self {
        Self::Buffered { bytes: Bytes::new(), content: BodyFormat::Text }
    }
}

/// One item of an upstream's stream of events.
pub enum UpstreamEvent {
    /// A JSON text to be masked and passed on.
    Message(Bytes),
    /// The response proper, a JSON text too. Nothing follows it.
    Final { text: Bytes, error_code: Option<String> },
    /// A comment that keeps the connection alive.
    KeepAlive,
    /// Nothing more comes, for this reason.
    Failed(Refusal),
}

/// A stream of events as a front end reads it. It is not polled again after its last event.
pub trait UpstreamEvents: Send {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<UpstreamEvent>;
    /// The event that the caller gets in place of a response that is withheld.
    fn refusal_event(&self, refusal: &Refusal) -> Bytes;
}

/// The data classes that a response shows values of, because its caller may see them. It travels in the response's extensions;
/// there is none where nothing was revealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RevealedClasses(pub BTreeSet<String>);

/// A response on its way to the caller.
pub struct UpstreamResponse {
    pub head: Parts,
    pub body: UpstreamBody,
    /// For the head of any response, for a body that was read whole, and for events.
    pub masking_plan: Option<OwnedMaskingPlan>,
    pub error_code: Option<String>,
    pub request_bytes: u64,
    pub upstream_request_id: Option<String>,
}

impl UpstreamResponse {
    /// Puts a masked body in place: lengths and checksums that no longer hold are recomputed or dropped.
    pub fn replace_body(&mut self, changed: Bytes) {
        // SDKs compare checksums with the body, and would report a masked one as corrupt.
        let stale: Vec<_> = self
            .head
            .headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name.starts_with("x-amz-checksum-") || matches!(name, "x-amz-crc32" | "content-md5" | "etag")
            })
            .cloned()
            .collect();
        for name in stale {
            self.head.headers.remove(name);
        }
        self.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(changed.len()));
        if let UpstreamBody::Buffered { bytes, .. } = &mut self.body {
            *bytes = changed;
        }
    }
}
