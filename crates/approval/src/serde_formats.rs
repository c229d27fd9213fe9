//! JSON forms of this crate's types: times in RFC 3339, durations in seconds, digests in hex, enums as one word.

use serde::{Serialize, Serializer};
use std::sync::Arc;

/// Declares an enum of which every variant has one word, the same in JSON, in the store and in the journal.
macro_rules! word_enum {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word of this value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value of a word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| {
                    serde::de::Error::custom(concat!("unknown word for ", stringify!($name)))
                })
            }
        }
    };
}
pub(crate) use word_enum;

/// Serializes a value behind an `Arc`.
pub(crate) fn serialize_shared<T: Serialize, S: Serializer>(
    value: &Arc<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
}

pub(crate) mod whole_seconds {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.as_secs())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

pub(crate) mod hex_digest {
    use durward_core::encode_hex;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode_hex(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
        let bytes: Vec<u8> = digits
            .unwrap_or_default()
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit))
            .collect();
        // `chunks(2)` would take a half byte at the end for a whole one.
        if text.len() != 64 {
            return Err(D::Error::custom("a digest is 64 hex digits"));
        }
        bytes.try_into().map_err(|_| D::Error::custom("a digest is 64 hex digits"))
    }
}

pub(crate) mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de, ser};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    pub(crate) fn serialize<S: Serializer>(value: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.format(&Rfc3339).map_err(ser::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)
    }
}

pub(crate) mod optional_rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de, ser};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&value.format(&Rfc3339).map_err(ser::Error::custom)?),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use crate::{ApprovalEventKind, ApprovalState};

    /// The words are in the store, the journal and the API: changing one breaks what is stored.
    #[test]
    fn json_has_the_words_of_the_store() {
        let states: Vec<&str> = ApprovalState::ALL.iter().map(|state| state.as_str()).collect();
        let json = serde_json::to_value(ApprovalState::ALL).unwrap();
        assert_eq!(json, serde_json::json!(states));
        assert_eq!(serde_json::from_value::<Vec<ApprovalState>>(json).unwrap(), ApprovalState::ALL);
        let kinds = serde_json::to_string(&ApprovalEventKind::ALL).unwrap();
        assert_eq!(serde_json::from_str::<Vec<ApprovalEventKind>>(&kinds).unwrap(), ApprovalEventKind::ALL);
        assert!(serde_json::from_str::<ApprovalState>("\"used\"").is_err());
    }
}
