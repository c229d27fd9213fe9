//! XML bodies to parameters by shape. Document types, entities, processing instructions, comments, prefixed elements and
//! mixed content are refused: each has let two readers of one document disagree.

use super::request_text::{malformed_request, quote_for_message, too_many_values};
use super::shape_conversion::{insert_once, parse_scalar, refuse_lookalike, wire_name};
use durward_catalog::{MemberLocation, ServiceModel, ShapeId, ShapeKind, ShapeMember};
use durward_core::{Refusal, limits};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// One element of a document.
#[derive(Debug, Default)]
pub(crate) struct XmlElement {
    pub name: String,
    attributes: Vec<(String, String)>,
    children: Vec<XmlElement>,
    text: String,
}

impl XmlElement {
    /// The first child of that name.
    pub(crate) fn find_child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The first element of that name, this one's descendants to `depth`.
    pub(crate) fn find_descendant(&self, name: &str, depth: usize) -> Option<&Self> {
        let deeper = depth.checked_sub(1)?;
        self.find_child(name)
            .or_else(|| self.children.iter().find_map(|child| child.find_descendant(name, deeper)))
    }

    /// This element and all in it.
    pub(crate) fn visit_all<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for child in &self.children {
            child.visit_all(visit);
        }
    }
}

/// The root element of a document.
pub(crate) fn parse_xml_document(bytes: &[u8]) -> Result<XmlElement, Refusal> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| malformed_request("the xml body is not valid utf-8"))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<XmlElement> = Vec::new();
    let mut root: Option<XmlElement> = None;
    let mut first = true;
    let mut remaining = limits::MAX_BODY_VALUES;
    loop {
        let event = reader
            .read_event()
            .map_err(|error| malformed_request("the body is not valid xml").with_detail(error))?;
        match event {
            Event::Start(start) => {
                let element = start_element(&start, open.len(), root.is_some(), &mut remaining)?;
                open.push(element);
            }
            Event::Empty(start) => {
                let element = start_element(&start, open.len(), root.is_some(), &mut remaining)?;
                close_element(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open
                    .pop()
                    .ok_or_else(|| malformed_request("the xml closes an element it did not open"))?;
                if !element.children.is_empty() && !element.text.trim().is_empty() {
                    return Err(malformed_request("the xml mixes text and elements"));
                }
                close_element(element, &mut open, &mut root);
            }
            Event::Text(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None if text.trim().is_empty() => {}
                None => return Err(malformed_request("text stands outside the xml's root element")),
            },
            Event::CData(data) => match open.last_mut() {
                Some(element) => element.text.push_str(&data.xml10_content()),
                None => return Err(malformed_request("text stands outside the xml's root element")),
            },
            Event::GeneralRef(reference) => {
                let element = open
                    .last_mut()
                    .ok_or_else(|| malformed_request("text stands outside the xml's root element"))?;
                let resolved = reference.resolve_char_ref().map_err(|error| {
                    malformed_request("a character reference in the xml is not valid").with_detail(error)
                })?;
                let character = match resolved {
                    Some(character) => character,
                    None => resolve_predefined_entity(&reference).ok_or_else(|| {
                        malformed_request("the xml uses an entity; only the five predefined are read")
                    })?,
                };
                element.text.push(character);
            }
            Event::Decl(decl) if first => {
                let version = decl.version().map_err(|error| {
                    malformed_request("the xml declaration is not valid").with_detail(error)
                })?;
                let utf8 = match decl.encoding() {
                    None => true,
                    Some(Ok(name)) => name.eq_ignore_ascii_case("utf-8"),
                    Some(Err(_)) => false,
                };
                if version != "1.0" || !utf8 {
                    return Err(malformed_request("the xml is not version 1.0 in utf-8"));
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {
                return Err(malformed_request(
                    "the xml holds a comment, a document type or a processing instruction; leave it out",
                ));
            }
            Event::Eof => break,
        }
        first = false;
    }
    if !open.is_empty() {
        return Err(malformed_request("the xml ends before its root element does"));
    }
    root.ok_or_else(|| malformed_request("the xml has no root element"))
}

fn resolve_predefined_entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// `left`: how many elements may yet come.
fn start_element(
    start: &BytesStart<'_>,
    depth: usize,
    after_root: bool,
    remaining: &mut usize,
) -> Result<XmlElement, Refusal> {
    *remaining =
        remaining.checked_sub(1).ok_or_else(|| too_many_values("elements", limits::MAX_BODY_VALUES))?;
    if depth >= limits::MAX_NESTING_DEPTH {
        return Err(malformed_request("the xml is nested too deeply"));
    }
    if depth == 0 && after_root {
        return Err(malformed_request("the xml has a second root element"));
    }
    let name = start.name().0;
    if name.contains(':') {
        return Err(malformed_request("the xml prefixes an element; write it in the default namespace"));
    }
    let mut attributes = Vec::new();
    for (at, attribute) in start.attributes().enumerate() {
        if at >= limits::MAX_XML_ATTRIBUTES {
            return Err(malformed_request("an element of the xml has too many attributes"));
        }
        let attribute = attribute
            .map_err(|error| malformed_request("an attribute in the xml is not valid").with_detail(error))?;
        let key = attribute.key.0;
        // A prefix may only be declared for the attribute of an S3 grantee; elements cannot use it.
        if key == "xmlns" || key.starts_with("xmlns:") {
            continue;
        }
        if attribute.value.contains('&') {
            return Err(malformed_request(
                "an attribute in the xml holds an entity; only plain text is read",
            ));
        }
        attributes.push((key.to_owned(), attribute.value.into_owned()));
    }
    Ok(XmlElement { name: name.to_owned(), attributes, ..XmlElement::default() })
}

fn close_element(element: XmlElement, open: &mut [XmlElement], root: &mut Option<XmlElement>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

/// The members of a structure out of an element.
pub(super) fn convert_xml_structure(
    service: &ServiceModel,
    members: &[ShapeMember],
    element: XmlElement,
) -> Result<Map<String, Value>, Refusal> {
    if element.children.is_empty() && !element.text.trim().is_empty() {
        return Err(malformed_request(format!(
            "the element {} holds text instead of elements",
            quote_for_message(&element.name)
        )));
    }
    let mut out = Map::new();
    for (name, value) in element.attributes {
        let known = members.iter().find(|member| member.is_xml_attribute && wire_name(member) == name);
        match known {
            Some(member) => insert_once(&mut out, &member.name, Value::String(value))?,
            None => {
                return Err(malformed_request(format!(
                    "the xml attribute {} is not known",
                    quote_for_message(&name)
                )));
            }
        }
    }
    let body = |member: &&ShapeMember| member.location == MemberLocation::Body && !member.is_xml_attribute;
    let mut unknown: Map<String, Value> = Map::new();
    for child in element.children {
        let Some(member) = members.iter().filter(body).find(|member| wire_name(member) == child.name) else {
            refuse_lookalike(members, &child.name)?;
            let name = child.name.clone();
            match unknown.entry(name) {
                serde_json::map::Entry::Vacant(free) => {
                    free.insert(Value::Array(vec![untyped_value(child)]));
                }
                serde_json::map::Entry::Occupied(mut taken) => {
                    if let Value::Array(items) = taken.get_mut() {
                        items.push(untyped_value(child));
                    }
                }
            }
            continue;
        };
        match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member: item, is_flattened: flattened, .. })
                if *flattened || member.is_flattened =>
            {
                let value = convert_xml_element(service, *item, child)?;
                let list = out.entry(member.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    items.push(value);
                }
            }
            Some(ShapeKind::Map { value, key_name, value_name, is_flattened: flattened, .. })
                if *flattened || member.is_flattened =>
            {
                let entry =
                    parse_map_entry(service, *value, key_name.as_deref(), value_name.as_deref(), child)?;
                let map = out.entry(member.name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    insert_once(map, &entry.0, entry.1)?;
                }
            }
            _ => insert_once(&mut out, &member.name, convert_xml_element(service, member.shape, child)?)?,
        }
    }
    for (name, value) in unknown {
        insert_once(&mut out, &name, value)?;
    }
    Ok(out)
}

/// One element by its shape.
pub(super) fn convert_xml_element(
    service: &ServiceModel,
    shape: ShapeId,
    element: XmlElement,
) -> Result<Value, Refusal> {
    let Some(shape) = service.shape(shape) else { return Ok(untyped_value(element)) };
    match &shape.kind {
        ShapeKind::Structure { members, .. } => {
            convert_xml_structure(service, members, element).map(Value::Object)
        }
        ShapeKind::List { member, item_name, .. } => {
            refuse_text(&element)?;
            let name = item_name.as_deref().unwrap_or("member");
            element
                .children
                .into_iter()
                .map(|child| {
                    if child.name != name {
                        return Err(malformed_request(format!(
                            "a list holds {} instead of {name}",
                            quote_for_message(&child.name)
                        )));
                    }
                    convert_xml_element(service, *member, child)
                })
                .collect::<Result<_, _>>()
                .map(Value::Array)
        }
        ShapeKind::Map { value, key_name, value_name, .. } => {
            refuse_text(&element)?;
            let mut out = Map::new();
            for child in element.children {
                if child.name != "entry" {
                    return Err(malformed_request(format!(
                        "a map holds {} instead of entry",
                        quote_for_message(&child.name)
                    )));
                }
                let (key, item) =
                    parse_map_entry(service, *value, key_name.as_deref(), value_name.as_deref(), child)?;
                insert_once(&mut out, &key, item)?;
            }
            Ok(Value::Object(out))
        }
        kind => {
            if !element.children.is_empty() || !element.attributes.is_empty() {
                return Err(malformed_request(format!(
                    "the element {} holds more than text",
                    quote_for_message(&element.name)
                )));
            }
            let text = match kind {
                ShapeKind::Boolean
                | ShapeKind::Integer
                | ShapeKind::Long
                | ShapeKind::Float
                | ShapeKind::Double => element.text.trim().to_owned(),
                _ => element.text,
            };
            parse_scalar(kind, text)
        }
    }
}

fn refuse_text(element: &XmlElement) -> Result<(), Refusal> {
    if !element.text.trim().is_empty() || !element.attributes.is_empty() {
        return Err(malformed_request(format!(
            "the element {} holds more than elements",
            quote_for_message(&element.name)
        )));
    }
    Ok(())
}

/// Key and value of one map entry.
fn parse_map_entry(
    service: &ServiceModel,
    value: ShapeId,
    key_name: Option<&str>,
    value_name: Option<&str>,
    element: XmlElement,
) -> Result<(String, Value), Refusal> {
    refuse_text(&element)?;
    let (mut key, mut item) = (None, None);
    for child in element.children {
        let twice = if child.name == key_name.unwrap_or("key") {
            key.replace(child.text).is_some()
        } else if child.name == value_name.unwrap_or("value") {
            item.replace(convert_xml_element(service, value, child)?).is_some()
        } else {
            true
        };
        if twice {
            return Err(malformed_request("an entry of a map has parts other than one key and one value"));
        }
    }
    let key = key.ok_or_else(|| malformed_request("an entry of a map has no key"))?;
    Ok((key, item.unwrap_or(Value::Null)))
}

/// An element the model does not know: its text, or its children as lists by name.
fn untyped_value(element: XmlElement) -> Value {
    if element.children.is_empty() && element.attributes.is_empty() {
        return Value::String(element.text);
    }
    let mut out = Map::new();
    for (name, value) in element.attributes {
        out.insert(format!("@{name}"), Value::String(value));
    }
    if !element.text.trim().is_empty() {
        out.insert("#text".to_owned(), Value::String(element.text));
    }
    for child in element.children {
        let list = out.entry(child.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = list {
            items.push(untyped_value(child));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_readers_disagree_about() {
        for bad in [
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a>&x;</a>",
            "<a><!-- c -->b</a>",
            "<?pi x?><a/>",
            "<x:a xmlns:x='u'/>",
            "<a>text<b/></a>",
            "<a/><b/>",
            "<a>",
            "</a>",
            "<a></b>",
            "<a x='1' x='2'/>",
            "<?xml version='1.1'?><a/>",
            "<?xml version='1.0' encoding='utf-16'?><a/>",
            "",
            "x<a/>",
            "<a>&#0;</a>",
            "<a k='&x;'/>",
        ] {
            assert!(parse_xml_document(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
        assert!(parse_xml_document(deep.as_bytes()).is_err());
    }

    #[test]
    fn keeps_the_text_of_keys_exactly() {
        let root =
            parse_xml_document(b"<?xml version=\"1.0\"?>\n<a><k> x&amp;&#13;y<![CDATA[<z>]]> </k></a>\n")
                .unwrap();
        assert_eq!(root.children[0].text, " x&\ry<z> ");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse_xml_document(&bytes).map(untyped_value);
        }

        #[test]
        fn never_panics_on_almost_xml(text in "[<>/a&;#x='\" !\\[\\]?-]{0,80}") {
            let _outcome = parse_xml_document(text.as_bytes()).map(untyped_value);
        }
    }
}
