//! The AWS front end: AWS as unmodified SDKs and the CLI speak it. It never decides.

mod aws_request;
mod error_context;
mod forwarded_headers;
mod nested_presigned_url;
mod operation_reading;
mod queue_url;
mod sign_in;
mod signature_verification;
mod upload_body;
mod upstream_exchange;

pub use aws_request::AwsRequest;
pub use error_context::AwsRefusalContext;
pub use sign_in::{CONTAINER_CREDENTIALS_PATH, SignIn};

use crate::aws_client::AwsClient;
use crate::body::BoxBody;
use crate::connect_policy::decide_connect;
use crate::exchange::{Exchange, Identity, RetryKey};
use crate::front_end::{FrontEnd, ProtocolRefusal, ReadOperation};
use crate::listener::HttpService;
use crate::memory_budget::MemoryBudget;
use crate::pipeline::{Forwardable, Pipeline};
use crate::replay_guard::ReplayGuard;
use crate::signing_key_cache::SigningKeyCache;
use crate::upstream_response::UpstreamResponse;
use durward_core::{ExchangeId, FrontEndKind, Refusal, RefusalReason, Verdict};
use durward_identity::SealKeys;
use durward_policy::PolicyStore;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use time::OffsetDateTime;

/// Longest `amz-sdk-invocation-id` that is taken for a retry key: SDKs send UUIDs.
const MAX_RETRY_KEY_BYTES: usize = 128;

/// The names and the scheme by which clients reach the AWS front end.
#[derive(Debug, Clone, Default)]
pub struct AwsFrontEndOptions {
    /// The gateway's own DNS names: `<bucket>.<name>` is a virtual-host-style bucket.
    pub gateway_dns_names: Vec<String>,
    pub uses_tls: bool,
}

/// Speaks AWS.
pub struct AwsFrontEnd {
    options: AwsFrontEndOptions,
    seal_keys: Arc<SealKeys>,
    policies: Arc<PolicyStore>,
    request_memory: Arc<MemoryBudget>,
    aws_client: Arc<AwsClient>,
    replay_guard: ReplayGuard,
    /// The keys of inbound signatures; those of outbound ones are the client's.
    inbound_signing_keys: SigningKeyCache,
}

impl AwsFrontEnd {
    pub fn new(
        options: AwsFrontEndOptions,
        seal_keys: Arc<SealKeys>,
        policies: Arc<PolicyStore>,
        request_memory: Arc<MemoryBudget>,
        aws_client: Arc<AwsClient>,
    ) -> Self {
        Self {
            options,
            seal_keys,
            policies,
            request_memory,
            aws_client,
            replay_guard: ReplayGuard::new(OffsetDateTime::now_utc()),
            inbound_signing_keys: SigningKeyCache::default(),
        }
    }

    /// Decides, with every request, if the caller may use the connection of its credential at all. A credential lives for hours:
    /// a permit that is taken away must stop it at once.
    fn authorize_connection(&self, exchange: &Exchange, identity: &Identity) -> Result<(), Refusal> {
        let Identity { caller, connection, .. } = identity;
        let decision =
            decide_connect(&self.policies, caller, connection, exchange.source.ip(), exchange.time);
        if decision.verdict == Verdict::Allow {
            return Ok(());
        }
        let text = format!("{} may no longer use `{connection}`", caller.id());
        Err(Refusal::new(RefusalReason::AccessDenied, text).with_detail(decision.reason))
    }

    /// The bucket in front of one of the gateway's own names.
    fn virtual_host_bucket(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get("host")?.to_str().ok()?;
        let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        self.options.gateway_dns_names.iter().find_map(|name| {
            // Without the dot, `evilaws.gw.example` would read as a bucket in front of `aws.gw.example`.
            let bucket = host.strip_suffix(name.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        })
    }
}

/// The service at the AWS address: it serves sign-in and health itself, and passes everything else to the pipeline.
pub struct AwsService {
    pub pipeline: Arc<Pipeline<AwsFrontEnd>>,
    pub sign_in: SignIn,
}

impl HttpService for AwsService {
    async fn serve_request(&self, source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
        match sign_in::match_gateway_endpoint(&request) {
            // Boxed, both of them: they are large, and every connection would reserve memory for them.
            Some(endpoint) => Box::pin(self.sign_in.serve_endpoint(source, request, endpoint)).await,
            None => Box::pin(self.pipeline.handle_request(source, request)).await,
        }
    }
}

impl FrontEnd for AwsFrontEnd {
    const KIND: FrontEndKind = FrontEndKind::Aws;
    const NEEDS_AWS_CREDENTIAL: bool = true;
    type Request = AwsRequest;

    fn refusal_context(&self, head: &Parts) -> AwsRefusalContext {
        AwsRefusalContext::from_head(head)
    }

    /// SDKs send one invocation id with every attempt of a call. Most do not sign that header, so it counts within a session
    /// only.
    fn retry_key(&self, head: &Parts) -> RetryKey {
        let mut ids = head.headers.get_all("amz-sdk-invocation-id").iter();
        match (ids.next().and_then(|id| id.to_str().ok()), ids.next()) {
            (Some(id), None) if (1..=MAX_RETRY_KEY_BYTES).contains(&id.len()) => RetryKey::Key(id.to_owned()),
            _ => RetryKey::Unknown,
        }
    }

    async fn verify_caller(
        &self,
        exchange: &Exchange,
        request: Request<Incoming>,
        refusal_context: AwsRefusalContext,
    ) -> Result<(Identity, AwsRequest), ProtocolRefusal<AwsRefusalContext>> {
        Ok(self.verify_signed_request(exchange, request, refusal_context).await?)
    }

    fn check_admission(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        request: &AwsRequest,
    ) -> Result<(), Refusal> {
        self.refuse_replay(exchange, request)?;
        self.authorize_connection(exchange, identity)
    }

    async fn read_operation(
        &self,
        _exchange: &Exchange,
        identity: Identity,
        mut request: AwsRequest,
    ) -> Result<ReadOperation<AwsRequest>, ProtocolRefusal<AwsRefusalContext>> {
        match self.decode_aws_operation(&identity, &mut request).await {
            Ok(operation) => Ok(ReadOperation { identity, operation, request }),
            Err(refusal) => Err(ProtocolRefusal::new(refusal, request.refusal_context)),
        }
    }

    async fn send_upstream(
        &self,
        _exchange: &Exchange,
        forwardable: Forwardable<AwsRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        self.exchange_with_aws(forwardable).await
    }

    fn write_refusal(
        &self,
        exchange: ExchangeId,
        refusal: &Refusal,
        context: &AwsRefusalContext,
    ) -> Response<BoxBody> {
        context.write_refusal(refusal, exchange)
    }
}
