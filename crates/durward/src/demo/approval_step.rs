//! The approval step of the demo: a held request, what its approvers see, and their votes through the admin API.

use super::environment::{ADMIN_API_AUDIENCE, BACKUP_BUCKET, BACKUP_KEYS, DemoEnvironment};
use super::sdk_client::{SdkClient, SdkRequest, format_response};
use super::{DemoError, TOKEN_LIFETIME, print_check, print_detail, print_step};
use crate::admin_api::{AdminApiArgs, AdminApiClient};
use crate::approval_commands::{describe_resource, format_missing_votes};
use crate::console_endpoint::ConsoleUrlArgs;
use crate::json_values::{format_scalar, list_items};
use bytes::Bytes;
use durward_fake_aws::oidc_issuer::DEMO_USERS;
use http::Response;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Pause between two looks at the pending requests.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Far longer than any step takes, on a slow machine too.
const DEMO_STEP_TIMEOUT: Duration = Duration::from_mins(1);
const DENIAL_REASON: &str = "keep it until the audit is over";

/// A request that waits for approval.
pub(super) type HeldRequest = JoinHandle<Result<Response<Bytes>, DemoError>>;

/// An approver with a token of their own.
pub(super) struct DemoApprover {
    pub token_file: PathBuf,
    api: AdminApiClient,
}

impl DemoApprover {
    pub fn sign_in(environment: &DemoEnvironment, subject: &str) -> Result<Self, DemoError> {
        let user = DEMO_USERS
            .iter()
            .find(|user| user.subject == subject)
            .ok_or_else(|| DemoError::UnknownUser(subject.to_owned()))?;
        let token =
            environment.issuer.issue_token(user.subject, user.groups, ADMIN_API_AUDIENCE, TOKEN_LIFETIME);
        let token_file = environment.write_token_file(&format!("{subject}.token"), &token)?;
        let api = AdminApiClient::new(&AdminApiArgs {
            console: ConsoleUrlArgs { url: environment.console_url.clone() },
            token_file: Some(token_file.clone()),
            json: false,
        })?;
        Ok(Self { token_file, api })
    }

    /// The pending approval request about a resource, as soon as there is one.
    pub async fn wait_for_request(&self, arn: &str) -> Result<Value, DemoError> {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        let is_about = |request: &&Value| {
            list_items(&request["details"]["operation"]["required_permissions"])
                .iter()
                .any(|permission| describe_resource(&permission["resource"]) == arn)
        };
        let poll = async {
            loop {
                interval.tick().await;
                let pending = self.api.get("/approval-requests?state=pending").await?;
                if let Some(request) = list_items(&pending["approval_requests"]).iter().find(is_about) {
                    return Ok(request.clone());
                }
            }
        };
        tokio::time::timeout(DEMO_STEP_TIMEOUT, poll)
            .await
            .unwrap_or_else(|_elapsed| Err(DemoError::NoApprovalRequest(arn.to_owned())))
    }

    async fn cast_vote(&self, request: &Value, vote: &Value) -> Result<Value, DemoError> {
        let path = format!("/approval-requests/{}/votes", format_scalar(&request["id"]));
        Ok(self.api.post(&path, vote).await?)
    }
}

/// Sends the request that deletes a backup. It is held.
pub(super) fn delete_backup(caller: &Arc<SdkClient>, name: &str) -> HeldRequest {
    let (caller, deletion) = (caller.clone(), SdkRequest::delete_object(BACKUP_BUCKET, name));
    tokio::spawn(async move { caller.call(&deletion).await })
}

pub(super) fn backup_arn(name: &str) -> String {
    format!("arn:aws:s3:::{BACKUP_BUCKET}/{name}")
}

/// A request is held, approved by two people and executed once. The same request is held again and denied.
pub(super) async fn run_approval_step(
    environment: &DemoEnvironment,
    caller: &Arc<SdkClient>,
    ann: &DemoApprover,
    bob: &DemoApprover,
) -> Result<bool, DemoError> {
    let [name, ..] = BACKUP_KEYS;
    print_step(
        5,
        "approved",
        &format!(
            "s3:DeleteObject {BACKUP_BUCKET}/{name}: the bucket is labelled critical, so the request waits"
        ),
    )?;
    let held = delete_backup(caller, name);
    let request = ann.wait_for_request(&backup_arn(name)).await?;
    print_detail("its approvers see, in the console and with `durward approvals show`:")?;
    for line in describe_request(&request) {
        print_detail(&format!("     {line}"))?;
    }
    let deletion_count = || {
        let received = environment.fake_aws.received_requests();
        received.iter().filter(|request| request.action == "s3:DeleteObject").count()
    };
    let approval = json!({"vote": "approve_once"});
    let after_ann = ann.cast_vote(&request, &approval).await?;
    let mut passed = print_check(
        after_ann["state"] == "pending" && !held.is_finished() && deletion_count() == 0,
        &format!(
            "ann approves: the request is still held, missing votes: {}",
            format_missing_votes(&after_ann)
        ),
    )?;
    bob.cast_vote(&request, &approval).await?;
    let response = await_held_request(held).await?;
    passed &= print_check(
        response.status() == 204 && deletion_count() == 1,
        &format!(
            "bob approves: the request is executed, once, and its caller gets {}",
            format_response(&response)
        ),
    )?;
    let held = delete_backup(caller, name);
    let second_request = ann.wait_for_request(&backup_arn(name)).await?;
    ann.cast_vote(&second_request, &json!({"vote": "deny", "reason": DENIAL_REASON})).await?;
    let response = await_held_request(held).await?;
    let refusal = format_response(&response);
    passed &= print_check(
        second_request["id"] != request["id"]
            && response.status() == 403
            && refusal.contains(DENIAL_REASON)
            && deletion_count() == 1,
        &format!("the same request needs a new approval, and ann denies it: {refusal}"),
    )?;
    Ok(passed)
}

async fn await_held_request(held: HeldRequest) -> Result<Response<Bytes>, DemoError> {
    tokio::time::timeout(DEMO_STEP_TIMEOUT, held)
        .await
        .map_err(|_elapsed| DemoError::StillHeld)?
        .map_err(DemoError::Panicked)?
}

/// An approval request in a few lines.
fn describe_request(request: &Value) -> Vec<String> {
    let details = &request["details"];
    let permissions = list_items(&details["operation"]["required_permissions"]).iter();
    let mut lines: Vec<String> = permissions
        .map(|permission| {
            format!(
                "{} on {}",
                format_scalar(&permission["action"]),
                describe_resource(&permission["resource"])
            )
        })
        .collect();
    let tags = details["tags"].as_object().into_iter().flat_map(|tags| tags.values());
    let tags = tags.filter_map(Value::as_object).flatten();
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={}", format_scalar(value))).collect();
    lines.push(format!(
        "requested by {}/{} through {}; tags: {}",
        format_scalar(&details["caller"]["provider"]),
        format_scalar(&details["caller"]["subject"]),
        format_scalar(&details["connection"]),
        tags.join(", ")
    ));
    let reasons: Vec<String> = list_items(&request["risk"]["reasons"]).iter().map(format_scalar).collect();
    lines.push(format!("risk {} of 100: {}", format_scalar(&request["risk"]["score"]), reasons.join("; ")));
    lines.push(format!("missing votes: {}", format_missing_votes(request)));
    lines
}
