//! The state of the fake AWS: sessions, buckets, secrets, tables, and the requests that it received.

use super::GATEWAY_ACCESS_KEY_ID;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A request that arrived with a valid signature.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub access_key_id: String,
    /// In IAM's words, `s3:GetObject`.
    pub action: String,
    /// The ARN, or `*`.
    pub resource: String,
    /// True if the credential was restricted by a session policy.
    pub has_session_policy: bool,
    pub is_allowed: bool,
}

pub struct AssumedRoleSession {
    pub secret_access_key: String,
    pub session_token: String,
    pub session_policy: Option<Value>,
    pub source_identity: String,
    pub role_name: String,
    pub expires_at: OffsetDateTime,
}

#[derive(Default)]
pub struct FakeAwsState {
    pub gateway_secret: String,
    pub sessions: BTreeMap<String, AssumedRoleSession>,
    pub buckets: BTreeMap<String, BTreeMap<String, Bytes>>,
    pub secrets: BTreeMap<String, String>,
    pub tables: BTreeMap<String, Vec<Value>>,
    pub received_requests: Vec<ReceivedRequest>,
}

impl FakeAwsState {
    /// The secret of an access key, if the session token belongs to it and is not over.
    pub fn secret_of(&self, access_key_id: &str, session_token: &str, now: OffsetDateTime) -> Option<&str> {
        if access_key_id == GATEWAY_ACCESS_KEY_ID && session_token.is_empty() {
            return Some(&self.gateway_secret);
        }
        let session = self.sessions.get(access_key_id)?;
        (session.session_token == session_token && now < session.expires_at)
            .then_some(session.secret_access_key.as_str())
    }
}
