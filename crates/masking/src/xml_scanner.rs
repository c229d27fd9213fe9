//! Masking of the XML of the query, ec2 and rest-xml protocols. quick-xml reads it event by event. Text is searched as a
//! parser decodes it (references and CDATA resolved, comments left out) and rewritten only where something was masked.

use std::borrow::Cow;
use std::ops::Range;

use durward_catalog::service_model::{AwsProtocol, ShapeKind, ShapeMember};
use durward_core::limits::MAX_NESTING_DEPTH;
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use crate::body_patch::BodyPatch;
use crate::derived_values::{
    ATTRIBUTES_DIGEST, DigestReplacements, MaskedSource, MessageAttribute, digest_of_attributes,
    may_be_digest,
};
use crate::marked_values::{MarkedValue, apply_mark};
use crate::masking_plan::{ExpectedValue, MaskingPlan};
use crate::masking_run::{MaskingRun, ValueKind};
use crate::name_hints::{NameHint, holds_sibling_name};
use crate::{MaskError, check_utf8};

const FORMAT_NAME: &str = "XML";
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// `None`: nothing to mask.
pub(crate) fn mask_xml(
    body: &[u8],
    plan: Option<&MaskingPlan<'_>>,
    scan: &mut MaskingRun<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    let text = check_utf8(FORMAT_NAME, body)?;
    let (base, text) =
        text.strip_prefix(BYTE_ORDER_MARK).map_or((0, text), |rest| (BYTE_ORDER_MARK.len(), rest));
    let suspicious = scan.may_contain_secret(body);
    let mut xml = XmlScanner {
        plan,
        masking_run: scan,
        may_contain_secret: suspicious,
        patch: BodyPatch::new(body),
        open_elements: Vec::new(),
        text_run: TextRun::default(),
        event_range: base..base,
        has_root: false,
        leaves: Vec::new(),
        sources: Vec::new(),
        attributes: Vec::new(),
    };
    let mut reader = Reader::from_str(text);
    // Without them quick-xml accepts `--` inside a comment, where another parser may end it (XML 1.0 section 2.5).
    reader.config_mut().enable_all_checks(true);
    loop {
        let event = reader.read_event().map_err(|_| xml.malformed_error("invalid syntax"))?;
        // The position is within a slice, so it fits.
        xml.event_range = xml.event_range.end..base + reader.buffer_position() as usize;
        if matches!(event, Event::Eof) {
            break;
        }
        xml.scan_event(event)?;
    }
    xml.flush_text_run()?;
    if !xml.open_elements.is_empty() || !xml.has_root {
        return Err(xml.malformed_error("incomplete document"));
    }
    Ok(xml.patch.finish())
}

struct XmlScanner<'x, 'm> {
    plan: Option<&'x MaskingPlan<'x>>,
    masking_run: &'x mut MaskingRun<'m>,
    /// A detector may match some text as it is written.
    may_contain_secret: bool,
    patch: BodyPatch<'x>,
    open_elements: Vec<ElementFrame>,
    text_run: TextRun<'x>,
    /// The bytes of the current event.
    event_range: Range<usize>,
    has_root: bool,
    /// Texts in the open elements, in order of depth, that may be derived from texts beside them.
    leaves: Vec<LeafText<'x>>,
    /// Texts in the open elements that were masked, with their depths.
    sources: Vec<(usize, MaskedSource)>,
    attributes: Vec<AttributeElement>,
}

/// A `MessageAttribute` of SQS.
struct AttributeElement {
    depth: usize,
    range: Range<usize>,
    is_masked: bool,
}

#[derive(Clone, Copy)]
struct ElementFrame {
    role: ElementRole,
    expected_value: ExpectedValue,
    /// Its text names a sibling (`<Name>`, `<key>`).
    holds_sibling_name: bool,
    /// The hint of a child whose text names its siblings.
    sibling_hint: NameHint,
    role_in_message: MessageRole,
    /// Where its tag begins, and how much was replaced before it.
    start: usize,
    replaced_before: usize,
}

/// The elements of an SQS message that need each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageRole {
    None,
    Attribute,
    AttributesDigest,
}

/// A text that was not masked and may be the digest of one beside it.
struct LeafText<'x> {
    depth: usize,
    range: Range<usize>,
    text: Cow<'x, str>,
    is_attributes_digest: bool,
}

#[derive(Clone, Copy)]
enum ElementRole {
    Value,
    /// `<OperationResponse>` of the query protocol, with the output one level below.
    Wrapper,
    /// One entry of the map that `expect` is.
    MapEntry,
}

/// Character data between two tags.
#[derive(Default)]
struct TextRun<'x> {
    range: Option<Range<usize>>,
    text: Cow<'x, str>,
    /// Not one plain text: a parser decodes it to something other than its bytes.
    is_composed: bool,
    /// A comment or instruction in it holds a secret: it is rewritten without them.
    has_tainted_comment: bool,
}

impl<'x> XmlScanner<'x, '_> {
    fn scan_event(&mut self, event: Event<'x>) -> Result<(), MaskError> {
        match event {
            Event::Text(text) => self.append_text(text.into_inner(), false),
            Event::CData(data) => self.append_text(data.into_inner(), true),
            Event::GeneralRef(reference) => {
                let letter = self.resolve_reference(&reference)?;
                self.append_text(Cow::Owned(letter.to_string()), true);
            }
            Event::Comment(comment) => self.scan_comment(&comment),
            Event::PI(instruction) => self.scan_comment(&instruction),
            Event::Decl(declaration) => self.check_encoding(&declaration)?,
            // Its entities expand to text that was not inspected, and to gigabytes of it (the "billion laughs" attack).
            Event::DocType(_) => return Err(MaskError::DocumentType { offset: self.event_range.start }),
            Event::Start(start) => {
                let element = self.scan_start_tag(&start, false)?;
                self.open_elements.push(element);
                if self.open_elements.len() > MAX_NESTING_DEPTH {
                    return Err(MaskError::TooDeep { format: FORMAT_NAME, offset: self.event_range.start });
                }
            }
            Event::Empty(start) => {
                self.scan_start_tag(&start, true)?;
            }
            Event::End(_) => {
                let hint = self.flush_text_run()?;
                let element = self.open_elements.pop();
                self.refresh_derived_values(element);
                if let Some(ElementFrame { holds_sibling_name: true, .. }) = element
                    && let Some(parent) = self.open_elements.last_mut()
                {
                    parent.sibling_hint = hint.or(parent.sibling_hint);
                }
            }
            Event::Eof => {}
        }
        Ok(())
    }

    fn scan_start_tag(&mut self, start: &BytesStart<'x>, empty: bool) -> Result<ElementFrame, MaskError> {
        self.flush_text_run()?;
        // A prefix does not change an element (Namespaces in XML 1.0), so the marks go by the local name.
        let name = start.local_name();
        let name = name.as_ref();
        let element = match self.open_elements.last() {
            Some(parent) => self.child_element(*parent, name),
            None if self.has_root => return Err(self.malformed_error("a second root element")),
            None => self.root_element(),
        };
        self.has_root = true;
        self.mask_attributes(start, element.expected_value, empty)?;
        Ok(element)
    }

    fn root_element(&self) -> ElementFrame {
        let value = |expect| ElementFrame {
            role: ElementRole::Value,
            expected_value: expect,
            holds_sibling_name: false,
            sibling_hint: NameHint::None,
            role_in_message: MessageRole::None,
            start: self.event_range.start,
            replaced_before: self.patch.replacement_count(),
        };
        match self.plan {
            None => value(ExpectedValue::default()),
            Some(plan) if plan.protocol == AwsProtocol::Query => {
                ElementFrame { role: ElementRole::Wrapper, ..value(ExpectedValue::default()) }
            }
            Some(plan) => value(plan.root_value()),
        }
    }

    fn child_element(&self, parent: ElementFrame, name: &str) -> ElementFrame {
        let (role, expect) = match self.plan {
            None => (ElementRole::Value, parent.expected_value.unknown_child()),
            Some(plan) => classify_child(plan, parent, name),
        };
        let hint = NameHint::from_name(name.as_bytes()).or(parent.sibling_hint);
        ElementFrame {
            role,
            expected_value: expect.with_name_hint(hint),
            holds_sibling_name: holds_sibling_name(name.as_bytes()),
            sibling_hint: NameHint::None,
            role_in_message: match name {
                "MessageAttribute" => MessageRole::Attribute,
                ATTRIBUTES_DIGEST => MessageRole::AttributesDigest,
                _ => MessageRole::None,
            },
            start: self.event_range.start,
            replaced_before: self.patch.replacement_count(),
        }
    }

    /// At the end of an element: what is derived from what was masked in it is computed again.
    fn refresh_derived_values(&mut self, element: Option<ElementFrame>) {
        let child_depth = self.open_elements.len() + 2;
        let first_leaf = self.leaves.partition_point(|leaf| leaf.depth < child_depth);
        let first_source = self.sources.partition_point(|(depth, _)| *depth < child_depth);
        let first_attribute = self.attributes.partition_point(|attribute| attribute.depth < child_depth);
        let leaves = self.leaves.split_off(first_leaf);
        let sources: Vec<MaskedSource> =
            self.sources.split_off(first_source).into_iter().map(|(_, source)| source).collect();
        let attributes = self.attributes.split_off(first_attribute);
        if let Some(element) = element
            && element.role_in_message == MessageRole::Attribute
        {
            self.attributes.push(AttributeElement {
                depth: child_depth - 1,
                range: element.start..self.event_range.end,
                is_masked: self.patch.replacement_count() > element.replaced_before,
            });
        }
        if leaves.is_empty() {
            return;
        }
        let masks_attributes = attributes.iter().any(|attribute| attribute.is_masked);
        if sources.is_empty() && !masks_attributes {
            return;
        }
        let attributes_digest = masks_attributes.then(|| {
            let rendered = attributes.iter().map(|attribute| self.patch.render(attribute.range.clone()));
            digest_of_attributes(rendered.map(|xml| read_attribute(&xml)).collect())
        });
        let digests = DigestReplacements::new(&sources);
        for leaf in leaves {
            let replacement = if leaf.is_attributes_digest {
                attributes_digest.clone()
            } else {
                digests.get(&leaf.text).map(str::to_owned)
            };
            if let Some(replacement) = replacement {
                self.patch.replace(leaf.range, replacement.into_bytes());
            }
        }
    }

    fn mask_attributes(
        &mut self,
        start: &BytesStart<'x>,
        expect: ExpectedValue,
        empty: bool,
    ) -> Result<(), MaskError> {
        if start.attributes_raw().trim().is_empty() {
            return Ok(());
        }
        let mut tag = format!("<{}", start.name().as_ref());
        let mut changed = false;
        for attribute in start.attributes() {
            let attribute =
                attribute.map_err(|_| self.malformed_error("an invalid or duplicate attribute"))?;
            let name = attribute.key.as_ref();
            let value = unescape(&attribute.value)
                .map_err(|_| self.malformed_error("an attribute has an unknown reference"))?;
            let mut of =
                self.plan.map_or(expect.unknown_child(), |plan| classify_attribute(plan, expect, name));
            of = of.with_name_hint(NameHint::from_name(name.as_bytes()));
            let written = match self.mask_characters(&value, of) {
                Some(masked) => {
                    changed = true;
                    escape_text(&masked)
                }
                // The value may have been in single quotes, and is written in double ones.
                None => attribute.value.replace('"', "&quot;"),
            };
            for part in [" ", name, "=\"", &written, "\""] {
                tag.push_str(part);
            }
        }
        if changed {
            tag.push_str(if empty { "/>" } else { ">" });
            self.patch.replace(self.event_range.clone(), tag.into_bytes());
        }
        Ok(())
    }

    fn append_text(&mut self, text: Cow<'x, str>, composed: bool) {
        self.extend_text_run();
        let run = &mut self.text_run;
        run.is_composed |= composed || !run.text.is_empty();
        if run.text.is_empty() {
            run.text = text;
        } else {
            run.text.to_mut().push_str(&text);
        }
    }

    /// Comments and processing instructions: parsers drop them, but a log of the bytes shows them.
    fn scan_comment(&mut self, content: &str) {
        self.extend_text_run();
        self.text_run.is_composed = true;
        self.text_run.has_tainted_comment |=
            self.masking_run.mask_secrets(content.as_bytes(), ExpectedValue::default().context).is_some();
    }

    fn extend_text_run(&mut self) {
        let start = self.text_run.range.as_ref().map_or(self.event_range.start, |range| range.start);
        self.text_run.range = Some(start..self.event_range.end);
    }

    /// Ends the run of text before a tag. Returns its hint about the siblings, if it is a name.
    fn flush_text_run(&mut self) -> Result<NameHint, MaskError> {
        let run = std::mem::take(&mut self.text_run);
        let Some(range) = run.range else { return Ok(NameHint::None) };
        let Some(element) = self.open_elements.last().copied() else {
            if !run.text.trim_ascii().is_empty() {
                return Err(self.malformed_error("text outside the root element"));
            }
            if run.has_tainted_comment {
                self.patch.replace(range, Vec::new());
            }
            return Ok(NameHint::None);
        };
        let context = element.expected_value.context;
        let depth = self.open_elements.len();
        let quiet = !self.may_contain_secret
            && !run.is_composed
            && !element.expected_value.is_sensitive
            && context.name_hint == NameHint::None
            && !MaskingRun::may_contain_encoding(run.text.as_bytes());
        let blank = run.text.trim_ascii().is_empty();
        let masked =
            if quiet || blank { None } else { self.mask_characters(&run.text, element.expected_value) };
        match masked {
            Some(masked) => {
                let kind = context.kind;
                self.sources.push((depth, MaskedSource::new(run.text.as_bytes(), masked.as_bytes(), kind)));
                self.patch.replace(range, escape_text(&masked).into_bytes());
            }
            None if run.has_tainted_comment => {
                self.patch.replace(range, escape_text(&run.text).into_bytes());
            }
            None if may_be_digest(run.text.len()) && context.kind != ValueKind::Returned => {
                self.leaves.push(LeafText {
                    depth,
                    range,
                    text: run.text.clone(),
                    is_attributes_digest: element.role_in_message == MessageRole::AttributesDigest,
                });
            }
            None => {}
        }
        Ok(if element.holds_sibling_name {
            NameHint::from_name(run.text.trim_ascii().as_bytes())
        } else {
            NameHint::None
        })
    }

    fn mask_characters(&mut self, text: &str, expect: ExpectedValue) -> Option<String> {
        match apply_mark(self.masking_run, self.plan, expect, text.is_empty()) {
            MarkedValue::Detect => {}
            MarkedValue::Keep => return None,
            MarkedValue::Replace(replacement) => return Some(replacement.to_text()),
        }
        let masked = self.masking_run.mask_text(text.as_bytes(), expect.context)?;
        Some(String::from_utf8_lossy(&masked).into_owned())
    }

    fn resolve_reference(&self, reference: &BytesRef<'_>) -> Result<char, MaskError> {
        let broken = |_| self.malformed_error("an invalid character reference");
        if let Some(letter) = reference.resolve_char_ref().map_err(broken)? {
            return Ok(letter);
        }
        match &**reference {
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "amp" => Ok('&'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            _ => Err(self.malformed_error("an undefined entity")),
        }
    }

    /// This scanner reads UTF-8. A reader that followed another declaration would decode other text.
    fn check_encoding(&self, declaration: &BytesDecl<'_>) -> Result<(), MaskError> {
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => {
                Ok(())
            }
            Some(_) => Err(self.malformed_error("an encoding other than UTF-8 is declared")),
        }
    }

    fn malformed_error(&self, reason: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT_NAME, offset: self.event_range.end, reason }
    }
}

/// One attribute of an SQS message from its element, which was read before.
fn read_attribute(xml: &[u8]) -> MessageAttribute {
    let mut attribute = MessageAttribute::default();
    let Ok(text) = std::str::from_utf8(xml) else { return attribute };
    let mut reader = Reader::from_str(text);
    let mut element = String::new();
    let mut content = String::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                start.local_name().as_ref().clone_into(&mut element);
                content.clear();
            }
            Ok(Event::Text(text)) => content.push_str(&text.into_inner()),
            Ok(Event::CData(text)) => content.push_str(&text.into_inner()),
            Ok(Event::GeneralRef(reference)) => {
                let escaped = format!("&{};", &*reference);
                content.push_str(&unescape(&escaped).unwrap_or_default());
            }
            Ok(Event::End(_)) => {
                let slot = match element.as_str() {
                    "Name" => &mut attribute.name,
                    "DataType" => &mut attribute.data_type,
                    "StringValue" => &mut attribute.string_value,
                    "BinaryValue" => &mut attribute.binary_value,
                    _ => continue,
                };
                *slot = std::mem::take(&mut content);
                element.clear();
            }
            Ok(Event::Eof) | Err(_) => return attribute,
            Ok(_) => {}
        }
    }
}

fn classify_child(plan: &MaskingPlan<'_>, parent: ElementFrame, name: &str) -> (ElementRole, ExpectedValue) {
    let value = |expect| (ElementRole::Value, expect);
    match (parent.role, plan.shape_kind(parent.expected_value)) {
        // These elements are beside the output, not in it (Smithy, "AWS query protocol").
        (ElementRole::Wrapper, _) if name == "ResponseMetadata" || name == "Error" => {
            value(ExpectedValue::default())
        }
        (ElementRole::Wrapper, _) => value(plan.root_value()),
        (ElementRole::MapEntry, Some(ShapeKind::Map { key_name, .. }))
            if name == key_name.as_deref().unwrap_or("key") =>
        {
            value(plan.map_key(parent.expected_value))
        }
        (ElementRole::MapEntry, _) => value(plan.map_value(parent.expected_value)),
        (ElementRole::Value, Some(ShapeKind::List { .. })) => value(plan.list_item(parent.expected_value)),
        (ElementRole::Value, Some(ShapeKind::Map { .. })) => (ElementRole::MapEntry, parent.expected_value),
        (ElementRole::Value, Some(ShapeKind::Structure { members, .. })) => {
            let Some(member) = find_element_member(plan, members, name) else {
                return value(parent.expected_value.unknown_child());
            };
            let expect = plan.member_value(member, parent.expected_value);
            match plan.shape_kind(expect) {
                Some(ShapeKind::List { is_flattened: flattened, .. })
                    if member.is_flattened || *flattened =>
                {
                    value(plan.list_item(expect))
                }
                Some(ShapeKind::Map { is_flattened: flattened, .. }) if member.is_flattened || *flattened => {
                    (ElementRole::MapEntry, expect)
                }
                _ => value(expect),
            }
        }
        (ElementRole::Value, _) => value(parent.expected_value.unknown_child()),
    }
}

/// The member that an element belongs to: by wire name, by the item name of a flattened list, or by model name.
fn find_element_member<'p>(
    plan: &MaskingPlan<'p>,
    members: &'p [ShapeMember],
    name: &str,
) -> Option<&'p ShapeMember> {
    let wire = |member: &&ShapeMember| member.wire_name.as_deref().unwrap_or(&member.name) == name;
    let item =
        |member: &&ShapeMember| match plan.shape_kind(plan.member_value(member, ExpectedValue::default())) {
            Some(ShapeKind::List { item_name: Some(item), is_flattened: flattened, .. }) => {
                (member.is_flattened || *flattened) && item == name
            }
            _ => false,
        };
    let elements = || members.iter().filter(|member| !member.is_xml_attribute);
    elements()
        .find(wire)
        .or_else(|| elements().find(item))
        .or_else(|| elements().find(|member| member.name == name))
}

fn classify_attribute(plan: &MaskingPlan<'_>, element: ExpectedValue, name: &str) -> ExpectedValue {
    let Some(ShapeKind::Structure { members, .. }) = plan.shape_kind(element) else {
        // Namespaces and types must stay readable, or no typed parser accepts the element. The detectors still search them.
        return ExpectedValue {
            is_sensitive: element.is_sensitive && !name.starts_with("xmlns") && !name.contains(':'),
            ..element.unknown_child()
        };
    };
    let local = name.rsplit(':').next().unwrap_or(name);
    members
        .iter()
        .filter(|member| member.is_xml_attribute)
        .find(|member| {
            let wire = member.wire_name.as_deref().unwrap_or(&member.name);
            wire == name || wire == local
        })
        .map_or(ExpectedValue::default(), |member| plan.member_value(member, element))
}

/// Escaped for text and attributes. Parsers turn a literal carriage return into a line feed (XML 1.0, section 2.11).
fn escape_text(text: &str) -> String {
    escape(text).replace('\r', "&#13;")
}

#[cfg(test)]
mod tests;
