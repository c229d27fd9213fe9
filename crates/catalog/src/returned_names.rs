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

use crate::service_model::{MemberLocation, ServiceModel, ShapeId, ShapeKind, ShapeMember};

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
pub struct ReturnedNames(HashSet<Box<str>>);

impl ReturnedNames {
    /// Reads the inputs of all operations.
    pub(crate) fn of_service(service: &ServiceModel) -> Self {
        let mut names = HashSet::new();
        let mut seen = vec![false; service.shapes.len()];
        let mut pending: Vec<ShapeId> =
            service.operations.iter().filter_map(|operation| operation.input_shape).collect();
        while let Some(id) = pending.pop() {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match service.shape(id).map(|shape| &shape.kind) {
                Some(ShapeKind::Structure { members, .. }) => {
                    for member in members {
                        pending.push(member.shape);
                        if service.is_string_or_list(member.shape) && identifies(member) {
                            names.extend(spellings(member));
                        }
                    }
                }
                Some(ShapeKind::List { member, .. }) => pending.push(*member),
                Some(ShapeKind::Map { value, .. }) => pending.push(*value),
                _ => {}
            }
        }
        let templates = service
            .operations
            .iter()
            .flat_map(|operation| &operation.required_actions)
            .flat_map(|action| &action.resources);
        for template in templates {
            let paths = template.placeholder_members.iter().map(|(_, path)| path).chain(&template.arn_member);
            // The keys of a map (`RequestItems{}`) are no member.
            let last = paths.filter_map(|path| path.rsplit('.').next()).filter(|name| !name.ends_with('}'));
            names.extend(last.map(|name| normalize(name.trim_end_matches("[]"))));
        }
        Self(names)
    }

    /// A set of names of another protocol.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(normalize).collect())
    }

    /// Returns true if the values of this member are sent back. A list has the name of its items with an `s`.
    pub fn contains(&self, member: &ShapeMember) -> bool {
        spellings(member).any(|name| {
            self.0.contains(&name) || name.strip_suffix('s').is_some_and(|one| self.0.contains(one))
        })
    }
}

impl ServiceModel {
    /// The names whose values callers send back to this service.
    pub fn returned_names(&self) -> &ReturnedNames {
        self.returned_names.get_or_init(|| ReturnedNames::of_service(self))
    }

    /// Returns true if the shape is a string or a list of them.
    pub fn is_string_or_list(&self, shape: ShapeId) -> bool {
        match self.shape(shape).map(|shape| &shape.kind) {
            Some(ShapeKind::String) => true,
            Some(ShapeKind::List { member, .. }) => {
                matches!(self.shape(*member).map(|shape| &shape.kind), Some(ShapeKind::String))
            }
            _ => false,
        }
    }
}

fn identifies(member: &ShapeMember) -> bool {
    if member.is_sensitive || is_credential_name(&member.name) {
        return false;
    }
    matches!(member.location, MemberLocation::Uri | MemberLocation::Query)
        || ends_in_identifying_word(&member.name)
}

fn ends_in_identifying_word(name: &str) -> bool {
    words(name).last().is_some_and(|last| {
        let one = last.strip_suffix('s').unwrap_or(last);
        IDENTIFYING_WORDS.contains(&last.as_str()) || IDENTIFYING_WORDS.contains(&one)
    })
}

fn is_credential_name(name: &str) -> bool {
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

fn spellings(member: &ShapeMember) -> impl Iterator<Item = Box<str>> + '_ {
    std::iter::once(&member.name).chain(&member.wire_name).map(|name| normalize(name))
}

fn normalize(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[test]
    fn splits_names_into_words() {
        assert_eq!(words("ReceiptHandle"), ["receipt", "handle"]);
        assert_eq!(words("QueueURL"), ["queue", "url"]);
        assert_eq!(words("SSEKMSKeyId"), ["ssekms", "key", "id"]);
        assert_eq!(words("next_token"), ["next", "token"]);
    }

    #[test]
    fn knows_what_callers_send_back_and_what_they_keep_secret() {
        let member = |name: &str| ShapeMember {
            name: name.to_owned(),
            wire_name: None,
            ec2_name: None,
            shape: 0,
            location: MemberLocation::Body,
            is_required: false,
            is_sensitive: false,
            is_flattened: false,
            is_xml_attribute: false,
        };
        let is_returned = |service: &str, name: &str| {
            Catalog::embedded().service(service).unwrap().returned_names().contains(&member(name))
        };
        for (service, name) in [
            ("s3", "Key"),
            ("s3", "UploadId"),
            ("s3", "VersionId"),
            ("sqs", "ReceiptHandle"),
            ("sqs", "QueueUrl"),
            ("sqs", "QueueUrls"),
            ("kinesis", "ShardIterator"),
            ("kinesis", "NextToken"),
            ("stepfunctions", "taskToken"),
            ("dynamodb", "TableName"),
            ("secretsmanager", "SecretId"),
            ("ssm", "PolicyHash"),
        ] {
            assert!(is_returned(service, name), "{service} {name}");
        }
        for (service, name) in [
            ("sqs", "Body"),
            ("secretsmanager", "SecretString"),
            ("ssm", "Value"),
            ("cognito-idp", "AccessToken"),
            ("sts", "SessionToken"),
            ("iam", "SecretAccessKey"),
            ("lambda", "Environment"),
            ("logs", "message"),
            ("dynamodb", "S"),
        ] {
            assert!(!is_returned(service, name), "{service} {name}");
        }
    }
}
