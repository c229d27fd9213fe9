//! XML bodies to parameters by shape. Document types, entities, processing instructions, comments, prefixed elements and
//! mixed content are refused: each has let two readers of one document disagree.

use super::shape::{insert, refuse_lookalike, scalar, wire_name};
use super::text::{malformed, quote, too_many};
use durward_catalog::{Location, Member, Service, ShapeId, ShapeKind};
use durward_core::{Refusal, limits};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// One element of a document.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The first element of that name, this one's descendants to `depth`.
    pub(crate) fn find(&self, name: &str, depth: usize) -> Option<&Self> {
        let deeper = depth.checked_sub(1)?;
        self.child(name).or_else(|| self.children.iter().find_map(|child| child.find(name, deeper)))
    }

    /// This element and all in it.
    pub(crate) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for child in &self.children {
            child.each(visit);
        }
    }
}

/// The root element of a document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Element, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the xml body is not valid utf-8"))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut first = true;
    let mut left = limits::VALUES;
    loop {
        let event =
            reader.read_event().map_err(|error| malformed("the body is not valid xml").detail(error))?;
        match event {
            Event::Start(start) => {
                let element = begin(&start, open.len(), root.is_some(), &mut left)?;
                open.push(element);
            }
            Event::Empty(start) => {
                let element = begin(&start, open.len(), root.is_some(), &mut left)?;
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let element =
                    open.pop().ok_or_else(|| malformed("the xml closes an element it did not open"))?;
                if !element.children.is_empty() && !element.text.trim().is_empty() {
                    return Err(malformed("the xml mixes text and elements"));
                }
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None if text.trim().is_empty() => {}
                None => return Err(malformed("text stands outside the xml's root element")),
            },
            Event::CData(data) => match open.last_mut() {
                Some(element) => element.text.push_str(&data.xml10_content()),
                None => return Err(malformed("text stands outside the xml's root element")),
            },
            Event::GeneralRef(reference) => {
                let element =
                    open.last_mut().ok_or_else(|| malformed("text stands outside the xml's root element"))?;
                let resolved = reference.resolve_char_ref().map_err(|error| {
                    malformed("a character reference in the xml is not valid").detail(error)
                })?;
                let character = match resolved {
                    Some(character) => character,
                    None => predefined(&reference).ok_or_else(|| {
                        malformed("the xml uses an entity; only the five predefined are read")
                    })?,
                };
                element.text.push(character);
            }
            Event::Decl(decl) if first => {
                let version = decl
                    .version()
                    .map_err(|error| malformed("the xml declaration is not valid").detail(error))?;
                let utf8 = match decl.encoding() {
                    None => true,
                    Some(Ok(name)) => name.eq_ignore_ascii_case("utf-8"),
                    Some(Err(_)) => false,
                };
                if version != "1.0" || !utf8 {
                    return Err(malformed("the xml is not version 1.0 in utf-8"));
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {
                return Err(malformed(
                    "the xml holds a comment, a document type or a processing instruction; leave it out",
                ));
            }
            Event::Eof => break,
        }
        first = false;
    }
    if !open.is_empty() {
        return Err(malformed("the xml ends before its root element does"));
    }
    root.ok_or_else(|| malformed("the xml has no root element"))
}

fn predefined(name: &str) -> Option<char> {
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
fn begin(
    start: &BytesStart<'_>,
    depth: usize,
    after_root: bool,
    left: &mut usize,
) -> Result<Element, Refusal> {
    *left = left.checked_sub(1).ok_or_else(|| too_many("elements", limits::VALUES))?;
    if depth >= limits::DEPTH {
        return Err(malformed("the xml is nested too deeply"));
    }
    if depth == 0 && after_root {
        return Err(malformed("the xml has a second root element"));
    }
    let name = start.name().0;
    if name.contains(':') {
        return Err(malformed("the xml prefixes an element; write it in the default namespace"));
    }
    let mut attributes = Vec::new();
    for (at, attribute) in start.attributes().enumerate() {
        if at >= limits::ATTRIBUTES {
            return Err(malformed("an element of the xml has too many attributes"));
        }
        let attribute =
            attribute.map_err(|error| malformed("an attribute in the xml is not valid").detail(error))?;
        let key = attribute.key.0;
        // A prefix may only be declared for the attribute of an S3 grantee; elements cannot use it.
        if key == "xmlns" || key.starts_with("xmlns:") {
            continue;
        }
        if attribute.value.contains('&') {
            return Err(malformed("an attribute in the xml holds an entity; only plain text is read"));
        }
        attributes.push((key.to_owned(), attribute.value.into_owned()));
    }
    Ok(Element { name: name.to_owned(), attributes, ..Element::default() })
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

/// The members of a structure out of an element.
pub(super) fn structure(
    service: &Service,
    members: &[Member],
    element: Element,
) -> Result<Map<String, Value>, Refusal> {
    if element.children.is_empty() && !element.text.trim().is_empty() {
        return Err(malformed(format!(
            "the element {} holds text instead of elements",
            quote(&element.name)
        )));
    }
    let mut out = Map::new();
    for (name, value) in element.attributes {
        let known = members.iter().find(|member| member.xml_attribute && wire_name(member) == name);
        match known {
            Some(member) => insert(&mut out, &member.name, Value::String(value))?,
            None => return Err(malformed(format!("the xml attribute {} is not known", quote(&name)))),
        }
    }
    let body = |member: &&Member| member.location == Location::Body && !member.xml_attribute;
    let mut unknown: Map<String, Value> = Map::new();
    for child in element.children {
        let Some(member) = members.iter().filter(body).find(|member| wire_name(member) == child.name) else {
            refuse_lookalike(members, &child.name)?;
            let name = child.name.clone();
            match unknown.entry(name) {
                serde_json::map::Entry::Vacant(free) => {
                    free.insert(Value::Array(vec![loose(child)]));
                }
                serde_json::map::Entry::Occupied(mut taken) => {
                    if let Value::Array(items) = taken.get_mut() {
                        items.push(loose(child));
                    }
                }
            }
            continue;
        };
        match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member: item, flattened, .. }) if *flattened || member.flattened => {
                let value = by_shape(service, *item, child)?;
                let list = out.entry(member.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    items.push(value);
                }
            }
            Some(ShapeKind::Map { value, key_name, value_name, flattened, .. })
                if *flattened || member.flattened =>
            {
                let entry = entry(service, *value, key_name.as_deref(), value_name.as_deref(), child)?;
                let map = out.entry(member.name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    insert(map, &entry.0, entry.1)?;
                }
            }
            _ => insert(&mut out, &member.name, by_shape(service, member.shape, child)?)?,
        }
    }
    for (name, value) in unknown {
        insert(&mut out, &name, value)?;
    }
    Ok(out)
}

/// One element by its shape.
pub(super) fn by_shape(service: &Service, shape: ShapeId, element: Element) -> Result<Value, Refusal> {
    let Some(shape) = service.shape(shape) else { return Ok(loose(element)) };
    match &shape.kind {
        ShapeKind::Structure { members, .. } => structure(service, members, element).map(Value::Object),
        ShapeKind::List { member, item_name, .. } => {
            no_text(&element)?;
            let name = item_name.as_deref().unwrap_or("member");
            element
                .children
                .into_iter()
                .map(|child| {
                    if child.name != name {
                        return Err(malformed(format!(
                            "a list holds {} instead of {name}",
                            quote(&child.name)
                        )));
                    }
                    by_shape(service, *member, child)
                })
                .collect::<Result<_, _>>()
                .map(Value::Array)
        }
        ShapeKind::Map { value, key_name, value_name, .. } => {
            no_text(&element)?;
            let mut out = Map::new();
            for child in element.children {
                if child.name != "entry" {
                    return Err(malformed(format!("a map holds {} instead of entry", quote(&child.name))));
                }
                let (key, item) = entry(service, *value, key_name.as_deref(), value_name.as_deref(), child)?;
                insert(&mut out, &key, item)?;
            }
            Ok(Value::Object(out))
        }
        kind => {
            if !element.children.is_empty() || !element.attributes.is_empty() {
                return Err(malformed(format!("the element {} holds more than text", quote(&element.name))));
            }
            let text = match kind {
                ShapeKind::Boolean
                | ShapeKind::Integer
                | ShapeKind::Long
                | ShapeKind::Float
                | ShapeKind::Double => element.text.trim().to_owned(),
                _ => element.text,
            };
            scalar(kind, text)
        }
    }
}

fn no_text(element: &Element) -> Result<(), Refusal> {
    if !element.text.trim().is_empty() || !element.attributes.is_empty() {
        return Err(malformed(format!("the element {} holds more than elements", quote(&element.name))));
    }
    Ok(())
}

/// Key and value of one map entry.
fn entry(
    service: &Service,
    value: ShapeId,
    key_name: Option<&str>,
    value_name: Option<&str>,
    element: Element,
) -> Result<(String, Value), Refusal> {
    no_text(&element)?;
    let (mut key, mut item) = (None, None);
    for child in element.children {
        let twice = if child.name == key_name.unwrap_or("key") {
            key.replace(child.text).is_some()
        } else if child.name == value_name.unwrap_or("value") {
            item.replace(by_shape(service, value, child)?).is_some()
        } else {
            true
        };
        if twice {
            return Err(malformed("an entry of a map has parts other than one key and one value"));
        }
    }
    let key = key.ok_or_else(|| malformed("an entry of a map has no key"))?;
    Ok((key, item.unwrap_or(Value::Null)))
}

/// An element the model does not know: its text, or its children as lists by name.
fn loose(element: Element) -> Value {
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
            items.push(loose(child));
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
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn keeps_the_text_of_keys_exactly() {
        let root = parse(b"<?xml version=\"1.0\"?>\n<a><k> x&amp;&#13;y<![CDATA[<z>]]> </k></a>\n").unwrap();
        assert_eq!(root.children[0].text, " x&\ry<z> ");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse(&bytes).map(loose);
        }

        #[test]
        fn never_panics_on_almost_xml(text in "[<>/a&;#x='\" !\\[\\]?-]{0,80}") {
            let _outcome = parse(text.as_bytes()).map(loose);
        }
    }
}
