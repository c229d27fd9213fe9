//! An identity provider, as the command line's client speaks with it: discovery, its token endpoint, and the ID token checked.
//!
//! It is reached over TLS, or on loopback. The gateway verifies a token on each use; it is verified here too, so that a
//! provider's mistake is found at the sign-in and not at the first use.

use crate::admin_api::RemoteError;
use crate::journal_commands::terminal_text::escape_for_terminal;
use bytes::Bytes;
use durward_core::{HttpClient as _, HttpLimits, Secret};
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::upstream_client::UpstreamClient;
use durward_identity::relying_party::{DiscoveryDocument, TokenResponse, encode_form};
use durward_identity::{ProviderConfig, TokenVerifier};
use http::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// For one call of the provider.
const PROVIDER_LIMITS: HttpLimits =
    HttpLimits { timeout: Duration::from_secs(10), max_response_bytes: 1 << 20 };

/// How people sign in, as the console says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientRegistration {
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub scopes: Vec<String>,
}

/// A provider whose discovery document was read.
pub struct ProviderClient {
    registration: ClientRegistration,
    pub discovery: DiscoveryDocument,
    http_client: OutboundHttpClient,
    verifier: TokenVerifier,
}

/// What came of a sign-in.
pub struct SignInTokens {
    pub id_token: Secret,
    pub refresh_token: Option<String>,
    pub subject: String,
    pub expires_at: OffsetDateTime,
}

impl ProviderClient {
    pub async fn discover(way: ClientRegistration) -> Result<Self, RemoteError> {
        let issuer = crate::serve::parse_origin(&way.issuer).map_err(RemoteError::Rejected)?;
        if !issuer.uses_tls && !crate::console_server::is_loopback_url(&way.issuer) {
            return Err(RemoteError::Rejected(format!(
                "the identity provider {} is not reached over TLS: nobody signs in there",
                escape_for_terminal(&way.issuer)
            )));
        }
        let to = |origins| -> Result<OutboundHttpClient, RemoteError> {
            UpstreamClient::new(origins)
                .map(|transport| OutboundHttpClient(Arc::new(transport)))
                .map_err(RemoteError::Rejected)
        };
        let discovery = DiscoveryDocument::fetch_document(&way.issuer, &to(vec![issuer.clone()])?)
            .await
            .map_err(|error| {
                RemoteError::Unreachable(format!(
                    "the identity provider {} cannot be used now: {}",
                    escape_for_terminal(&way.name),
                    escape_for_terminal(&error.to_string())
                ))
            })?;
        let mut origins = vec![issuer];
        for endpoint in discovery.endpoints() {
            origins.push(crate::serve::parse_origin(endpoint).map_err(RemoteError::Rejected)?);
        }
        let config = ProviderConfig::new(&way.name, &way.issuer, vec![way.client_id.clone()]);
        let verifier = TokenVerifier::new(vec![config], Arc::new(to(origins.clone())?))
            .map_err(|error| RemoteError::Rejected(escape_for_terminal(&error.to_string())))?;
        Ok(Self { registration: way, discovery, http_client: to(origins)?, verifier })
    }

    pub fn registration(&self) -> &ClientRegistration {
        &self.registration
    }

    pub fn supports_device_authorization(&self) -> bool {
        self.discovery.device_authorization_endpoint.is_some()
    }

    /// What is asked for beside `openid`: `offline_access` only of a provider that does not say that it has none.
    pub fn requested_scopes(&self) -> Vec<String> {
        let known = self.discovery.scopes_supported.as_ref();
        let unknown = |scope: &str| known.is_some_and(|known| !known.iter().any(|one| one == scope));
        let asked = self
            .registration
            .scopes
            .iter()
            .filter(|scope| scope.as_str() != "offline_access" || !unknown(scope));
        asked.cloned().collect()
    }

    /// Posts a form with the client's id; the answer whatever its status.
    pub async fn post_form<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, T), RemoteError> {
        let (status, body) = self.send_form(endpoint, pairs).await?;
        let answer = serde_json::from_slice(&body).map_err(|_error| {
            let why = format!(
                "{} answered {status} and not what a provider answers",
                escape_for_terminal(endpoint)
            );
            if status.is_server_error() { RemoteError::Unreachable(why) } else { RemoteError::Rejected(why) }
        })?;
        Ok((status, answer))
    }

    async fn send_form(
        &self,
        endpoint: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, Bytes), RemoteError> {
        let mut all = vec![("client_id", self.registration.client_id.as_str())];
        all.extend_from_slice(pairs);
        let body = encode_form(&all);
        let request = Request::post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .header("content-length", body.len())
            .body(Bytes::from(body))
            .map_err(|_error| {
                RemoteError::Rejected(format!("{} is not a URL", escape_for_terminal(endpoint)))
            })?;
        let response = self.http_client.send(request, PROVIDER_LIMITS).await.map_err(|why| {
            RemoteError::Unreachable(format!(
                "the identity provider {} cannot be reached: {why}",
                escape_for_terminal(&self.registration.name)
            ))
        })?;
        Ok((response.status(), response.into_body()))
    }

    /// Asks the token endpoint; what it refuses is a failure in its own words.
    pub async fn request_tokens(&self, pairs: &[(&str, &str)]) -> Result<TokenResponse, RemoteError> {
        let (status, tokens): (_, TokenResponse) =
            self.post_form(&self.discovery.token_endpoint, pairs).await?;
        if status.is_success() && tokens.error.is_none() {
            return Ok(tokens);
        }
        let said = format!("the identity provider refused: {}", escape_for_terminal(&tokens.error_text()));
        Err(if status.is_server_error() {
            RemoteError::Unreachable(said)
        } else {
            RemoteError::Rejected(said)
        })
    }

    pub async fn renew_tokens(&self, refresh_token: &str) -> Result<TokenResponse, RemoteError> {
        self.request_tokens(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    /// Ends what a refresh token is good for (RFC 7009), where the provider can.
    pub async fn revoke_token(&self, refresh_token: &str) -> Result<(), String> {
        let Some(endpoint) = &self.discovery.revocation_endpoint else { return Ok(()) };
        let pairs = [("token", refresh_token), ("token_type_hint", "refresh_token")];
        let (status, _body) = self.send_form(endpoint, &pairs).await?;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    /// Checks what the token endpoint gave; with `nonce` it must be for the sign-in that sent it.
    pub async fn verify_tokens(
        &self,
        tokens: TokenResponse,
        nonce: Option<&str>,
    ) -> Result<SignInTokens, RemoteError> {
        let wrong = |why: String| {
            RemoteError::Rejected(format!(
                "the ID token of the identity provider is not accepted: {}",
                escape_for_terminal(&why)
            ))
        };
        let token = tokens.id_token.ok_or_else(|| wrong("it sent none".to_owned()))?;
        let verified = self
            .verifier
            .verify(&token, OffsetDateTime::now_utc())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        if nonce.is_some_and(|nonce| !verified.has_nonce(nonce)) {
            return Err(wrong("it was not issued for this sign-in (nonce)".to_owned()));
        }
        Ok(SignInTokens {
            subject: verified.caller.subject,
            expires_at: verified.expires_at,
            id_token: Secret::new(token),
            refresh_token: tokens.refresh_token,
        })
    }
}
