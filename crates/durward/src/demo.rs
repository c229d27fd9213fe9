//! `durward demo`: the whole product on one machine, with no account and no network. A stand-in AWS, an issuer, the
//! gateway with the sample policies and its console, a caller that is allowed, masked, blocked, held and recorded, and the
//! people who are asked.

mod asking;
mod caller;
mod stage;

pub(crate) use caller::{Caller, sign_in};
pub use stage::{directory, log_file};
#[cfg(test)]
pub(crate) use stage::{gateway_identity, write_config};

use crate::admin_api::{Console, text};
use crate::{journal_commands, serve};
use asking::Person;
use caller::shown;
use durward_standin::aws::ACCOUNT;
use http::Method;
use stage::{AUDIENCE, BACKUP, BACKUPS, Stage};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Runs the walk-through below `dir`, which [`directory`] made; 0 when every step showed what it promises. Unless `once`,
/// everything stays up then until it is told to stop.
pub async fn demo(dir: &Path, once: bool) -> Result<u8, String> {
    let stage = Stage::set(dir).await?;
    say("Durward demo: a stand-in AWS, an OIDC issuer and the gateway, all on this machine")?;
    say(&format!(
        "  gateway {}   console {}   stand-in AWS {}   issuer {}",
        stage.door,
        stage.console,
        stage.aws.url(),
        stage.issuer.url()
    ))?;
    let token = stage.issuer.issue("build-agent", &["agents"], AUDIENCE, Duration::from_hours(8));
    let token_file = stage.token_file("agent.token", &token)?;
    let (ann, bob) = (Person::sign_in(&stage, "ann")?, Person::sign_in(&stage, "bob")?);
    let caller = Arc::new(sign_in(&stage.door, &token).await?);
    let good = walk(&stage, &caller, &ann, &bob).await?;
    if once {
        stage.running.stop().await;
        if good {
            say("\nEvery step showed what it promises.")?;
            remove(dir)?;
        } else {
            say(&format!("\nA step went wrong; what the demo wrote, with its log, is in {}", dir.display()))?;
        }
        return Ok(u8::from(!good));
    }
    let [_used, held, ..] = BACKUP;
    let mut waiting = asking::delete(&caller, held);
    let ask = ann.sees(&asking::arn(held)).await?;
    invite(&stage, &token_file, [&ann, &bob], &text(&ask["id"]))?;
    let stopped = serve::wait_for_signal();
    tokio::pin!(stopped);
    tokio::select! {
        answer = &mut waiting => {
            let told = answer.map_err(|error| error.to_string())?.map_or_else(|error| error, |answer| shown(&answer));
            say(&format!("\nbuild-agent's call on {BACKUPS}/{held} is answered: {told}"))?;
            stopped.await;
        }
        () = &mut stopped => waiting.abort(),
    }
    stage.running.stop().await;
    remove(dir)?;
    Ok(0)
}

async fn walk(stage: &Stage, caller: &Arc<Caller>, ann: &Person, bob: &Person) -> Result<bool, String> {
    let mut good = true;
    step(1, "sign in", "build-agent (group agents) shows its OIDC token and gets a gateway credential")?;
    detail(&format!("key {}: AWS does not know it", caller.access_key_id))?;

    step(2, "allowed", "s3:GetObject demo-data/reports/q3.csv")?;
    let read = caller.call(Method::GET, "s3", "/demo-data/reports/q3.csv", None, "").await?;
    good &= check(read.status() == 200 && read.body().starts_with(b"region,"), &shown(&read))?;

    step(3, "masked", "secretsmanager:GetSecretValue prod/db")?;
    let body = "{\"SecretId\":\"prod/db\"}";
    let secret =
        caller.call(Method::POST, "secretsmanager", "/", Some("secretsmanager.GetSecretValue"), body).await?;
    let body = String::from_utf8_lossy(secret.body());
    good &= check(
        secret.status() == 200 && body.contains("masked") && !body.contains("battery"),
        &shown(&secret),
    )?;

    step(4, "blocked", "s3:DeleteBucket demo-data never reaches AWS")?;
    let before = stage.aws.arrivals().len();
    let deleted = caller.call(Method::DELETE, "s3", "/demo-data", None, "").await?;
    good &= check(deleted.status() == 403 && stage.aws.arrivals().len() == before, &shown(&deleted))?;

    good &= asking::asked(stage, caller, ann, bob).await?;

    step(6, "lent", "what AWS saw for step 2, and what the caller never had")?;
    let seen = stage.aws.arrivals().into_iter().find(|arrival| arrival.action == "s3:GetObject");
    good &= match &seen {
        Some(arrival) => check(
            arrival.access_key_id.starts_with("ASIA") && arrival.access_key_id != caller.access_key_id,
            &format!(
                "key {} with a session policy for {} on {} for at most a minute",
                arrival.access_key_id, arrival.action, arrival.resource
            ),
        )?,
        None => check(false, "AWS saw no s3:GetObject")?,
    };

    stage.running.flush().await?;
    step(7, "recorded", "every exchange, hash-linked; `durward journal verify`")?;
    let journal = stage.dir.join("data").join("journal");
    let mut out = std::io::stdout();
    let verified = journal_commands::verify(&journal, &mut out).map_err(|error| error.to_string())?;
    journal_commands::sessions_ls(&journal, false, &mut out).map_err(|error| error.to_string())?;
    good &= check(verified == 0, "the chain holds")?;
    Ok(good)
}

/// What to try while the demo stays up.
fn invite(stage: &Stage, token_file: &Path, [ann, bob]: [&Person; 2], ask: &str) -> Result<(), String> {
    let [_used, held, free] = BACKUP;
    let (durward, url) = (program(), Console::at(&stage.console)?.option());
    let approvals = |command: &str, person: &Person| {
        say(&format!("  {durward} approvals {command}{url} --token-file {}", person.token_file.display()))
    };
    say("\nThe demo stays up until Ctrl-C. build-agent waits for your answer to one more call:")?;
    say(&format!("  s3:DeleteObject {BACKUPS}/{held}"))?;
    say("\nAnswer it in the browser, as Ann and then as Bob; Carol may only look on:")?;
    say(&format!("  {}", stage.console))?;
    say("\nor in the terminal:")?;
    approvals("ls", ann)?;
    approvals(&format!("approve {ask}"), ann)?;
    approvals(&format!("approve {ask}"), bob)?;
    say("or, as the person that you choose there, without --token-file after")?;
    say(&format!("  {durward} login --browser{url}"))?;
    say("\nBe an agent yourself, with the AWS CLI or any SDK:")?;
    say("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE")?;
    say(&format!(
        "  export AWS_ENDPOINT_URL={} AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1",
        stage.door
    ))?;
    say(&format!(
        "  export AWS_ROLE_ARN=arn:aws:iam::{ACCOUNT}:role/agents AWS_WEB_IDENTITY_TOKEN_FILE={}",
        token_file.display()
    ))?;
    // The AWS CLI keeps what it signed in to in ~/.aws/cli/cache under this name among others: one of another demo would
    // give it a credential that this gateway does not know.
    say(&format!("  export AWS_ROLE_SESSION_NAME=demo-{}", OffsetDateTime::now_utc().unix_timestamp()))?;
    for (command, comes_to) in [
        ("aws s3 ls s3://demo-data/reports/", "allowed"),
        ("aws secretsmanager get-secret-value --secret-id prod/db", "masked"),
        ("aws s3 rb s3://demo-data", "refused"),
        (&format!("aws s3 rm s3://{BACKUPS}/{free}"), "waits for Ann and Bob"),
    ] {
        say(&format!("  {command:<58}# {comes_to}"))?;
    }
    say("\nLook at what runs and what was recorded:")?;
    say(&format!("  {}", stage.dir.join("durward.toml").display()))?;
    say(&format!("  {durward} sessions ls --dir {}", stage.dir.join("data").join("journal").display()))
}

/// This program as it can be called from here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return "durward".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) if below.components().count() == 1 => format!("./{}", below.display()),
        Ok(below) => below.display().to_string(),
        Err(_elsewhere) => path.display().to_string(),
    }
}

fn remove(dir: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot write: {error}"))
}

fn step(number: u8, word: &str, text: &str) -> Result<(), String> {
    say(&format!("\n{number}. {word:<9} {text}"))
}

fn detail(text: &str) -> Result<(), String> {
    say(&format!("   {text}"))
}

fn check(held: bool, text: &str) -> Result<bool, String> {
    detail(&format!("{} {text}", if held { "ok  " } else { "WRONG" }))?;
    Ok(held)
}
