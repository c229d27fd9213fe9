//! `durward demo`: the whole product on one machine, without an account and without a network.
//!
//! A fake AWS, a fake issuer, the gateway with the sample policies and its console, a caller whose requests are allowed, masked,
//! blocked and held, and the approvers who vote on them. The fakes are part of every build, because the demo is the first
//! command that a new user runs.

mod approval_step;
mod environment;
mod sdk_client;

pub use environment::{create_demo_directory, gateway_identity, open_log_file};
pub use sdk_client::{SdkClient, SdkRequest};

use crate::command_error::CommandError;
use crate::console_endpoint::ConsoleEndpoint;
use crate::json_values::format_scalar;
use crate::terminal_output::{PipeSafeStdout, print_line};
use crate::{journal_commands, serve};
use approval_step::DemoApprover;
use durward_fake_aws::aws::ACCOUNT_ID;
use durward_journal::JournalError;
use environment::{BACKUP_BUCKET, BACKUP_KEYS, CALLER_AUDIENCE, CONNECTION_NAME, DemoEnvironment};
use sdk_client::format_response;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Long enough for a working day with the demo.
const TOKEN_LIFETIME: Duration = Duration::from_hours(8);

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: too many old demos are there: remove durward-demo-*", .0.display())]
    TooManyDirectories(PathBuf),
    #[error("the {part} cannot start: {error}")]
    Fake { part: &'static str, error: io::Error },
    #[error("no address is free for the demo: {0}")]
    NoFreeAddress(io::Error),
    #[error("the {0} is not listening")]
    NotListening(&'static str),
    #[error("the issuer has no user {0}")]
    UnknownUser(String),
    #[error("the sign-in was refused: {0}")]
    SignInRefused(String),
    #[error("a request cannot be built: {0}")]
    InvalidRequest(String),
    #[error("a request to the gateway failed: {0}")]
    RequestFailed(String),
    #[error("no approval request about {0} appeared")]
    NoApprovalRequest(String),
    #[error("the request is still held although it was decided")]
    StillHeld,
    #[error("a task of the demo panicked: {0}")]
    Panicked(tokio::task::JoinError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Start(#[from] serve::StartError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl DemoError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }
}

/// Runs the walk-through in `dir`, which [`create_demo_directory`] created. The exit code is 0 if every step passed. With
/// `once` it returns then; otherwise everything stays up until a signal stops it.
pub async fn run_demo(dir: &Path, once: bool) -> Result<u8, DemoError> {
    let environment = DemoEnvironment::start(dir).await?;
    print_line("Durward demo: a fake AWS, a fake OIDC issuer and the gateway, all on this machine")?;
    print_line(&format!(
        "  gateway {}   console {}   fake AWS {}   issuer {}",
        environment.aws_origin.url(),
        environment.console_url,
        environment.fake_aws.url(),
        environment.issuer.url()
    ))?;
    let token = environment.issuer.issue_token("build-agent", &["agents"], CALLER_AUDIENCE, TOKEN_LIFETIME);
    let token_file = environment.write_token_file("agent.token", &token)?;
    let ann = DemoApprover::sign_in(&environment, "ann")?;
    let bob = DemoApprover::sign_in(&environment, "bob")?;
    let caller = Arc::new(SdkClient::sign_in(&environment.aws_origin, &token, CONNECTION_NAME).await?);
    let passed = run_walkthrough(&environment, &caller, &ann, &bob).await?;
    if once {
        environment.gateway.stop().await;
        if passed {
            print_line("\nEvery step passed.")?;
            remove_directory(dir)?;
        } else {
            print_line(&format!(
                "\nA step failed; the demo's files, with its log, are in {}",
                dir.display()
            ))?;
        }
        return Ok(u8::from(!passed));
    }
    serve_until_signal(&environment, &caller, &token_file, [&ann, &bob]).await?;
    environment.gateway.stop().await;
    remove_directory(dir)?;
    Ok(0)
}

/// Leaves one request pending for the user to decide, prints what else to try, and waits for a signal.
async fn serve_until_signal(
    environment: &DemoEnvironment,
    caller: &Arc<SdkClient>,
    token_file: &Path,
    approvers: [&DemoApprover; 2],
) -> Result<(), DemoError> {
    let [_deleted, pending, ..] = BACKUP_KEYS;
    let [ann, _bob] = approvers;
    let mut held = approval_step::delete_backup(caller, pending);
    let request = ann.wait_for_request(&approval_step::backup_arn(pending)).await?;
    print_next_steps(environment, token_file, approvers, &format_scalar(&request["id"]))?;
    let stopped = serve::wait_for_signal();
    tokio::pin!(stopped);
    tokio::select! {
        response = &mut held => {
            let response = response.map_err(DemoError::Panicked)?;
            let result = response.map_or_else(|error| error.to_string(), |response| format_response(&response));
            print_line(&format!("\nbuild-agent's request for {BACKUP_BUCKET}/{pending} finished: {result}"))?;
            stopped.await;
        }
        () = &mut stopped => held.abort(),
    }
    Ok(())
}

async fn run_walkthrough(
    environment: &DemoEnvironment,
    caller: &Arc<SdkClient>,
    ann: &DemoApprover,
    bob: &DemoApprover,
) -> Result<bool, DemoError> {
    let mut passed = true;
    print_step(
        1,
        "sign in",
        "build-agent (group agents) sends its OIDC token and gets a gateway credential",
    )?;
    print_detail(&format!("key {}: AWS does not know it", caller.access_key_id))?;

    print_step(2, "allowed", "s3:GetObject demo-data/reports/q3.csv")?;
    let object = caller.call(&SdkRequest::get_object("demo-data", "reports/q3.csv")).await?;
    passed &= print_check(
        object.status() == 200 && object.body().starts_with(b"region,"),
        &format_response(&object),
    )?;

    print_step(3, "masked", "secretsmanager:GetSecretValue prod/db")?;
    let body = "{\"SecretId\":\"prod/db\"}";
    let secret =
        caller.call(&SdkRequest::json_call("secretsmanager", "secretsmanager.GetSecretValue", body)).await?;
    let body = String::from_utf8_lossy(secret.body());
    passed &= print_check(
        secret.status() == 200 && body.contains("masked") && !body.contains("battery"),
        &format_response(&secret),
    )?;

    print_step(4, "blocked", "s3:DeleteBucket demo-data never reaches AWS")?;
    let received_before = environment.fake_aws.received_requests().len();
    let deletion = caller
        .call(&SdkRequest { path: "/demo-data".to_owned(), ..SdkRequest::delete_object("", "") })
        .await?;
    passed &= print_check(
        deletion.status() == 403 && environment.fake_aws.received_requests().len() == received_before,
        &format_response(&deletion),
    )?;

    passed &= approval_step::run_approval_step(environment, caller, ann, bob).await?;

    print_step(6, "issued", "the credential that AWS saw for step 2, which the caller never had")?;
    let received = environment.fake_aws.received_requests();
    passed &= match received.iter().find(|request| request.action == "s3:GetObject") {
        Some(request) => print_check(
            request.access_key_id.starts_with("ASIA") && request.access_key_id != caller.access_key_id,
            &format!(
                "key {} with a session policy for {} on {} for at most a minute",
                request.access_key_id, request.action, request.resource
            ),
        )?,
        None => print_check(false, "AWS saw no s3:GetObject")?,
    };

    environment.gateway.flush_journal().await?;
    print_step(7, "recorded", "every exchange, hash-linked; `durward journal verify`")?;
    let journal = environment.journal_dir();
    let mut out = PipeSafeStdout;
    let exit_code = journal_commands::print_verification(&journal, &mut out).map_err(CommandError::Output)?;
    journal_commands::list_sessions(&journal, false, &mut out).map_err(CommandError::Output)?;
    passed &= print_check(exit_code == 0, "the hash chain is intact")?;
    Ok(passed)
}

/// Prints what the user can try while the demo stays up.
fn print_next_steps(
    environment: &DemoEnvironment,
    token_file: &Path,
    [ann, bob]: [&DemoApprover; 2],
    request_id: &str,
) -> Result<(), DemoError> {
    let [_deleted, pending, unused] = BACKUP_KEYS;
    let durward = program_path();
    let url = ConsoleEndpoint::from_url(&environment.console_url)?.url_option();
    let print_approvals = |command: &str, approver: &DemoApprover| {
        print_line(&format!(
            "  {durward} approvals {command}{url} --token-file {}",
            approver.token_file.display()
        ))
    };
    print_line("\nThe demo stays up until Ctrl-C. build-agent waits for your vote on one more request:")?;
    print_line(&format!("  s3:DeleteObject {BACKUP_BUCKET}/{pending}"))?;
    print_line("\nVote on it in the browser, as Ann and then as Bob; Carol can only view it:")?;
    print_line(&format!("  {}", environment.console_url))?;
    print_line("\nor in the terminal:")?;
    print_approvals("ls", ann)?;
    print_approvals(&format!("approve {request_id}"), ann)?;
    print_approvals(&format!("approve {request_id}"), bob)?;
    print_line("or as the user that you choose at this sign-in, and then without --token-file")?;
    print_line(&format!("  {durward} login --browser{url}"))?;
    print_line("\nBe an agent yourself, with the AWS CLI or any SDK:")?;
    print_line("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE")?;
    print_line(&format!(
        "  export AWS_ENDPOINT_URL={} AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1",
        environment.aws_origin.url()
    ))?;
    print_line(&format!(
        "  export AWS_ROLE_ARN=arn:aws:iam::{ACCOUNT_ID}:role/agents AWS_WEB_IDENTITY_TOKEN_FILE={}",
        token_file.display()
    ))?;
    // The AWS CLI caches web identity credentials in ~/.aws/cli/cache, by session name among others. A cached one of an
    // earlier demo would be refused by this gateway, which has other keys.
    print_line(&format!(
        "  export AWS_ROLE_SESSION_NAME=demo-{}",
        OffsetDateTime::now_utc().unix_timestamp()
    ))?;
    for (command, result) in [
        ("aws s3 ls s3://demo-data/reports/", "allowed"),
        ("aws secretsmanager get-secret-value --secret-id prod/db", "masked"),
        ("aws s3 rb s3://demo-data", "denied"),
        (&format!("aws s3 rm s3://{BACKUP_BUCKET}/{unused}"), "waits for Ann and Bob"),
    ] {
        print_line(&format!("  {command:<58}# {result}"))?;
    }
    print_line("\nLook at the configuration and at the journal:")?;
    print_line(&format!("  {}", environment.dir.join("durward.toml").display()))?;
    print_line(&format!("  {durward} sessions ls --dir {}", environment.journal_dir().display()))?;
    Ok(())
}

/// This program as the user can call it from the current directory.
fn program_path() -> String {
    let Ok(path) = std::env::current_exe() else { return "durward".to_owned() };
    let current_dir = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&current_dir) {
        Ok(below) if below.components().count() == 1 => format!("./{}", below.display()),
        Ok(below) => below.display().to_string(),
        Err(_elsewhere) => path.display().to_string(),
    }
}

fn remove_directory(dir: &Path) -> Result<(), DemoError> {
    std::fs::remove_dir_all(dir).map_err(DemoError::file(dir))
}

fn print_step(number: u8, word: &str, text: &str) -> Result<(), DemoError> {
    Ok(print_line(&format!("\n{number}. {word:<9} {text}"))?)
}

fn print_detail(text: &str) -> Result<(), DemoError> {
    Ok(print_line(&format!("   {text}"))?)
}

fn print_check(passed: bool, text: &str) -> Result<bool, DemoError> {
    print_detail(&format!("{} {text}", if passed { "ok  " } else { "FAILED" }))?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_step_of_the_walkthrough_passes_and_nothing_is_left() {
        let dir = create_demo_directory().unwrap();
        assert_eq!(run_demo(&dir, true).await.unwrap(), 0);
        assert!(!dir.exists());
    }
}
