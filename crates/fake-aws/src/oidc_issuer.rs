//! An OIDC issuer for the demo and for tests: discovery, a key set, tokens for any subject, and a sign-in page without a
//! password.
//!
//! Because it authenticates nobody, it binds to loopback only and serves only requests whose `Host` is loopback: a web page
//! that rebinds its own name to this address (DNS rebinding) gets nothing.

mod authorization_code;
mod sign_in_page;

use crate::form::parse_form;
use aws_lc_rs::{
    digest,
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use durward_core::is_loopback_host;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// The audience of the example configuration, for requests that name none.
const DEFAULT_AUDIENCE: &str = "durward";
/// For requests that name none.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_hours(24);
const MAX_FORM_BYTES: usize = 16 << 10;
const MAX_CONNECTIONS: usize = 64;
/// The time in which a client must send a request head, and for which it may stay idle.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A user whom the sign-in page offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoUser {
    pub subject: &'static str,
    pub name: &'static str,
    pub groups: &'static [&'static str],
    /// Shown beside the name.
    pub description: &'static str,
}

/// The users of the demo: two who may approve, and one who may only look on.
pub const DEMO_USERS: [DemoUser; 3] = [
    DemoUser {
        subject: "ann",
        name: "Ann",
        groups: &["platform-oncall"],
        description: "on call for the platform",
    },
    DemoUser {
        subject: "bob",
        name: "Bob",
        groups: &["platform-oncall"],
        description: "on call for the platform",
    },
    DemoUser { subject: "carol", name: "Carol", groups: &["developers"], description: "a developer" },
];

/// A running issuer. It stops when dropped.
pub struct FakeOidcIssuer {
    state: Arc<IssuerState>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct IssuerState {
    url: String,
    /// The newest signs; the one before it is still published, so that its tokens stay good.
    issuer_keys: RwLock<IssuerKeys>,
    pending_codes: authorization_code::PendingCodes,
}

struct IssuerKeys {
    newest: IssuerKey,
    previous: Option<IssuerKey>,
}

struct IssuerKey {
    key_id: String,
    key_pair: EcdsaKeyPair,
}

impl FakeOidcIssuer {
    /// Listens on `address`, which must be a loopback address; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let why = format!("{address}: the issuer authenticates nobody and listens on loopback only");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let newest =
            IssuerKey::generate().ok_or_else(|| io::Error::other("cannot generate a signing key"))?;
        let keys = RwLock::new(IssuerKeys { newest, previous: None });
        let state = Arc::new(IssuerState {
            url: format!("http://{address}"),
            issuer_keys: keys,
            pending_codes: authorization_code::PendingCodes::default(),
        });
        let task = tokio::spawn(accept_connections(listener, state.clone()));
        Ok(Self { state, address, task })
    }

    /// `iss` of the tokens, and where discovery is.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A token for `subject`.
    pub fn issue_token(&self, subject: &str, groups: &[&str], audience: &str, lifetime: Duration) -> String {
        self.state.sign_token(&self.state.token_claims(subject, &json!(groups), &json!(audience), lifetime))
    }

    /// A token with exactly these claims, for tests of claims that a provider should not issue.
    pub fn issue_token_with_claims(&self, claims: &Value) -> String {
        self.state.sign_token(claims)
    }

    /// Signs with a new key from now on. The old key stays published until the next rotation.
    #[cfg(test)]
    fn rotate_key(&self) -> io::Result<()> {
        let newest =
            IssuerKey::generate().ok_or_else(|| io::Error::other("cannot generate a signing key"))?;
        let mut keys = self.state.issuer_keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.previous = Some(std::mem::replace(&mut keys.newest, newest));
        Ok(())
    }
}

impl Drop for FakeOidcIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for FakeOidcIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeOidcIssuer({})", self.url())
    }
}

impl IssuerKey {
    fn generate() -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        let mut key = Self { key_id: String::new(), key_pair: pair };
        // RFC 7638: the required members, sorted, without spaces. `Value` prints its members sorted.
        key.key_id = URL_SAFE_NO_PAD
            .encode(digest::digest(&digest::SHA256, key.required_jwk_members().to_string().as_bytes()));
        Some(key)
    }

    fn required_jwk_members(&self) -> Value {
        // An uncompressed P-256 point is 4, then x and y of 32 bytes each.
        let (x, y) = self
            .key_pair
            .public_key()
            .as_ref()
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(32)
            .unwrap_or_default();
        json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn public_jwk(&self) -> Value {
        let mut jwk = self.required_jwk_members();
        for (name, value) in [("kid", self.key_id.as_str()), ("use", "sig"), ("alg", "ES256")] {
            jwk[name] = json!(value);
        }
        jwk
    }
}

impl IssuerState {
    fn token_claims(&self, subject: &str, groups: &Value, audience: &Value, lifetime: Duration) -> Value {
        let now = OffsetDateTime::now_utc();
        let mut id = [0; 16];
        rand::fill(&mut id).expect("aws-lc ends the process when it has no randomness");
        json!({
            "iss": self.url,
            "sub": subject,
            "aud": audience,
            "groups": groups,
            "iat": now.unix_timestamp(),
            "exp": now.unix_timestamp().saturating_add_unsigned(lifetime.as_secs()),
            "jti": URL_SAFE_NO_PAD.encode(id),
        })
    }

    fn sign_token(&self, claims: &Value) -> String {
        let keys = self.issuer_keys.read().unwrap_or_else(PoisonError::into_inner);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": keys.newest.key_id});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = keys.newest.key_pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a key that aws-lc made signs any message");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn key_set(&self) -> Value {
        let keys = self.issuer_keys.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Value> = [Some(&keys.newest), keys.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(IssuerKey::public_jwk)
            .collect();
        json!({"keys": keys})
    }

    fn discovery_document(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/keys", self.url),
            "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "authorization_response_iss_parameter_supported": true,
            "code_challenge_methods_supported": ["S256"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["openid", "profile", "groups"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti", "nonce", "name", "groups"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    async fn serve_request(&self, request: Request<Incoming>) -> Result<IssuerResponse, IssuerError> {
        if !addressed_to_loopback(request.headers()) {
            return Err(IssuerError::text(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host of the request is not a loopback name",
            ));
        }
        let (parts, body) = request.into_parts();
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/.well-known/openid-configuration") => {
                Ok(IssuerResponse::json_document(&self.discovery_document()))
            }
            (&Method::GET, "/keys") => Ok(IssuerResponse::json_document(&self.key_set())),
            (&Method::GET, "/authorize") => {
                authorization_code::handle_authorization_request(self, parts.uri.query().unwrap_or_default())
            }
            (&Method::GET, "/token") => self.issue_requested_token(parts.uri.query().unwrap_or_default()),
            (&Method::POST, "/token") => {
                let body = Limited::new(body, MAX_FORM_BYTES)
                    .collect()
                    .await
                    .map_err(|_| IssuerError::bad_request("truncated form, or longer than 16 KiB"))?
                    .to_bytes();
                let form = std::str::from_utf8(&body)
                    .map_err(|_| IssuerError::bad_request("the form is not UTF-8"))?;
                if form.split('&').any(|field| field.trim() == "grant_type=authorization_code") {
                    return authorization_code::exchange_code(self, form.trim());
                }
                self.issue_requested_token(&[parts.uri.query().unwrap_or_default(), form.trim()].join("&"))
            }
            (_, "/.well-known/openid-configuration" | "/keys" | "/authorize" | "/token") => {
                Err(IssuerError::text(StatusCode::METHOD_NOT_ALLOWED, "use GET; /token takes POST too"))
            }
            _ => Err(IssuerError::text(
                StatusCode::NOT_FOUND,
                "the paths are /.well-known/openid-configuration, /keys, /authorize and /token?sub=&groups=&aud=&lifetime=",
            )),
        }
    }

    fn issue_requested_token(&self, form: &str) -> Result<IssuerResponse, IssuerError> {
        let wrong = IssuerError::bad_request;
        let (mut subject, mut groups, mut audience, mut lifetime) =
            (String::new(), vec![], vec![], DEFAULT_TOKEN_LIFETIME);
        let fields = parse_form(form).ok_or(wrong(INVALID_PERCENT_ENCODING))?;
        for (name, value) in fields {
            match name.as_str() {
                "sub" => subject = value,
                "groups" => {
                    groups.extend(
                        value.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned),
                    );
                }
                "aud" if !value.is_empty() => audience.push(value),
                "aud" => {}
                "lifetime" => {
                    let seconds = value.parse().map_err(|_| wrong("lifetime is not a number of seconds"))?;
                    lifetime = Duration::from_secs(seconds);
                }
                _ => return Err(wrong("the parameters are sub, groups, aud and lifetime")),
            }
        }
        if subject.is_empty() {
            return Err(wrong("sub is missing: the subject of the token"));
        }
        if lifetime.is_zero() || lifetime > MAX_TOKEN_LIFETIME {
            return Err(wrong("lifetime is not between 1 and 86400 seconds"));
        }
        let audience = match audience.as_slice() {
            [] => json!(DEFAULT_AUDIENCE),
            [one] => json!(one),
            several => json!(several),
        };
        let token = self.sign_token(&self.token_claims(&subject, &json!(groups), &audience, lifetime));
        Ok(IssuerResponse {
            body: token + "\n",
            content_type: "text/plain; charset=utf-8",
            cache_control: "no-store",
            redirect_location: None,
        })
    }
}

struct IssuerResponse {
    body: String,
    content_type: &'static str,
    cache_control: &'static str,
    /// The address to which the browser is sent.
    redirect_location: Option<String>,
}

impl IssuerResponse {
    fn json_document(document: &Value) -> Self {
        Self {
            body: document.to_string(),
            content_type: "application/json",
            cache_control: "max-age=60",
            redirect_location: None,
        }
    }
}

const INVALID_PERCENT_ENCODING: &str = "a value is not UTF-8 in percent encoding";

/// Why a request gets no token.
#[derive(Debug, Clone, Copy)]
struct IssuerError {
    status: StatusCode,
    body: &'static str,
    content_type: &'static str,
}

impl IssuerError {
    /// An error for people.
    const fn text(status: StatusCode, body: &'static str) -> Self {
        Self { status, body, content_type: "text/plain; charset=utf-8" }
    }

    const fn bad_request(body: &'static str) -> Self {
        Self::text(StatusCode::BAD_REQUEST, body)
    }

    /// The code, the redirect URI, the client or the verifier is wrong (RFC 6749, section 5.2).
    const fn invalid_grant() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: "{\"error\":\"invalid_grant\"}",
            content_type: "application/json",
        }
    }
}

async fn accept_connections(listener: TcpListener, state: Arc<IssuerState>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely no file descriptor is free: wait until a connection ends.
                tracing::warn!(%error, "the issuer could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(encode_response(state.serve_request(request).await)) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "issuer connection ended");
            }
            drop(permit);
        });
    }
}

fn encode_response(outcome: Result<IssuerResponse, IssuerError>) -> Response<Full<Bytes>> {
    let (status, issued) = match outcome {
        Ok(issued) => (StatusCode::OK, issued),
        Err(error) => {
            let issued = IssuerResponse {
                body: format!("{}\n", error.body),
                content_type: error.content_type,
                cache_control: "no-store",
                redirect_location: None,
            };
            (error.status, issued)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(issued.body)));
    *response.status_mut() = status;
    let location = issued.redirect_location.and_then(|location| header::HeaderValue::try_from(location).ok());
    if let Some(location) = location {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, location);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(issued.content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(issued.cache_control));
    response
}

/// Exactly one `Host`, and a loopback one.
fn addressed_to_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    is_loopback_host(host.host())
}

#[cfg(test)]
mod tests;
