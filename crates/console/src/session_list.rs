//! Which sessions a list shows, as the page and the API are asked for them.

use durward_journal::history::{SessionFilter, SessionHistory};
use serde::{Deserialize, Deserializer, de::Error as _};
use time::OffsetDateTime;

/// Which sessions to list. A text that is empty or absent says nothing.
#[derive(Debug, Default, Deserialize)]
pub struct SessionListQuery {
    /// `<provider>/<subject>`.
    pub caller: Option<String>,
    pub connection: Option<String>,
    #[serde(default, deserialize_with = "deserialize_state")]
    pub state: Option<SessionState>,
}

impl SessionListQuery {
    pub fn into_filter(self) -> (SessionFilter, Option<SessionState>) {
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let filter = SessionFilter { caller: non_empty(self.caller), connection: non_empty(self.connection) };
        (filter, self.state)
    }
}

/// A session may be used while it is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Active,
    Expired,
    Revoked,
}

impl SessionState {
    pub const ALL: [Self; 3] = [Self::Active, Self::Expired, Self::Revoked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// A session whose end no record of this journal tells counts as active.
    pub fn at(session: &SessionHistory, now: OffsetDateTime) -> Self {
        if session.revocation.is_some() {
            Self::Revoked
        } else if session.expires.is_some_and(|expires| expires <= now) {
            Self::Expired
        } else {
            Self::Active
        }
    }
}

fn deserialize_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SessionState>, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word.is_empty() {
        return Ok(None);
    }
    let known = SessionState::ALL.into_iter().find(|state| state.as_str() == word);
    known.map(Some).ok_or_else(|| D::Error::custom("state is active, expired or revoked"))
}
