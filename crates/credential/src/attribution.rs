//! What CloudTrail is told about a loan: session name, source identity and tags, in the characters STS takes.
//! Text that has to be altered gets a hash of the original, so that two different originals never look the same.

use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, SessionId};

/// `SourceIdentity` and `RoleSessionName` (STS API reference, AssumeRole): 2 to 64 of `[\w+=,.@-]`.
const MAX_SESSION_NAME_CHARS: usize = 64;
/// Tag values (STS API reference, AssumeRole `Tags`): at most 256 of letters, digits, spaces and `_.:/=+-@`.
const MAX_TAG_VALUE_CHARS: usize = 256;
/// Hex digits of the hash that follows altered text: 64 bits.
const HASH_SUFFIX_CHARS: usize = 16;

fn is_session_name_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

fn is_tag_value_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || " _.:/=+-@".contains(character)
}

/// `durward-<session>`: the same for every loan of a session.
pub(crate) fn role_session_name(session: SessionId) -> String {
    format!("durward-{session}")
}

/// The caller's subject as STS takes it.
pub(crate) fn source_identity(caller: &Caller) -> String {
    // `aws:` cannot occur (no colon in the set); a single character is too short and gets the hash.
    fit_to_charset(
        &caller.subject,
        MAX_SESSION_NAME_CHARS,
        is_session_name_char,
        &format!("{}\n{}", caller.issuer, caller.subject),
    )
}

/// A tag value as STS takes it.
pub(crate) fn tag_value(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        fit_to_charset(text, MAX_TAG_VALUE_CHARS, is_tag_value_char, text)
    }
}

/// `text` where it is 2 to `max` allowed characters and cannot be taken for altered text; else what can be kept of it, a
/// dash and a hash of `identity`.
fn fit_to_charset(text: &str, max: usize, allowed: fn(char) -> bool, identity: &str) -> String {
    let fits = (2..=max).contains(&text.len()) && text.chars().all(allowed);
    if fits && !has_hash_suffix(text) {
        return text.to_owned();
    }
    let kept: String = text
        .chars()
        .take(max - HASH_SUFFIX_CHARS - 1)
        .map(|character| if allowed(character) { character } else { '-' })
        .collect();
    let mut hash = sha256_hex(identity.as_bytes());
    hash.truncate(HASH_SUFFIX_CHARS);
    format!("{kept}-{hash}")
}

/// Ends like text that [`fit`] altered. Such an original is altered as well: else a caller could choose a subject that
/// equals another caller's altered one.
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
    fn keeps_a_subject_that_sts_takes() {
        assert_eq!(source_identity(&test_caller("alice@example.com")), "alice@example.com");
    }

    #[test]
    fn marks_an_altered_subject() {
        let (slash, colon) = (source_identity(&test_caller("a/b")), source_identity(&test_caller("a:b")));
        assert!(slash.starts_with("a-b-") && colon.starts_with("a-b-"));
        assert_ne!(slash, colon);
    }

    #[test]
    fn an_altered_subject_cannot_be_chosen_by_another_caller() {
        let victim = source_identity(&test_caller("team/alice"));
        assert_ne!(source_identity(&test_caller(&victim)), victim);
    }

    #[test]
    fn altered_subjects_of_two_issuers_differ() {
        let mut other = test_caller("team/alice");
        other.issuer = "https://elsewhere.example".to_owned();
        assert_ne!(source_identity(&test_caller("team/alice")), source_identity(&other));
    }

    #[test]
    fn a_session_name_fits() {
        let name = role_session_name(SessionId::new());
        assert!(name.len() <= 64 && name.chars().all(is_session_name_char), "{name}");
    }

    #[test]
    fn tag_values_keep_the_provider_slash_subject_form() {
        assert_eq!(tag_value("corp/alice@example.com"), "corp/alice@example.com");
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
