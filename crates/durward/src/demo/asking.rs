//! What policy asks people about: a call that is held, the people who answer it through the admin API, and what they see.

use super::caller::{Caller, shown};
use super::stage::{BACKUP, BACKUPS, PEOPLE_AUDIENCE, Stage};
use super::{check, detail, step};
use crate::admin_api::{Api, Gateway, items, text};
use bytes::Bytes;
use durward_core::Resource;
use durward_standin::issuer::PEOPLE;
use http::{Method, Response};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two looks at what waits.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_mins(1);
const REASON: &str = "keep it until the audit is over";

/// A call that waits for people.
pub(super) type Held = JoinHandle<Result<Response<Bytes>, String>>;

/// Somebody who answers, with a token of their own.
pub(super) struct Person {
    pub token_file: PathBuf,
    api: Api,
}

impl Person {
    pub fn sign_in(stage: &Stage, subject: &str) -> Result<Self, String> {
        let person = PEOPLE
            .iter()
            .find(|person| person.subject == subject)
            .ok_or_else(|| format!("the issuer knows no {subject}"))?;
        let lifetime = Duration::from_hours(8);
        let token = stage.issuer.issue(person.subject, person.groups, PEOPLE_AUDIENCE, lifetime);
        let token_file = stage.token_file(&format!("{subject}.token"), &token)?;
        let gateway =
            Gateway { url: stage.console.clone(), token_file: Some(token_file.clone()), json: false };
        Ok(Self { token_file, api: Api::new(&gateway)? })
    }

    /// The ask about a resource that waits, as soon as there is one.
    pub async fn sees(&self, arn: &str) -> Result<Value, String> {
        let mut look = tokio::time::interval(LOOK);
        let found = async {
            loop {
                look.tick().await;
                let listed = self.api.get("/asks?state=pending").await?;
                let about = |ask: &&Value| {
                    items(&ask["what"]["operation"]["demands"])
                        .iter()
                        .any(|demand| resource(&demand["resource"]) == arn)
                };
                if let Some(ask) = items(&listed["asks"]).iter().find(about) {
                    return Ok(ask.clone());
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_elapsed| Err(format!("nobody was asked about {arn}")))
    }

    async fn answers(&self, ask: &Value, answer: &Value) -> Result<Value, String> {
        self.api.post(&format!("/asks/{}/answer", text(&ask["id"])), answer).await
    }
}

/// The call that deletes a backup.
pub(super) fn delete(caller: &Arc<Caller>, name: &str) -> Held {
    let (caller, path) = (caller.clone(), format!("/{BACKUPS}/{name}"));
    tokio::spawn(async move { caller.call(Method::DELETE, "s3", &path, None, "").await })
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:s3:::{BACKUPS}/{name}")
}

/// The step: held, approved by two, used once; asked again, denied.
pub(super) async fn asked(
    stage: &Stage,
    caller: &Arc<Caller>,
    ann: &Person,
    bob: &Person,
) -> Result<bool, String> {
    let [name, ..] = BACKUP;
    step(
        5,
        "asked",
        &format!("s3:DeleteObject {BACKUPS}/{name}: the bucket is labelled critical, so the call waits"),
    )?;
    let held = delete(caller, name);
    let ask = ann.sees(&arn(name)).await?;
    detail("whoever may approve it sees, in the console and with `durward approvals show`:")?;
    for line in described(&ask) {
        detail(&format!("     {line}"))?;
    }
    let deletions =
        || stage.aws.arrivals().iter().filter(|arrival| arrival.action == "s3:DeleteObject").count();
    let approval = json!({"answer": "approve_once"});
    let after = ann.answers(&ask, &approval).await?;
    let mut good = check(
        after["state"] == "pending" && !held.is_finished() && deletions() == 0,
        &format!("ann approves: the call is still held, {} still needed", missing(&after)),
    )?;
    bob.answers(&ask, &approval).await?;
    let answer = end_of(held).await?;
    good &= check(
        answer.status() == 204 && deletions() == 1,
        &format!("bob approves: the call goes on, once, and its caller gets {}", shown(&answer)),
    )?;
    let held = delete(caller, name);
    let again = ann.sees(&arn(name)).await?;
    ann.answers(&again, &json!({"answer": "deny", "reason": REASON})).await?;
    let answer = end_of(held).await?;
    let told = shown(&answer);
    good &= check(
        again["id"] != ask["id"] && answer.status() == 403 && told.contains(REASON) && deletions() == 1,
        &format!("the same call asks again, and ann denies it: {told}"),
    )?;
    Ok(good)
}

async fn end_of(held: Held) -> Result<Response<Bytes>, String> {
    tokio::time::timeout(PATIENCE, held)
        .await
        .map_err(|_elapsed| "the call is held though it was answered".to_owned())?
        .map_err(|error| error.to_string())?
}

/// An ask in a few lines.
fn described(ask: &Value) -> Vec<String> {
    let what = &ask["what"];
    let mut lines: Vec<String> = items(&what["operation"]["demands"])
        .iter()
        .map(|demand| format!("{} on {}", text(&demand["action"]), resource(&demand["resource"])))
        .collect();
    let tags = what["tags"].as_object().into_iter().flat_map(|all| all.values());
    let tags = tags.filter_map(Value::as_object).flatten();
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={}", text(value))).collect();
    lines.push(format!(
        "asked by {}/{} through {}; tags: {}",
        text(&what["caller"]["provider"]),
        text(&what["caller"]["subject"]),
        text(&what["connection"]),
        tags.join(", ")
    ));
    let reasons: Vec<String> = items(&ask["risk"]["reasons"]).iter().map(text).collect();
    lines.push(format!("risk {} of 100: {}", text(&ask["risk"]["score"]), reasons.join("; ")));
    lines.push(format!("still needed: {}", missing(ask)));
    lines
}

fn missing(ask: &Value) -> String {
    let one = |missing: &Value| format!("{} of {}", text(&missing["people"]), text(&missing["group"]));
    items(&ask["missing"]).iter().map(one).collect::<Vec<_>>().join(", ")
}

fn resource(value: &Value) -> String {
    serde_json::from_value::<Resource>(value.clone()).map(|resource| resource.as_text()).unwrap_or_default()
}
