//! Forms of the query and ec2 protocols (`Tags.member.1.Key=a`) to parameters by shape. A name given twice, a list written
//! in two ways and text that also has parts are refused.

use super::shape::{insert, refuse_lookalike, scalar, wire_name};
use super::text::{malformed, pairs, quote};
use durward_catalog::{Location, Member, Service, ShapeId, ShapeKind};
use durward_core::{Refusal, limits};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One dotted level of a form.
#[derive(Debug, Default)]
pub(super) struct Node {
    text: Option<String>,
    parts: BTreeMap<String, Node>,
}

/// A form body as pairs.
pub(super) fn parse_body(bytes: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the form body is not valid utf-8"))?;
    pairs(text, true)
}

/// Takes the one value of `name` out of the pairs.
pub(super) fn take(pairs: &mut Vec<(String, String)>, name: &str) -> Result<Option<String>, Refusal> {
    let mut found = None;
    let mut twice = false;
    let mut lookalike = false;
    pairs.retain_mut(|(key, value)| {
        if key == name {
            twice |= found.replace(std::mem::take(value)).is_some();
            return false;
        }
        lookalike |= key.eq_ignore_ascii_case(name);
        true
    });
    if twice || lookalike {
        return Err(malformed(format!("the parameter `{name}` is given twice or in another spelling")));
    }
    Ok(found)
}

/// The pairs as a tree.
pub(super) fn tree(pairs: Vec<(String, String)>) -> Result<Node, Refusal> {
    let mut root = Node::default();
    for (key, value) in pairs {
        let mut node = &mut root;
        for (depth, part) in key.split('.').enumerate() {
            if part.is_empty() || depth >= limits::DEPTH {
                return Err(malformed(format!("the parameter name `{}` is malformed", quote(&key))));
            }
            node = node.parts.entry(part.to_owned()).or_default();
        }
        if node.text.replace(value).is_some() {
            return Err(malformed(format!("the parameter `{}` is given twice", quote(&key))));
        }
    }
    Ok(root)
}

/// Reads forms of one service.
pub(super) struct Reader<'a> {
    pub service: &'a Service,
    pub ec2: bool,
}

impl Reader<'_> {
    pub(super) fn structure(
        &self,
        members: &[Member],
        mut node: Node,
    ) -> Result<Map<String, Value>, Refusal> {
        if node.text.as_ref().is_some_and(|text| !text.is_empty()) {
            return Err(malformed("a parameter with parts is sent as plain text"));
        }
        let mut out = Map::new();
        for member in members.iter().filter(|member| member.location == Location::Body) {
            let name = self.form_name(member);
            if let Some(part) = node.parts.remove(name.as_ref()) {
                let value = self.by_shape(member.shape, member.flattened, part)?;
                insert(&mut out, &member.name, value)?;
            }
        }
        for (key, part) in node.parts {
            refuse_lookalike(members, &key)?;
            insert(&mut out, &key, loose(part)?)?;
        }
        Ok(out)
    }

    /// The name of a member in a form.
    fn form_name<'m>(&'m self, member: &'m Member) -> Cow<'m, str> {
        if self.ec2 {
            if let Some(name) = &member.ec2_name {
                return Cow::Borrowed(name);
            }
            let Some(name) = &member.wire_name else { return Cow::Borrowed(&member.name) };
            let mut chars = name.chars();
            return match chars.next() {
                Some(first) => Cow::Owned(first.to_ascii_uppercase().to_string() + chars.as_str()),
                None => Cow::Borrowed(&member.name),
            };
        }
        // A flattened list is written under the name of its items.
        if let Some(ShapeKind::List { item_name: Some(item), flattened, .. }) =
            self.service.shape(member.shape).map(|shape| &shape.kind)
            && (*flattened || member.flattened)
        {
            return Cow::Borrowed(item);
        }
        Cow::Borrowed(wire_name(member))
    }

    fn by_shape(&self, shape: ShapeId, flattened: bool, node: Node) -> Result<Value, Refusal> {
        let Some(shape) = self.service.shape(shape) else { return loose(node) };
        match &shape.kind {
            ShapeKind::Structure { members, .. } => self.structure(members, node).map(Value::Object),
            ShapeKind::List { member, item_name, .. } => self.list(*member, item_name.as_deref(), node),
            ShapeKind::Map { value, key_name, value_name, flattened: flat, .. } => self.map(
                *value,
                key_name.as_deref().unwrap_or("key"),
                value_name.as_deref().unwrap_or("value"),
                flattened || *flat,
                node,
            ),
            kind => match node {
                Node { text: Some(text), parts } if parts.is_empty() => scalar(kind, text),
                _ => Err(malformed("a plain parameter is sent with parts")),
            },
        }
    }

    /// `.1`, `.member.1` or `.<item>.1`: services take several spellings, but only one at a time may be used.
    fn list(&self, member: ShapeId, item_name: Option<&str>, node: Node) -> Result<Value, Refusal> {
        let node = if node.parts.len() == 1 {
            let Node { text, mut parts } = node;
            let wrapped = parts.remove("member").or_else(|| item_name.and_then(|name| parts.remove(name)));
            match wrapped {
                Some(inner) if text.is_none() => inner,
                Some(_) => return Err(malformed("a list is given both as text and as items")),
                None => Node { text, parts },
            }
        } else {
            node
        };
        let items = numbered(node)?;
        items
            .into_values()
            .map(|item| self.by_shape(member, false, item))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    }

    fn map(
        &self,
        value: ShapeId,
        key_name: &str,
        value_name: &str,
        flattened: bool,
        mut node: Node,
    ) -> Result<Value, Refusal> {
        if !flattened && let Some(entries) = node.parts.remove("entry") {
            if !node.parts.is_empty() || node.text.is_some() {
                return Err(malformed("a map is given in two ways"));
            }
            node = entries;
        }
        let mut out = Map::new();
        for mut entry in numbered(node)?.into_values() {
            let key = match entry.parts.remove(key_name) {
                Some(Node { text: Some(text), parts }) if parts.is_empty() => text,
                _ => return Err(malformed("an entry of a map has no key")),
            };
            let item = match entry.parts.remove(value_name) {
                Some(item) => self.by_shape(value, false, item)?,
                None => Value::Null,
            };
            if !entry.parts.is_empty() || entry.text.is_some() {
                return Err(malformed("an entry of a map has parts other than its key and value"));
            }
            insert(&mut out, &key, item)?;
        }
        Ok(Value::Object(out))
    }
}

/// The parts of a list in the order of their numbers. `Name=` is how an empty list is sent.
fn numbered(node: Node) -> Result<BTreeMap<u32, Node>, Refusal> {
    let Node { text, parts } = node;
    if text.is_some_and(|text| !text.is_empty() || !parts.is_empty()) {
        return Err(malformed("a list is sent as plain text"));
    }
    let mut out = BTreeMap::new();
    for (key, item) in parts {
        let number = key
            .parse::<u32>()
            .ok()
            .filter(|number| number.to_string() == key)
            .ok_or_else(|| malformed(format!("`{}` is not the number of a list item", quote(&key))))?;
        out.insert(number, item);
    }
    Ok(out)
}

/// A parameter the model does not know.
fn loose(node: Node) -> Result<Value, Refusal> {
    match (node.text, node.parts.is_empty()) {
        (Some(text), true) => Ok(Value::String(text)),
        (None, _) => node
            .parts
            .into_iter()
            .map(|(key, part)| Ok((key, loose(part)?)))
            .collect::<Result<_, Refusal>>()
            .map(Value::Object),
        (Some(_), false) => Err(malformed("a parameter is given both as text and with parts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_names_given_twice_or_malformed() {
        for bad in ["a=1&a=2", "a.b=1&a.b=2", "=1", "a..b=1", "a%2Eb=1&a.b=2", ".a=1"] {
            let outcome = parse_body(bad.as_bytes()).and_then(tree);
            assert!(outcome.is_err(), "{bad}");
        }
        assert!(tree(vec![("a.".repeat(70) + "a", String::new())]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = parse_body(&bytes).and_then(tree).and_then(loose);
        }

        #[test]
        fn never_panics_on_dotted_names(text in "[a-c.1=&%+]{0,60}") {
            let _outcome = parse_body(text.as_bytes()).and_then(tree).and_then(loose);
        }
    }
}
