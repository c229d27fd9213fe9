//! `durward login` and `durward logout`: a person's sign-in at their OIDC provider, kept for the commands of people.
//!
//! Which provider, client and scopes is what the console says. Tokens are kept for one console each, in a file that nobody
//! else may read, and are never printed; a short-lived one is renewed when it is needed.

mod browser;
mod device;
mod kept;
mod provider;

use crate::admin_api::{Console, Failure};
use crate::journal_commands::text::plain;
use crate::output::{Stdout, written};
use bytes::Bytes;
use clap::Args;
use durward_core::{Secret, env};
use kept::Kept;
use provider::{Provider, Way};
use serde::Deserialize;
use std::io::Write as _;
use time::OffsetDateTime;

/// A token that ends sooner than this is renewed before it is used: it must still be good when it arrives.
const MARGIN: time::Duration = time::Duration::seconds(30);

#[derive(Args)]
pub struct Login {
    /// URL of the console and admin API
    #[arg(long, env = env::CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
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
pub struct Logout {
    /// URL of the console and admin API
    #[arg(long, env = env::CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
    url: String,
}

/// Signs a person in and keeps their tokens.
pub async fn login(login: &Login) -> Result<u8, String> {
    let console = Console::at(&login.url)?;
    let way = choose(ways(&console).await?, login.provider.as_deref(), console.url())?;
    let provider = Provider::find(way).await?;
    let on_device = login.device || (!login.browser && login.port.is_none() && !has_display());
    let granted = if on_device && (login.device || provider.has_device_way()) {
        device::sign_in(&provider).await?
    } else {
        browser::sign_in(&provider, login.port.unwrap_or(0)).await?
    };
    // Who that is here: a sign-in that the console does not accept is not kept.
    let me = console.send("GET", "/me", Some(&granted.id_token), Bytes::new()).await?;
    let me = console.read(me).await?;
    let kept = Kept::new(&console, provider.way(), granted);
    let lock = kept::lock(&console)?;
    kept.save(&console)?;
    drop(lock);
    let groups: Vec<String> =
        crate::admin_api::items(&me["groups"]).iter().map(crate::admin_api::text).collect();
    let groups =
        if groups.is_empty() { "no group".to_owned() } else { format!("groups: {}", groups.join(", ")) };
    say(&format!("signed in to {} as {} ({groups})", console.url(), crate::admin_api::text(&me["id"])))?;
    Ok(0)
}

/// Forgets a sign-in, and asks the provider to end what it could be renewed with.
pub async fn logout(logout: &Logout) -> Result<u8, String> {
    let console = Console::at(&logout.url)?;
    let lock = kept::lock(&console)?;
    let found = Kept::load(&console);
    kept::remove(&console)?;
    drop(lock);
    match found {
        Ok(None) => {
            say(&format!("you were not signed in to {}", console.url()))?;
            return Ok(0);
        }
        Ok(Some(Kept { way, refresh_token: Some(refresh), .. })) => {
            if let Err(why) = revoke(way, &refresh).await {
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
    say(&format!("signed out of {}", console.url()))?;
    Ok(0)
}

async fn revoke(way: Way, refresh_token: &str) -> Result<(), String> {
    Provider::find(way).await?.revoke(refresh_token).await
}

/// The token of whoever is signed in to this console, renewed if need be.
pub async fn token(console: &Console) -> Result<Secret, Failure> {
    let kept = Kept::load(console).map_err(Failure::Answer)?;
    let Some(kept) = kept else {
        return Err(Failure::Answer(format!(
            "you are not signed in to {}\n  hint: run `durward login{}`, or name a file that holds your OIDC token with \
             --token-file",
            console.url(),
            console.option(),
        )));
    };
    if kept.is_good(OffsetDateTime::now_utc(), MARGIN) {
        return Ok(Secret::new(kept.id_token));
    }
    renewed(console).await
}

/// Renews a sign-in, one process at a time: a provider takes a second use of a refresh token for theft.
async fn renewed(console: &Console) -> Result<Secret, Failure> {
    let over = |why: &str| {
        Failure::Answer(format!(
            "your sign-in to {} is over{why}\n  hint: run `durward login{}`",
            console.url(),
            console.option()
        ))
    };
    let _lock = kept::lock(console).map_err(Failure::Answer)?;
    let Some(mut kept) = Kept::load(console).map_err(Failure::Answer)? else { return Err(over("")) };
    let now = OffsetDateTime::now_utc();
    if kept.is_good(now, MARGIN) {
        return Ok(Secret::new(kept.id_token));
    }
    let Some(refresh) = kept.refresh_token.take() else {
        // Without a way to renew it, it is used to its end.
        return if kept.is_good(now, time::Duration::ZERO) {
            Ok(Secret::new(kept.id_token))
        } else {
            Err(over(""))
        };
    };
    let provider = Provider::find(kept.way.clone()).await?;
    let tokens = provider.renew(&refresh).await.map_err(|failure| match failure {
        Failure::Answer(why) => over(&format!(": {why}")),
        way @ Failure::Way(_) => way,
    })?;
    // Kept before anything else can go wrong: the one before may be worth nothing any more.
    kept.refresh_token = Some(tokens.refresh_token.clone().unwrap_or(refresh));
    kept.save(console).map_err(Failure::Answer)?;
    let granted = provider.granted(tokens, None).await?;
    if granted.subject != kept.subject {
        return Err(over(": the identity provider renewed it for somebody else"));
    }
    granted.id_token.expose().clone_into(&mut kept.id_token);
    kept.expires = granted.expires.unix_timestamp();
    kept.save(console).map_err(Failure::Answer)?;
    Ok(granted.id_token)
}

/// How the console says people can sign in.
async fn ways(console: &Console) -> Result<Vec<Way>, String> {
    #[derive(Deserialize)]
    struct Ways {
        providers: Vec<Way>,
    }
    let answer = console.read(console.send("GET", "/sign-in", None, Bytes::new()).await?).await?;
    let ways: Ways = serde_json::from_value(answer)
        .map_err(|error| format!("{}: cannot read how to sign in: {error}", console.url()))?;
    Ok(ways.providers)
}

fn choose(ways: Vec<Way>, wanted: Option<&str>, url: &str) -> Result<Way, String> {
    let names: Vec<String> = ways.iter().map(|way| plain(&way.name)).collect();
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
fn say(line: &str) -> Result<(), String> {
    let mut out = Stdout;
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &str) -> Way {
        Way {
            name: name.to_owned(),
            issuer: "https://idp.example".to_owned(),
            client_id: "cli".to_owned(),
            scopes: Vec::new(),
        }
    }

    #[test]
    fn takes_the_only_provider_and_asks_which_of_several() {
        let url = "https://durward.example";
        assert_eq!(choose(vec![way("corp")], None, url).unwrap().name, "corp");
        let several = || vec![way("corp"), way("partner")];
        assert_eq!(choose(several(), Some("partner"), url).unwrap().name, "partner");
        for (ways, wanted, said) in [
            (several(), None, "choose one of corp, partner with --provider"),
            (several(), Some("other"), "`other` is no identity provider"),
            (vec![way("corp")], Some("other"), "choose one of corp"),
            (Vec::new(), None, "sets cli_client_id"),
            (Vec::new(), Some("corp"), "sets cli_client_id"),
        ] {
            let error = choose(ways, wanted, url).map(|way| way.name).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
