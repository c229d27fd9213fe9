//! An identity provider, as the command line's client speaks with it: discovery, its token endpoint, and the ID token checked.
//!
//! It is reached over TLS, or on loopback. The gateway verifies a token on each use; it is verified here too, so that a
//! provider's mistake is found at the sign-in and not at the first use.

use crate::admin_api::Failure;
use crate::journal_commands::text::plain;
use bytes::Bytes;
use durward_core::Secret;
use durward_credential::Transport as _;
use durward_gateway::outward::Outward;
use durward_gateway::transport::Transport;
use durward_identity::relying_party::{Discovery, Tokens, form, nonce as given, same};
use durward_identity::{ProviderConfig, Verifier};
use http::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::OffsetDateTime;

/// How people sign in, as the console says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Way {
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub scopes: Vec<String>,
}

/// A provider whose discovery document was read.
pub struct Provider {
    way: Way,
    pub discovery: Discovery,
    outward: Outward,
    verifier: Verifier,
}

/// What came of a sign-in.
pub struct Granted {
    pub id_token: Secret,
    pub refresh_token: Option<String>,
    pub subject: String,
    pub expires: OffsetDateTime,
}

impl Provider {
    pub async fn find(way: Way) -> Result<Self, Failure> {
        let issuer = crate::serve::origin(&way.issuer).map_err(Failure::Answer)?;
        if !issuer.tls && !crate::console::is_loopback(&way.issuer) {
            return Err(Failure::Answer(format!(
                "the identity provider {} is not reached over TLS: nobody signs in there",
                plain(&way.issuer)
            )));
        }
        let to = |origins| -> Result<Outward, Failure> {
            Transport::new(origins).map(|transport| Outward(Arc::new(transport))).map_err(Failure::Answer)
        };
        let discovery = Discovery::read(&way.issuer, &to(vec![issuer.clone()])?).await.map_err(|why| {
            Failure::Way(format!(
                "the identity provider {} cannot be used now: {}",
                plain(&way.name),
                plain(&why)
            ))
        })?;
        let mut origins = vec![issuer];
        for endpoint in discovery.endpoints() {
            origins.push(crate::serve::origin(endpoint).map_err(Failure::Answer)?);
        }
        let config = ProviderConfig::new(&way.name, &way.issuer, vec![way.client_id.clone()]);
        let verifier = Verifier::new(vec![config], Arc::new(to(origins.clone())?))
            .map_err(|error| Failure::Answer(plain(&error.to_string())))?;
        Ok(Self { way, discovery, outward: to(origins)?, verifier })
    }

    pub fn way(&self) -> &Way {
        &self.way
    }

    pub fn has_device_way(&self) -> bool {
        self.discovery.device_authorization_endpoint.is_some()
    }

    /// What is asked for beside `openid`: `offline_access` only of a provider that does not say that it has none.
    pub fn scopes(&self) -> Vec<String> {
        let known = self.discovery.scopes_supported.as_ref();
        let unknown = |scope: &str| known.is_some_and(|known| !known.iter().any(|one| one == scope));
        let asked =
            self.way.scopes.iter().filter(|scope| scope.as_str() != "offline_access" || !unknown(scope));
        asked.cloned().collect()
    }

    /// Posts a form with the client's id; the answer whatever its status.
    pub async fn post<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, T), Failure> {
        let (status, body) = self.send(endpoint, pairs).await?;
        let answer = serde_json::from_slice(&body).map_err(|_error| {
            let why = format!("{} answered {status} and not what a provider answers", plain(endpoint));
            if status.is_server_error() { Failure::Way(why) } else { Failure::Answer(why) }
        })?;
        Ok((status, answer))
    }

    async fn send(&self, endpoint: &str, pairs: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Failure> {
        let mut all = vec![("client_id", self.way.client_id.as_str())];
        all.extend_from_slice(pairs);
        let body = form(&all);
        let request = Request::post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .header("content-length", body.len())
            .body(Bytes::from(body))
            .map_err(|_error| Failure::Answer(format!("{} is not a URL", plain(endpoint))))?;
        let response = self.outward.send(request).await.map_err(|why| {
            Failure::Way(format!("the identity provider {} cannot be reached: {why}", plain(&self.way.name)))
        })?;
        Ok((response.status(), response.into_body()))
    }

    /// Asks the token endpoint; what it refuses is a failure in its own words.
    pub async fn tokens(&self, pairs: &[(&str, &str)]) -> Result<Tokens, Failure> {
        let (status, tokens): (_, Tokens) = self.post(&self.discovery.token_endpoint, pairs).await?;
        if status.is_success() && tokens.error.is_none() {
            return Ok(tokens);
        }
        let said = format!("the identity provider refused: {}", plain(&tokens.said()));
        Err(if status.is_server_error() { Failure::Way(said) } else { Failure::Answer(said) })
    }

    pub async fn renew(&self, refresh_token: &str) -> Result<Tokens, Failure> {
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    /// Ends what a refresh token is good for (RFC 7009), where the provider can.
    pub async fn revoke(&self, refresh_token: &str) -> Result<(), String> {
        let Some(endpoint) = &self.discovery.revocation_endpoint else { return Ok(()) };
        let pairs = [("token", refresh_token), ("token_type_hint", "refresh_token")];
        let (status, _body) = self.send(endpoint, &pairs).await?;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    /// Checks what the token endpoint gave; with `nonce` it must be for the sign-in that sent it.
    pub async fn granted(&self, tokens: Tokens, nonce: Option<&str>) -> Result<Granted, Failure> {
        let wrong = |why: String| {
            Failure::Answer(format!("the ID token of the identity provider is not accepted: {}", plain(&why)))
        };
        let token = tokens.id_token.ok_or_else(|| wrong("it sent none".to_owned()))?;
        let verified = self
            .verifier
            .verify(&token, OffsetDateTime::now_utc())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        if nonce.is_some_and(|nonce| !given(&token).is_some_and(|given| same(&given, nonce))) {
            return Err(wrong("it was not issued for this sign-in (nonce)".to_owned()));
        }
        Ok(Granted {
            subject: verified.caller.subject,
            expires: verified.expires,
            id_token: Secret::new(token),
            refresh_token: tokens.refresh_token,
        })
    }
}
