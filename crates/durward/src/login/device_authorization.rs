//! The device authorization grant (RFC 8628): the user signs in on any device with an address and a code that are shown here,
//! while this command polls the token endpoint, no faster than the provider allows.

use super::provider_client::{ProviderClient, SignInTokens};
use crate::command_error::CommandError;
use crate::terminal_output::print_line;
use crate::terminal_text::escape_for_terminal;
use crate::url_origin::{is_confidential_url, origin_of_url};
use durward_identity::relying_party::{TokenResponse, code_challenge, random_text, scope_parameter};
use http::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two polls where the provider names none (RFC 8628, section 3.2: 5 seconds).
const DEFAULT_POLL_INTERVAL_SECS: u64 = 5;
const MAX_POLL_INTERVAL_SECS: u64 = 60;
/// Added to the pause each time the provider returns `slow_down` (RFC 8628, section 3.5).
const SLOW_DOWN_INCREMENT: Duration = Duration::from_secs(5);
/// Longest wait for a code, whatever lifetime the provider names.
const MAX_CODE_LIFETIME_SECS: u64 = 3_600;

const CODE_EXPIRED_MESSAGE: &str =
    "the code was not used in time\n  hint: run `durward login --device` again";

/// A response of the device authorization endpoint, success or error.
#[derive(Default, Deserialize)]
struct DeviceAuthorizationResponse {
    device_code: Option<String>,
    user_code: Option<String>,
    verification_uri: Option<String>,
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The meaning of one response of the token endpoint.
enum PollOutcome {
    Done(TokenResponse),
    Pending,
    Failed(String),
}

pub async fn sign_in_with_device(provider: &ProviderClient) -> Result<SignInTokens, CommandError> {
    let name = escape_for_terminal(&provider.registration().name);
    let Some(endpoint) = provider.discovery.device_authorization_endpoint.clone() else {
        return Err(CommandError::Refused(format!(
            "the identity provider {name} has no sign-in by another device\n  hint: omit --device, and open the page that \
             is shown in a browser on this machine"
        )));
    };
    // RFC 8628 has no PKCE, but a provider that requires PKCE of a client requires it here too.
    let verifier = random_text()
        .ok_or_else(|| CommandError::Refused("the system's random number generator failed".to_owned()))?;
    let form = [
        ("scope", scope_parameter(&provider.requested_scopes())),
        ("code_challenge", code_challenge(&verifier)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (_status, authorization): (StatusCode, DeviceAuthorizationResponse) =
        provider.post_form(&endpoint, &form).await?;
    let (Some(device_code), Some(user_code), Some(page)) =
        (&authorization.device_code, &authorization.user_code, &authorization.verification_uri)
    else {
        let reason = authorization.error_description.or(authorization.error);
        let reason = reason.unwrap_or_else(|| "it sent no code".to_owned());
        return Err(CommandError::Refused(format!(
            "the identity provider {name} refused: {}",
            escape_for_terminal(&reason)
        )));
    };
    print_user_code(page, user_code, authorization.verification_uri_complete.as_deref())?;
    let mut interval = Duration::from_secs(
        // Bounded: 0 would become a loop of requests, and a huge interval would never see the sign-in.
        authorization.interval.unwrap_or(DEFAULT_POLL_INTERVAL_SECS).clamp(1, MAX_POLL_INTERVAL_SECS),
    );
    let lifetime = authorization.expires_in.unwrap_or(MAX_CODE_LIFETIME_SECS).min(MAX_CODE_LIFETIME_SECS);
    let end = Instant::now() + Duration::from_secs(lifetime);
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code.as_str()),
        ("code_verifier", verifier.as_str()),
    ];
    loop {
        tokio::time::sleep_until(end.min(Instant::now() + interval)).await;
        let response = provider.post_form(&provider.discovery.token_endpoint, &poll).await;
        match interpret_token_response(response, &mut interval) {
            PollOutcome::Done(tokens) => return provider.verify_tokens(tokens, None).await,
            PollOutcome::Pending if Instant::now() >= end => {
                return Err(CommandError::Refused(CODE_EXPIRED_MESSAGE.to_owned()));
            }
            PollOutcome::Pending => {}
            PollOutcome::Failed(reason) => return Err(CommandError::Refused(reason)),
        }
    }
}

/// Prints the address to open and the code to enter there.
fn print_user_code(page: &str, user_code: &str, complete: Option<&str>) -> Result<(), CommandError> {
    // A page without TLS could be anyone's on the way, and the user types a password into it.
    if !is_confidential_url(page) {
        return Err(CommandError::Refused(format!(
            "the identity provider sends users to {}, which is not https",
            escape_for_terminal(page)
        )));
    }
    // It must be on the site that was checked above: this address could otherwise lead anywhere.
    let complete = complete
        .filter(|complete| origin_of_url(complete).is_ok_and(|origin| origin_of_url(page) == Ok(origin)));
    let page = escape_for_terminal(page);
    print_line(&format!(
        "to sign in, open\n\n    {page}\n\non any device, and enter the code\n\n    {}\n",
        escape_for_terminal(user_code)
    ))?;
    if let Some(complete) = complete.map(escape_for_terminal) {
        print_line(&format!(
            "or open this address and check that it shows the same code:\n\n    {complete}\n"
        ))?;
    }
    print_line("waiting for the sign-in ...")
}

fn interpret_token_response(
    response: Result<(StatusCode, TokenResponse), CommandError>,
    interval: &mut Duration,
) -> PollOutcome {
    let (status, tokens) = match response {
        Ok(response) => response,
        // RFC 8628, section 3.5: after a connection timeout, poll less often.
        Err(CommandError::Unreachable(reason)) => {
            tracing::warn!("{reason}; trying again");
            *interval = (*interval * 2).min(Duration::from_secs(MAX_POLL_INTERVAL_SECS));
            return PollOutcome::Pending;
        }
        Err(error) => return PollOutcome::Failed(error.to_string()),
    };
    match tokens.error.as_deref() {
        None if status.is_success() => PollOutcome::Done(tokens),
        Some("authorization_pending") => PollOutcome::Pending,
        Some("slow_down") => {
            *interval += SLOW_DOWN_INCREMENT;
            PollOutcome::Pending
        }
        Some("expired_token") => PollOutcome::Failed(CODE_EXPIRED_MESSAGE.to_owned()),
        Some("access_denied") => {
            PollOutcome::Failed("the sign-in was refused at the identity provider".to_owned())
        }
        _ => PollOutcome::Failed(format!(
            "the identity provider refused: {}",
            escape_for_terminal(&tokens.error_text())
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_error(error: &str) -> (StatusCode, TokenResponse) {
        (StatusCode::BAD_REQUEST, TokenResponse { error: Some(error.to_owned()), ..TokenResponse::default() })
    }

    #[test]
    fn polls_no_faster_than_the_provider_allows() {
        let mut interval = Duration::from_secs(5);
        for (response, seconds) in [
            (Ok(token_error("authorization_pending")), 5),
            (Ok(token_error("slow_down")), 10),
            (Ok(token_error("authorization_pending")), 10),
            (Ok(token_error("slow_down")), 15),
            (Err(CommandError::Unreachable("reset".to_owned())), 30),
            (Err(CommandError::Unreachable("reset".to_owned())), 60),
            (Err(CommandError::Unreachable("reset".to_owned())), 60),
        ] {
            assert!(matches!(interpret_token_response(response, &mut interval), PollOutcome::Pending));
            assert_eq!(interval.as_secs(), seconds);
        }
    }

    #[test]
    fn ends_when_the_code_expires_or_the_user_refuses() {
        let mut interval = Duration::from_secs(5);
        for (error, wanted) in [
            ("expired_token", "in time"),
            ("access_denied", "was refused"),
            ("invalid_grant", "refused: invalid_grant"),
        ] {
            let PollOutcome::Failed(reason) = interpret_token_response(Ok(token_error(error)), &mut interval)
            else {
                panic!("{error}")
            };
            assert!(reason.contains(wanted), "{reason}");
        }
        let granted = Ok((
            StatusCode::OK,
            TokenResponse { id_token: Some("x".to_owned()), ..TokenResponse::default() },
        ));
        assert!(matches!(interpret_token_response(granted, &mut interval), PollOutcome::Done(_)));
        let unexplained = Ok((StatusCode::BAD_REQUEST, TokenResponse::default()));
        assert!(matches!(interpret_token_response(unexplained, &mut interval), PollOutcome::Failed(_)));
    }

    #[test]
    fn refuses_a_plain_http_verification_page() {
        assert!(print_user_code("http://idp.example/device", "ABCD", None).is_err());
        assert!(print_user_code("javascript:alert(1)", "ABCD", None).is_err());
    }
}
