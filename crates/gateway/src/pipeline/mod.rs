//! The pipeline (docs/design.md, section "The pipeline"). `Pipeline::handle_request`, `decide` and `execute` read like the list:
//!
//! ```text
//! accept -> authenticate -> decode -> authorize -> (approve) -> record intent -> (consume grant)
//!        -> issue credential -> forward -> mask -> record outcome -> respond
//! ```
//!
//! Each step is in a file of its own name, takes the proof that the step before it made, and makes its own:
//! `Received -> Authenticated -> Decoded -> Authorized -> Recorded -> Permitted -> Credentialed -> Forwarded`. The fields of a proof are
//! private to its step, so an operation that was not decided, or whose intent is not durable, cannot be forwarded: the
//! [`Credentialed`] that it would need does not exist. No step goes back; a step may stop the request with a `Stopped`.

mod approval_step;
mod approve;
mod authenticate;
mod authorize;
mod claim_grant;
mod coalesce;
mod consume_grant;
mod decode;
mod execution;
mod forward;
mod forwardable;
mod hold;
mod idempotency_cache;
mod issue_credential;
mod mask;
mod record_intent;
mod record_outcome;
mod refuse;
mod stopped;

pub use approval_step::{ApprovalStep, ApprovalStepOptions};
pub use authenticate::Authenticated;
pub use authorize::{Authorized, Authorizer};
pub use consume_grant::Permitted;
pub use decode::Decoded;
pub use forward::Forwarded;
pub use forwardable::Forwardable;
pub use issue_credential::Credentialed;
pub use record_intent::Recorded;

use crate::aws_client::AwsClient;
use crate::body::BoxBody;
use crate::client_connection::ClientConnection;
use crate::exchange::{Exchange, RetryKey};
use crate::front_end::{FrontEnd, RefusalContextOf};
use crate::refusal_recorder::{RefusalRecorder, shorten_text};
use crate::response_masker::ResponseMasker;
use authorize::{ApprovalRequired, Authorization};
use claim_grant::ApprovalOutcome;
use durward_core::{ExchangeId, Refusal, RefusalReason, limits};
use durward_identity::Revocations;
use durward_journal::Journal;
use http::{Request, Response};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use stopped::Stopped;
use time::OffsetDateTime;

/// The services that the steps use. Both front ends share one set.
#[derive(Clone)]
pub struct PipelineServices {
    pub revocations: Revocations,
    pub authorizer: Arc<Authorizer>,
    pub approval_step: Arc<ApprovalStep>,
    pub aws_client: Arc<AwsClient>,
    pub response_masker: Arc<ResponseMasker>,
    pub journal: Arc<Journal>,
    pub refusal_recorder: RefusalRecorder,
}

/// The pipeline with one front end plugged into it.
pub struct Pipeline<F> {
    pub(crate) front_end: F,
    services: PipelineServices,
}

/// A request as accepted.
pub(crate) struct Received(Request<Incoming>);

/// The proof that a step makes, or the stopped request.
type StepResult<T, F> = Result<T, Box<Stopped<RefusalContextOf<F>>>>;

impl<F: FrontEnd> Pipeline<F> {
    pub fn new(front_end: F, services: PipelineServices) -> Arc<Self> {
        Arc::new(Self { front_end, services })
    }

    /// Takes one request through the pipeline and responds, whatever happens.
    pub async fn handle_request(
        self: &Arc<Self>,
        source: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<BoxBody> {
        let (exchange, received, refusal_context) = self.accept(source, request);
        let result = match Box::pin(self.decide(&exchange, received, refusal_context.clone())).await {
            Ok(Authorization::Authorized(authorized)) => Box::pin(self.execute(&exchange, *authorized)).await,
            Ok(Authorization::ApprovalRequired(required)) => {
                return self.respond_after_approval(exchange, required, refusal_context).await;
            }
            Err(stopped) => Err(stopped),
        };
        self.respond(&exchange, result, &refusal_context).await
    }

    /// accept: the exchange begins. The HTTP limits were enforced before (`listener.rs`, `strict_http_stream.rs`).
    fn accept(
        &self,
        source: SocketAddr,
        request: Request<Incoming>,
    ) -> (Exchange, Received, RefusalContextOf<F>) {
        let (head, body) = request.into_parts();
        let exchange = Exchange {
            id: ExchangeId::new(),
            source,
            time: OffsetDateTime::now_utc(),
            started_at: Instant::now(),
            user_agent: head
                .headers
                .get("user-agent")
                .and_then(|value| value.to_str().ok())
                .map(|text| shorten_text(text, limits::MAX_RECORDED_USER_AGENT_BYTES)),
            retry_key: self.front_end.retry_key(&head),
            client: head.extensions.get().cloned().map(ClientConnection::new).unwrap_or_default(),
        };
        let refusal_context = self.front_end.refusal_context(&head);
        (exchange, Received(Request::from_parts(head, body)), refusal_context)
    }

    /// authenticate -> decode -> authorize.
    async fn decide(
        &self,
        exchange: &Exchange,
        received: Received,
        refusal_context: RefusalContextOf<F>,
    ) -> StepResult<Authorization<F::Request>, F> {
        let Self { front_end, services } = self;
        let authenticated = authenticate::authenticate(
            front_end,
            &services.revocations,
            &services.aws_client,
            exchange,
            received,
            refusal_context,
        )
        .await?;
        let decoded = decode::decode(
            front_end,
            &services.response_masker,
            &services.revocations,
            exchange,
            authenticated,
        )
        .await?;
        services.authorizer.authorize(exchange, decoded).await
    }

    /// (approve): goes on once people have decided. Where the protocol lets clients try again, the rest runs in a task of its
    /// own: from the moment that a grant is claimed the execution depends on no connection, so that a client whose
    /// connection broke finds the response when it tries again. While the request is held, the task ends with its client.
    async fn respond_after_approval(
        self: &Arc<Self>,
        mut exchange: Exchange,
        required: Box<ApprovalRequired<F::Request>>,
        refusal_context: RefusalContextOf<F>,
    ) -> Response<BoxBody> {
        if exchange.retry_key == RetryKey::None {
            let result = Box::pin(self.approve_and_execute(&exchange, required)).await;
            return self.respond(&exchange, result, &refusal_context).await;
        }
        let id = exchange.id;
        let (client, handler) = exchange.client.detach();
        exchange.client = client;
        let (pipeline, context) = (self.clone(), refusal_context.clone());
        let rest = tokio::spawn(async move {
            let result = pipeline.approve_and_execute(&exchange, required).await;
            pipeline.respond(&exchange, result, &context).await
        });
        match handler.wait_for(rest).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(exchange = %id, %error, "the task of an approved request failed");
                let failed = Refusal::new(
                    RefusalReason::Internal,
                    "the gateway failed; the operation may have been executed",
                );
                self.front_end.write_refusal(id, &failed, &refusal_context)
            }
        }
    }

    async fn approve_and_execute(
        &self,
        exchange: &Exchange,
        required: Box<ApprovalRequired<F::Request>>,
    ) -> StepResult<Response<BoxBody>, F> {
        let Self { front_end, services } = self;
        match services.approval_step.approve(front_end, &services.authorizer, exchange, required).await? {
            ApprovalOutcome::Authorized(authorized) => Box::pin(self.execute(exchange, *authorized)).await,
            ApprovalOutcome::ExecutedElsewhere(required, execution) => {
                services.approval_step.coalesce::<F>(exchange, &required, &execution).await
            }
        }
    }

    /// record intent -> (consume grant) -> issue credential -> forward -> mask -> record outcome. Attempts that share a grant get
    /// the same response.
    async fn execute(
        &self,
        exchange: &Exchange,
        mut authorized: Authorized<F::Request>,
    ) -> StepResult<Response<BoxBody>, F> {
        // Cached tags that this operation may change are forgotten now and when it is over.
        let _invalidation = self.services.authorizer.tag_invalidation(authorized.operation());
        let execution = authorized.take_execution();
        let permitted = match self.record_and_consume(exchange, authorized).await {
            Ok(permitted) => permitted,
            Err(mut stopped) => {
                if let Some(execution) = execution {
                    execution.abandon(&mut stopped);
                }
                return Err(stopped);
            }
        };
        let result = self.execute_once(exchange, permitted).await;
        match execution {
            Some(execution) => execution.share(result).await,
            None => result,
        }
    }

    async fn record_and_consume(
        &self,
        exchange: &Exchange,
        authorized: Authorized<F::Request>,
    ) -> StepResult<Permitted<F::Request>, F> {
        let PipelineServices { journal, authorizer, approval_step, .. } = &self.services;
        let recorded = record_intent::record_intent::<F>(journal, exchange, authorized).await?;
        let permitted = consume_grant::consume_grant::<F>(approval_step, exchange, recorded).await?;
        // Only now: an operation that is not executed must not make a later one look familiar.
        authorizer.record_operation(permitted.decoded().identity(), permitted.decoded().operation());
        Ok(permitted)
    }

    async fn execute_once(
        &self,
        exchange: &Exchange,
        permitted: Permitted<F::Request>,
    ) -> StepResult<Response<BoxBody>, F> {
        let Self { front_end, services } = self;
        let credentialed =
            issue_credential::issue_credential::<F>(&services.aws_client, exchange, permitted).await?;
        let forwarded = forward::forward(front_end, exchange, credentialed).await?;
        let masked = mask::mask(&services.response_masker, exchange, forwarded)?;
        record_outcome::record_outcome(&services.response_masker, &services.revocations, exchange, masked)
            .await
    }

    /// respond: the response, or a recorded refusal in the client's protocol.
    async fn respond(
        &self,
        exchange: &Exchange,
        result: StepResult<Response<BoxBody>, F>,
        refusal_context: &RefusalContextOf<F>,
    ) -> Response<BoxBody> {
        match result {
            Ok(response) => response,
            Err(stopped) => {
                refuse::refuse(
                    &self.front_end,
                    &self.services.refusal_recorder,
                    exchange,
                    *stopped,
                    refusal_context,
                )
                .await
            }
        }
    }
}
