//! The names of members whose values a caller must be able to send back as they came: identifiers, cursors, tokens of pages, handles.
//!
//! No list of cases: the model of a service says what its requests take. A name is one of these if a request takes a string of that
//! name
//!
//! - in its path or query (`Key` and `uploadId` of S3), where nothing but identifiers goes, or
//! - as a part of an ARN (`TableName`, `QueueUrl`), or
//! - and its last word says that it identifies (`ReceiptHandle`, `ShardIterator`, `taskToken`). Names of credentials
//!   (`AccessToken`, `SecretKey`) identify nothing.

use std::collections::HashSet;

/// The last words of names of identifiers.
// Neither `name` nor `number`: a person's name and a telephone number are data. Names of resources are parts of ARNs.
const IDENTIFYING_WORDS: [&str; 15] = [
    "arn",
    "cursor",
    "etag",
    "handle",
    "hash",
    "id",
    "identifier",
    "iterator",
    "marker",
    "position",
    "token",
    "uri",
    "url",
    "urn",
    "version",
];

/// The words before the last one that make a name one of a credential (`AccessToken`, `AuthToken`).
const CREDENTIAL_WORDS: [&str; 16] = [
    "access",
    "api",
    "assertion",
    "auth",
    "authorization",
    "bearer",
    "credential",
    "device",
    "identity",
    "id",
    "jwt",
    "oauth",
    "password",
    "refresh",
    "secret",
    "security",
];

/// The names of one service, in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReturnedNames(HashSet<Box<str>>);

impl ReturnedNames {
    /// A set of these names.
    pub(crate) fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(normalize).collect())
    }

    /// Returns true if the values of members with this name are sent back. A list has the name of its items with an `s`.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let name = normalize(name);
        self.0.contains(&name) || name.strip_suffix('s').is_some_and(|one| self.0.contains(one))
    }
}

pub(crate) fn ends_in_identifying_word(name: &str) -> bool {
    words(name).last().is_some_and(|last| {
        let one = last.strip_suffix('s').unwrap_or(last);
        IDENTIFYING_WORDS.contains(&last.as_str()) || IDENTIFYING_WORDS.contains(&one)
    })
}

pub(crate) fn is_credential_name(name: &str) -> bool {
    let words = words(name);
    let (last, before) = match words.as_slice() {
        [before @ .., last] => (last.as_str(), before),
        [] => return false,
    };
    let has_credential_word = before.iter().any(|word| CREDENTIAL_WORDS.contains(&word.as_str()));
    match last {
        "token" | "key" => has_credential_word || before.iter().any(|word| word == "session"),
        "password" | "secret" | "credential" | "credentials" => true,
        _ => false,
    }
}

/// The words of `ReceiptHandle`, `receiptHandle`, `next_token`, `QueueURL`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_is_lower = false;
    let mut letters = name.chars().peekable();
    let mut starts = true;
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_alphanumeric() {
            starts = true;
            continue;
        }
        // `URLPath`: the last capital begins the next word.
        let ends_capitals =
            letter.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase);
        if starts || (letter.is_ascii_uppercase() && (previous_is_lower || ends_capitals)) {
            words.push(String::new());
        }
        starts = false;
        previous_is_lower = !letter.is_ascii_uppercase();
        if let Some(word) = words.last_mut() {
            word.push(letter.to_ascii_lowercase());
        }
    }
    words
}

fn normalize(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_names_into_words() {
        assert_eq!(words("ReceiptHandle"), ["receipt", "handle"]);
        assert_eq!(words("QueueURL"), ["queue", "url"]);
        assert_eq!(words("SSEKMSKeyId"), ["ssekms", "key", "id"]);
        assert_eq!(words("next_token"), ["next", "token"]);
    }
}
