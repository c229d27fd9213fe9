//! An identity provider for tests: its keys, the tokens that it signs, and its responses to a verifier's HTTP requests.

use super::*;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use durward_core::{HttpClientError, HttpFuture, HttpLimits};
use http::{Request, Response};
use jsonwebtoken::{EncodingKey, jwk::Jwk};
use std::{
    str::FromStr as _,
    sync::{Mutex, OnceLock},
};
use time::macros::datetime;

pub const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
pub const ISSUER: &str = "https://login.example.com";

pub fn provider_config() -> ProviderConfig {
    ProviderConfig::new("corp", ISSUER, vec!["durward".to_owned(), "https://aws.gw.example".to_owned()])
}

pub fn valid_claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "agent-7",
        "aud": "durward",
        "iat": NOW.unix_timestamp(),
        "nbf": NOW.unix_timestamp(),
        "exp": NOW.unix_timestamp() + 3_600,
        "jti": "token-1",
        "groups": ["sre", "agents"],
    })
}

pub fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = valid_claims();
    claims[name] = value;
    claims
}

pub fn claims_without(name: &str) -> Value {
    let mut claims = valid_claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

pub fn encode_base64url(part: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A private key and its public JWK.
#[derive(Clone)]
pub struct TestSigner {
    private_key: EncodingKey,
    pub jwk: Value,
}

impl TestSigner {
    fn new(kid: &str, key: EncodingKey, algorithm: &str) -> Self {
        let jwk = Jwk::from_encoding_key(&key, parse_algorithm(algorithm)).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        let members = jwk.as_object_mut().expect("an object");
        members.retain(|name, _| ["kty", "crv", "n", "e", "x", "y"].contains(&name.as_str()));
        members.insert("kid".to_owned(), json!(kid));
        members.insert("use".to_owned(), json!("sig"));
        Self { private_key: key, jwk }
    }

    fn generate_ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode_base64url(pair.public_key().as_ref())});
        Self { private_key: EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("DER").as_ref()), jwk }
    }

    pub fn generate_p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let der = pair.to_pkcs8v1().expect("DER");
        Self::new(kid, EncodingKey::from_ec_der(der.as_ref()), "ES256")
    }

    pub fn sign_bytes(&self, message: &[u8], algorithm: &str) -> String {
        jsonwebtoken::crypto::sign(message, &self.private_key, parse_algorithm(algorithm)).expect("signed")
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode_base64url(header.to_string().as_bytes()),
            encode_base64url(claims.to_string().as_bytes())
        );
        let signature = self.sign_bytes(signed.as_bytes(), header["alg"].as_str().expect("alg"));
        format!("{signed}.{signature}")
    }
}

fn parse_algorithm(algorithm: &str) -> jsonwebtoken::Algorithm {
    jsonwebtoken::Algorithm::from_str(algorithm).expect("an algorithm")
}

/// RSA keys take long to generate, so all tests share one.
fn shared_rsa_signer() -> &'static TestSigner {
    static KEY: OnceLock<TestSigner> = OnceLock::new();
    KEY.get_or_init(|| generate_rsa(KeySize::Rsa2048, "rsa"))
}

fn generate_rsa(size: KeySize, kid: &str) -> TestSigner {
    let pair = RsaKeyPair::generate(size).expect("a key");
    // `from_rsa_der` reads PKCS#1: the innermost octet string of PKCS#8.
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref())
    );
    TestSigner::new(kid, EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key"), "RS256")
}

/// What the provider responds, and the requests that it got.
pub struct TestProviderState {
    pub issuer: String,
    pub jwks_uri: String,
    pub keys: Vec<Value>,
    pub cache_control: Option<String>,
    pub failure: Option<String>,
    pub status: u16,
    pub body_override: Option<String>,
    /// Answers wait until this is free.
    pub response_gate: Option<Arc<tokio::sync::Semaphore>>,
    pub requested_urls: Vec<String>,
}

pub struct TestProvider {
    pub signers: Vec<TestSigner>,
    state: Arc<Mutex<TestProviderState>>,
}

impl TestProvider {
    pub fn start() -> Self {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        let signers = vec![
            shared_rsa_signer().clone(),
            TestSigner::generate_p256("p256"),
            TestSigner::new(
                "p384",
                EncodingKey::from_ec_der(p384.to_pkcs8v1().expect("DER").as_ref()),
                "ES384",
            ),
            TestSigner::generate_ed25519("ed"),
        ];
        let web = TestProviderState {
            issuer: ISSUER.to_owned(),
            jwks_uri: format!("{ISSUER}/keys"),
            keys: signers.iter().map(|signer| signer.jwk.clone()).collect(),
            cache_control: None,
            failure: None,
            status: 200,
            body_override: None,
            response_gate: None,
            requested_urls: vec![],
        };
        Self { signers, state: Arc::new(Mutex::new(web)) }
    }

    pub fn update_state(&self, change: impl FnOnce(&mut TestProviderState)) {
        change(&mut self.state.lock().expect("no panic"));
    }

    pub fn set_issuer(&self, issuer: &str) {
        self.update_state(|web| {
            web.issuer = issuer.to_owned();
            web.jwks_uri = format!("{issuer}/keys");
        });
    }

    /// Requests for the JWK set.
    pub fn jwks_fetch_count(&self) -> usize {
        let web = self.state.lock().expect("no panic");
        web.requested_urls.iter().filter(|url| !url.contains(".well-known")).count()
    }

    pub fn requested_urls(&self) -> Vec<String> {
        self.state.lock().expect("no panic").requested_urls.clone()
    }

    pub fn http_client(&self) -> Arc<dyn HttpClient> {
        Arc::new(TestProviderClient(self.state.clone()))
    }

    pub fn build_verifier(&self) -> TokenVerifier {
        self.build_verifier_with(|_| {})
    }

    pub fn build_verifier_with(&self, change: impl FnOnce(&mut ProviderConfig)) -> TokenVerifier {
        let mut config = provider_config();
        change(&mut config);
        TokenVerifier::new(vec![config], self.http_client()).expect("configured")
    }

    pub fn find_signer(&self, kid: &str) -> &TestSigner {
        self.signers.iter().find(|signer| signer.jwk["kid"] == kid).expect("a key of that name")
    }

    pub fn sign_with_kid(&self, header: &Value, claims: &Value) -> String {
        self.find_signer(header["kid"].as_str().expect("kid")).sign(header, claims)
    }

    pub fn sign_token(&self, claims: &Value) -> String {
        self.sign_with_kid(&json!({"alg": "ES256", "kid": "p256"}), claims)
    }
}

struct TestProviderClient(Arc<Mutex<TestProviderState>>);

impl HttpClient for TestProviderClient {
    fn send(&self, request: Request<Bytes>, limits: HttpLimits) -> HttpFuture<'_> {
        Box::pin(async move {
            let url = request.uri().to_string();
            let gate = {
                let mut web = self.0.lock().expect("no panic");
                web.requested_urls.push(url.clone());
                web.response_gate.clone()
            };
            if let Some(gate) = gate {
                gate.acquire().await.expect("open").forget();
            }
            let web = self.0.lock().expect("no panic");
            if let Some(reason) = &web.failure {
                return Err(HttpClientError::Failed(reason.clone()));
            }
            let body = if url.ends_with("/.well-known/openid-configuration") {
                json!({"issuer": web.issuer, "jwks_uri": web.jwks_uri}).to_string()
            } else {
                web.body_override.clone().unwrap_or_else(|| json!({"keys": web.keys}).to_string())
            };
            if body.len() > limits.max_response_bytes {
                return Err(HttpClientError::Failed("the response is too large".to_owned()));
            }
            let mut response = Response::builder().status(web.status);
            if let Some(cache_control) = &web.cache_control {
                response = response.header("cache-control", cache_control);
            }
            Ok(response.body(body.into()).expect("a response"))
        })
    }
}

/// Two providers on one network, told apart by the tenant in the path.
pub struct TwoProviderClient {
    pub ours: Arc<dyn HttpClient>,
    pub theirs: Arc<dyn HttpClient>,
}

impl HttpClient for TwoProviderClient {
    fn send(&self, request: Request<Bytes>, limits: HttpLimits) -> HttpFuture<'_> {
        let client = if request.uri().path().contains("/tenant") { &self.theirs } else { &self.ours };
        client.send(request, limits)
    }
}
