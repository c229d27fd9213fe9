//! What policy asks people about: a call that is held, the people who answer it through the admin API, and what they see.

use super::aws_client::{DemoAwsClient, format_response};
use super::environment::{ADMIN_API_AUDIENCE, BACKUP_BUCKET, BACKUP_KEYS, DemoEnvironment};
use super::{print_check, print_detail, print_step};
use crate::admin_api::{AdminApiArgs, AdminApiClient, format_scalar, list_items};
use bytes::Bytes;
use durward_core::Resource;
use durward_fake_aws::oidc_issuer::DEMO_USERS;
use http::{Method, Response};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two looks at what waits.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longer than anything takes that happens at all.
const DEMO_STEP_TIMEOUT: Duration = Duration::from_mins(1);
const DENIAL_REASON: &str = "keep it until the audit is over";

/// A call that waits for people.
pub(super) type HeldCall = JoinHandle<Result<Response<Bytes>, String>>;

/// Somebody who answers, with a token of their own.
pub(super) struct DemoApprover {
    pub token_file: PathBuf,
    api: AdminApiClient,
}

impl DemoApprover {
    pub fn sign_in(stage: &DemoEnvironment, subject: &str) -> Result<Self, String> {
        let person = DEMO_USERS
            .iter()
            .find(|person| person.subject == subject)
            .ok_or_else(|| format!("the issuer knows no {subject}"))?;
        let lifetime = Duration::from_hours(8);
        let token = stage.issuer.issue_token(person.subject, person.groups, ADMIN_API_AUDIENCE, lifetime);
        let token_file = stage.write_token_file(&format!("{subject}.token"), &token)?;
        let gateway = AdminApiArgs {
            url: stage.console_url.clone(),
            token_file: Some(token_file.clone()),
            json: false,
        };
        Ok(Self { token_file, api: AdminApiClient::new(&gateway)? })
    }

    /// The ask about a resource that waits, as soon as there is one.
    pub async fn wait_for_request(&self, arn: &str) -> Result<Value, String> {
        let mut look = tokio::time::interval(POLL_INTERVAL);
        let found = async {
            loop {
                look.tick().await;
                let listed = self.api.get("/asks?state=pending").await?;
                let about = |ask: &&Value| {
                    list_items(&ask["what"]["operation"]["demands"])
                        .iter()
                        .any(|demand| format_resource(&demand["resource"]) == arn)
                };
                if let Some(ask) = list_items(&listed["asks"]).iter().find(about) {
                    return Ok(ask.clone());
                }
            }
        };
        tokio::time::timeout(DEMO_STEP_TIMEOUT, found)
            .await
            .unwrap_or_else(|_elapsed| Err(format!("nobody was asked about {arn}")))
    }

    async fn cast_vote(&self, ask: &Value, answer: &Value) -> Result<Value, String> {
        self.api.post(&format!("/asks/{}/answer", format_scalar(&ask["id"])), answer).await
    }
}

/// The call that deletes a backup.
pub(super) fn delete_backup(caller: &Arc<DemoAwsClient>, name: &str) -> HeldCall {
    let (caller, path) = (caller.clone(), format!("/{BACKUP_BUCKET}/{name}"));
    tokio::spawn(async move { caller.call(Method::DELETE, "s3", &path, None, "").await })
}

pub(super) fn backup_arn(name: &str) -> String {
    format!("arn:aws:s3:::{BACKUP_BUCKET}/{name}")
}

/// The step: held, approved by two, used once; asked again, denied.
pub(super) async fn run_approval_step(
    stage: &DemoEnvironment,
    caller: &Arc<DemoAwsClient>,
    ann: &DemoApprover,
    bob: &DemoApprover,
) -> Result<bool, String> {
    let [name, ..] = BACKUP_KEYS;
    print_step(
        5,
        "asked",
        &format!(
            "s3:DeleteObject {BACKUP_BUCKET}/{name}: the bucket is labelled critical, so the call waits"
        ),
    )?;
    let held = delete_backup(caller, name);
    let ask = ann.wait_for_request(&backup_arn(name)).await?;
    print_detail("whoever may approve it sees, in the console and with `durward approvals show`:")?;
    for line in describe_request(&ask) {
        print_detail(&format!("     {line}"))?;
    }
    let deletions = || {
        stage
            .fake_aws
            .received_requests()
            .iter()
            .filter(|arrival| arrival.action == "s3:DeleteObject")
            .count()
    };
    let approval = json!({"answer": "approve_once"});
    let after = ann.cast_vote(&ask, &approval).await?;
    let mut good = print_check(
        after["state"] == "pending" && !held.is_finished() && deletions() == 0,
        &format!("ann approves: the call is still held, {} still needed", format_missing_votes(&after)),
    )?;
    bob.cast_vote(&ask, &approval).await?;
    let answer = await_held_call(held).await?;
    good &= print_check(
        answer.status() == 204 && deletions() == 1,
        &format!("bob approves: the call goes on, once, and its caller gets {}", format_response(&answer)),
    )?;
    let held = delete_backup(caller, name);
    let again = ann.wait_for_request(&backup_arn(name)).await?;
    ann.cast_vote(&again, &json!({"answer": "deny", "reason": DENIAL_REASON})).await?;
    let answer = await_held_call(held).await?;
    let told = format_response(&answer);
    good &= print_check(
        again["id"] != ask["id"]
            && answer.status() == 403
            && told.contains(DENIAL_REASON)
            && deletions() == 1,
        &format!("the same call asks again, and ann denies it: {told}"),
    )?;
    Ok(good)
}

async fn await_held_call(held: HeldCall) -> Result<Response<Bytes>, String> {
    tokio::time::timeout(DEMO_STEP_TIMEOUT, held)
        .await
        .map_err(|_elapsed| "the call is held though it was answered".to_owned())?
        .map_err(|error| error.to_string())?
}

/// An ask in a few lines.
fn describe_request(ask: &Value) -> Vec<String> {
    let what = &ask["what"];
    let mut lines: Vec<String> = list_items(&what["operation"]["demands"])
        .iter()
        .map(|demand| {
            format!("{} on {}", format_scalar(&demand["action"]), format_resource(&demand["resource"]))
        })
        .collect();
    let tags = what["tags"].as_object().into_iter().flat_map(|all| all.values());
    let tags = tags.filter_map(Value::as_object).flatten();
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={}", format_scalar(value))).collect();
    lines.push(format!(
        "asked by {}/{} through {}; tags: {}",
        format_scalar(&what["caller"]["provider"]),
        format_scalar(&what["caller"]["subject"]),
        format_scalar(&what["connection"]),
        tags.join(", ")
    ));
    let reasons: Vec<String> = list_items(&ask["risk"]["reasons"]).iter().map(format_scalar).collect();
    lines.push(format!("risk {} of 100: {}", format_scalar(&ask["risk"]["score"]), reasons.join("; ")));
    lines.push(format!("still needed: {}", format_missing_votes(ask)));
    lines
}

fn format_missing_votes(ask: &Value) -> String {
    let one = |missing: &Value| {
        format!("{} of {}", format_scalar(&missing["people"]), format_scalar(&missing["group"]))
    };
    list_items(&ask["missing"]).iter().map(one).collect::<Vec<_>>().join(", ")
}

fn format_resource(value: &Value) -> String {
    serde_json::from_value::<Resource>(value.clone()).map(|resource| resource.to_text()).unwrap_or_default()
}
