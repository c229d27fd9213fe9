//! Sign-in is STS: `AssumeRoleWithWebIdentity` (STS API reference), answered here and never sent on, and the same as the
//! container-credentials endpoint of the SDKs (`AWS_CONTAINER_CREDENTIALS_FULL_URI`).

use super::Shape;
use crate::body::{Body, full, read_whole};
use crate::rooms::Rooms;
use durward_aws::sigv4::percent_decode;
use durward_core::{Caller, Decision, Door, ExchangeId, Reason, Refusal, SessionId, Verdict, limits};
use durward_identity::{Claims, GatewayCredential};
use durward_journal::Record;
use durward_policy::{Ask, Facts, Question};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::net::SocketAddr;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// The path of the container-credentials endpoint; no bucket name begins with a dot.
pub const CONTAINER_PATH: &str = "/.durward/container-credentials/";
/// Says whether the gateway is up.
pub const HEALTH_PATH: &str = "/.durward/health";
/// Lifetime of a gateway credential when the caller names none (STS: one hour).
const LIFETIME: Duration = Duration::hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sts,
    Container,
    Health,
}

/// Whether a request is one that the gateway itself answers. An unsigned form post can only be a sign-in.
pub(super) fn is_for_us(request: &Request<Incoming>) -> Option<Kind> {
    let path = request.uri().path();
    if path == HEALTH_PATH {
        return Some(Kind::Health);
    }
    if path.starts_with(CONTAINER_PATH) {
        return Some(Kind::Container);
    }
    let form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let unsigned = !request.headers().contains_key(header::AUTHORIZATION);
    (request.method() == Method::POST && path == "/" && request.uri().query().is_none() && form && unsigned)
        .then_some(Kind::Sts)
}

pub(super) async fn answer(
    rooms: &Rooms,
    source: SocketAddr,
    request: Request<Incoming>,
    kind: Kind,
) -> Response<Body> {
    let id = ExchangeId::new();
    let shape = Shape::sts();
    let user_agent =
        request.headers().get("user-agent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut seen = SignIn { source, user_agent, caller: None, connection: None, decision: None };
    let outcome = match kind {
        Kind::Health => return Response::new(full("ok\n")),
        Kind::Sts => sts(rooms, request, &mut seen, id).await,
        Kind::Container => container(rooms, request, &mut seen).await,
    };
    let refusal = match outcome {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    tracing::info!(exchange = %id, reason = ?refusal.reason, detail = %refusal.detail, "sign-in refused: {}", refusal.message);
    let record = Record::SignInRefused {
        door: Door::Aws,
        caller: seen.caller,
        connection: seen.connection,
        decision: seen.decision,
        reason: refusal.reason,
        message: refusal.to_string(),
        source_address: source.ip(),
        user_agent: seen.user_agent,
    };
    if let Err(error) = rooms.journal.record(record).await {
        tracing::error!(%error, "the journal cannot record a refused sign-in");
    }
    if kind == Kind::Sts {
        return shape.refuse(&refusal, id);
    }
    let status = match refusal.reason {
        Reason::AccessDenied => StatusCode::FORBIDDEN,
        Reason::Malformed | Reason::TooLarge => StatusCode::BAD_REQUEST,
        Reason::Internal | Reason::Upstream | Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    };
    let body = serde_json::json!({ "code": format!("{:?}", refusal.reason), "message": refusal.message });
    respond(status, "application/json", body.to_string())
}

/// What is known of a sign-in, for its record.
struct SignIn {
    source: SocketAddr,
    user_agent: Option<String>,
    caller: Option<Caller>,
    connection: Option<String>,
    decision: Option<Decision>,
}

async fn sts(
    rooms: &Rooms,
    request: Request<Incoming>,
    seen: &mut SignIn,
    id: ExchangeId,
) -> Result<Response<Body>, Refusal> {
    let body =
        read_whole(request.into_body(), 2 * limits::WEB_IDENTITY_TOKEN + 16_384, "request body").await?;
    let form = Form::parse(&body)?;
    match form.get("Action") {
        Some("AssumeRoleWithWebIdentity") => {}
        Some(_) => {
            return Err(Refusal::new(
                Reason::MissingAuthentication,
                "the request is not signed; sign in with AssumeRoleWithWebIdentity at this endpoint",
            ));
        }
        None => return Err(Refusal::new(Reason::Malformed, "form parameter `Action` is missing")),
    }
    if form.get("Version") != Some("2011-06-15") {
        return Err(Refusal::new(Reason::Malformed, "form parameter `Version` is not 2011-06-15"));
    }
    let needed = |name: &str| {
        form.get(name)
            .ok_or_else(|| Refusal::new(Reason::Malformed, format!("form parameter `{name}` is missing")))
    };
    for name in ["Policy", "PolicyArns.member.1.arn", "ProviderId"] {
        if form.get(name).is_some() {
            return Err(Refusal::new(
                Reason::Malformed,
                format!("form parameter `{name}` is not supported by this gateway"),
            ));
        }
    }
    let (role_arn, token, name) =
        (needed("RoleArn")?, needed("WebIdentityToken")?, needed("RoleSessionName")?);
    let lifetime = match form.get("DurationSeconds").map(str::parse::<i64>) {
        None => LIFETIME,
        Some(Ok(seconds @ 900..=43_200)) => Duration::seconds(seconds),
        Some(_) => {
            return Err(Refusal::new(
                Reason::Malformed,
                "form parameter `DurationSeconds` must be 900 to 43200",
            ));
        }
    };
    let connection = rooms.connection_for_role(role_arn).map(|connection| connection.name.clone());
    let (credential, caller) = sign_in(rooms, seen, connection, token.trim(), lifetime).await?;
    let expires = rfc3339(credential.expires)?;
    let text = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken><Provider>{}</Provider>\
         <AssumedRoleUser><Arn>{}/{}</Arn><AssumedRoleId>{}:{}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>",
        escape(&caller.subject),
        escape(&caller.issuer),
        escape(&role_arn.replacen(":iam:", ":sts:", 1).replacen(":role/", ":assumed-role/", 1)),
        escape(name),
        credential.access_key_id,
        escape(name),
        credential.access_key_id,
        credential.secret_access_key.expose(),
        credential.session_token.expose(),
    );
    Ok(respond(StatusCode::OK, "text/xml", text))
}

async fn container(
    rooms: &Rooms,
    request: Request<Incoming>,
    seen: &mut SignIn,
) -> Result<Response<Body>, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::new(Reason::Malformed, "credentials are fetched with GET"));
    }
    let name = request.uri().path().strip_prefix(CONTAINER_PATH).unwrap_or_default();
    let connection =
        rooms.connections.iter().find(|connection| connection.name == name).map(|found| found.name.clone());
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| {
            Refusal::new(
                Reason::MissingAuthentication,
                "the Authorization header must hold the OIDC token (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)",
            )
        })?;
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim().to_owned();
    let (credential, _caller) = sign_in(rooms, seen, connection, &token, LIFETIME).await?;
    let body = serde_json::json!({
        "AccessKeyId": credential.access_key_id,
        "SecretAccessKey": credential.secret_access_key.expose(),
        "Token": credential.session_token.expose(),
        "Expiration": rfc3339(credential.expires)?,
    });
    Ok(respond(StatusCode::OK, "application/json", body.to_string()))
}

/// Verifies the token, asks policy for `connect`, records the session, issues the credential: in this order.
async fn sign_in(
    rooms: &Rooms,
    seen: &mut SignIn,
    connection: Option<String>,
    token: &str,
    lifetime: Duration,
) -> Result<(GatewayCredential, Caller), Refusal> {
    let now = OffsetDateTime::now_utc();
    let verified = rooms.verifier.verify(token, now).await.map_err(|error| error.refusal())?;
    let caller = verified.caller;
    seen.caller = Some(caller.clone());
    seen.connection.clone_from(&connection);
    // An unknown connection and a forbidden one look the same to the caller.
    let refused = || {
        Refusal::new(
            Reason::AccessDenied,
            format!("{} may not use this role, or it does not exist", caller.id()),
        )
    };
    let connection = connection.ok_or_else(refused)?;
    let facts =
        Facts { connection: Some(&connection), source_ip: seen.source.ip(), now, tags: None, risk: None };
    let question = Question { caller: &caller, ask: Ask::Connect { connection: &connection }, facts };
    let decision = rooms.policies.current().decide(&question);
    seen.decision = Some(decision.clone());
    if decision.verdict != Verdict::Allow {
        return Err(refused().detail(&decision.reason));
    }
    let session = SessionId::new();
    let claims = Claims {
        session,
        caller: caller.clone(),
        connection: connection.clone(),
        issued: now,
        expires: now + lifetime,
    };
    let credential = rooms.seal.issue(&claims).map_err(durward_identity::CredentialError::refusal)?;
    let record = Record::SessionOpened {
        session,
        caller: caller.clone(),
        connection,
        source_address: seen.source.ip(),
        expires: credential.expires,
    };
    rooms.journal.record_durable(record).await.map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record this session").detail(error)
    })?;
    Ok((credential, caller))
}

/// An `application/x-www-form-urlencoded` body in which every name occurs once.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let invalid = || Refusal::new(Reason::Malformed, "the form body is not UTF-8");
        let text = std::str::from_utf8(body).map_err(|_error| invalid())?;
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            String::from_utf8(percent_decode(&spaced).into_owned()).map_err(|_error| invalid())
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.trim_end().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if pairs.iter().any(|(other, _value)| *other == name) {
                return Err(Refusal::new(Reason::Malformed, format!("form parameter `{name}` occurs twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _value)| other == name).map(|(_name, value)| value.as_str())
    }
}

fn rfc3339(at: OffsetDateTime) -> Result<String, Refusal> {
    at.format(&Rfc3339)
        .map_err(|error| Refusal::new(Reason::Internal, "a time cannot be written").detail(error))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
