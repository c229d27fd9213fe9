//! STS: sessions of assumed roles.

use super::requested_action::RequestedAction;
use super::response::{FakeAwsError, FakeAwsResponse, xml_response};
use super::state::{AssumedRoleSession, FakeAwsState};
use super::{ACCOUNT_ID, GATEWAY_ACCESS_KEY_ID, SESSION_TOKEN_PREFIX, random_hex};
use http::StatusCode;
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// STS refuses a longer inline policy (AssumeRole, parameter `Policy`).
const MAX_SESSION_POLICY_CHARACTERS: usize = 2048;
/// The shortest that STS issues (AssumeRole, parameter `DurationSeconds`).
const SESSION_LIFETIME: Duration = Duration::seconds(900);

/// GetCallerIdentity for everyone, AssumeRole for the gateway. The role need not exist, and `DurationSeconds` is ignored.
pub fn execute_sts(
    state: &mut FakeAwsState,
    requested: &RequestedAction,
    form: &BTreeMap<String, String>,
    access_key_id: &str,
    now: OffsetDateTime,
) -> Result<FakeAwsResponse, FakeAwsError> {
    if requested.action == "sts:GetCallerIdentity" {
        let arn = state.sessions.get(access_key_id).map_or_else(
            || format!("arn:aws:iam::{ACCOUNT_ID}:user/durward-gateway"),
            |session| {
                format!(
                    "arn:aws:sts::{ACCOUNT_ID}:assumed-role/{}/{}",
                    session.role_name, session.source_identity
                )
            },
        );
        return Ok(xml_response(format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{access_key_id}</UserId><Account>{ACCOUNT_ID}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>fake-aws</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        )));
    }
    if requested.action != "sts:AssumeRole" || access_key_id != GATEWAY_ACCESS_KEY_ID {
        return Err(FakeAwsError::denied("AccessDenied", "only the gateway may assume a role"));
    }
    let malformed_policy =
        |message: &str| FakeAwsError::new(StatusCode::BAD_REQUEST, "MalformedPolicyDocument", message);
    // As AWS counts: characters, so that a policy that this accepts is not refused by the real STS.
    let policy = match form.get("Policy") {
        Some(text) if text.chars().count() > MAX_SESSION_POLICY_CHARACTERS => {
            return Err(malformed_policy("the policy is longer than 2048 characters"));
        }
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|_error| malformed_policy("the policy is not JSON"))?)
        }
        None => None,
    };
    let session = AssumedRoleSession {
        secret_access_key: random_hex(20),
        session_token: format!("{SESSION_TOKEN_PREFIX}{}", random_hex(60)),
        session_policy: policy,
        source_identity: form.get("SourceIdentity").cloned().unwrap_or_default(),
        role_name: requested.resource.rsplit('/').next().unwrap_or_default().to_owned(),
        expires_at: now + SESSION_LIFETIME,
    };
    let id = format!("ASIA{}", random_hex(8).to_ascii_uppercase());
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser><Arn>{0}</Arn><AssumedRoleId>{id}:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{1}</SecretAccessKey><SessionToken>{2}</SessionToken><Expiration>{3}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>fake-aws</RequestId></ResponseMetadata></AssumeRoleResponse>",
        requested.resource,
        session.secret_access_key,
        session.session_token,
        session.expires_at.format(&Rfc3339).unwrap_or_default()
    );
    state.sessions.insert(id, session);
    Ok(xml_response(body))
}
