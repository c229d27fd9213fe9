//! Who is signed in: a random id in a cookie, and who it stands for in the store, so that a restart signs nobody out and every
//! replica knows everybody. The store holds the id's hash alone: whoever reads it cannot use a sign-in.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_approval::Person;
use durward_identity::relying_party::random_text;
use durward_store::{LoginRow, Store, StoreError};
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// How long a sign-in is good for.
pub const LIFETIME: Duration = Duration::hours(1);
/// Sign-ins at once.
const MOST: i64 = 10_000;

/// A person who is signed in.
#[derive(Debug)]
pub struct SignedIn {
    pub person: Person,
    /// Stands in every form of this session.
    pub csrf: String,
}

/// The sign-ins.
pub struct Sessions(Store);

impl Sessions {
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// The new session's id. None: there are too many, or no randomness.
    pub async fn begin(&self, person: &Person, now: OffsetDateTime) -> Result<Option<String>, StoreError> {
        let Some(id) = random_text() else { return Ok(None) };
        let login = LoginRow {
            id: hash("durward sign-in", &id),
            person: person.id.clone(),
            name: person.name.clone(),
            subject: person.subject.clone(),
            member_of: serde_json::json!(person.groups).to_string(),
            as_of: person.as_of.unix_timestamp(),
            created: milliseconds(now),
            expires: milliseconds(now + LIFETIME),
        };
        let mut write = self.0.write().await?;
        let begun = write.begin_login(&login, MOST).await?;
        write.commit().await?;
        Ok(begun.then_some(id))
    }

    pub async fn find(&self, id: &str, now: OffsetDateTime) -> Result<Option<Arc<SignedIn>>, StoreError> {
        let row = self.0.read().await?.login(&hash("durward sign-in", id), milliseconds(now)).await?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |what| StoreError::Damaged(format!("the {what} of a sign-in"));
        let person = Person {
            id: row.person,
            name: row.name,
            subject: row.subject,
            groups: serde_json::from_str(&row.member_of).map_err(|_error| damaged("groups"))?,
            as_of: OffsetDateTime::from_unix_timestamp(row.as_of).map_err(|_error| damaged("time"))?,
        };
        // Made of the id, which the page cannot be used to learn: nothing to keep.
        let csrf = URL_SAFE_NO_PAD.encode(hash("durward form", id));
        Ok(Some(Arc::new(SignedIn { person, csrf })))
    }

    pub async fn end(&self, id: &str) -> Result<(), StoreError> {
        let mut write = self.0.write().await?;
        write.end_login(&hash("durward sign-in", id)).await?;
        write.commit().await
    }
}

fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Neither of two purposes tells anything of the other, nor of the id.
fn hash(purpose: &str, id: &str) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    for part in [purpose, id] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().to_vec()
}

/// What a cookie of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    Session,
    /// A sign-in under way.
    SignIn,
}

impl Cookie {
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
    pub fn read(self, headers: &HeaderMap, tls: bool) -> Option<&str> {
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
    pub fn write(self, value: &str, tls: bool) -> Option<HeaderValue> {
        let seconds = match (value.is_empty(), self) {
            (true, _) => 0,
            (false, Self::Session) => LIFETIME.whole_seconds(),
            (false, Self::SignIn) => crate::oidc::PATIENCE.whole_seconds(),
        };
        let secure = if tls { "; Secure" } else { "" };
        let line =
            format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name(tls));
        HeaderValue::from_str(&line).ok()
    }
}
