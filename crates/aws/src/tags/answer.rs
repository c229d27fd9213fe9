//! What a service answers when it is asked for the tags of a resource.

use super::TagCall;
use crate::decode::xml_tree;
use durward_catalog::Protocol;
use serde_json::Value;
use std::collections::BTreeMap;

/// Output members that hold tags, or what holds them, in lower case.
const HOLDERS: [&str; 7] =
    ["tags", "taglist", "tagset", "resourcetags", "tagdescriptions", "taginfoforresource", "stacks"];
/// Where the next page begins.
const NEXT: [&str; 4] = ["NextToken", "nextToken", "NextMarker", "Marker"];
/// Deeper than any service nests tags.
const DEPTH: usize = 6;

/// A page of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub tags: BTreeMap<String, String>,
    pub next: Option<String>,
    /// The resource does not exist: it has no tags now, and may have some soon.
    pub missing: bool,
}

/// Why the tags of a resource are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    #[error("the service answered {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the answer of the service was not understood: {0}")]
    NotUnderstood(&'static str),
}

/// Whether an output member holds tags, or is, as the whole body, what holds them.
pub(super) fn holds_tags(member: &str) -> bool {
    let member = member.to_ascii_lowercase();
    HOLDERS.contains(&member.as_str()) || member == "tagsmodel"
}

impl TagCall {
    /// Reads an answer.
    pub fn read(&self, status: u16, body: &[u8]) -> Result<Page, TagsError> {
        let xml = matches!(self.protocol(), Protocol::Query | Protocol::Ec2 | Protocol::RestXml);
        if !(200..300).contains(&status) {
            return refusal(status, if xml { xml_code(body) } else { json_code(body) });
        }
        if xml { read_xml(body) } else { read_json(body) }
    }
}

fn refusal(status: u16, (code, message): (String, String)) -> Result<Page, TagsError> {
    if code == "NoSuchTagSet" {
        return Ok(Page::default());
    }
    let absent = ["NotFound", "NoSuch", "NonExistent", "DoesNotExist"].iter().any(|word| code.contains(word))
        || (code == "ValidationError" && message.contains("does not exist"));
    if absent && (400..500).contains(&status) {
        return Ok(Page { missing: true, ..Page::default() });
    }
    let code = code.chars().filter(char::is_ascii_graphic).take(80).collect();
    Err(TagsError::Refused { status, code })
}

fn json_code(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 3]| {
        names.iter().find_map(|name| value.get(*name)?.as_str()).unwrap_or_default().to_owned()
    };
    let code = text(["__type", "code", "Code"]);
    (code.rsplit('#').next().unwrap_or_default().to_owned(), text(["message", "Message", "errorMessage"]))
}

fn xml_code(body: &[u8]) -> (String, String) {
    let Ok(root) = xml_tree(body) else { return (String::new(), String::new()) };
    let text = |name| root.find(name, DEPTH).map(|found| found.text().to_owned()).unwrap_or_default();
    (text("Code"), text("Message"))
}

fn read_json(body: &[u8]) -> Result<Page, TagsError> {
    let not = TagsError::NotUnderstood;
    let value: Value = serde_json::from_slice(body).map_err(|_error| not("it is not JSON"))?;
    let members = value.as_object().ok_or(not("it is not an object"))?;
    if members.get("HasMoreTags").and_then(Value::as_bool) == Some(true) {
        return Err(not("it has more tags than fit on a page"));
    }
    let mut page = Page::default();
    for (name, member) in members {
        if HOLDERS.contains(&name.to_ascii_lowercase().as_str()) {
            collect(member, DEPTH, &mut page.tags)?;
        }
    }
    let next = NEXT.iter().find_map(|name| members.get(*name)?.as_str());
    page.next = next.filter(|next| !next.is_empty()).map(str::to_owned);
    Ok(page)
}

/// A list of keys and values, a map, or something that holds one of these under a name of [`HOLDERS`].
fn collect(value: &Value, depth: usize, tags: &mut BTreeMap<String, String>) -> Result<(), TagsError> {
    let not = TagsError::NotUnderstood;
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
                    let held =
                        item.iter().find(|(name, _)| HOLDERS.contains(&name.to_ascii_lowercase().as_str()));
                    collect(held.ok_or(not("a tag has no key"))?.1, deeper, tags)?;
                }
            }
            Ok(())
        }
        Value::Object(map)
            if map.keys().any(|key| HOLDERS.contains(&key.to_ascii_lowercase().as_str()))
                && map.values().any(|value| !value.is_string()) =>
        {
            for (_, held) in
                map.iter().filter(|(key, _)| HOLDERS.contains(&key.to_ascii_lowercase().as_str()))
            {
                collect(held, deeper, tags)?;
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

fn read_xml(body: &[u8]) -> Result<Page, TagsError> {
    let root = xml_tree(body).map_err(|_refusal| TagsError::NotUnderstood("it is not XML"))?;
    if !(root.name.ends_with("Response") || matches!(root.name.as_str(), "Tagging" | "Tags")) {
        return Err(TagsError::NotUnderstood("its root element is not that of an answer"));
    }
    let mut page = Page::default();
    root.each(&mut |element| {
        let child = |names: [&str; 2]| names.iter().find_map(|name| element.child(name));
        if matches!(element.name.as_str(), "Tag" | "tag" | "member" | "item")
            && let Some(key) = child(["Key", "key"])
        {
            let value = child(["Value", "value"]).map(|value| value.text().to_owned()).unwrap_or_default();
            page.tags.insert(key.text().to_owned(), value);
        }
    });
    let next = NEXT.iter().find_map(|name| root.find(name, 3));
    page.next = next.map(|next| next.text().to_owned()).filter(|next| !next.is_empty());
    Ok(page)
}
