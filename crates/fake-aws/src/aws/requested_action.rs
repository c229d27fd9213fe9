//! The action of a request in IAM's words.

use super::ACCOUNT_ID;
use super::response::FakeAwsError;
use super::s3::bucket_and_key;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use std::collections::BTreeMap;

/// The action and the ARN of its resource, or `*`.
pub struct RequestedAction {
    pub action: String,
    pub resource: String,
}

pub fn requested_action(
    service: &str,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
    form: &BTreeMap<String, String>,
) -> Result<RequestedAction, FakeAwsError> {
    let unknown = FakeAwsError::unknown_operation;
    if service == "sts" {
        let action = form.get("Action").ok_or_else(unknown)?;
        return Ok(RequestedAction {
            action: format!("sts:{action}"),
            resource: form.get("RoleArn").cloned().unwrap_or_else(|| "*".to_owned()),
        });
    }
    if service == "s3" {
        let (bucket, key) = bucket_and_key(path);
        let action = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
            ("GET", true, _) => "ListAllMyBuckets",
            ("PUT", false, true) => "CreateBucket",
            ("DELETE", false, true) => "DeleteBucket",
            ("GET" | "HEAD", false, true) if !query.contains("location") => "ListBucket",
            ("GET" | "HEAD", false, false) => "GetObject",
            ("PUT", false, false) => "PutObject",
            ("DELETE", false, false) => "DeleteObject",
            _ => return Err(unknown()),
        };
        let resource = match (bucket.is_empty(), key.is_empty()) {
            (true, _) => "*".to_owned(),
            (false, true) => format!("arn:aws:s3:::{bucket}"),
            (false, false) => format!("arn:aws:s3:::{bucket}/{key}"),
        };
        return Ok(RequestedAction { action: format!("s3:{action}"), resource });
    }
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).ok_or_else(unknown)?;
    let (_prefix, operation) = target.rsplit_once('.').ok_or_else(unknown)?;
    let parameters: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).map(str::to_owned);
    let region = "us-east-1";
    let resource = match service {
        "dynamodb" => {
            text("TableName").map(|table| format!("arn:aws:dynamodb:{region}:{ACCOUNT_ID}:table/{table}"))
        }
        "secretsmanager" => text("SecretId").or_else(|| text("Name")).map(|name| secret_arn(&name)),
        _ => return Err(unknown()),
    };
    Ok(RequestedAction {
        action: format!("{service}:{operation}"),
        resource: resource.unwrap_or_else(|| "*".to_owned()),
    })
}

/// Secret ARNs end in six random characters; here they are always the same six.
pub fn secret_arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:us-east-1:{ACCOUNT_ID}:secret:{name}-AbCdEf")
}
