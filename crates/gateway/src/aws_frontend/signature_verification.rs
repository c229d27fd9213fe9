//! A gateway credential, and an inbound signature that is verified in full before anything else is looked at.

use super::aws_request::{AwsRequest, AwsRequestBody};
use super::{AwsFrontEnd, AwsRefusalContext};
use crate::body::read_request_body;
use crate::exchange::{Exchange, Identity};
use crate::replay_guard::SignatureUse;
use durward_aws::sigv4::inbound::{self, PayloadMode, SignatureLocation, SignedRequestHead};
use durward_aws::sigv4::sha256_hex;
use durward_core::{Refusal, RefusalReason};
use http::Request;
use hyper::body::Incoming;

impl AwsFrontEnd {
    pub(super) async fn verify_signed_request(
        &self,
        exchange: &Exchange,
        request: Request<Incoming>,
        refusal_context: AwsRefusalContext,
    ) -> Result<(Identity, AwsRequest), Refusal> {
        let (parts, body) = request.into_parts();
        if parts.uri.scheme().is_some() {
            return Err(Refusal::new(
                RefusalReason::Malformed,
                "this is an endpoint, not a proxy: set AWS_ENDPOINT_URL to it, not HTTP_PROXY",
            ));
        }
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let headers = parts.headers;
        let head = SignedRequestHead { method: &parts.method, path: &path, query: &query, headers: &headers };
        let claimed = inbound::parse_claimed_signature(&head)?;
        claimed.check_signing_time(exchange.time)?;
        let opened = self
            .seal_keys
            .open(&claimed.access_key_id, &claimed.session_token, exchange.time)
            .map_err(durward_identity::GatewayCredentialError::refusal)?;
        let signing_key = self.inbound_signing_keys.get_or_derive(
            &claimed.access_key_id,
            &opened.secret_access_key,
            &claimed.scope_date,
            &claimed.region,
            &claimed.service,
        );
        let mut memory = self.request_memory.reservation(opened.claims.caller.id());
        let (payload_hash, body) = if let Some(text) = claimed.payload_mode.canonical_text() {
            (text.to_owned(), AwsRequestBody::Unread(body))
        } else {
            // Only the holder of a sealed credential gets here: an anonymous client cannot make the gateway buffer a body.
            let bytes = read_request_body(body, &mut memory).await?;
            (sha256_hex(&bytes), AwsRequestBody::Buffered(bytes))
        };
        claimed.verify_signature(&head, &payload_hash, &signing_key)?;
        let bucket = self.virtual_host_bucket(&headers);
        let request = AwsRequest {
            method: parts.method,
            path,
            query,
            headers,
            bucket,
            claimed_signature: claimed,
            signing_key,
            body,
            memory,
            operation_target: None,
            refusal_context,
        };
        let payload_mode = &request.claimed_signature.payload_mode;
        if !request.is_s3() && (payload_mode.is_chunked() || *payload_mode == PayloadMode::Unsigned) {
            return Err(Refusal::new(
                RefusalReason::Malformed,
                "only S3 takes unsigned or aws-chunked bodies",
            ));
        }
        let claims = &opened.claims;
        let identity = Identity {
            caller: claims.caller.clone(),
            session: claims.session,
            valid_since: durward_identity::session_start_time(claims.session)
                .map_or(claims.proved_at, |started| started.min(claims.proved_at)),
            connection: claims.connection.clone(),
            expires_at: claims.expires_at,
        };
        Ok((identity, request))
    }

    /// Only for a request whose signature was verified: a forged one must neither fill the table nor use up somebody's signature.
    pub(super) fn refuse_replay(&self, exchange: &Exchange, request: &AwsRequest) -> Result<(), Refusal> {
        let claimed = &request.claimed_signature;
        if claimed.location != SignatureLocation::Header {
            return Ok(());
        }
        let bytes =
            |name: &str| request.headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let used = self.replay_guard.record_use(
            claimed.signature.as_bytes(),
            bytes("amz-sdk-invocation-id"),
            bytes("amz-sdk-request"),
            claimed.signing_time.unix_timestamp(),
            exchange.time.unix_timestamp(),
        );
        match used {
            SignatureUse::Accepted => Ok(()),
            SignatureUse::Replayed => Err(Refusal::new(
                RefusalReason::Replay,
                "this signature was used before; sign the request again",
            )),
            // Busy, because SDKs sign again and retry then.
            SignatureUse::Forgotten => Err(Refusal::new(
                RefusalReason::Busy,
                "the gateway no longer knows the signatures of the time when this was signed; sign it again",
            )),
            SignatureUse::SignedBeforeStart => Err(Refusal::new(
                RefusalReason::Busy,
                "this was signed before the gateway started, which knows no signatures of then; sign it again",
            )),
        }
    }
}
