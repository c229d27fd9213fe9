//! XML documents read into a tree of elements, and text escaped for XML.
//!
//! Promise: document types, entities, processing instructions, comments, prefixed elements and mixed content are refused.
//! Each of them has let two readers of one document disagree: a comment inside a name cut SAML subjects in half
//! (CVE-2017-11427 and its siblings), and a document type can expand a few bytes into gigabytes.

use crate::refusals::{malformed_request, too_many_values};
use durward_core::{Refusal, limits};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// One element of a document.
#[derive(Debug, Default)]
pub(crate) struct XmlElement {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<XmlElement>,
    /// As written, blanks included.
    pub text: String,
}

impl XmlElement {
    /// The first child with this name.
    pub(crate) fn find_child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    pub(crate) fn trimmed_text(&self) -> &str {
        self.text.trim()
    }

    /// The first descendant with this name, at most `depth` levels down.
    pub(crate) fn find_descendant(&self, name: &str, depth: usize) -> Option<&Self> {
        let deeper = depth.checked_sub(1)?;
        self.find_child(name)
            .or_else(|| self.children.iter().find_map(|child| child.find_descendant(name, deeper)))
    }

    /// Calls `visit` with this element and all its descendants.
    pub(crate) fn visit_all<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for child in &self.children {
            child.visit_all(visit);
        }
    }
}

/// Reads a document; returns its root element.
pub(crate) fn parse_xml_document(bytes: &[u8]) -> Result<XmlElement, Refusal> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_invalid| malformed_request("the xml body is not valid utf-8"))?;
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
            // XML 1.0 section 2.11 has every parser read CR and CRLF as LF, so policy must see the LF that the service will
            // see.
            Event::Text(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None if text.trim().is_empty() => {}
                None => return Err(malformed_request("there is text outside the xml's root element")),
            },
            Event::CData(data) => match open.last_mut() {
                Some(element) => element.text.push_str(&data.xml10_content()),
                None => return Err(malformed_request("there is text outside the xml's root element")),
            },
            Event::GeneralRef(reference) => {
                let element = open
                    .last_mut()
                    .ok_or_else(|| malformed_request("there is text outside the xml's root element"))?;
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
                // A reader that honours another declared encoding would see other text in the same bytes.
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

/// `remaining`: the number of elements that may still follow.
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
        // S3 grantees carry `xsi:type`, whose prefix must be declared. Elements cannot use a prefix: see above.
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

/// Escapes text for an element or an attribute in double quotes. Characters that XML 1.0 cannot hold become `?`.
pub fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_constructs_that_readers_disagree_about() {
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

    #[test]
    fn escapes_markup_and_characters_that_xml_cannot_hold() {
        assert_eq!(escape_xml("<a b=\"c\">&\n\u{7}\u{ffff}ü"), "&lt;a b=&quot;c&quot;&gt;&amp;\n??ü");
    }

    proptest! {
        #[test]
        fn escaped_text_reads_back(text in "[ -~\u{e0}-\u{ff}]{0,40}") {
            let document = format!("<a>{}</a>", escape_xml(&text));
            prop_assert_eq!(parse_xml_document(document.as_bytes()).unwrap().text, text);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse_xml_document(&bytes);
        }
    }
}
