//! The one way to AWS: it issues a credential, records that it did, signs, and sends. Callers' operations and the gateway's own
//! tag reads both go this way, so that every access key id that CloudTrail shows is in the journal.

use crate::body::BoxBody;
use crate::connections::Connections;
use crate::exchange::{Exchange, Identity};
use crate::signing_key_cache::SigningKeyCache;
use crate::upstream_client::{UpstreamClient, UpstreamError};
use durward_aws::sigv4::inbound::format_timestamp;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_catalog::Catalog;
use durward_core::{Operation, Origin, Refusal, RefusalReason, SessionId};
use durward_credential::{ConnectionConfig, CredentialIssuer, CredentialRequest, IssuedCredential};
use durward_journal::{Journal, JournalRecord};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use std::sync::Arc;
use time::OffsetDateTime;

/// Sends signed requests to AWS.
pub struct AwsClient {
    catalog: &'static Catalog,
    connections: Arc<Connections>,
    credential_issuer: CredentialIssuer,
    journal: Arc<Journal>,
    upstream_client: Arc<UpstreamClient>,
    /// Everything goes here instead of to AWS: an emulator.
    emulator: Option<Origin>,
    signing_keys: SigningKeyCache,
}

/// The endpoint of a service in a region, and the scope with which requests to it are signed.
#[derive(Debug, Clone)]
pub(crate) struct AwsEndpoint {
    pub origin: Origin,
    pub signing_region: String,
    pub signing_name: String,
}

/// A request to AWS before it is signed. `headers` do not hold `host`.
pub(crate) struct UnsignedAwsRequest {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: BoxBody,
    /// The payload's hash, or the keyword that takes its place in the canonical request.
    pub payload_hash: String,
}

/// The reasons for which there is no response from AWS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsSendError {
    /// Nothing was sent.
    #[error("the request cannot be written: {0}")]
    Unwritable(&'static str),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl AwsClient {
    pub fn new(
        catalog: &'static Catalog,
        connections: Arc<Connections>,
        credential_issuer: CredentialIssuer,
        journal: Arc<Journal>,
        upstream_client: Arc<UpstreamClient>,
        emulator: Option<Origin>,
    ) -> Self {
        Self {
            catalog,
            connections,
            credential_issuer,
            journal,
            upstream_client,
            emulator,
            signing_keys: SigningKeyCache::default(),
        }
    }

    pub(crate) fn catalog(&self) -> &'static Catalog {
        self.catalog
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Forgets the credentials that were issued to a session that has ended.
    pub fn forget_session(&self, session: SessionId) {
        self.credential_issuer.forget_session(session);
    }

    /// A credential for exactly this operation, on the connection of its session.
    pub(crate) async fn issue_for_operation(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        operation: &Operation,
    ) -> Result<Arc<IssuedCredential>, Refusal> {
        let connection = self.connections.find(&identity.connection)?;
        self.issue(exchange, identity, connection, operation).await
    }

    /// A credential for exactly this operation, on a given connection. It is recorded before anyone can use it.
    pub(crate) async fn issue(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        connection: &ConnectionConfig,
        operation: &Operation,
    ) -> Result<Arc<IssuedCredential>, Refusal> {
        let request = CredentialRequest {
            connection,
            caller: &identity.caller,
            session: identity.session,
            exchange: exchange.id,
            operation,
        };
        let credential =
            self.credential_issuer.issue_credential(&request).await.map_err(|error| error.refusal())?;
        let record = JournalRecord::CredentialIssued {
            exchange: exchange.id,
            operation: format!("{}:{}", operation.service, operation.name),
            access_key_id: credential.access_key_id.clone(),
            scope: credential.scope,
            session_policy_sha256: credential.policy_sha256.clone(),
            expires: credential.expires_at,
        };
        self.journal.append(record).await.map_err(|error| error.refusal())?;
        Ok(credential)
    }

    /// The endpoint of a service, from our own tables: never an address that a request names. `signing_name` is what an emulator
    /// is signed for.
    pub(crate) fn resolve_endpoint(
        &self,
        service_id: &str,
        signing_name: &str,
        region: &str,
    ) -> Option<AwsEndpoint> {
        if let Some(emulator) = &self.emulator {
            return Some(AwsEndpoint {
                origin: emulator.clone(),
                signing_region: region.to_owned(),
                signing_name: signing_name.to_owned(),
            });
        }
        // A host that a request named would get a signed request: Teleport's AWS proxy followed a forwarded-host header (its
        // issue 67620).
        let endpoint = self.catalog.resolve_endpoint(service_id, region)?;
        Some(AwsEndpoint {
            origin: Origin::https(&endpoint.host),
            signing_region: endpoint.signing_region,
            signing_name: endpoint.signing_name,
        })
    }

    /// Signs with the credential and sends.
    pub(crate) async fn send(
        &self,
        endpoint: &AwsEndpoint,
        credential: &IssuedCredential,
        request: UnsignedAwsRequest,
    ) -> Result<Response<BoxBody>, AwsSendError> {
        let UnsignedAwsRequest { method, path, query, mut headers, body, payload_hash } = request;
        let host = HeaderValue::from_str(&endpoint.origin.authority())
            .map_err(|_error| AwsSendError::Unwritable("the upstream's name is not a header value"))?;
        headers.insert(header::HOST, host);
        // Now, not when the exchange began: it may have been held for an hour, and AWS accepts a signature for 15 minutes.
        let signing_time = OffsetDateTime::now_utc();
        let timestamp = format_timestamp(signing_time);
        let signing_key = self.signing_keys.get_or_derive(
            &credential.access_key_id,
            &credential.secret_access_key,
            timestamp.get(..8).unwrap_or_default(),
            &endpoint.signing_region,
            &endpoint.signing_name,
        );
        let signing = SigningParams {
            access_key_id: &credential.access_key_id,
            session_token: Some(&credential.session_token),
            signing_key: &signing_key,
            region: &endpoint.signing_region,
            service: &endpoint.signing_name,
            signing_time,
        };
        sign_request(&signing, &method, &path, &query, &mut headers, &payload_hash)
            .map_err(|_error| AwsSendError::Unwritable("it cannot be signed"))?;
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let uri: Uri =
            target.parse().map_err(|_error| AwsSendError::Unwritable("its target is not a URI"))?;
        let mut signed = Request::new(body);
        *signed.method_mut() = method;
        *signed.uri_mut() = uri;
        *signed.headers_mut() = headers;
        Ok(self.upstream_client.send(&endpoint.origin, signed).await?)
    }
}

impl AwsSendError {
    /// The refusal of an operation that got no response.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            // The caller's own body ended in this: it is no fault of AWS's.
            Self::Upstream(UpstreamError::RequestBody(refusal)) => refusal,
            Self::Upstream(error) => Refusal::new(
                RefusalReason::Upstream,
                "AWS could not be reached, or closed the connection before it responded",
            )
            .with_detail(error),
            Self::Unwritable(why) => Refusal::new(
                RefusalReason::Internal,
                "the request to AWS cannot be written, so it was not sent",
            )
            .with_detail(why),
        }
    }
}
