//! `durward login` and `durward logout`: a person's sign-in at their OIDC provider, kept for the commands of people.
//!
//! Which provider, client and scopes is what the console says. Tokens are kept for one console each, in a file that nobody
//! else may read, and are never printed; a short-lived one is renewed when it is needed.

mod authorization_code;
mod device_authorization;
mod provider_client;
mod token_store;

use crate::admin_api::{ConsoleEndpoint, RemoteError};
use crate::journal_commands::terminal_text::escape_for_terminal;
use crate::terminal_output::{PipeSafeStdout, map_write_error};
use bytes::Bytes;
use clap::Args;
use durward_core::{Secret, env_vars};
use provider_client::{ClientRegistration, ProviderClient};
use serde::Deserialize;
use std::io::Write as _;
use time::OffsetDateTime;
use token_store::StoredTokens;

/// A token that ends sooner than this is renewed before it is used: it must still be good when it arrives.
const TOKEN_RENEWAL_MARGIN: time::Duration = time::Duration::seconds(30);

#[derive(Args)]
pub struct LoginArgs {
    /// URL of the console and admin API
    #[arg(long, env = env_vars::DURWARD_CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
    url: String,
    /// The identity provider, where the console knows several
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Sign in on another device: shows an address and a code. The way that is taken where there is no display
    #[arg(long)]
    device: bool,
    /// Sign in with a browser on this machine, also where none can be opened from here
    #[arg(long, conflicts_with = "device")]
    browser: bool,
    /// Port on 127.0.0.1 that the browser comes back to, for a provider that must know it; by default a free one
    #[arg(long, conflicts_with = "device", value_name = "PORT")]
    port: Option<u16>,
}

#[derive(Args)]
pub struct LogoutArgs {
    /// URL of the console and admin API
    #[arg(long, env = env_vars::DURWARD_CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
    url: String,
}

/// Signs a person in and keeps their tokens.
pub async fn sign_in_user(login: &LoginArgs) -> Result<u8, String> {
    let console = ConsoleEndpoint::from_url(&login.url)?;
    let way =
        choose_registration(fetch_registrations(&console).await?, login.provider.as_deref(), console.url())?;
    let provider = ProviderClient::discover(way).await?;
    let on_device = login.device || (!login.browser && login.port.is_none() && !has_display());
    let granted = if on_device && (login.device || provider.supports_device_authorization()) {
        device_authorization::sign_in_with_device(&provider).await?
    } else {
        authorization_code::sign_in_with_browser(&provider, login.port.unwrap_or(0)).await?
    };
    // Who that is here: a sign-in that the console does not accept is not kept.
    let me = console.send_request("GET", "/me", Some(&granted.id_token), Bytes::new()).await?;
    let me = console.read_json(me).await?;
    let kept = StoredTokens::new(&console, provider.registration(), granted);
    let lock = token_store::lock_token_store(&console)?;
    kept.save(&console)?;
    drop(lock);
    let groups: Vec<String> =
        crate::admin_api::list_items(&me["groups"]).iter().map(crate::admin_api::format_scalar).collect();
    let groups =
        if groups.is_empty() { "no group".to_owned() } else { format!("groups: {}", groups.join(", ")) };
    print_line(&format!(
        "signed in to {} as {} ({groups})",
        console.url(),
        crate::admin_api::format_scalar(&me["id"])
    ))?;
    Ok(0)
}

/// Forgets a sign-in, and asks the provider to end what it could be renewed with.
pub async fn sign_out_user(logout: &LogoutArgs) -> Result<u8, String> {
    let console = ConsoleEndpoint::from_url(&logout.url)?;
    let lock = token_store::lock_token_store(&console)?;
    let found = StoredTokens::load(&console);
    token_store::remove_tokens(&console)?;
    drop(lock);
    match found {
        Ok(None) => {
            print_line(&format!("you were not signed in to {}", console.url()))?;
            return Ok(0);
        }
        Ok(Some(StoredTokens { registration: way, refresh_token: Some(refresh), .. })) => {
            if let Err(why) = revoke_refresh_token(way, &refresh).await {
                tracing::warn!(
                    "the identity provider did not end the sign-in: {why}; it ends there by itself"
                );
            }
        }
        Ok(Some(_)) => {}
        // Its tokens cannot be taken from there, so they are forgotten and not ended.
        Err(why) => {
            tracing::warn!("{why}; it is gone now, but at the identity provider end your sessions yourself");
        }
    }
    print_line(&format!("signed out of {}", console.url()))?;
    Ok(0)
}

async fn revoke_refresh_token(way: ClientRegistration, refresh_token: &str) -> Result<(), String> {
    ProviderClient::discover(way).await?.revoke_token(refresh_token).await
}

/// The token of whoever is signed in to this console, renewed if need be.
pub async fn current_id_token(console: &ConsoleEndpoint) -> Result<Secret, RemoteError> {
    let kept = StoredTokens::load(console).map_err(RemoteError::Rejected)?;
    let Some(kept) = kept else {
        return Err(RemoteError::Rejected(format!(
            "you are not signed in to {}\n  hint: run `durward login{}`, or name a file that holds your OIDC token with \
             --token-file",
            console.url(),
            console.url_option(),
        )));
    };
    if kept.is_valid_for(OffsetDateTime::now_utc(), TOKEN_RENEWAL_MARGIN) {
        return Ok(Secret::new(kept.id_token));
    }
    renew_id_token(console).await
}

/// Renews a sign-in, one process at a time: a provider takes a second use of a refresh token for theft.
async fn renew_id_token(console: &ConsoleEndpoint) -> Result<Secret, RemoteError> {
    let over = |why: &str| {
        RemoteError::Rejected(format!(
            "your sign-in to {} is over{why}\n  hint: run `durward login{}`",
            console.url(),
            console.url_option()
        ))
    };
    let _lock = token_store::lock_token_store(console).map_err(RemoteError::Rejected)?;
    let Some(mut kept) = StoredTokens::load(console).map_err(RemoteError::Rejected)? else {
        return Err(over(""));
    };
    let now = OffsetDateTime::now_utc();
    if kept.is_valid_for(now, TOKEN_RENEWAL_MARGIN) {
        return Ok(Secret::new(kept.id_token));
    }
    let Some(refresh) = kept.refresh_token.take() else {
        // Without a way to renew it, it is used to its end.
        return if kept.is_valid_for(now, time::Duration::ZERO) {
            Ok(Secret::new(kept.id_token))
        } else {
            Err(over(""))
        };
    };
    let provider = ProviderClient::discover(kept.registration.clone()).await?;
    let tokens = provider.renew_tokens(&refresh).await.map_err(|failure| match failure {
        RemoteError::Rejected(why) => over(&format!(": {why}")),
        way @ RemoteError::Unreachable(_) => way,
    })?;
    // Kept before anything else can go wrong: the one before may be worth nothing any more.
    kept.refresh_token = Some(tokens.refresh_token.clone().unwrap_or(refresh));
    kept.save(console).map_err(RemoteError::Rejected)?;
    let granted = provider.verify_tokens(tokens, None).await?;
    if granted.subject != kept.subject {
        return Err(over(": the identity provider renewed it for somebody else"));
    }
    granted.id_token.expose().clone_into(&mut kept.id_token);
    kept.expires_at = granted.expires_at.unix_timestamp();
    kept.save(console).map_err(RemoteError::Rejected)?;
    Ok(granted.id_token)
}

/// How the console says people can sign in.
async fn fetch_registrations(console: &ConsoleEndpoint) -> Result<Vec<ClientRegistration>, String> {
    #[derive(Deserialize)]
    struct SignInOptions {
        providers: Vec<ClientRegistration>,
    }
    let answer =
        console.read_json(console.send_request("GET", "/sign-in", None, Bytes::new()).await?).await?;
    let ways: SignInOptions = serde_json::from_value(answer)
        .map_err(|error| format!("{}: cannot read how to sign in: {error}", console.url()))?;
    Ok(ways.providers)
}

fn choose_registration(
    ways: Vec<ClientRegistration>,
    wanted: Option<&str>,
    url: &str,
) -> Result<ClientRegistration, String> {
    let names: Vec<String> = ways.iter().map(|way| escape_for_terminal(&way.name)).collect();
    let names = names.join(", ");
    let mut ways = ways.into_iter();
    match wanted {
        Some(name) if !names.is_empty() => ways
            .find(|way| way.name == name)
            .ok_or_else(|| format!("`{name}` is no identity provider of {url}: choose one of {names} with --provider")),
        None if ways.len() > 1 => {
            Err(format!("{url} knows several identity providers: choose one of {names} with --provider"))
        }
        _ => ways.next().ok_or_else(|| {
            format!(
                "{url} has no client for the command line\n  hint: its operator sets cli_client_id in [[identity.oidc]]; until \
                 then use --token-file"
            )
        }),
    }
}

/// Whether a browser can be opened where the person sits.
fn has_display() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("SSH_CONNECTION") || set("SSH_TTY") {
        return false;
    }
    cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// A line for the person, at once.
fn print_line(line: &str) -> Result<(), String> {
    let mut out = PipeSafeStdout;
    map_write_error(writeln!(out, "{line}").and_then(|()| out.flush()))
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
        for (ways, wanted, said) in [
            (several(), None, "choose one of corp, partner with --provider"),
            (several(), Some("other"), "`other` is no identity provider"),
            (vec![test_registration("corp")], Some("other"), "choose one of corp"),
            (Vec::new(), None, "sets cli_client_id"),
            (Vec::new(), Some("corp"), "sets cli_client_id"),
        ] {
            let error = choose_registration(ways, wanted, url).map(|way| way.name).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
