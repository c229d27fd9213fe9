//! What a service answers when it is asked for the tags of a resource.

use super::TagLookup;
use crate::xml::parse_xml_document;
use durward_catalog::AwsProtocol;
use serde_json::Value;
use std::collections::BTreeMap;

/// Output members that hold tags, or what holds them, in lower case.
const TAG_CONTAINERS: [&str; 7] =
    ["tags", "taglist", "tagset", "resourcetags", "tagdescriptions", "taginfoforresource", "stacks"];
/// Where the next page begins.
const PAGE_TOKEN_OUTPUTS: [&str; 4] = ["NextToken", "nextToken", "NextMarker", "Marker"];
/// Deeper than any service nests tags.
const MAX_TAG_DEPTH: usize = 6;

/// A page of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagPage {
    pub tags: BTreeMap<String, String>,
    pub next_token: Option<String>,
    /// The resource does not exist: it has no tags now, and may have some soon.
    pub is_resource_missing: bool,
}

/// Why the tags of a resource are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagLookupError {
    #[error("the service answered {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the answer of the service was not understood: {0}")]
    UnexpectedResponse(&'static str),
}

/// Whether an output member holds tags, or is, as the whole body, what holds them.
pub(super) fn holds_tags(member: &str) -> bool {
    let member = member.to_ascii_lowercase();
    TAG_CONTAINERS.contains(&member.as_str()) || member == "tagsmodel"
}

impl TagLookup {
    /// Reads an answer.
    pub fn parse_response(&self, status: u16, body: &[u8]) -> Result<TagPage, TagLookupError> {
        let xml = matches!(self.protocol(), AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml);
        if !(200..300).contains(&status) {
            return interpret_error(status, if xml { parse_xml_error(body) } else { parse_json_error(body) });
        }
        if xml { parse_xml_tags(body) } else { parse_json_tags(body) }
    }
}

fn interpret_error(status: u16, (code, message): (String, String)) -> Result<TagPage, TagLookupError> {
    if code == "NoSuchTagSet" {
        return Ok(TagPage::default());
    }
    let absent = ["NotFound", "NoSuch", "NonExistent", "DoesNotExist"].iter().any(|word| code.contains(word))
        || (code == "ValidationError" && message.contains("does not exist"));
    if absent && (400..500).contains(&status) {
        return Ok(TagPage { is_resource_missing: true, ..TagPage::default() });
    }
    let code = code.chars().filter(char::is_ascii_graphic).take(80).collect();
    Err(TagLookupError::Refused { status, code })
}

fn parse_json_error(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
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
    let not = TagLookupError::UnexpectedResponse;
    let value: Value = serde_json::from_slice(body).map_err(|_error| not("it is not JSON"))?;
    let members = value.as_object().ok_or(not("it is not an object"))?;
    if members.get("HasMoreTags").and_then(Value::as_bool) == Some(true) {
        return Err(not("it has more tags than fit on a page"));
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

/// A list of keys and values, a map, or something that holds one of these under a name of [`HOLDERS`].
fn collect_json_tags(
    value: &Value,
    depth: usize,
    tags: &mut BTreeMap<String, String>,
) -> Result<(), TagLookupError> {
    let not = TagLookupError::UnexpectedResponse;
    let deeper = depth.checked_sub(1).ok_or(not("it is nested too deeply"))?;
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => {
            for item in items {
                let item = item.as_object().ok_or(not("a tag is not an object"))?;
                let text = |names: [&str; 4]| names.iter().find_map(|name| item.get(*name)?.as_str());
                if let Some(key) = text(["Key", "key", "TagKey", "tagKey"]) {
                    let value = text(["Value", "value", "TagValue", "tagValue"]).unwrap_or_default();
                    tags.insert(key.to_owned(), value.to_owned());
                } else {
                    let held = item
                        .iter()
                        .find(|(name, _)| TAG_CONTAINERS.contains(&name.to_ascii_lowercase().as_str()));
                    collect_json_tags(held.ok_or(not("a tag has no key"))?.1, deeper, tags)?;
                }
            }
            Ok(())
        }
        Value::Object(map)
            if map.keys().any(|key| TAG_CONTAINERS.contains(&key.to_ascii_lowercase().as_str()))
                && map.values().any(|value| !value.is_string()) =>
        {
            for (_, held) in
                map.iter().filter(|(key, _)| TAG_CONTAINERS.contains(&key.to_ascii_lowercase().as_str()))
            {
                collect_json_tags(held, deeper, tags)?;
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
                    _ => return Err(not("the value of a tag is not text")),
                }
            }
            Ok(())
        }
        _ => Err(not("the tags are neither a list nor a map")),
    }
}

fn parse_xml_tags(body: &[u8]) -> Result<TagPage, TagLookupError> {
    let root =
        parse_xml_document(body).map_err(|_refusal| TagLookupError::UnexpectedResponse("it is not XML"))?;
    if !(root.name.ends_with("Response") || matches!(root.name.as_str(), "Tagging" | "Tags")) {
        return Err(TagLookupError::UnexpectedResponse("its root element is not that of an answer"));
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
