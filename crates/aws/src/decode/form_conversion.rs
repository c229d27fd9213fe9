//! Converts forms of the query and EC2 protocols (`Tags.member.1.Key=a`) to parameters by their shapes (Smithy, "AWS query
//! protocol", "EC2 query protocol"). A name given twice, a list written in two ways and text that also has parts are refused.

use super::shape_conversion::{insert_once, parse_scalar, refuse_lookalike, wire_name};
use crate::form::ParameterPair;
use crate::refusals::{malformed_request, quote_for_message, too_many_values};
use durward_catalog::{MemberLocation, ServiceModel, ShapeId, ShapeKind, ShapeMember};
use durward_core::{Refusal, limits};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One level of dotted names.
#[derive(Debug, Default)]
pub(super) struct FormNode<'a> {
    text: Option<&'a str>,
    parts: BTreeMap<&'a str, FormNode<'a>>,
}

/// Removes the single value of `name` from the pairs.
pub(super) fn take_parameter(
    pairs: &mut Vec<ParameterPair<'_>>,
    name: &str,
) -> Result<Option<String>, Refusal> {
    let mut found = None;
    let mut is_repeated = false;
    let mut has_lookalike = false;
    pairs.retain_mut(|(key, value)| {
        if key == name {
            is_repeated |= found.replace(std::mem::take(value).into_owned()).is_some();
            return false;
        }
        // A service that ignores case would read an `action` beside the `Action` that policy decides.
        has_lookalike |= key.eq_ignore_ascii_case(name);
        true
    });
    if is_repeated || has_lookalike {
        return Err(malformed_request(format!(
            "the parameter `{name}` is given twice or in another spelling"
        )));
    }
    Ok(found)
}

/// The pairs as a tree of their dotted names.
pub(super) fn build_form_tree<'a>(pairs: &'a [ParameterPair<'_>]) -> Result<FormNode<'a>, Refusal> {
    let mut root = FormNode::default();
    let mut remaining = limits::MAX_FORM_NAME_PARTS;
    for (key, value) in pairs {
        let mut node = &mut root;
        for (depth, part) in key.split('.').enumerate() {
            if part.is_empty() || depth >= limits::MAX_NESTING_DEPTH {
                return Err(malformed_request(format!(
                    "the parameter name `{}` is malformed",
                    quote_for_message(key)
                )));
            }
            remaining = remaining
                .checked_sub(1)
                .ok_or_else(|| too_many_values("parts of names", limits::MAX_FORM_NAME_PARTS))?;
            node = node.parts.entry(part).or_default();
        }
        if node.text.replace(value).is_some() {
            return Err(malformed_request(format!(
                "the parameter `{}` is given twice",
                quote_for_message(key)
            )));
        }
    }
    Ok(root)
}

/// Decodes the forms of one service.
pub(super) struct FormDecoder<'a> {
    pub service: &'a ServiceModel,
    pub is_ec2: bool,
}

impl FormDecoder<'_> {
    pub(super) fn decode_structure(
        &self,
        members: &[ShapeMember],
        node: FormNode<'_>,
    ) -> Result<Map<String, Value>, Refusal> {
        if node.text.as_ref().is_some_and(|text| !text.is_empty()) {
            return Err(malformed_request("a parameter with parts is sent as plain text"));
        }
        let mut out = Map::new();
        for (key, part) in node.parts {
            let member = members.iter().find(|member| {
                member.location == MemberLocation::Body && self.matches_form_name(member, key)
            });
            if let Some(member) = member {
                let value = self.decode_by_shape(member.shape, member.is_flattened, part)?;
                insert_once(&mut out, &member.name, value)?;
            } else {
                refuse_lookalike(members, key)?;
                insert_once(&mut out, key, untyped_value(part)?)?;
            }
        }
        Ok(out)
    }

    /// Returns true if `key` is the name of a member in forms.
    fn matches_form_name(&self, member: &ShapeMember, key: &str) -> bool {
        if self.is_ec2 {
            // EC2 takes the name of the trait `ec2QueryName`, else the XML name with a capital letter (Smithy, "AWS EC2 query
            // protocol").
            return match (&member.ec2_name, &member.wire_name) {
                (Some(name), _) => name == key,
                (None, Some(wire)) => matches_capitalized(wire, key),
                (None, None) => member.name == key,
            };
        }
        // A flattened list goes by the name of its items.
        if let Some(ShapeKind::List { item_name: Some(item), is_flattened: flattened, .. }) =
            self.service.shape(member.shape).map(|shape| &shape.kind)
            && (*flattened || member.is_flattened)
        {
            return item == key;
        }
        wire_name(member) == key
    }

    fn decode_by_shape(&self, shape: ShapeId, flattened: bool, node: FormNode<'_>) -> Result<Value, Refusal> {
        let Some(shape) = self.service.shape(shape) else { return untyped_value(node) };
        match &shape.kind {
            ShapeKind::Structure { members, .. } => self.decode_structure(members, node).map(Value::Object),
            ShapeKind::List { member, item_name, .. } => {
                self.decode_list(*member, item_name.as_deref(), node)
            }
            ShapeKind::Map { value, key_name, value_name, is_flattened: flat, .. } => self.decode_map(
                *value,
                key_name.as_deref().unwrap_or("key"),
                value_name.as_deref().unwrap_or("value"),
                flattened || *flat,
                node,
            ),
            kind => match node {
                FormNode { text: Some(text), parts } if parts.is_empty() => {
                    parse_scalar(kind, text.to_owned())
                }
                _ => Err(malformed_request("a plain parameter is sent with parts")),
            },
        }
    }

    /// `.1`, `.member.1` or `.<item>.1`: services accept several spellings, but a list must use only one.
    fn decode_list(
        &self,
        member: ShapeId,
        item_name: Option<&str>,
        node: FormNode<'_>,
    ) -> Result<Value, Refusal> {
        let node = if node.parts.len() == 1 {
            let FormNode { text, mut parts } = node;
            let wrapped = parts.remove("member").or_else(|| item_name.and_then(|name| parts.remove(name)));
            match wrapped {
                Some(inner) if text.is_none() => inner,
                Some(_) => return Err(malformed_request("a list is given both as text and as items")),
                None => FormNode { text, parts },
            }
        } else {
            node
        };
        let items = sort_numbered_items(node)?;
        items
            .into_iter()
            .map(|item| self.decode_by_shape(member, false, item))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    }

    fn decode_map(
        &self,
        value: ShapeId,
        key_name: &str,
        value_name: &str,
        flattened: bool,
        mut node: FormNode<'_>,
    ) -> Result<Value, Refusal> {
        if !flattened && let Some(entries) = node.parts.remove("entry") {
            if !node.parts.is_empty() || node.text.is_some() {
                return Err(malformed_request("a map is given in two ways"));
            }
            node = entries;
        }
        let mut out = Map::new();
        for mut entry in sort_numbered_items(node)? {
            let key = match entry.parts.remove(key_name) {
                Some(FormNode { text: Some(text), parts }) if parts.is_empty() => text.to_owned(),
                _ => return Err(malformed_request("an entry of a map has no key")),
            };
            let item = match entry.parts.remove(value_name) {
                Some(item) => self.decode_by_shape(value, false, item)?,
                None => Value::Null,
            };
            if !entry.parts.is_empty() || entry.text.is_some() {
                return Err(malformed_request("an entry of a map has parts other than its key and value"));
            }
            insert_once(&mut out, &key, item)?;
        }
        Ok(Value::Object(out))
    }
}

/// Returns true if `key` is `name` with its first letter in upper case.
fn matches_capitalized(name: &str, key: &str) -> bool {
    let (Some(first), Some(own)) = (name.chars().next(), key.chars().next()) else { return false };
    own == first.to_ascii_uppercase() && name.get(first.len_utf8()..) == key.get(own.len_utf8()..)
}

/// The items of a list in the order of their numbers. SDKs send an empty list as `Name=`.
fn sort_numbered_items(node: FormNode<'_>) -> Result<Vec<FormNode<'_>>, Refusal> {
    let FormNode { text, parts } = node;
    if text.is_some_and(|text| !text.is_empty() || !parts.is_empty()) {
        return Err(malformed_request("a list is sent as plain text"));
    }
    let mut out = Vec::with_capacity(parts.len());
    for (key, item) in parts {
        let number = key
            .parse::<u32>()
            .ok()
            // No sign and no leading zero: `1` and `01` would be two items of one number.
            .filter(|_| !key.starts_with(['+', '0']) || key == "0")
            .ok_or_else(|| {
                malformed_request(format!("`{}` is not the number of a list item", quote_for_message(key)))
            })?;
        out.push((number, item));
    }
    // The map sorts by text, where `10` comes before `2`.
    out.sort_unstable_by_key(|(number, _)| *number);
    Ok(out.into_iter().map(|(_, item)| item).collect())
}

/// The parameters of an operation that the catalog does not have.
pub(super) fn untyped_parameters(node: FormNode<'_>) -> Result<Map<String, Value>, Refusal> {
    match untyped_value(node)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The value of a parameter that the model does not know.
fn untyped_value(node: FormNode<'_>) -> Result<Value, Refusal> {
    match (node.text, node.parts.is_empty()) {
        (Some(text), true) => Ok(Value::String(text.to_owned())),
        (None, _) => node
            .parts
            .into_iter()
            .map(|(key, part)| Ok((key.to_owned(), untyped_value(part)?)))
            .collect::<Result<_, Refusal>>()
            .map(Value::Object),
        (Some(_), false) => Err(malformed_request("a parameter is given both as text and with parts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::parse_form_body;
    use proptest::prelude::*;

    #[test]
    fn refuses_names_given_twice_or_malformed() {
        for bad in ["a=1&a=2", "a.b=1&a.b=2", "=1", "a..b=1", "a%2Eb=1&a.b=2", ".a=1"] {
            let outcome = parse_form_body(bad.as_bytes()).and_then(|pairs| build_form_tree(&pairs).map(drop));
            assert!(outcome.is_err(), "{bad}");
        }
        assert!(build_form_tree(&[(("a.".repeat(70) + "a").into(), "".into())]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = parse_form_body(&bytes).and_then(|pairs| build_form_tree(&pairs).and_then(untyped_value));
        }

        #[test]
        fn never_panics_on_dotted_names(text in "[a-c.1=&%+]{0,60}") {
            let _outcome = parse_form_body(text.as_bytes()).and_then(|pairs| build_form_tree(&pairs).and_then(untyped_value));
        }
    }
}
