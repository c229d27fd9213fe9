//! An identity provider for tests: its keys, the tokens it signs, and its answers to [`Fetch`].

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
use jsonwebtoken::{EncodingKey, jwk::Jwk};
use std::{
    str::FromStr as _,
    sync::{Mutex, OnceLock},
};
use time::macros::datetime;

pub const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
pub const ISSUER: &str = "https://login.example.com";

pub fn config() -> ProviderConfig {
    ProviderConfig::new("corp", ISSUER, vec!["durward".to_owned(), "https://aws.gw.example".to_owned()])
}

pub fn claims() -> Value {
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

pub fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

pub fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

pub fn encode(part: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A private key and its public JWK.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    pub jwk: Value,
}

impl Signer {
    fn new(kid: &str, key: EncodingKey, algorithm: &str) -> Self {
        let jwk = Jwk::from_encoding_key(&key, parse(algorithm)).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        let members = jwk.as_object_mut().expect("an object");
        members.retain(|name, _| ["kty", "crv", "n", "e", "x", "y"].contains(&name.as_str()));
        members.insert("kid".to_owned(), json!(kid));
        members.insert("use".to_owned(), json!("sig"));
        Self { key, jwk }
    }

    fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key().as_ref())});
        Self { key: EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("DER").as_ref()), jwk }
    }

    pub fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let der = pair.to_pkcs8v1().expect("DER");
        Self::new(kid, EncodingKey::from_ec_der(der.as_ref()), "ES256")
    }

    pub fn sign_bytes(&self, message: &[u8], algorithm: &str) -> String {
        jsonwebtoken::crypto::sign(message, &self.key, parse(algorithm)).expect("signed")
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.sign_bytes(signed.as_bytes(), header["alg"].as_str().expect("alg"));
        format!("{signed}.{signature}")
    }
}

fn parse(algorithm: &str) -> jsonwebtoken::Algorithm {
    jsonwebtoken::Algorithm::from_str(algorithm).expect("an algorithm")
}

/// RSA keys take long to make; all tests share one.
fn rsa() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| rsa_of(KeySize::Rsa2048, "rsa"))
}

fn rsa_of(size: KeySize, kid: &str) -> Signer {
    let pair = RsaKeyPair::generate(size).expect("a key");
    // `from_rsa_der` reads PKCS#1: the innermost octet string of PKCS#8.
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref())
    );
    Signer::new(kid, EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key"), "RS256")
}

/// What the provider answers, and what it was asked.
pub struct Web {
    pub issuer: String,
    pub jwks_uri: String,
    pub keys: Vec<Value>,
    pub cache_control: Option<String>,
    pub failure: Option<String>,
    pub status: u16,
    pub body: Option<String>,
    /// Answers wait until this is free.
    pub gate: Option<Arc<tokio::sync::Semaphore>>,
    pub asked: Vec<String>,
}

pub struct Idp {
    pub signers: Vec<Signer>,
    web: Arc<Mutex<Web>>,
}

impl Idp {
    pub fn start() -> Self {
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        let signers = vec![
            rsa().clone(),
            Signer::p256("p256"),
            Signer::new("p384", EncodingKey::from_ec_der(p384.to_pkcs8v1().expect("DER").as_ref()), "ES384"),
            Signer::ed25519("ed"),
        ];
        let web = Web {
            issuer: ISSUER.to_owned(),
            jwks_uri: format!("{ISSUER}/keys"),
            keys: signers.iter().map(|signer| signer.jwk.clone()).collect(),
            cache_control: None,
            failure: None,
            status: 200,
            body: None,
            gate: None,
            asked: vec![],
        };
        Self { signers, web: Arc::new(Mutex::new(web)) }
    }

    pub fn set(&self, change: impl FnOnce(&mut Web)) {
        change(&mut self.web.lock().expect("no panic"));
    }

    pub fn answer_as(&self, issuer: &str) {
        self.set(|web| {
            web.issuer = issuer.to_owned();
            web.jwks_uri = format!("{issuer}/keys");
        });
    }

    /// Requests for the JWK set.
    pub fn fetches(&self) -> usize {
        let web = self.web.lock().expect("no panic");
        web.asked.iter().filter(|url| !url.contains(".well-known")).count()
    }

    pub fn asked(&self) -> Vec<String> {
        self.web.lock().expect("no panic").asked.clone()
    }

    pub fn web(&self) -> Arc<dyn Fetch> {
        Arc::new(Answers(self.web.clone()))
    }

    pub fn verifier(&self) -> Verifier {
        self.verifier_with(|_| {})
    }

    pub fn verifier_with(&self, change: impl FnOnce(&mut ProviderConfig)) -> Verifier {
        let mut config = config();
        change(&mut config);
        Verifier::new(vec![config], self.web()).expect("configured")
    }

    pub fn signer(&self, kid: &str) -> &Signer {
        self.signers.iter().find(|signer| signer.jwk["kid"] == kid).expect("a key of that name")
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.signer(header["kid"].as_str().expect("kid")).sign(header, claims)
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": "p256"}), claims)
    }
}

struct Answers(Arc<Mutex<Web>>);

impl Fetch for Answers {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send + 'a>> {
        Box::pin(async move {
            let gate = {
                let mut web = self.0.lock().expect("no panic");
                web.asked.push(url.to_owned());
                web.gate.clone()
            };
            if let Some(gate) = gate {
                gate.acquire().await.expect("open").forget();
            }
            let web = self.0.lock().expect("no panic");
            if let Some(why) = &web.failure {
                return Err(why.clone());
            }
            let body = if url.ends_with("/.well-known/openid-configuration") {
                json!({"issuer": web.issuer, "jwks_uri": web.jwks_uri}).to_string()
            } else {
                web.body.clone().unwrap_or_else(|| json!({"keys": web.keys}).to_string())
            };
            Ok(Fetched { status: web.status, body: body.into(), cache_control: web.cache_control.clone() })
        })
    }
}

/// Two providers on one network, told apart by the tenant in the path.
pub struct Both {
    pub ours: Arc<dyn Fetch>,
    pub theirs: Arc<dyn Fetch>,
}

impl Fetch for Both {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send + 'a>> {
        if url.contains("/tenant") { self.theirs.get(url) } else { self.ours.get(url) }
    }
}
