//! The id of an approval request: a UUID version 7 (RFC 9562 section 5.7), so that ids sort by time of creation.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Names one approval request in links, refusals and the journal. It is no secret: knowing it permits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalRequestId(#[serde(with = "uuid::serde::simple")] Uuid);

impl ApprovalRequestId {
    #[expect(clippy::new_without_default, reason = "a new id is random; a default would not be")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ApprovalRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for ApprovalRequestId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}
