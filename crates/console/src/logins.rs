//! Who is signed in: a random id in a cookie, and who it stands for in the store, so that a restart signs nobody out and every
//! replica knows everybody. The store holds the id's hash alone: whoever reads it cannot use a sign-in.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_approval::Approver;
use durward_identity::relying_party::random_text;
use durward_store::{LoginRow, Store, StoreError};
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// How long a sign-in is good for.
pub const LOGIN_LIFETIME: Duration = Duration::hours(1);
/// Sign-ins at once.
const MAX_LOGINS: i64 = 10_000;

/// A person who is signed in.
#[derive(Debug)]
pub struct SignedInUser {
    pub person: Approver,
    /// Stands in every form of this session.
    pub csrf_token: String,
}

/// The sign-ins.
pub struct LoginStore(Store);

impl LoginStore {
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// The new session's id. None: there are too many, or no randomness.
    pub async fn create_login(
        &self,
        person: &Approver,
        now: OffsetDateTime,
    ) -> Result<Option<String>, StoreError> {
        let Some(id) = random_text() else { return Ok(None) };
        let login = LoginRow {
            id: hash_for_purpose("durward sign-in", &id),
            user_id: person.id.clone(),
            name: person.name.clone(),
            subject: person.subject.clone(),
            group_names: serde_json::json!(person.groups).to_string(),
            groups_as_of: person.groups_as_of.unix_timestamp(),
            created_at: unix_milliseconds(now),
            expires_at: unix_milliseconds(now + LOGIN_LIFETIME),
        };
        let mut write = self.0.begin_write().await?;
        let begun = write.insert_login(&login, MAX_LOGINS).await?;
        write.commit().await?;
        Ok(begun.then_some(id))
    }

    pub async fn find_user(
        &self,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Arc<SignedInUser>>, StoreError> {
        let row = self
            .0
            .begin_read()
            .await?
            .find_login(&hash_for_purpose("durward sign-in", id), unix_milliseconds(now))
            .await?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |what| StoreError::Corrupt(format!("the {what} of a sign-in"));
        let person = Approver {
            id: row.user_id,
            name: row.name,
            subject: row.subject,
            groups: serde_json::from_str(&row.group_names).map_err(|_error| damaged("groups"))?,
            groups_as_of: OffsetDateTime::from_unix_timestamp(row.groups_as_of)
                .map_err(|_error| damaged("time"))?,
        };
        // Made of the id, which the page cannot be used to learn: nothing to keep.
        let csrf = URL_SAFE_NO_PAD.encode(hash_for_purpose("durward form", id));
        Ok(Some(Arc::new(SignedInUser { person, csrf_token: csrf })))
    }

    pub async fn end_login(&self, id: &str) -> Result<(), StoreError> {
        let mut write = self.0.begin_write().await?;
        write.delete_login(&hash_for_purpose("durward sign-in", id)).await?;
        write.commit().await
    }
}

fn unix_milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Neither of two purposes tells anything of the other, nor of the id.
fn hash_for_purpose(purpose: &str, id: &str) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    for part in [purpose, id] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().to_vec()
}

/// What a cookie of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleCookie {
    Session,
    /// A sign-in under way.
    SignIn,
}

impl ConsoleCookie {
    /// Over TLS with the prefix that no neighbouring host and no plain page can set.
    fn name(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Session, true) => "__Host-durward",
            (Self::Session, false) => "durward",
            (Self::SignIn, true) => "__Host-durward-signin",
            (Self::SignIn, false) => "durward-signin",
        }
    }

    /// The value a request brings; none if there are two.
    pub fn read_value(self, headers: &HeaderMap, tls: bool) -> Option<&str> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _value)| *name == self.name(tls))
            .map(|(_name, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The `Set-Cookie` header; an empty value removes it.
    pub fn to_set_cookie(self, value: &str, tls: bool) -> Option<HeaderValue> {
        let seconds = match (value.is_empty(), self) {
            (true, _) => 0,
            (false, Self::Session) => LOGIN_LIFETIME.whole_seconds(),
            (false, Self::SignIn) => crate::oidc_sign_in::SIGN_IN_TIMEOUT.whole_seconds(),
        };
        let secure = if tls { "; Secure" } else { "" };
        let line =
            format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name(tls));
        HeaderValue::from_str(&line).ok()
    }
}
