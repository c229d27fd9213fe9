//! The device authorization grant (RFC 8628): the person signs in on any device, with an address and a code that are shown
//! here, while the provider is asked again and again, no faster than it wants.

use super::provider::{Granted, Provider};
use super::say;
use crate::admin_api::Failure;
use crate::journal_commands::text::plain;
use durward_identity::relying_party::{Tokens, challenge, random_text, scope};
use http::StatusCode;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions, unless the provider says otherwise; and the bounds of what it may say.
const INTERVAL: u64 = 5;
const LONGEST: u64 = 60;
/// Added each time the provider says that it is asked too often.
const SLOWER: Duration = Duration::from_secs(5);
/// No code is waited for longer than this.
const PATIENCE: u64 = 3_600;

/// What the device authorization endpoint answers, good or bad.
#[derive(Default, Deserialize)]
struct Code {
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
enum Step {
    Done(Tokens),
    Again,
    Failed(String),
}

pub async fn sign_in(provider: &Provider) -> Result<Granted, Failure> {
    let name = plain(&provider.way().name);
    let Some(endpoint) = provider.discovery.device_authorization_endpoint.clone() else {
        return Err(Failure::Answer(format!(
            "the identity provider {name} has no sign-in by another device\n  hint: leave --device out, and open the \
             page that is shown in a browser on this machine"
        )));
    };
    // PKCE is not of RFC 8628, but a provider that wants it of a client wants it here too.
    let verifier = random_text().ok_or_else(|| Failure::Answer("the system has no randomness".to_owned()))?;
    let request = [
        ("scope", scope(&provider.scopes())),
        ("code_challenge", challenge(&verifier)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let request = request.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (_status, code): (StatusCode, Code) = provider.post(&endpoint, &request).await?;
    let (Some(device_code), Some(user_code), Some(page)) =
        (&code.device_code, &code.user_code, &code.verification_uri)
    else {
        let said = code.error_description.or(code.error).unwrap_or_else(|| "it sent no code".to_owned());
        return Err(Failure::Answer(format!("the identity provider {name} refused: {}", plain(&said))));
    };
    show(page, user_code, code.verification_uri_complete.as_deref()).map_err(Failure::Answer)?;
    let mut interval = Duration::from_secs(code.interval.unwrap_or(INTERVAL).clamp(1, LONGEST));
    let end = Instant::now() + Duration::from_secs(code.expires_in.unwrap_or(PATIENCE).min(PATIENCE));
    let question = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code.as_str()),
        ("code_verifier", verifier.as_str()),
    ];
    loop {
        tokio::time::sleep_until(end.min(Instant::now() + interval)).await;
        let answer = provider.post(&provider.discovery.token_endpoint, &question).await;
        match judge(answer, &mut interval) {
            Step::Done(tokens) => return provider.granted(tokens, None).await,
            Step::Again if Instant::now() >= end => return Err(Failure::Answer(EXPIRED.to_owned())),
            Step::Again => {}
            Step::Failed(why) => return Err(Failure::Answer(why)),
        }
    }
}

const EXPIRED: &str = "nobody signed in with the code in time\n  hint: run `durward login --device` again";

/// Where to go and what to write there.
fn show(page: &str, user_code: &str, complete: Option<&str>) -> Result<(), String> {
    let page = plain(page);
    if !page.starts_with("https://") && !crate::console::is_loopback(&page) {
        return Err(format!(
            "the identity provider sends people to {page}, which is not https: nobody signs in there"
        ));
    }
    say(&format!(
        "to sign in, open\n\n    {page}\n\non any device, and write the code\n\n    {}\n",
        plain(user_code)
    ))?;
    if let Some(complete) = complete.map(plain).filter(|complete| complete.starts_with(&page)) {
        say(&format!("or open this address and check that it shows the same code:\n\n    {complete}\n"))?;
    }
    say("waiting for you ...")
}

fn judge(answer: Result<(StatusCode, Tokens), Failure>, interval: &mut Duration) -> Step {
    let (status, tokens) = match answer {
        Ok(answer) => answer,
        // RFC 8628 section 3.5: after a broken connection, back off.
        Err(Failure::Way(why)) => {
            tracing::warn!("{why}; trying again");
            *interval = (*interval * 2).min(Duration::from_secs(LONGEST));
            return Step::Again;
        }
        Err(Failure::Answer(why)) => return Step::Failed(why),
    };
    match tokens.error.as_deref() {
        None if status.is_success() => Step::Done(tokens),
        Some("authorization_pending") => Step::Again,
        Some("slow_down") => {
            *interval += SLOWER;
            Step::Again
        }
        Some("expired_token") => Step::Failed(EXPIRED.to_owned()),
        Some("access_denied") => Step::Failed("the sign-in was refused at the identity provider".to_owned()),
        _ => Step::Failed(format!("the identity provider refused: {}", plain(&tokens.said()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &str) -> (StatusCode, Tokens) {
        (StatusCode::BAD_REQUEST, Tokens { error: Some(error.to_owned()), ..Tokens::default() })
    }

    #[test]
    fn asks_as_seldom_as_the_provider_wants() {
        let mut interval = Duration::from_secs(5);
        for (answer, seconds) in [
            (Ok(said("authorization_pending")), 5),
            (Ok(said("slow_down")), 10),
            (Ok(said("authorization_pending")), 10),
            (Ok(said("slow_down")), 15),
            (Err(Failure::Way("reset".to_owned())), 30),
            (Err(Failure::Way("reset".to_owned())), 60),
            (Err(Failure::Way("reset".to_owned())), 60),
        ] {
            assert!(matches!(judge(answer, &mut interval), Step::Again));
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
            let Step::Failed(why) = judge(Ok(said(error)), &mut interval) else { panic!("{error}") };
            assert!(why.contains(wanted), "{why}");
        }
        let good = Ok((StatusCode::OK, Tokens { id_token: Some("x".to_owned()), ..Tokens::default() }));
        assert!(matches!(judge(good, &mut interval), Step::Done(_)));
        let odd = Ok((StatusCode::BAD_REQUEST, Tokens::default()));
        assert!(matches!(judge(odd, &mut interval), Step::Failed(_)));
    }

    #[test]
    fn sends_nobody_to_a_page_in_the_clear() {
        assert!(show("http://idp.example/device", "ABCD", None).is_err());
        assert!(show("javascript:alert(1)", "ABCD", None).is_err());
    }
}
