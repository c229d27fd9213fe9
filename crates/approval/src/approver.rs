//! A person who may vote.

use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A person as an identity provider vouches for them. Construct one only from a verified sign-in of a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// `<provider>/<subject>`, as `Caller::id()`.
    pub id: String,
    pub name: String,
    pub subject: String,
    pub groups: Vec<String>,
    /// When the provider vouched for the groups. The newest groups count, whichever session presents older ones.
    #[serde(skip, default = "unix_epoch")]
    pub groups_as_of: OffsetDateTime,
}

fn unix_epoch() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

/// Why a user's groups were not stored.
#[derive(Debug, thiserror::Error)]
pub enum UpsertUserError {
    #[error("{field} is longer than {limit} bytes")]
    TooLong { field: &'static str, limit: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}
