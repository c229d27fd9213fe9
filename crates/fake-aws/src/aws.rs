//! A small AWS on loopback: STS, S3, Secrets Manager and DynamoDB, as much as the demo and in-process tests need.
//!
//! It is strict where Durward's promises are at stake: every request's SigV4 signature and body hash are verified, a session
//! credential needs its token, and session policies are enforced to the action, the resource and the time. The gateway's own
//! key, and a session without a policy, may do everything; a test that wants to know whether the gateway restricted its
//! credential looks at [`ReceivedRequest::has_session_policy`].

mod json_services;
mod requested_action;
mod response;
mod s3;
mod signature;
mod state;
mod sts;

use crate::form::parse_form;
use crate::session_policy::policy_allows;
use aws_lc_rs::rand;
use bytes::Bytes;
use durward_aws::sigv4::inbound::SignedRequestHead;
use durward_core::{encode_hex, lock_ignoring_poison};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use response::{FakeAwsError, FakeAwsResponse};
use state::FakeAwsState;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use state::ReceivedRequest;

const MAX_BODY_BYTES: usize = 32 << 20;
/// The time in which a client must send a request head, and for which it may stay idle.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// The one account: it owns every resource.
pub const ACCOUNT_ID: &str = "123456789012";
/// The gateway's own identity here.
pub const GATEWAY_ACCESS_KEY_ID: &str = "AKIAFAKEAWSGATEWAY00";
/// The beginning of every session token; tests search for it where no token may be. AWS's own tokens begin with `IQoJ`, which the
/// masking detectors look for.
pub const SESSION_TOKEN_PREFIX: &str = "IQoJfakeaws";

/// A running fake AWS. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct FakeAws {
    state: Arc<Mutex<FakeAwsState>>,
    pub address: SocketAddr,
    _server: Arc<ServerTask>,
}

struct ServerTask(tokio::task::JoinHandle<()>);

impl Drop for ServerTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeAws {
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(Mutex::new(FakeAwsState { gateway_secret: random_hex(20), ..FakeAwsState::default() }));
        let task = tokio::spawn(accept_connections(listener, state.clone()));
        Ok(Self { state, address, _server: Arc::new(ServerTask(task)) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The secret of [`GATEWAY_ACCESS_KEY_ID`], random at each start.
    pub fn gateway_secret(&self) -> String {
        lock_ignoring_poison(&self.state).gateway_secret.clone()
    }

    pub fn received_requests(&self) -> Vec<ReceivedRequest> {
        lock_ignoring_poison(&self.state).received_requests.clone()
    }

    pub fn put_object(&self, bucket: &str, key: &str, body: &str) {
        let mut state = lock_ignoring_poison(&self.state);
        let objects = state.buckets.entry(bucket.to_owned()).or_default();
        objects.insert(key.to_owned(), Bytes::copy_from_slice(body.as_bytes()));
    }

    pub fn put_secret(&self, name: &str, value: &str) {
        lock_ignoring_poison(&self.state).secrets.insert(name.to_owned(), value.to_owned());
    }
}

/// The connections end with this task: they are in its set.
async fn accept_connections(listener: TcpListener, state: Arc<Mutex<FakeAwsState>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _source)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(serve_request(&state, request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "fake AWS connection ended");
            }
        });
    }
}

async fn serve_request(state: &Mutex<FakeAwsState>, request: Request<Incoming>) -> FakeAwsResponse {
    let (parts, body) = request.into_parts();
    let as_json = parts.headers.contains_key("x-amz-target");
    let outcome = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => authorize_and_execute(&mut lock_ignoring_poison(state), &parts, &body.to_bytes()),
        Err(error) => Err(FakeAwsError::new(StatusCode::BAD_REQUEST, "RequestTooLarge", error.to_string())),
    };
    outcome.unwrap_or_else(|error| error.into_response(as_json))
}

fn authorize_and_execute(
    state: &mut FakeAwsState,
    parts: &http::request::Parts,
    body: &Bytes,
) -> Result<FakeAwsResponse, FakeAwsError> {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let head = SignedRequestHead { method: &parts.method, path, query, headers: &parts.headers };
    let signer = signature::verify_signature(state, &head, body)?;
    let form: BTreeMap<String, String> = if signer.service == "sts" {
        let text = std::str::from_utf8(body).ok().and_then(parse_form);
        text.ok_or_else(FakeAwsError::unknown_operation)?.into_iter().collect()
    } else {
        BTreeMap::new()
    };
    let requested = requested_action::requested_action(
        &signer.service,
        &parts.method,
        path,
        query,
        &parts.headers,
        body,
        &form,
    )?;
    let now = OffsetDateTime::now_utc();
    let session = state.sessions.get(&signer.access_key_id);
    let session_policy = session.and_then(|session| session.session_policy.as_ref());
    let is_allowed = match session_policy {
        Some(policy) => policy_allows(policy, &requested.action, &requested.resource, ACCOUNT_ID, now),
        None => session.is_some() || signer.access_key_id == GATEWAY_ACCESS_KEY_ID,
    };
    let received = ReceivedRequest {
        access_key_id: signer.access_key_id.clone(),
        action: requested.action.clone(),
        resource: requested.resource.clone(),
        has_session_policy: session_policy.is_some(),
        is_allowed,
    };
    state.received_requests.push(received);
    if !is_allowed {
        let message = format!(
            "not authorized to perform: {} on resource: {} because no session policy allows the action",
            requested.action, requested.resource
        );
        return Err(FakeAwsError::denied("AccessDenied", message));
    }
    match signer.service.as_str() {
        "sts" => sts::execute_sts(state, &requested, &form, &signer.access_key_id, now),
        "s3" => s3::execute_s3(state, &parts.method, path, query, body),
        _ => {
            json_services::execute_json(state, &requested, &serde_json::from_slice(body).unwrap_or_default())
        }
    }
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    rand::fill(&mut random).expect("aws-lc ends the process when it has no randomness");
    encode_hex(&random)
}

#[cfg(test)]
mod tests;
