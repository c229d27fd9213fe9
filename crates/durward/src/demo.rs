//! `durward demo`: the whole product on one machine, with no account and no network. A stand-in AWS, an issuer, the
//! gateway with the sample policies and its console, a caller that is allowed, masked, blocked, held and recorded, and the
//! people who are asked.

mod approval_step;
mod aws_client;
mod environment;

pub(crate) use aws_client::{DemoAwsClient, sign_in_client};
pub use environment::{create_demo_directory, open_log_file};
#[cfg(test)]
pub(crate) use environment::{gateway_identity, write_config};

use crate::admin_api::{ConsoleEndpoint, format_scalar};
use crate::{journal_commands, serve};
use approval_step::DemoApprover;
use aws_client::format_response;
use durward_fake_aws::aws::ACCOUNT_ID;
use environment::{BACKUP_BUCKET, BACKUP_KEYS, CALLER_AUDIENCE, DemoEnvironment};
use http::Method;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Runs the walk-through below `dir`, which [`directory`] made; 0 when every step showed what it promises. Unless `once`,
/// everything stays up then until it is told to stop.
pub async fn run_demo(dir: &Path, once: bool) -> Result<u8, String> {
    let stage = DemoEnvironment::start(dir).await?;
    print_line("Durward demo: a stand-in AWS, an OIDC issuer and the gateway, all on this machine")?;
    print_line(&format!(
        "  gateway {}   console {}   stand-in AWS {}   issuer {}",
        stage.aws_url,
        stage.console_url,
        stage.fake_aws.url(),
        stage.issuer.url()
    ))?;
    let token =
        stage.issuer.issue_token("build-agent", &["agents"], CALLER_AUDIENCE, Duration::from_hours(8));
    let token_file = stage.write_token_file("agent.token", &token)?;
    let (ann, bob) = (DemoApprover::sign_in(&stage, "ann")?, DemoApprover::sign_in(&stage, "bob")?);
    let caller = Arc::new(sign_in_client(&stage.aws_url, &token).await?);
    let good = run_walkthrough(&stage, &caller, &ann, &bob).await?;
    if once {
        stage.gateway.stop().await;
        if good {
            print_line("\nEvery step showed what it promises.")?;
            remove_directory(dir)?;
        } else {
            print_line(&format!(
                "\nA step went wrong; what the demo wrote, with its log, is in {}",
                dir.display()
            ))?;
        }
        return Ok(u8::from(!good));
    }
    let [_used, held, ..] = BACKUP_KEYS;
    let mut waiting = approval_step::delete_backup(&caller, held);
    let ask = ann.wait_for_request(&approval_step::backup_arn(held)).await?;
    print_next_steps(&stage, &token_file, [&ann, &bob], &format_scalar(&ask["id"]))?;
    let stopped = serve::wait_for_signal();
    tokio::pin!(stopped);
    tokio::select! {
        answer = &mut waiting => {
            let told = answer.map_err(|error| error.to_string())?.map_or_else(|error| error, |answer| format_response(&answer));
            print_line(&format!("\nbuild-agent's call on {BACKUP_BUCKET}/{held} is answered: {told}"))?;
            stopped.await;
        }
        () = &mut stopped => waiting.abort(),
    }
    stage.gateway.stop().await;
    remove_directory(dir)?;
    Ok(0)
}

async fn run_walkthrough(
    stage: &DemoEnvironment,
    caller: &Arc<DemoAwsClient>,
    ann: &DemoApprover,
    bob: &DemoApprover,
) -> Result<bool, String> {
    let mut good = true;
    print_step(
        1,
        "sign in",
        "build-agent (group agents) shows its OIDC token and gets a gateway credential",
    )?;
    print_detail(&format!("key {}: AWS does not know it", caller.access_key_id))?;

    print_step(2, "allowed", "s3:GetObject demo-data/reports/q3.csv")?;
    let read = caller.call(Method::GET, "s3", "/demo-data/reports/q3.csv", None, "").await?;
    good &=
        print_check(read.status() == 200 && read.body().starts_with(b"region,"), &format_response(&read))?;

    print_step(3, "masked", "secretsmanager:GetSecretValue prod/db")?;
    let body = "{\"SecretId\":\"prod/db\"}";
    let secret =
        caller.call(Method::POST, "secretsmanager", "/", Some("secretsmanager.GetSecretValue"), body).await?;
    let body = String::from_utf8_lossy(secret.body());
    good &= print_check(
        secret.status() == 200 && body.contains("masked") && !body.contains("battery"),
        &format_response(&secret),
    )?;

    print_step(4, "blocked", "s3:DeleteBucket demo-data never reaches AWS")?;
    let before = stage.fake_aws.received_requests().len();
    let deleted = caller.call(Method::DELETE, "s3", "/demo-data", None, "").await?;
    good &= print_check(
        deleted.status() == 403 && stage.fake_aws.received_requests().len() == before,
        &format_response(&deleted),
    )?;

    good &= approval_step::run_approval_step(stage, caller, ann, bob).await?;

    print_step(6, "lent", "what AWS saw for step 2, and what the caller never had")?;
    let seen =
        stage.fake_aws.received_requests().into_iter().find(|arrival| arrival.action == "s3:GetObject");
    good &= match &seen {
        Some(arrival) => print_check(
            arrival.access_key_id.starts_with("ASIA") && arrival.access_key_id != caller.access_key_id,
            &format!(
                "key {} with a session policy for {} on {} for at most a minute",
                arrival.access_key_id, arrival.action, arrival.resource
            ),
        )?,
        None => print_check(false, "AWS saw no s3:GetObject")?,
    };

    stage.gateway.flush_journal().await?;
    print_step(7, "recorded", "every exchange, hash-linked; `durward journal verify`")?;
    let journal = stage.dir.join("data").join("journal");
    let mut out = std::io::stdout();
    let verified =
        journal_commands::print_verification(&journal, &mut out).map_err(|error| error.to_string())?;
    journal_commands::list_sessions(&journal, false, &mut out).map_err(|error| error.to_string())?;
    good &= print_check(verified == 0, "the chain holds")?;
    Ok(good)
}

/// What to try while the demo stays up.
fn print_next_steps(
    stage: &DemoEnvironment,
    token_file: &Path,
    [ann, bob]: [&DemoApprover; 2],
    ask: &str,
) -> Result<(), String> {
    let [_used, held, free] = BACKUP_KEYS;
    let (durward, url) = (program_path(), ConsoleEndpoint::from_url(&stage.console_url)?.url_option());
    let approvals = |command: &str, person: &DemoApprover| {
        print_line(&format!(
            "  {durward} approvals {command}{url} --token-file {}",
            person.token_file.display()
        ))
    };
    print_line("\nThe demo stays up until Ctrl-C. build-agent waits for your answer to one more call:")?;
    print_line(&format!("  s3:DeleteObject {BACKUP_BUCKET}/{held}"))?;
    print_line("\nAnswer it in the browser, as Ann and then as Bob; Carol may only look on:")?;
    print_line(&format!("  {}", stage.console_url))?;
    print_line("\nor in the terminal:")?;
    approvals("ls", ann)?;
    approvals(&format!("approve {ask}"), ann)?;
    approvals(&format!("approve {ask}"), bob)?;
    print_line("or, as the person that you choose there, without --token-file after")?;
    print_line(&format!("  {durward} login --browser{url}"))?;
    print_line("\nBe an agent yourself, with the AWS CLI or any SDK:")?;
    print_line("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE")?;
    print_line(&format!(
        "  export AWS_ENDPOINT_URL={} AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1",
        stage.aws_url
    ))?;
    print_line(&format!(
        "  export AWS_ROLE_ARN=arn:aws:iam::{ACCOUNT_ID}:role/agents AWS_WEB_IDENTITY_TOKEN_FILE={}",
        token_file.display()
    ))?;
    // The AWS CLI keeps what it signed in to in ~/.aws/cli/cache under this name among others: one of another demo would
    // give it a credential that this gateway does not know.
    print_line(&format!(
        "  export AWS_ROLE_SESSION_NAME=demo-{}",
        OffsetDateTime::now_utc().unix_timestamp()
    ))?;
    for (command, comes_to) in [
        ("aws s3 ls s3://demo-data/reports/", "allowed"),
        ("aws secretsmanager get-secret-value --secret-id prod/db", "masked"),
        ("aws s3 rb s3://demo-data", "refused"),
        (&format!("aws s3 rm s3://{BACKUP_BUCKET}/{free}"), "waits for Ann and Bob"),
    ] {
        print_line(&format!("  {command:<58}# {comes_to}"))?;
    }
    print_line("\nLook at what runs and what was recorded:")?;
    print_line(&format!("  {}", stage.dir.join("durward.toml").display()))?;
    print_line(&format!("  {durward} sessions ls --dir {}", stage.dir.join("data").join("journal").display()))
}

/// This program as it can be called from here.
fn program_path() -> String {
    let Ok(path) = std::env::current_exe() else { return "durward".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) if below.components().count() == 1 => format!("./{}", below.display()),
        Ok(below) => below.display().to_string(),
        Err(_elsewhere) => path.display().to_string(),
    }
}

fn remove_directory(dir: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

fn print_line(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot write: {error}"))
}

fn print_step(number: u8, word: &str, text: &str) -> Result<(), String> {
    print_line(&format!("\n{number}. {word:<9} {text}"))
}

fn print_detail(text: &str) -> Result<(), String> {
    print_line(&format!("   {text}"))
}

fn print_check(held: bool, text: &str) -> Result<bool, String> {
    print_detail(&format!("{} {text}", if held { "ok  " } else { "WRONG" }))?;
    Ok(held)
}
