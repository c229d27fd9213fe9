//! Identifiers. UUID version 7 (RFC 9562 section 5.7), so that they sort by time.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! define_uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        // As it is shown: who greps the journal for what an error names must find it.
        pub struct $name(#[serde(with = "uuid::serde::simple")] Uuid);

        impl $name {
            #[expect(clippy::new_without_default, reason = "a new id is random; a default would not be")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

define_uuid_id!(
    /// One request and its response passing through.
    ExchangeId
);
define_uuid_id!(
    /// What a caller opened and can be revoked as one.
    SessionId
);
