//! `durward login` and `durward logout`: a user's sign-in with their OIDC provider, stored for the approver commands.
//!
//! The console says which providers, clients and scopes there are. The tokens for one console are stored in one file that only
//! its owner can read. They are never printed. An ID token that ends soon is renewed before it is used.

mod authorization_code;
mod device_authorization;
mod provider_client;
mod token_store;

use crate::command_error::CommandError;
use crate::console_endpoint::{ConsoleEndpoint, ConsoleUrlArgs};
use crate::json_values::{format_scalar, list_items};
use crate::terminal_output::print_line;
use crate::terminal_text::escape_for_terminal;
use bytes::Bytes;
use clap::Args;
use durward_core::Secret;
use provider_client::{ClientRegistration, ProviderClient};
use serde::Deserialize;
use time::OffsetDateTime;
use token_store::StoredTokens;

/// A token that ends sooner than this is renewed first: it must still be valid when the gateway checks it.
const TOKEN_RENEWAL_MARGIN: time::Duration = time::Duration::seconds(30);

#[derive(Args)]
pub struct LoginArgs {
    #[command(flatten)]
    console: ConsoleUrlArgs,
    /// Identity provider to sign in with, if the console has several
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Sign in on another device: prints an address and a code. Default without a display
    #[arg(long)]
    device: bool,
    /// Sign in with a browser on this machine, even if this command cannot open one
    #[arg(long, conflicts_with = "device")]
    browser: bool,
    /// Port on 127.0.0.1 for the redirect of the browser, if the provider requires a fixed one; by default a free port
    #[arg(long, conflicts_with = "device", value_name = "PORT")]
    callback_port: Option<u16>,
}

#[derive(Args)]
pub struct LogoutArgs {
    #[command(flatten)]
    console: ConsoleUrlArgs,
}

/// Signs a user in and stores their tokens.
pub async fn sign_in_user(login: &LoginArgs) -> Result<u8, CommandError> {
    let console = ConsoleEndpoint::from_url(&login.console.url)?;
    let registrations = fetch_registrations(&console).await?;
    let registration = choose_registration(registrations, login.provider.as_deref(), console.url())?;
    let provider = ProviderClient::discover(registration).await?;
    let prefers_device = login.device || (!login.browser && login.callback_port.is_none() && !has_display());
    let tokens = if prefers_device && (login.device || provider.supports_device_authorization()) {
        device_authorization::sign_in_with_device(&provider).await?
    } else {
        authorization_code::sign_in_with_browser(&provider, login.callback_port.unwrap_or(0)).await?
    };
    // Before anything is stored: the provider may sign in a user whom this console does not admit.
    let response = console.send_request("GET", "/me", Some(&tokens.id_token), Bytes::new()).await?;
    let user = console.read_json(response).await?;
    let stored = StoredTokens::new(&console, provider.registration(), tokens);
    let lock = token_store::lock_token_store(&console)?;
    stored.save(&console)?;
    drop(lock);
    let groups: Vec<String> = list_items(&user["groups"]).iter().map(format_scalar).collect();
    let groups =
        if groups.is_empty() { "no group".to_owned() } else { format!("groups: {}", groups.join(", ")) };
    print_line(&format!("signed in to {} as {} ({groups})", console.url(), format_scalar(&user["id"])))?;
    Ok(0)
}

/// Deletes a stored sign-in and asks the provider to revoke its refresh token.
pub async fn sign_out_user(logout: &LogoutArgs) -> Result<u8, CommandError> {
    let console = ConsoleEndpoint::from_url(&logout.console.url)?;
    let lock = token_store::lock_token_store(&console)?;
    let loaded = StoredTokens::load(&console);
    token_store::remove_tokens(&console)?;
    drop(lock);
    match loaded {
        Ok(None) => {
            print_line(&format!("you were not signed in to {}", console.url()))?;
            return Ok(0);
        }
        Ok(Some(StoredTokens { registration, refresh_token: Some(refresh_token), .. })) => {
            if let Err(error) = revoke_refresh_token(registration, &refresh_token).await {
                tracing::warn!(
                    "the identity provider did not revoke the refresh token: {error}; it expires by itself"
                );
            }
        }
        Ok(Some(_)) => {}
        // Another user may have replaced such a file: nothing from it is sent anywhere.
        Err(error) => {
            tracing::warn!(
                "{error}; the file is deleted, but its tokens are not revoked: end your sessions at the identity provider"
            );
        }
    }
    print_line(&format!("signed out of {}", console.url()))?;
    Ok(0)
}

async fn revoke_refresh_token(
    registration: ClientRegistration,
    refresh_token: &Secret,
) -> Result<(), CommandError> {
    ProviderClient::discover(registration).await?.revoke_token(refresh_token).await
}

/// The ID token of the user who is signed in to this console, renewed if it ends soon.
pub async fn current_id_token(console: &ConsoleEndpoint) -> Result<Secret, CommandError> {
    let Some(stored) = StoredTokens::load(console)? else {
        return Err(CommandError::Refused(format!(
            "you are not signed in to {}\n  hint: run `durward login{}`, or name a file with your OIDC token with --token-file",
            console.url(),
            console.url_option(),
        )));
    };
    if stored.is_valid_for(OffsetDateTime::now_utc(), TOKEN_RENEWAL_MARGIN) {
        return Ok(stored.id_token);
    }
    renew_id_token(console).await
}

/// Renews a sign-in under the lock of its file. Providers that rotate refresh tokens revoke the whole sign-in when one is used
/// twice (RFC 9700, section 4.14.2), so two commands must not renew at the same time.
async fn renew_id_token(console: &ConsoleEndpoint) -> Result<Secret, CommandError> {
    let expired = |reason: &str| {
        CommandError::Refused(format!(
            "your sign-in to {} has expired{reason}\n  hint: run `durward login{}`",
            console.url(),
            console.url_option()
        ))
    };
    let _lock = token_store::lock_token_store(console)?;
    let Some(mut stored) = StoredTokens::load(console)? else { return Err(expired("")) };
    let now = OffsetDateTime::now_utc();
    // Another command may have renewed it while this one waited for the lock.
    if stored.is_valid_for(now, TOKEN_RENEWAL_MARGIN) {
        return Ok(stored.id_token);
    }
    let Some(refresh_token) = stored.refresh_token.take() else {
        // Nothing can renew it: it is used until it ends.
        return if stored.is_valid_for(now, time::Duration::ZERO) {
            Ok(stored.id_token)
        } else {
            Err(expired(""))
        };
    };
    let provider = ProviderClient::discover(stored.registration.clone()).await?;
    let response = provider.renew_tokens(&refresh_token).await.map_err(|error| match error {
        CommandError::Refused(reason) => expired(&format!(": {reason}")),
        other => other,
    })?;
    // Stored before anything else can fail: the provider may have revoked the old one already.
    stored.refresh_token = Some(response.refresh_token.clone().map_or(refresh_token, Secret::new));
    stored.save(console)?;
    let renewed = provider.verify_tokens(response, None).await?;
    // OpenID Connect Core section 12.2: a refreshed ID token must have the same `sub`.
    if renewed.subject != stored.subject {
        // The refresh token is that of the other user too: it must not renew this user's sign-in again.
        stored.refresh_token = None;
        stored.save(console)?;
        return Err(expired(": the identity provider returned the token of another user"));
    }
    stored.id_token = renewed.id_token.clone();
    stored.expires_at = renewed.expires_at.unix_timestamp();
    stored.save(console)?;
    Ok(renewed.id_token)
}

/// The command-line clients that the console names.
async fn fetch_registrations(console: &ConsoleEndpoint) -> Result<Vec<ClientRegistration>, CommandError> {
    #[derive(Deserialize)]
    struct SignInOptions {
        providers: Vec<ClientRegistration>,
    }
    let response = console.send_request("GET", "/sign-in", None, Bytes::new()).await?;
    let options = serde_json::from_value::<SignInOptions>(console.read_json(response).await?);
    options.map(|options| options.providers).map_err(|error| {
        CommandError::Refused(format!("{}: cannot read the sign-in options: {error}", console.url()))
    })
}

fn choose_registration(
    registrations: Vec<ClientRegistration>,
    wanted: Option<&str>,
    url: &str,
) -> Result<ClientRegistration, CommandError> {
    let names: Vec<String> = registrations.iter().map(|one| escape_for_terminal(&one.name)).collect();
    let names = names.join(", ");
    let is_ambiguous = registrations.len() > 1;
    let mut registrations = registrations.into_iter();
    let chosen = match wanted {
        Some(name) if !names.is_empty() => registrations.find(|one| one.name == name).ok_or_else(|| {
            format!("`{name}` is not an identity provider of {url}: choose one of {names} with --provider")
        }),
        None if is_ambiguous => {
            Err(format!("{url} has several identity providers: choose one of {names} with --provider"))
        }
        _ => registrations.next().ok_or_else(|| {
            format!(
                "{url} has no client for the command line\n  hint: its operator sets cli_client_id in [[identity.oidc]]; until \
                 then use --token-file"
            )
        }),
    };
    chosen.map_err(CommandError::Refused)
}

/// Returns true if a browser can be opened on the user's screen. Over SSH it would open on the remote machine.
fn has_display() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("SSH_CONNECTION") || is_set("SSH_TTY") {
        return false;
    }
    cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_registration(name: &str) -> ClientRegistration {
        ClientRegistration {
            name: name.to_owned(),
            issuer: "https://idp.example".to_owned(),
            client_id: "cli".to_owned(),
            scopes: Vec::new(),
        }
    }

    #[test]
    fn uses_the_only_provider_and_requires_a_choice_of_several() {
        let url = "https://durward.example";
        assert_eq!(choose_registration(vec![test_registration("corp")], None, url).unwrap().name, "corp");
        let several = || vec![test_registration("corp"), test_registration("partner")];
        assert_eq!(choose_registration(several(), Some("partner"), url).unwrap().name, "partner");
        for (registrations, wanted, reason) in [
            (several(), None, "choose one of corp, partner with --provider"),
            (several(), Some("other"), "`other` is not an identity provider"),
            (vec![test_registration("corp")], Some("other"), "choose one of corp"),
            (Vec::new(), None, "sets cli_client_id"),
            (Vec::new(), Some("corp"), "sets cli_client_id"),
        ] {
            let error =
                choose_registration(registrations, wanted, url).map(|one| one.name).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
