//! The JavaScript SDK sends SQS requests straight to the `QueueUrl` it was given. The URLs in answers are therefore
//! pointed at this gateway; SQS itself reads only the account and queue name of the URLs that come back.

use super::Target;
use crate::answer::{Answer, AnswerBody};
use durward_masking::Content;
use serde_json::Value;

/// Rewrites the origin of `QueueUrl` and `QueueUrls` to `gateway` (`https://aws.gw.example`).
pub(super) fn point_at(gateway: &str, target: &Target, answer: &mut Answer) {
    let AnswerBody::Whole { bytes, content: Content::Json, .. } = &answer.body else { return };
    if target.service.id != "sqs" || !answer.head.status.is_success() {
        return;
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut found = false;
    for (name, value) in &mut members {
        match (name.as_str(), value) {
            ("QueueUrl", Value::String(url)) => found |= rewrite(gateway, url),
            ("QueueUrls" | "queueUrls", Value::Array(urls)) => {
                for url in urls {
                    if let Value::String(url) = url {
                        found |= rewrite(gateway, url);
                    }
                }
            }
            _ => {}
        }
    }
    if found && let Ok(changed) = serde_json::to_vec(&members) {
        answer.replace_body(changed.into());
    }
}

fn rewrite(gateway: &str, url: &mut String) -> bool {
    let path =
        url.split_once("://").and_then(|(_scheme, rest)| rest.find('/').and_then(|slash| rest.get(slash..)));
    match path.map(|path| format!("{gateway}{path}")) {
        Some(changed) => {
            *url = changed;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn keeps_account_and_name_and_changes_only_the_origin() {
        let mut url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo".to_owned();
        assert!(rewrite("http://127.0.0.1:8610", &mut url));
        assert_eq!(url, "http://127.0.0.1:8610/123456789012/jobs.fifo");
        let mut other = "not a url".to_owned();
        assert!(!rewrite("http://gw", &mut other));
        assert_eq!(other, "not a url");
    }
}
