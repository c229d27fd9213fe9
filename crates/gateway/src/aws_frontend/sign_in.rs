//! Sign-in: the STS operation `AssumeRoleWithWebIdentity` (STS API reference), which the gateway serves itself and never
//! forwards, and the container-credentials endpoint of the SDKs (`AWS_CONTAINER_CREDENTIALS_FULL_URI`). Both issue gateway
//! credentials, which AWS does not accept.

use super::AwsRefusalContext;
use crate::body::{BoxBody, full_body, read_anonymous_body};
use crate::connect_policy::decide_connect;
use crate::connections::Connections;
use crate::front_end::HEALTH_PATH;
use crate::refusal_recorder::{RefusalRecorder, shorten_text};
use durward_aws::form::FormParameters;
use durward_aws::xml::escape_xml;
use durward_core::timestamps::format_rfc3339;
use durward_core::{
    Caller, Decision, ExchangeId, FrontEndKind, Refusal, RefusalReason, SessionId, Verdict, limits,
};
use durward_identity::{GatewayCredential, GatewayCredentialClaims, Revocations, SealKeys, TokenVerifier};
use durward_journal::{Journal, JournalRecord};
use durward_policy::PolicyStore;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// The path of the container-credentials endpoint. No bucket name begins with a dot (S3 User Guide, "Bucket naming rules"), so no
/// S3 request has it.
pub const CONTAINER_CREDENTIALS_PATH: &str = "/.durward/container-credentials/";
/// Lifetime of a gateway credential if the caller names none (as in STS: `DurationSeconds` defaults to 3,600).
const DEFAULT_CREDENTIAL_LIFETIME: Duration = Duration::hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayEndpoint {
    Sts,
    ContainerCredentials,
    Health,
}

/// The endpoint of a request that the gateway itself serves. An unsigned form post can only be a sign-in: the STS operations with
/// tokens are the unsigned ones.
pub(super) fn match_gateway_endpoint(request: &Request<Incoming>) -> Option<GatewayEndpoint> {
    let path = request.uri().path();
    if path == HEALTH_PATH {
        return Some(GatewayEndpoint::Health);
    }
    if path.starts_with(CONTAINER_CREDENTIALS_PATH) {
        return Some(GatewayEndpoint::ContainerCredentials);
    }
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let is_unsigned = !request.headers().contains_key(header::AUTHORIZATION);
    (request.method() == Method::POST
        && path == "/"
        && request.uri().query().is_none()
        && is_form
        && is_unsigned)
        .then_some(GatewayEndpoint::Sts)
}

/// Signs callers in: verifies their identity, evaluates `connect` and issues gateway credentials.
pub struct SignIn {
    token_verifier: Arc<TokenVerifier>,
    policies: Arc<PolicyStore>,
    seal_keys: Arc<SealKeys>,
    connections: Arc<Connections>,
    revocations: Revocations,
    journal: Arc<Journal>,
    refusal_recorder: RefusalRecorder,
}

impl SignIn {
    pub fn new(
        token_verifier: Arc<TokenVerifier>,
        policies: Arc<PolicyStore>,
        seal_keys: Arc<SealKeys>,
        connections: Arc<Connections>,
        revocations: Revocations,
        journal: Arc<Journal>,
        refusal_recorder: RefusalRecorder,
    ) -> Self {
        Self { token_verifier, policies, seal_keys, connections, revocations, journal, refusal_recorder }
    }

    pub(super) async fn serve_endpoint(
        &self,
        source: SocketAddr,
        request: Request<Incoming>,
        endpoint: GatewayEndpoint,
    ) -> Response<BoxBody> {
        let id = ExchangeId::new();
        let user_agent = request
            .headers()
            .get("user-agent")
            .and_then(|value| value.to_str().ok())
            .map(|text| shorten_text(text, limits::MAX_RECORDED_USER_AGENT_BYTES));
        let mut attempt = SignInAttempt {
            source_address: source,
            user_agent,
            caller: None,
            connection: None,
            decision: None,
        };
        let outcome = match endpoint {
            GatewayEndpoint::Health => return Response::new(full_body("ok\n")),
            GatewayEndpoint::Sts => self.assume_role_with_web_identity(request, &mut attempt, id).await,
            GatewayEndpoint::ContainerCredentials => {
                self.serve_container_credentials(request, &mut attempt).await
            }
        };
        let refusal = match outcome {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        tracing::info!(exchange = %id, reason = refusal.reason.as_str(), detail = %refusal.detail, "sign-in refused: {}", refusal.message);
        let is_anonymous = attempt.caller.is_none();
        let record = JournalRecord::SignInRefused {
            front_end: FrontEndKind::Aws,
            caller: attempt.caller,
            connection: attempt.connection,
            decision: attempt.decision,
            reason: refusal.reason,
            message: shorten_text(&refusal.to_string(), limits::MAX_RECORDED_MESSAGE_BYTES),
            source_address: source.ip(),
            user_agent: attempt.user_agent,
        };
        // A refusal widens nothing, so it goes out even if it cannot be recorded.
        let recorded = if is_anonymous {
            self.refusal_recorder.record_anonymous(record).await
        } else {
            self.refusal_recorder.record(record).await
        };
        if let Err(error) = recorded {
            tracing::error!(%error, "the journal cannot record a refused sign-in");
        }
        if endpoint == GatewayEndpoint::Sts {
            return AwsRefusalContext::for_sts().write_refusal(&refusal, id);
        }
        let status = match refusal.reason {
            RefusalReason::AccessDenied => StatusCode::FORBIDDEN,
            RefusalReason::Malformed | RefusalReason::TooLarge => StatusCode::BAD_REQUEST,
            RefusalReason::Internal
            | RefusalReason::Upstream
            | RefusalReason::Busy
            | RefusalReason::PolicyChanged => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        let body = serde_json::json!({ "code": refusal.reason.as_str(), "message": refusal.message });
        no_store_response(status, "application/json", body.to_string())
    }

    async fn assume_role_with_web_identity(
        &self,
        request: Request<Incoming>,
        attempt: &mut SignInAttempt,
        id: ExchangeId,
    ) -> Result<Response<BoxBody>, Refusal> {
        // Room for the percent-encoding of a token, and for the other parameters.
        let body =
            read_anonymous_body(request.into_body(), 2 * limits::MAX_WEB_IDENTITY_TOKEN_CHARS + 16_384)
                .await?;
        let form = FormParameters::parse(body.trim_ascii_end())?;
        match form.get("Action") {
            Some("AssumeRoleWithWebIdentity") => {}
            Some(_) => {
                return Err(Refusal::new(
                    RefusalReason::MissingAuthentication,
                    "the request is not signed; sign in with AssumeRoleWithWebIdentity at this endpoint",
                ));
            }
            None => return Err(Refusal::new(RefusalReason::Malformed, "form parameter `Action` is missing")),
        }
        if form.get("Version") != Some("2011-06-15") {
            return Err(Refusal::new(RefusalReason::Malformed, "form parameter `Version` is not 2011-06-15"));
        }
        let required = |name: &str| {
            form.get(name).ok_or_else(|| {
                Refusal::new(RefusalReason::Malformed, format!("form parameter `{name}` is missing"))
            })
        };
        // A session policy narrows the session. To ignore it would give the session more than its caller asked for.
        let narrows =
            |name: &&str| matches!(*name, "Policy" | "ProviderId") || name.starts_with("PolicyArns");
        if let Some(name) = form.names().find(narrows) {
            return Err(Refusal::new(
                RefusalReason::Malformed,
                format!("form parameter `{name}` is not supported by this gateway"),
            ));
        }
        let (role_arn, token, name) =
            (required("RoleArn")?, required("WebIdentityToken")?, required("RoleSessionName")?);
        let lifetime = match form.get("DurationSeconds").map(str::parse::<i64>) {
            None => DEFAULT_CREDENTIAL_LIFETIME,
            // The range of STS (STS API Reference, AssumeRoleWithWebIdentity): at most the twelve hours that a role can allow.
            Some(Ok(seconds @ 900..=43_200)) => Duration::seconds(seconds),
            Some(_) => {
                return Err(Refusal::new(
                    RefusalReason::Malformed,
                    "form parameter `DurationSeconds` must be 900 to 43200",
                ));
            }
        };
        let connection = self.connections.for_role(role_arn).map(|connection| connection.name.clone());
        // Token files end in a line feed, which botocore sends as `%0A` (measured).
        let (credential, caller) = self.sign_in_caller(attempt, connection, token.trim(), lifetime).await?;
        let expires = format_rfc3339(credential.expires_at);
        let text = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken><Provider>{}</Provider>\
         <AssumedRoleUser><Arn>{}/{}</Arn><AssumedRoleId>{}:{}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>",
            escape_xml(&caller.subject),
            escape_xml(&caller.issuer),
            escape_xml(&role_arn.replacen(":iam:", ":sts:", 1).replacen(":role/", ":assumed-role/", 1)),
            escape_xml(name),
            credential.access_key_id,
            escape_xml(name),
            credential.access_key_id,
            credential.secret_access_key.expose(),
            credential.session_token.expose(),
        );
        Ok(no_store_response(StatusCode::OK, "text/xml", text))
    }

    async fn serve_container_credentials(
        &self,
        request: Request<Incoming>,
        attempt: &mut SignInAttempt,
    ) -> Result<Response<BoxBody>, Refusal> {
        if request.method() != Method::GET {
            return Err(Refusal::new(RefusalReason::Malformed, "credentials are fetched with GET"));
        }
        let name = request.uri().path().strip_prefix(CONTAINER_CREDENTIALS_PATH).unwrap_or_default();
        let connection = self.connections.named(name).map(|connection| connection.name.clone());
        let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| {
            Refusal::new(
                RefusalReason::MissingAuthentication,
                "the Authorization header must hold the OIDC token (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)",
            )
        })?;
        // boto3 sends the content of the token file as it is (measured); other clients send a bearer token.
        let token = token.strip_prefix("Bearer ").unwrap_or(token).trim().to_owned();
        let (credential, _caller) =
            self.sign_in_caller(attempt, connection, &token, DEFAULT_CREDENTIAL_LIFETIME).await?;
        let body = serde_json::json!({
            "AccessKeyId": credential.access_key_id,
            "SecretAccessKey": credential.secret_access_key.expose(),
            "Token": credential.session_token.expose(),
            "Expiration": format_rfc3339(credential.expires_at),
        });
        Ok(no_store_response(StatusCode::OK, "application/json", body.to_string()))
    }

    /// Verifies the token, evaluates `connect`, and returns the credential only after the session is durable in the journal.
    async fn sign_in_caller(
        &self,
        attempt: &mut SignInAttempt,
        connection: Option<String>,
        token: &str,
        lifetime: Duration,
    ) -> Result<(GatewayCredential, Caller), Refusal> {
        let now = OffsetDateTime::now_utc();
        let verified = self.token_verifier.verify(token, now).await.map_err(|error| error.refusal())?;
        let caller = verified.caller;
        attempt.caller = Some(caller.clone());
        attempt.connection.clone_from(&connection);
        // A token without `iat` could be older than any revocation.
        let proved_at = verified.issued_at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        self.revocations.check_token(&caller, proved_at)?;
        // An unknown connection and a forbidden one look the same, so that callers cannot enumerate connections.
        let refused = || {
            Refusal::new(
                RefusalReason::AccessDenied,
                format!("{} may not use this role, or it does not exist", caller.id()),
            )
        };
        let connection = connection.ok_or_else(refused)?;
        let decision = decide_connect(&self.policies, &caller, &connection, attempt.source_address.ip(), now);
        attempt.decision = Some(decision.clone());
        if decision.verdict != Verdict::Allow {
            return Err(refused().with_detail(&decision.reason));
        }
        let session = SessionId::new();
        let claims = GatewayCredentialClaims {
            session,
            caller: caller.clone(),
            connection: connection.clone(),
            proved_at,
            expires_at: now + lifetime,
        };
        let credential =
            self.seal_keys.issue(&claims).map_err(durward_identity::GatewayCredentialError::refusal)?;
        let record = JournalRecord::SessionOpened {
            session,
            caller: caller.clone(),
            connection,
            source_address: attempt.source_address.ip(),
            expires: credential.expires_at,
        };
        self.journal.append_durable(record).await.map_err(|error| error.refusal())?;
        Ok((credential, caller))
    }
}

/// The facts of a sign-in, for its journal record.
struct SignInAttempt {
    source_address: SocketAddr,
    user_agent: Option<String>,
    caller: Option<Caller>,
    connection: Option<String>,
    decision: Option<Decision>,
}

fn no_store_response(status: StatusCode, content_type: &'static str, body: String) -> Response<BoxBody> {
    let mut response = Response::new(full_body(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
