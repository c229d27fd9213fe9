//! The identity provider as the command line's client sees it: discovery, the token endpoint, verified ID tokens.
//!
//! It is reached over TLS or on a loopback address. The gateway verifies a token at each use. It is verified here as well, so
//! that a mistake of the provider shows at the sign-in and not at the first use.

use crate::command_error::CommandError;
use crate::terminal_text::escape_for_terminal;
use crate::url_origin::{is_confidential, origin_of_url};
use bytes::Bytes;
use durward_core::{HttpClient as _, HttpLimits, Origin, Secret};
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

/// A user waits for each of these requests. A token response takes some KiB.
const PROVIDER_LIMITS: HttpLimits =
    HttpLimits { timeout: Duration::from_secs(10), max_response_bytes: 1 << 20 };

/// The command line's client at one identity provider, as the console names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientRegistration {
    /// The provider's name in the gateway's configuration.
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub scopes: Vec<String>,
}

/// A provider whose discovery document has been read.
pub struct ProviderClient {
    registration: ClientRegistration,
    pub discovery: DiscoveryDocument,
    http_client: OutboundHttpClient,
    verifier: TokenVerifier,
}

/// The result of a sign-in.
pub struct SignInTokens {
    pub id_token: Secret,
    pub refresh_token: Option<Secret>,
    pub subject: String,
    pub expires_at: OffsetDateTime,
}

impl ProviderClient {
    pub async fn discover(registration: ClientRegistration) -> Result<Self, CommandError> {
        let issuer = origin_of_url(&registration.issuer)?;
        if !is_confidential(&issuer) {
            return Err(CommandError::Refused(format!(
                "the identity provider {} does not use TLS: a sign-in there would travel unencrypted",
                escape_for_terminal(&registration.issuer)
            )));
        }
        // A provider in the company network has a private address, which the client would refuse otherwise. The user named this
        // one.
        let client = http_client(vec![issuer.clone()])?;
        let discovery =
            DiscoveryDocument::fetch_document(&registration.issuer, &client).await.map_err(|error| {
                CommandError::Unreachable(format!(
                    "the identity provider {} cannot be used now: {}",
                    escape_for_terminal(&registration.name),
                    escape_for_terminal(&error.to_string())
                ))
            })?;
        // Only the origins of the discovery document may be private addresses.
        let mut origins = vec![issuer];
        for endpoint in discovery.endpoints() {
            origins.push(origin_of_url(endpoint)?);
        }
        let config = ProviderConfig::new(
            &registration.name,
            &registration.issuer,
            vec![registration.client_id.clone()],
        );
        let verifier = TokenVerifier::new(vec![config], Arc::new(http_client(origins.clone())?))
            .map_err(|error| CommandError::Refused(escape_for_terminal(&error.to_string())))?;
        Ok(Self { registration, discovery, http_client: http_client(origins)?, verifier })
    }

    pub fn registration(&self) -> &ClientRegistration {
        &self.registration
    }

    pub fn supports_device_authorization(&self) -> bool {
        self.discovery.device_authorization_endpoint.is_some()
    }

    /// The scopes beside `openid`. `offline_access` is left out where the provider lists its scopes and not this one: some
    /// providers refuse a request with an unknown scope.
    pub fn requested_scopes(&self) -> Vec<String> {
        let supported = self.discovery.scopes_supported.as_ref();
        let is_unsupported =
            |scope: &str| supported.is_some_and(|supported| !supported.iter().any(|one| one == scope));
        let scopes = self.registration.scopes.iter();
        scopes.filter(|scope| scope.as_str() != "offline_access" || !is_unsupported(scope)).cloned().collect()
    }

    /// Posts a form with the client id and returns the JSON response, whatever its status.
    pub async fn post_form<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, T), CommandError> {
        let (status, body) = self.send_form(endpoint, pairs).await?;
        let response = serde_json::from_slice(&body).map_err(|_error| {
            let reason = format!("{} returned {status} and no valid response", escape_for_terminal(endpoint));
            if status.is_server_error() {
                CommandError::Unreachable(reason)
            } else {
                CommandError::Refused(reason)
            }
        })?;
        Ok((status, response))
    }

    async fn send_form(
        &self,
        endpoint: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, Bytes), CommandError> {
        // A public client names itself in the form (RFC 6749, section 3.2.1).
        let mut fields = vec![("client_id", self.registration.client_id.as_str())];
        fields.extend_from_slice(pairs);
        let body = encode_form(&fields);
        let request = Request::post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .header("content-length", body.len())
            .body(Bytes::from(body))
            .map_err(|_error| {
                CommandError::Refused(format!("{} is not a URL", escape_for_terminal(endpoint)))
            })?;
        let response = self.http_client.send(request, PROVIDER_LIMITS).await.map_err(|error| {
            CommandError::Unreachable(format!(
                "the identity provider {} cannot be reached: {error}",
                escape_for_terminal(&self.registration.name)
            ))
        })?;
        Ok((response.status(), response.into_body()))
    }

    /// Sends a request to the token endpoint. A refusal is an error with the provider's own words.
    pub async fn request_tokens(&self, pairs: &[(&str, &str)]) -> Result<TokenResponse, CommandError> {
        let (status, tokens): (_, TokenResponse) =
            self.post_form(&self.discovery.token_endpoint, pairs).await?;
        if status.is_success() && tokens.error.is_none() {
            return Ok(tokens);
        }
        let reason = format!("the identity provider refused: {}", escape_for_terminal(&tokens.error_text()));
        Err(if status.is_server_error() {
            CommandError::Unreachable(reason)
        } else {
            CommandError::Refused(reason)
        })
    }

    pub async fn renew_tokens(&self, refresh_token: &Secret) -> Result<TokenResponse, CommandError> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        self.request_tokens(&fields).await
    }

    /// Revokes a refresh token (RFC 7009), if the provider has an endpoint for it.
    pub async fn revoke_token(&self, refresh_token: &Secret) -> Result<(), CommandError> {
        let Some(endpoint) = &self.discovery.revocation_endpoint else { return Ok(()) };
        let fields = [("token", refresh_token.expose()), ("token_type_hint", "refresh_token")];
        let (status, _body) = self.send_form(endpoint, &fields).await?;
        if status.is_success() { Ok(()) } else { Err(CommandError::Refused(format!("it returned {status}"))) }
    }

    /// Verifies the ID token of a token response. With a `nonce`, the token must carry it: another one was issued for another
    /// sign-in (OpenID Connect Core, section 3.1.3.7).
    pub async fn verify_tokens(
        &self,
        tokens: TokenResponse,
        nonce: Option<&str>,
    ) -> Result<SignInTokens, CommandError> {
        let invalid = |reason: &str| {
            CommandError::Refused(format!(
                "the ID token of the identity provider is not accepted: {}",
                escape_for_terminal(reason)
            ))
        };
        let token = tokens.id_token.ok_or_else(|| invalid("the response has none"))?;
        let verified = self
            .verifier
            .verify(&token, OffsetDateTime::now_utc())
            .await
            .map_err(|error| invalid(&error.to_string()))?;
        if nonce.is_some_and(|nonce| !verified.has_nonce(nonce)) {
            return Err(invalid("it was not issued for this sign-in (nonce)"));
        }
        Ok(SignInTokens {
            subject: verified.caller.subject,
            expires_at: verified.expires_at,
            id_token: Secret::new(token),
            refresh_token: tokens.refresh_token.map(Secret::new),
        })
    }
}

fn http_client(trusted: Vec<Origin>) -> Result<OutboundHttpClient, CommandError> {
    UpstreamClient::new(trusted)
        .map(|client| OutboundHttpClient(Arc::new(client)))
        .map_err(CommandError::HttpClient)
}
