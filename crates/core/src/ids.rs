//! Identifiers. UUID version 7 (RFC 9562 section 5.7), so that they sort by time.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use time::OffsetDateTime;
use uuid::Uuid;

macro_rules! define_uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        // Serialized as it is displayed: a search of the journal for the id of an error message must find it.
        pub struct $name(#[serde(with = "uuid::serde::simple")] Uuid);

        impl $name {
            #[expect(clippy::new_without_default, reason = "a new id is random; a default would not be")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// When the id was made, to the millisecond. `None` for an id that was derived from something else: it holds
            /// no time.
            pub fn created_at(self) -> Option<OffsetDateTime> {
                // Versions 1 and 6 hold a time as well (RFC 9562 sections 5.1 and 5.6), but the gateway makes none of these.
                let timestamp = self.0.get_timestamp().filter(|_timestamp| self.0.get_version_num() == 7)?;
                let (seconds, nanoseconds) = timestamp.to_unix();
                let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
                Some(at + time::Duration::nanoseconds(i64::from(nanoseconds)))
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
    /// The unit that a caller opens and that can be revoked as a whole.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn an_id_of_version_7_holds_its_time_and_a_derived_id_holds_none() {
        // The example of RFC 9562 appendix A.6.
        let id: SessionId = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        assert_eq!(id.created_at(), Some(datetime!(2022-02-22 19:22:22 UTC)));
        let derived: SessionId = "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0".parse().unwrap();
        assert_eq!(derived.created_at(), None);
    }
}
