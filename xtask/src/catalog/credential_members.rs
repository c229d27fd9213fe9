//! The output members whose names say that they hold a credential: a key, a token, a password, a link that works without one.
//!
//! The rule is wide on purpose. What it finds counts as a credential unless the overlay lists the member among
//! `[not_credentials]`, so a new version of the models cannot bring an operation that returns one and is not marked.

use super::name_words::split_words;
use super::overlay::Overlay;
use durward_catalog::{OperationModel, ServiceModel, ShapeId, ShapeKind};
use std::collections::BTreeSet;

/// Words of tokens that only continue, order or repeat something: pages, versions, retries.
const TOKENS_OF_STATE: [&str; 17] = [
    "next",
    "page",
    "pagination",
    "client",
    "continuation",
    "change",
    "update",
    "lock",
    "request",
    "idempotency",
    "creation",
    "revision",
    "creator",
    "start",
    "previous",
    "sequence",
    "version",
];

/// The words directly before `key` that make it a secret one. `AccessKey` alone is the id of a key.
const SECRET_KEY_WORDS: [&str; 13] = [
    "activation",
    "api",
    "auth",
    "mac",
    "plaintext",
    "private",
    "secret",
    "session",
    "shared",
    "solution",
    "specific",
    "stream",
    "vsan",
];

/// The words before `url`, `uri` or `link` that say what the link is good for: it works without a signature of its own.
const WORKING_LINK_WORDS: [&str; 14] = [
    "anonymous",
    "auth",
    "authorization",
    "authorized",
    "dashboard",
    "deep",
    "download",
    "embed",
    "login",
    "presigned",
    "signed",
    "stream",
    "streaming",
    "upload",
];

/// The words in the name of an operation that make a link in its response such a link, whatever the member is called.
const LINK_OPERATION_WORDS: [&str; 8] =
    ["dashboard", "download", "embed", "link", "login", "presigned", "upload", "url"];

/// The words directly before `code` that make it one.
const SECRET_CODE_WORDS: [&str; 4] = ["activation", "auth", "link", "secret"];

/// The members of an operation's response that the rule finds, wherever they are in it, by their model names.
pub fn find_credential_members<'a>(
    service: &'a ServiceModel,
    operation: &OperationModel,
) -> BTreeSet<&'a str> {
    let operation_words = split_words(&operation.name);
    let mut found = BTreeSet::new();
    for shape in service.reachable_shapes(operation.output_shape) {
        let ShapeKind::Structure { members, .. } = &shape.kind else { continue };
        for member in members {
            if holds_text(service, member.shape) && names_credential(&member.name, &operation_words) {
                found.insert(member.name.as_str());
            }
        }
    }
    found
}

/// Returns true if the response of an operation has a credential: a member that the rule finds and that no review has cleared.
pub fn returns_credential_member(
    service: &ServiceModel,
    operation: &OperationModel,
    overlay: &Overlay,
) -> bool {
    find_credential_members(service, operation)
        .into_iter()
        .any(|member| !overlay.is_cleared_member(&service.id, &operation.name, member))
}

/// Returns true if a shape is text or bytes, or a list or map of them.
fn holds_text(service: &ServiceModel, mut id: ShapeId) -> bool {
    // Lists of lists of lists are in no model; a shape that contains itself must not hang the search.
    for _ in 0..4 {
        match service.shape(id).map(|shape| &shape.kind) {
            Some(ShapeKind::String | ShapeKind::Blob { .. }) => return true,
            Some(ShapeKind::List { member, .. }) => id = *member,
            Some(ShapeKind::Map { value, .. }) => id = *value,
            _ => return false,
        }
    }
    false
}

fn names_credential(member: &str, operation_words: &[String]) -> bool {
    let words = split_words(member);
    let Some((last, before)) = words.split_last() else { return false };
    let has = |list: &[&str]| before.iter().any(|word| list.contains(&word.as_str()));
    let directly_after = |list: &[&str]| before.last().is_some_and(|word| list.contains(&word.as_str()));
    match last.as_str() {
        "token" => !has(&TOKENS_OF_STATE),
        "password" | "secret" | "passphrase" | "credential" | "jwt" | "otp" => true,
        "key" => directly_after(&SECRET_KEY_WORDS) || (has(&["secret"]) && directly_after(&["access"])),
        "code" => directly_after(&SECRET_CODE_WORDS),
        "url" | "uri" | "link" => {
            has(&WORKING_LINK_WORDS)
                || operation_words.iter().any(|word| LINK_OPERATION_WORDS.contains(&word.as_str()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_catalog::Catalog;

    fn committed_overlay() -> Overlay {
        Overlay::parse(include_str!("../../../crates/catalog/data/overlay.toml")).unwrap()
    }

    #[test]
    fn names_say_what_is_a_credential() {
        let finds = |member: &str| names_credential(member, &split_words("GetThing"));
        for member in [
            "SecretAccessKey",
            "sessionToken",
            "AuthToken",
            "PrivateKey",
            "APIKey",
            "ClientSecret",
            "PresignedURL",
            "PreSignedUrl",
            "fileUploadUrls",
            "OAuthAuthorizationUrl",
            "EmbedUrl",
            "adminPassword",
            "AuthCode",
        ] {
            assert!(finds(member), "{member}");
        }
        for member in [
            "NextToken",
            "clientRequestToken",
            "nextPageToken",
            "AccessKey",
            "AccessKeyId",
            "KmsKeyId",
            "PublicKey",
            "ApiMappingKey",
            "SecretArn",
            "SecretStatus",
            "Url",
            "QueueUrl",
            "CountryCode",
        ] {
            assert!(!finds(member), "{member}");
        }
        assert!(names_credential("Url", &split_words("GetDashboardUrl")));
    }

    /// The committed index is held to the rule and to the reviewed list, without the packages that it is made from.
    #[test]
    fn every_credential_in_a_response_is_marked_or_reviewed() {
        let overlay = committed_overlay();
        let catalog = Catalog::embedded();
        let mut unmarked = Vec::new();
        for entry in catalog.service_entries() {
            let (id, service) = (entry.id.as_str(), catalog.service(&entry.id).unwrap());
            for operation in &service.operations {
                let is_exempt = overlay.traits.returns_credentials.excludes(id, &operation.name);
                if returns_credential_member(&service, operation, &overlay)
                    && !operation.traits.returns_credentials
                    && !is_exempt
                {
                    unmarked.push(format!("{id}:{}", operation.name));
                }
            }
        }
        assert_eq!(unmarked, Vec::<String>::new());
    }

    #[test]
    fn every_reviewed_member_is_one_that_the_rule_finds() {
        let catalog = Catalog::embedded();
        let entries = catalog.service_entries().iter();
        let services: Vec<_> = entries.filter_map(|entry| catalog.service(&entry.id)).collect();
        let stale = committed_overlay().unused_cleared_members(services.iter().map(|service| &**service));
        assert_eq!(stale, Vec::<String>::new());
    }
}
