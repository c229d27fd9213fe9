//! record outcome: a whole response goes out once its outcome is in the journal; a streamed one ends once it is.

use super::mask::Masked;
use super::stopped::Stopped;
use crate::body::{BoxBody, full_body};
use crate::event_stream::{EventStreamMasking, mask_event_stream};
use crate::exchange::Exchange;
use crate::outcome::{ResponseFacts, withheld_response};
use crate::recorded_stream::record_outcome_at_end;
use crate::response_masker::ResponseMasker;
use crate::upstream_response::UpstreamBody;
use aws_lc_rs::digest::{SHA256, digest};
use durward_core::encode_hex;
use durward_identity::Revocations;
use http::Response;
use http_body::Body as _;
use std::sync::Arc;

pub(super) async fn record_outcome<C>(
    masker: &Arc<ResponseMasker>,
    revocations: &Revocations,
    exchange: &Exchange,
    masked: Masked<C>,
) -> Result<Response<BoxBody>, Box<Stopped<C>>> {
    let Masked { response, counts, identity, refusal_context, mut pending_outcome } = masked;
    pending_outcome.response_started(ResponseFacts {
        status: response.head.status,
        error_code: response.error_code.clone(),
        request_bytes: response.request_bytes,
        upstream_request_id: response.upstream_request_id.clone(),
        masked: counts,
    });
    // hyper does not poll an empty body: its outcome is recorded here.
    let body = match response.body {
        UpstreamBody::Stream(body) if body.is_end_stream() => UpstreamBody::empty(),
        body => body,
    };
    match body {
        UpstreamBody::Buffered { bytes, .. } => {
            let sha256 = encode_hex(digest(&SHA256, &bytes).as_ref());
            pending_outcome.add_response_bytes(bytes.len());
            match pending_outcome.finish(Some(sha256), None).await {
                Ok(()) => Ok(Response::from_parts(response.head, full_body(bytes))),
                Err(error) => Err(Stopped::outcome_lost(withheld_response(&error), refusal_context)),
            }
        }
        UpstreamBody::Stream(body) => {
            Ok(Response::from_parts(response.head, record_outcome_at_end(body, pending_outcome)))
        }
        UpstreamBody::Events(events) => {
            let masking = EventStreamMasking {
                masker: masker.clone(),
                revocations: revocations.clone(),
                exchange: exchange.clone(),
                identity,
                masking_plan: response.masking_plan,
            };
            Ok(Response::from_parts(response.head, mask_event_stream(events, masking, pending_outcome)))
        }
    }
}
