//! The session name, source identity and tags of an AssumeRole call, in the characters that STS accepts. They appear in
//! CloudTrail and name the person behind a call.
//!
//! Promise: two different originals never look the same. Text that has to be altered gets a hash of the original.

use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, SessionId};
use std::ops::RangeInclusive;

/// `SourceIdentity` and `RoleSessionName` (STS API Reference, AssumeRole): 2 to 64 of `[\w+=,.@-]`.
const SESSION_NAME_CHARS: RangeInclusive<usize> = 2..=64;
/// Tag values (STS API Reference, Tag): at most 256 of letters, digits, spaces and `_.:/=+-@`.
const TAG_VALUE_CHARS: RangeInclusive<usize> = 0..=256;
/// Hex digits of the hash that follows altered text: 64 bits.
const HASH_SUFFIX_CHARS: usize = 16;

fn is_session_name_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

fn is_tag_value_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || " _.:/=+-@".contains(character)
}

/// `durward-<session>`: the same for all credentials of a session.
pub(crate) fn role_session_name(session: SessionId) -> String {
    format!("durward-{session}")
}

/// `<provider>=<subject>` in the characters of a source identity. Two providers may have users of one name, and trust policies and
/// CloudTrail must tell them apart.
pub(crate) fn source_identity(caller: &Caller) -> String {
    // STS reserves the prefix `aws:`, which cannot occur: the set has no colon. The name of a provider has no `=`, so the first one
    // ends it (`config check`). The hash of an altered text covers the issuer.
    fit_to_charset(
        &format!("{}={}", caller.provider, caller.subject),
        SESSION_NAME_CHARS,
        is_session_name_char,
        &format!("{}\n{}", caller.issuer, caller.subject),
    )
}

/// A text in the characters of a tag value.
pub(crate) fn tag_value(text: &str) -> String {
    fit_to_charset(text, TAG_VALUE_CHARS, is_tag_value_char, text)
}

/// `text` itself if it has an allowed length, only allowed characters, and no ending like that of altered text. Otherwise its
/// beginning with disallowed characters replaced, a dash, and a hash of `identity`.
fn fit_to_charset(
    text: &str,
    length: RangeInclusive<usize>,
    is_allowed: fn(char) -> bool,
    identity: &str,
) -> String {
    let fits = length.contains(&text.len()) && text.chars().all(is_allowed);
    if fits && !has_hash_suffix(text) {
        return text.to_owned();
    }
    let kept: String = text
        .chars()
        .take(length.end() - HASH_SUFFIX_CHARS - 1)
        .map(|character| if is_allowed(character) { character } else { '-' })
        .collect();
    // Replacing characters alone would give `a/b` and `a-b` one name in CloudTrail.
    let mut hash = sha256_hex(identity.as_bytes());
    hash.truncate(HASH_SUFFIX_CHARS);
    format!("{kept}-{hash}")
}

/// Returns true if a text ends like one that [`fit_to_charset`] altered. Such an original is altered as well: otherwise a caller
/// could choose a subject that equals the altered subject of another caller, and CloudTrail would name the wrong person.
fn has_hash_suffix(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_SUFFIX_CHARS && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::{is_session_name_char, role_session_name, source_identity, tag_value};
    use crate::fakes::test_caller;
    use durward_core::SessionId;
    use proptest::prelude::*;

    #[test]
    fn keeps_a_subject_that_sts_accepts() {
        assert_eq!(source_identity(&test_caller("alice@example.com")), "corp=alice@example.com");
    }

    #[test]
    fn marks_an_altered_subject() {
        let (slash, colon) = (source_identity(&test_caller("a/b")), source_identity(&test_caller("a:b")));
        assert!(slash.starts_with("corp=a-b-") && colon.starts_with("corp=a-b-"));
        assert_ne!(slash, colon);
    }

    #[test]
    fn an_altered_subject_cannot_be_chosen_by_another_caller() {
        let victim = source_identity(&test_caller("team/alice"));
        let subject = victim.strip_prefix("corp=").unwrap();
        assert_ne!(source_identity(&test_caller(subject)), victim);
    }

    #[test]
    fn altered_subjects_of_two_issuers_differ() {
        let mut other = test_caller("team/alice");
        other.issuer = "https://elsewhere.example".to_owned();
        assert_ne!(source_identity(&test_caller("team/alice")), source_identity(&other));
    }

    #[test]
    fn one_subject_at_two_providers_has_two_source_identities() {
        let mut other = test_caller("alice");
        other.provider = "partner".to_owned();
        assert_ne!(source_identity(&test_caller("alice")), source_identity(&other));
    }

    #[test]
    fn a_session_name_fits() {
        let name = role_session_name(SessionId::new());
        assert!(name.len() <= 64 && name.chars().all(is_session_name_char), "{name}");
    }

    #[test]
    fn tag_values_keep_the_provider_slash_subject_form() {
        assert_eq!(tag_value("corp/alice@example.com"), "corp/alice@example.com");
        assert_eq!((tag_value("").as_str(), tag_value("a").as_str()), ("", "a"));
        assert!(tag_value("corp/аlice").starts_with("corp/-lice-"));
        assert_eq!(tag_value(&"x".repeat(300)).len(), 256);
    }

    proptest! {
        #[test]
        fn source_identities_fit_and_never_collide(one in "\\PC{0,80}", two in "\\PC{0,80}") {
            let (first, second) = (source_identity(&test_caller(&one)), source_identity(&test_caller(&two)));
            for identity in [&first, &second] {
                prop_assert!((2..=64).contains(&identity.len()) && identity.chars().all(is_session_name_char), "{identity}");
            }
            prop_assert_eq!(one == two, first == second);
        }
    }
}
