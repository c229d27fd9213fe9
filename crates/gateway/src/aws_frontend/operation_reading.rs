//! Reads the operation of a verified AWS request.

use super::aws_request::{AwsRequest, AwsRequestBody, OperationTarget};
use super::{AwsFrontEnd, forwarded_headers, nested_presigned_url};
use crate::body::reserve_body_memory;
use crate::exchange::Identity;
use crate::held_requests::operation_memory_bytes;
use bytes::Bytes;
use durward_aws::decode::{self, BodyUse, RequestScope};
use durward_aws::sigv4::inbound::PayloadMode;
use durward_aws::sigv4::sha256_hex;
use durward_core::{Operation, Refusal, limits};
use http::header;

impl AwsFrontEnd {
    /// Routes the request to its operation, reads the body where the operation is in it, and decodes both.
    pub(super) async fn decode_aws_operation(
        &self,
        identity: &Identity,
        request: &mut AwsRequest,
    ) -> Result<Operation, Refusal> {
        let catalog = self.aws_client.catalog();
        let connection = self.aws_client.connections().find(&identity.connection)?;
        let account = connection.role_arn.split(':').nth(4).unwrap_or_default().to_owned();
        let signature = &request.claimed_signature;
        let (service, region) = (signature.service.clone(), signature.region.clone());
        let scope = RequestScope { service: &service, region: &region, account: &account };
        // Routing reads the head alone: a policy can deny an upload of many GB before a byte of it is read.
        let route = decode::route_operation(catalog, &scope, &request.request_head())?;
        request.refusal_context.set_service(route.service(), route.protocol());
        if route.body_use() != BodyUse::Streamed {
            request.read_body().await?;
        }
        let body = match &request.body {
            AwsRequestBody::Buffered(bytes) => Some(bytes.clone()),
            AwsRequestBody::Unread(_) => None,
        };
        let body_bytes = body.as_ref().map_or(0, Bytes::len);
        let is_compressed = request.headers.contains_key(header::CONTENT_ENCODING);
        if is_compressed && body.is_some() {
            // A few KiB can unpack into the largest body that there may be.
            let unpacked = limits::MAX_BODY_BYTES.min(body_bytes.saturating_mul(limits::MAX_DEFLATE_RATIO));
            reserve_body_memory(&mut request.memory, unpacked)?;
        }
        let decoded =
            decode::decode_request(catalog, &scope, &request.request_head(), &route, body.as_deref())?;
        let mut operation = decoded.operation;
        if is_compressed {
            reserve_body_memory(&mut request.memory, body_bytes + operation_memory_bytes(&operation))?;
        }
        nested_presigned_url::refuse_presigned_url(&operation.parameters)?;
        operation.body_sha256 = match (&body, &request.claimed_signature.payload_mode) {
            // The declared hash is held against the body when that is read, or while it passes (`upload_body`).
            (_, PayloadMode::Sha256(hash)) => Some(hash.clone()),
            (Some(bytes), _) => Some(sha256_hex(bytes)),
            (None, _) => None,
        };
        let target = OperationTarget {
            service: decoded.service,
            operation_index: decoded.operation_index,
            protocol: decoded.protocol,
        };
        forwarded_headers::refuse_other_representation(&request.headers, &target)?;
        request.operation_target = Some(target);
        Ok(operation)
    }
}
