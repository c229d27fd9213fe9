//! Responses that hold the tags of a resource.

use super::TagLookup;
use super::tag_containers::TAG_CONTAINERS;
use crate::xml::parse_xml_document;
use durward_catalog::AwsProtocol;
use durward_core::parse_strict_json;
use serde_json::Value;
use std::collections::BTreeMap;

/// Output members with the token of the next page.
const PAGE_TOKEN_OUTPUTS: [&str; 4] = ["NextToken", "nextToken", "NextMarker", "Marker"];
/// Nesting of tags in a response; no service nests them deeper.
const MAX_TAG_DEPTH: usize = 6;

/// A page of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagPage {
    pub tags: BTreeMap<String, String>,
    pub next_token: Option<String>,
    /// The resource does not exist. It has no tags now, but may have some soon: do not cache this.
    pub is_resource_missing: bool,
}

/// The reasons for which the tags of a resource are unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagLookupError {
    #[error("the service returned HTTP {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the service's response was not understood: {0}")]
    UnexpectedResponse(&'static str),
}

impl TagLookup {
    /// Parses a response.
    pub fn parse_response(&self, status: u16, body: &[u8]) -> Result<TagPage, TagLookupError> {
        let is_xml = matches!(self.protocol(), AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml);
        if !(200..300).contains(&status) {
            return interpret_error(
                status,
                if is_xml { parse_xml_error(body) } else { parse_json_error(body) },
            );
        }
        if is_xml { parse_xml_tags(body) } else { parse_json_tags(body) }
    }
}

fn interpret_error(status: u16, (code, message): (String, String)) -> Result<TagPage, TagLookupError> {
    // S3 returns an error for a bucket without tags (S3 API Reference, GetBucketTagging).
    if code == "NoSuchTagSet" {
        return Ok(TagPage::default());
    }
    // Services have many codes for a missing resource (`ResourceNotFoundException`, `NoSuchBucket`, `QueueDoesNotExist`); these
    // words are in them.
    let is_missing =
        ["NotFound", "NoSuch", "NonExistent", "DoesNotExist"].iter().any(|word| code.contains(word))
            || (code == "ValidationError" && message.contains("does not exist"));
    if is_missing && (400..500).contains(&status) {
        return Ok(TagPage { is_resource_missing: true, ..TagPage::default() });
    }
    let code: String = code.chars().filter(char::is_ascii_graphic).take(80).collect();
    let code = if code.is_empty() { "without an error code".to_owned() } else { code };
    Err(TagLookupError::Refused { status, code })
}

fn parse_json_error(body: &[u8]) -> (String, String) {
    let value = parse_strict_json(body).unwrap_or_default();
    let text = |names: [&str; 3]| {
        names.iter().find_map(|name| value.get(*name)?.as_str()).unwrap_or_default().to_owned()
    };
    let code = text(["__type", "code", "Code"]);
    (code.rsplit('#').next().unwrap_or_default().to_owned(), text(["message", "Message", "errorMessage"]))
}

fn parse_xml_error(body: &[u8]) -> (String, String) {
    let Ok(root) = parse_xml_document(body) else { return (String::new(), String::new()) };
    let text = |name| {
        root.find_descendant(name, MAX_TAG_DEPTH)
            .map(|found| found.trimmed_text().to_owned())
            .unwrap_or_default()
    };
    (text("Code"), text("Message"))
}

fn parse_json_tags(body: &[u8]) -> Result<TagPage, TagLookupError> {
    let unexpected = TagLookupError::UnexpectedResponse;
    let value = parse_strict_json(body).map_err(|_error| unexpected("it is not valid JSON"))?;
    let members = value.as_object().ok_or(unexpected("it is not an object"))?;
    // Firehose continues after the last key, not at a token (Firehose API Reference, ListTagsForDeliveryStream).
    if members.get("HasMoreTags").and_then(Value::as_bool) == Some(true) {
        return Err(unexpected("it has more tags than fit on a page"));
    }
    let mut page = TagPage::default();
    for (name, member) in members {
        if TAG_CONTAINERS.contains(&name.to_ascii_lowercase().as_str()) {
            collect_json_tags(member, MAX_TAG_DEPTH, &mut page.tags)?;
        }
    }
    let next = PAGE_TOKEN_OUTPUTS.iter().find_map(|name| members.get(*name)?.as_str());
    page.next_token = next.filter(|next| !next.is_empty()).map(str::to_owned);
    Ok(page)
}

/// Collects the tags of a list of keys and values, of a map, or of an object that has one of these under a name of
/// [`TAG_CONTAINERS`].
fn collect_json_tags(
    value: &Value,
    depth: usize,
    tags: &mut BTreeMap<String, String>,
) -> Result<(), TagLookupError> {
    let unexpected = TagLookupError::UnexpectedResponse;
    let deeper = depth.checked_sub(1).ok_or(unexpected("it is nested too deeply"))?;
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => {
            for item in items {
                let item = item.as_object().ok_or(unexpected("a tag is not an object"))?;
                let text = |names: [&str; 4]| names.iter().find_map(|name| item.get(*name)?.as_str());
                if let Some(key) = text(["Key", "key", "TagKey", "tagKey"]) {
                    let value = text(["Value", "value", "TagValue", "tagValue"]).unwrap_or_default();
                    tags.insert(key.to_owned(), value.to_owned());
                } else {
                    let container = item
                        .iter()
                        .find(|(name, _)| TAG_CONTAINERS.contains(&name.to_ascii_lowercase().as_str()));
                    collect_json_tags(container.ok_or(unexpected("a tag has no key"))?.1, deeper, tags)?;
                }
            }
            Ok(())
        }
        Value::Object(map)
            if map.keys().any(|key| TAG_CONTAINERS.contains(&key.to_ascii_lowercase().as_str()))
                && map.values().any(|value| !value.is_string()) =>
        {
            for (_, container) in
                map.iter().filter(|(key, _)| TAG_CONTAINERS.contains(&key.to_ascii_lowercase().as_str()))
            {
                collect_json_tags(container, deeper, tags)?;
            }
            Ok(())
        }
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(value) => {
                        tags.insert(key.clone(), value.clone());
                    }
                    Value::Null => {
                        tags.insert(key.clone(), String::new());
                    }
                    _ => return Err(unexpected("the value of a tag is not text")),
                }
            }
            Ok(())
        }
        _ => Err(unexpected("the tags are neither a list nor a map")),
    }
}

fn parse_xml_tags(body: &[u8]) -> Result<TagPage, TagLookupError> {
    let root = parse_xml_document(body)
        .map_err(|_refusal| TagLookupError::UnexpectedResponse("it is not valid XML"))?;
    // A page of some proxy with status 200 would otherwise read as a resource without tags.
    if !(root.name.ends_with("Response") || matches!(root.name.as_str(), "Tagging" | "Tags")) {
        return Err(TagLookupError::UnexpectedResponse("its root element is not that of a response"));
    }
    let mut page = TagPage::default();
    root.visit_all(&mut |element| {
        let child = |names: [&str; 2]| names.iter().find_map(|name| element.find_child(name));
        if matches!(element.name.as_str(), "Tag" | "tag" | "member" | "item")
            && let Some(key) = child(["Key", "key"])
        {
            let value =
                child(["Value", "value"]).map(|value| value.trimmed_text().to_owned()).unwrap_or_default();
            page.tags.insert(key.trimmed_text().to_owned(), value);
        }
    });
    let next = PAGE_TOKEN_OUTPUTS.iter().find_map(|name| root.find_descendant(name, 3));
    page.next_token = next.map(|next| next.trimmed_text().to_owned()).filter(|next| !next.is_empty());
    Ok(page)
}
