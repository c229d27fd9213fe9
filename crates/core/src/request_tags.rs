//! The tags that a request would set, wherever its service has them.
//!
//! AWS services do not agree on a place: some take a list of keys and values, some a map; S3 takes a query string, and EC2 lists by
//! resource type.

use crate::{Operation, remove_json_pointers};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::collections::BTreeSet;

/// Deeper than the tags of any service.
const MAX_TAG_SEARCH_DEPTH: usize = 4;

/// Every key and value below a member whose name says that it holds tags. `None` if some are in a part that no model describes: the
/// service may read them or not, so the tags of the request are unknown.
pub fn collect_request_tags(operation: &Operation) -> Option<BTreeSet<(String, String)>> {
    let tags_in = |parameters: &Value| {
        let mut found = BTreeSet::new();
        search_tags(parameters, MAX_TAG_SEARCH_DEPTH, &mut found);
        found
    };
    let all = tags_in(&operation.parameters);
    match operation.parameters.as_object() {
        Some(parameters) if !all.is_empty() => {
            let known = remove_json_pointers(parameters, &operation.uninspected_parts).into_owned();
            // A caller could add `"xTags"` with the tag that a policy requires: the service ignores the member, and the policy
            // would not.
            (tags_in(&Value::Object(known)) == all).then_some(all)
        }
        _ => Some(all),
    }
}

fn search_tags(value: &Value, depth: usize, found: &mut BTreeSet<(String, String)>) {
    let (Value::Object(members), Some(deeper)) = (value, depth.checked_sub(1)) else { return };
    for (name, member) in members {
        match member {
            // S3 takes a query string (header `x-amz-tagging`).
            Value::String(text) if name == "Tagging" => insert_query_tags(text, found),
            _ if is_tag_member_name(name) => {
                insert_tag_entries(member, found);
                search_tags(member, deeper, found);
                for item in member.as_array().into_iter().flatten() {
                    search_tags(item, deeper, found);
                }
            }
            _ => search_tags(member, deeper, found),
        }
    }
}

/// `Tags`, `tagList`, `UserPoolTags`, `TagsToAdd`; not `StageVariables`.
fn is_tag_member_name(name: &str) -> bool {
    name.starts_with("tag") || name.contains("Tag")
}

/// Inserts the pairs of a query string, both decoded and as they are written: a value that does not decode is read differently by
/// different parsers, so a policy must see each reading.
fn insert_query_tags(text: &str, found: &mut BTreeSet<(String, String)>) {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.insert((decoded(key), decoded(value)));
        found.insert((key.to_owned(), value.to_owned()));
    }
}

/// Inserts the tags of a list of keys and values, or of a map.
fn insert_tag_entries(tags: &Value, found: &mut BTreeSet<(String, String)>) {
    match tags {
        Value::Array(items) => {
            for item in items.iter().filter_map(Value::as_object) {
                let text = |names: [&str; 4]| names.iter().find_map(|name| item.get(*name)?.as_str());
                if let Some(key) = text(["Key", "key", "TagKey", "tagKey"]) {
                    let value = text(["Value", "value", "TagValue", "tagValue"]).unwrap_or_default();
                    found.insert((key.to_owned(), value.to_owned()));
                }
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(value) = value.as_str() {
                    found.insert((key.clone(), value.to_owned()));
                } else if value.is_array() {
                    // CloudFront has `Tags: { Items: [...] }`.
                    insert_tag_entries(value, found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request_tags_of(parameters: Value, unknown: &[&str]) -> Option<BTreeSet<(String, String)>> {
        collect_request_tags(&Operation {
            front_end: crate::FrontEndKind::Aws,
            service: "s3".to_owned(),
            name: "PutObject".to_owned(),
            required_permissions: Vec::new(),
            parameters,
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            traits: crate::OperationTraits::default(),
            uninspected_parts: unknown.iter().map(|&pointer| pointer.to_owned()).collect(),
            body_sha256: None,
        })
    }

    #[test]
    fn finds_tags_where_each_service_puts_them() {
        for parameters in [
            json!({"Tags": [{"Key": "a", "Value": "b"}]}),
            json!({"tags": {"a": "b"}}),
            json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            json!({"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
            json!({"Tagging": "a=b"}),
            json!({"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]}),
            json!({"UserPoolTags": {"a": "b"}}),
            json!({"TagsToAdd": [{"Key": "a", "Value": "b"}]}),
            json!({"Tags": {"Items": [{"Key": "a", "Value": "b"}]}}),
            json!({"DistributionConfigWithTags": {"Tags": {"Items": [{"Key": "a", "Value": "b"}]}}}),
        ] {
            let expected = BTreeSet::from([("a".to_owned(), "b".to_owned())]);
            assert_eq!(request_tags_of(parameters.clone(), &[]), Some(expected), "{parameters}");
        }
        let spelt = request_tags_of(json!({"Tagging": "critical=fals%65&a+b=c"}), &[]).unwrap();
        assert!(spelt.contains(&("critical".to_owned(), "false".to_owned())));
        assert!(spelt.contains(&("a b".to_owned(), "c".to_owned())));
        assert!(request_tags_of(json!({"StageVariables": {"a": "b"}}), &[]).unwrap().is_empty());
        assert!(request_tags_of(json!({"Key": "a", "Value": "b"}), &[]).unwrap().is_empty());
    }

    #[test]
    fn tags_outside_the_model_make_the_request_tags_unknown() {
        let both = json!({"Tags": {"a": "b"}, "xTags": {"owner": "me"}, "Size": 1});
        assert_eq!(request_tags_of(both.clone(), &["/xTags"]), None);
        assert_eq!(request_tags_of(both, &["/Size", "body"]).unwrap().len(), 2);
        assert_eq!(
            request_tags_of(json!({"Tagging": {"TagSet": [], "More": [{"Key": "a"}]}}), &["/Tagging/More"]),
            None
        );
    }
}
