//! The logins to the console. A browser holds a random id; the store holds the user under the hash of that id.
//!
//! Logins survive a restart and are known to every replica. Reading the store gives nobody a login, because the id itself is
//! not in it.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_approval::Approver;
use durward_core::timestamps::to_unix_millis;
use durward_identity::relying_party::random_text;
use durward_store::{LoginRow, Store, StoreError};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// The lifetime of a login.
pub const LOGIN_LIFETIME: Duration = Duration::hours(1);
/// Most logins in the store at once. A provider that lets anybody register must not be able to fill the disk.
const MAX_LOGINS: i64 = 10_000;

/// Hash purposes: the id of a login gives two values, and neither reveals the other or the id.
const LOGIN_ID_PURPOSE: &str = "durward sign-in";
const CSRF_TOKEN_PURPOSE: &str = "durward form";

/// A user who is signed in.
#[derive(Debug)]
pub struct SignedInUser {
    pub person: Approver,
    /// In every form of this login.
    pub csrf_token: String,
}

/// Why a login could not be created.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("too many users are signed in")]
    TooMany,
    #[error("the system's random number generator failed")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The logins in the store.
pub struct LoginStore(Store);

impl LoginStore {
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Creates a login and returns its id.
    pub async fn create_login(&self, person: &Approver, now: OffsetDateTime) -> Result<String, LoginError> {
        let id = random_text().ok_or(LoginError::NoRandomness)?;
        let login = LoginRow {
            id: hash_for_purpose(LOGIN_ID_PURPOSE, &id),
            user_id: person.id.clone(),
            name: person.name.clone(),
            subject: person.subject.clone(),
            group_names: serde_json::json!(person.groups).to_string(),
            groups_as_of: person.groups_as_of.unix_timestamp(),
            created_at: to_unix_millis(now),
            expires_at: to_unix_millis(now + LOGIN_LIFETIME),
        };
        let mut write = self.0.begin_write().await?;
        let inserted = write.insert_login(&login, MAX_LOGINS).await?;
        write.commit().await?;
        if inserted { Ok(id) } else { Err(LoginError::TooMany) }
    }

    /// The user of a login that has not expired.
    pub async fn find_user(
        &self,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Arc<SignedInUser>>, StoreError> {
        // A look-up by the hash also reveals nothing by its time: an attacker cannot steer the bytes of a hash toward a stored
        // one.
        let id_hash = hash_for_purpose(LOGIN_ID_PURPOSE, id);
        let row = self.0.begin_read().await?.find_login(&id_hash, to_unix_millis(now)).await?;
        let Some(row) = row else { return Ok(None) };
        let corrupt = |what| StoreError::Corrupt(format!("the {what} of a login"));
        let person = Approver {
            id: row.user_id,
            name: row.name,
            subject: row.subject,
            groups: serde_json::from_str(&row.group_names).map_err(|_error| corrupt("groups"))?,
            groups_as_of: OffsetDateTime::from_unix_timestamp(row.groups_as_of)
                .map_err(|_error| corrupt("time"))?,
        };
        // Derived from the id, so there is nothing to store; a page that leaks it does not leak the id.
        let csrf_token = URL_SAFE_NO_PAD.encode(hash_for_purpose(CSRF_TOKEN_PURPOSE, id));
        Ok(Some(Arc::new(SignedInUser { person, csrf_token })))
    }

    pub async fn end_login(&self, id: &str) -> Result<(), StoreError> {
        let mut write = self.0.begin_write().await?;
        write.delete_login(&hash_for_purpose(LOGIN_ID_PURPOSE, id)).await?;
        write.commit().await
    }
}

/// SHA-256 over length-prefixed parts, so that no other pair of purpose and id gives the same input.
fn hash_for_purpose(purpose: &str, id: &str) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    for part in [purpose, id] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().to_vec()
}
