//! The device authorization grant (RFC 8628): the person signs in on any device, with an address and a code that are shown
//! here, while the provider is asked again and again, no faster than it wants.

use super::print_line;
use super::provider_client::{ProviderClient, SignInTokens};
use crate::admin_api::RemoteError;
use crate::journal_commands::terminal_text::escape_for_terminal;
use durward_identity::relying_party::{TokenResponse, code_challenge, random_text, scope_parameter};
use http::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions, unless the provider says otherwise; and the bounds of what it may say.
const DEFAULT_POLL_INTERVAL_SECS: u64 = 5;
const MAX_POLL_INTERVAL_SECS: u64 = 60;
/// Added each time the provider says that it is asked too often.
const SLOW_DOWN_INCREMENT: Duration = Duration::from_secs(5);
/// No code is waited for longer than this.
const MAX_CODE_LIFETIME_SECS: u64 = 3_600;

/// What the device authorization endpoint answers, good or bad.
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

/// What to do after one answer of the token endpoint.
enum PollOutcome {
    Done(TokenResponse),
    Pending,
    Failed(String),
}

pub async fn sign_in_with_device(provider: &ProviderClient) -> Result<SignInTokens, RemoteError> {
    let name = escape_for_terminal(&provider.registration().name);
    let Some(endpoint) = provider.discovery.device_authorization_endpoint.clone() else {
        return Err(RemoteError::Rejected(format!(
            "the identity provider {name} has no sign-in by another device\n  hint: leave --device out, and open the \
             page that is shown in a browser on this machine"
        )));
    };
    // PKCE is not of RFC 8628, but a provider that wants it of a client wants it here too.
    let verifier =
        random_text().ok_or_else(|| RemoteError::Rejected("the system has no randomness".to_owned()))?;
    let request = [
        ("scope", scope_parameter(&provider.requested_scopes())),
        ("code_challenge", code_challenge(&verifier)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let request = request.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (_status, code): (StatusCode, DeviceAuthorizationResponse) =
        provider.post_form(&endpoint, &request).await?;
    let (Some(device_code), Some(user_code), Some(page)) =
        (&code.device_code, &code.user_code, &code.verification_uri)
    else {
        let said = code.error_description.or(code.error).unwrap_or_else(|| "it sent no code".to_owned());
        return Err(RemoteError::Rejected(format!(
            "the identity provider {name} refused: {}",
            escape_for_terminal(&said)
        )));
    };
    print_user_code(page, user_code, code.verification_uri_complete.as_deref())
        .map_err(RemoteError::Rejected)?;
    let mut interval = Duration::from_secs(
        code.interval.unwrap_or(DEFAULT_POLL_INTERVAL_SECS).clamp(1, MAX_POLL_INTERVAL_SECS),
    );
    let end = Instant::now()
        + Duration::from_secs(code.expires_in.unwrap_or(MAX_CODE_LIFETIME_SECS).min(MAX_CODE_LIFETIME_SECS));
    let question = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code.as_str()),
        ("code_verifier", verifier.as_str()),
    ];
    loop {
        tokio::time::sleep_until(end.min(Instant::now() + interval)).await;
        let answer = provider.post_form(&provider.discovery.token_endpoint, &question).await;
        match interpret_token_response(answer, &mut interval) {
            PollOutcome::Done(tokens) => return provider.verify_tokens(tokens, None).await,
            PollOutcome::Pending if Instant::now() >= end => {
                return Err(RemoteError::Rejected(CODE_EXPIRED_MESSAGE.to_owned()));
            }
            PollOutcome::Pending => {}
            PollOutcome::Failed(why) => return Err(RemoteError::Rejected(why)),
        }
    }
}

const CODE_EXPIRED_MESSAGE: &str =
    "nobody signed in with the code in time\n  hint: run `durward login --device` again";

/// Where to go and what to write there.
fn print_user_code(page: &str, user_code: &str, complete: Option<&str>) -> Result<(), String> {
    let page = escape_for_terminal(page);
    if !page.starts_with("https://") && !crate::console_server::is_loopback_url(&page) {
        return Err(format!(
            "the identity provider sends people to {page}, which is not https: nobody signs in there"
        ));
    }
    print_line(&format!(
        "to sign in, open\n\n    {page}\n\non any device, and write the code\n\n    {}\n",
        escape_for_terminal(user_code)
    ))?;
    if let Some(complete) = complete.map(escape_for_terminal).filter(|complete| complete.starts_with(&page)) {
        print_line(&format!(
            "or open this address and check that it shows the same code:\n\n    {complete}\n"
        ))?;
    }
    print_line("waiting for you ...")
}

fn interpret_token_response(
    answer: Result<(StatusCode, TokenResponse), RemoteError>,
    interval: &mut Duration,
) -> PollOutcome {
    let (status, tokens) = match answer {
        Ok(answer) => answer,
        // RFC 8628 section 3.5: after a broken connection, back off.
        Err(RemoteError::Unreachable(why)) => {
            tracing::warn!("{why}; trying again");
            *interval = (*interval * 2).min(Duration::from_secs(MAX_POLL_INTERVAL_SECS));
            return PollOutcome::Pending;
        }
        Err(RemoteError::Rejected(why)) => return PollOutcome::Failed(why),
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
        for (answer, seconds) in [
            (Ok(token_error("authorization_pending")), 5),
            (Ok(token_error("slow_down")), 10),
            (Ok(token_error("authorization_pending")), 10),
            (Ok(token_error("slow_down")), 15),
            (Err(RemoteError::Unreachable("reset".to_owned())), 30),
            (Err(RemoteError::Unreachable("reset".to_owned())), 60),
            (Err(RemoteError::Unreachable("reset".to_owned())), 60),
        ] {
            assert!(matches!(interpret_token_response(answer, &mut interval), PollOutcome::Pending));
            assert_eq!(interval.as_secs(), seconds);
        }
    }

    #[test]
    fn ends_when_the_code_does_or_the_person_refuses() {
        let mut interval = Duration::from_secs(5);
        for (error, wanted) in [
            ("expired_token", "in time"),
            ("access_denied", "was refused"),
            ("invalid_grant", "refused: invalid_grant"),
        ] {
            let PollOutcome::Failed(why) = interpret_token_response(Ok(token_error(error)), &mut interval)
            else {
                panic!("{error}")
            };
            assert!(why.contains(wanted), "{why}");
        }
        let good = Ok((
            StatusCode::OK,
            TokenResponse { id_token: Some("x".to_owned()), ..TokenResponse::default() },
        ));
        assert!(matches!(interpret_token_response(good, &mut interval), PollOutcome::Done(_)));
        let odd = Ok((StatusCode::BAD_REQUEST, TokenResponse::default()));
        assert!(matches!(interpret_token_response(odd, &mut interval), PollOutcome::Failed(_)));
    }

    #[test]
    fn refuses_a_plain_http_verification_page() {
        assert!(print_user_code("http://idp.example/device", "ABCD", None).is_err());
        assert!(print_user_code("javascript:alert(1)", "ABCD", None).is_err());
    }
}
