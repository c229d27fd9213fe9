//! The access level of an action that is newer than the authorization data, from the verb of its name.
//!
//! Of the actions that the data do know, the verbs below agree with List and Read in 99.5 %; everything else is Write or more.

use super::name_words;
use durward_core::AccessLevel;

const LIST_VERBS: [&str; 1] = ["list"];
const READ_VERBS: [&str; 9] =
    ["get", "describe", "search", "query", "scan", "head", "check", "compare", "lookup"];

/// The level of `name`. What touches a policy or a permission without reading it manages permissions.
pub fn infer_access_level(name: &str) -> AccessLevel {
    let words = name_words::split_words(name);
    let first = words.first().map_or("", String::as_str);
    let second = words.get(1).map_or("", String::as_str);
    let about = |one: &str| words.iter().skip(1).any(|word| word == one);
    if LIST_VERBS.contains(&first) {
        AccessLevel::List
    } else if first == "batch" && second == "get" || READ_VERBS.contains(&first) {
        AccessLevel::Read
    } else if matches!(first, "tag" | "untag") {
        AccessLevel::Tagging
    } else if about("policy") || about("permission") || about("owner") {
        AccessLevel::PermissionsManagement
    } else {
        AccessLevel::Write
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_what_its_verb_reads() {
        for (name, expected) in [
            ("ListQueues", AccessLevel::List),
            ("GetGlossary", AccessLevel::Read),
            ("BatchGetIterableForms", AccessLevel::Read),
            ("BatchExportFindings", AccessLevel::Write),
            ("GetEndpointPolicy", AccessLevel::Read),
            ("PutEndpointPolicy", AccessLevel::PermissionsManagement),
            ("DeleteNetworkingFlexCostAllocationPolicies", AccessLevel::PermissionsManagement),
            ("TagGlobalResource", AccessLevel::Tagging),
            ("ReceiveQueueRecords", AccessLevel::Write),
            ("Decapsulate", AccessLevel::Write),
        ] {
            assert_eq!(infer_access_level(name), expected, "{name}");
        }
    }
}
