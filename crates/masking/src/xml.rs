//! Masking of the XML of the query, ec2 and rest-xml protocols. quick-xml reads it event by event; text is looked at as a
//! parser sees it (references and CDATA resolved, comments left out) and written anew only where something was masked.

use std::borrow::Cow;
use std::ops::Range;

use durward_catalog::model::{Member, Protocol, ShapeKind};
use durward_core::limits::DEPTH;
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use crate::class::DataClass;
use crate::names::{Hint, names_a_sibling};
use crate::patch::Patch;
use crate::plan::{Expect, Leaf, Plan};
use crate::scan::Scan;
use crate::{MaskError, check_utf8};

const FORMAT: &str = "XML";
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// `None`: nothing to mask.
pub(crate) fn mask(
    body: &[u8],
    plan: Option<&Plan<'_>>,
    scan: &mut Scan<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    let text = check_utf8(FORMAT, body)?;
    let (base, text) =
        text.strip_prefix(BYTE_ORDER_MARK).map_or((0, text), |rest| (BYTE_ORDER_MARK.len(), rest));
    let suspicious = scan.may_match(body);
    let mut xml = Xml {
        plan,
        scan,
        suspicious,
        patch: Patch::new(body),
        open: Vec::new(),
        run: Run::default(),
        place: base..base,
        rooted: false,
    };
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    loop {
        let event = reader.read_event().map_err(|_| xml.malformed("the syntax is broken"))?;
        // the reader has just read up to here from a slice, so the position fits
        xml.place = xml.place.end..base + reader.buffer_position() as usize;
        if matches!(event, Event::Eof) {
            break;
        }
        xml.event(event)?;
    }
    xml.flush()?;
    if !xml.open.is_empty() || !xml.rooted {
        return Err(xml.malformed("the document is not complete"));
    }
    Ok(xml.patch.finish())
}

struct Xml<'x, 'm> {
    plan: Option<&'x Plan<'x>>,
    scan: &'x mut Scan<'m>,
    /// Some detector may match some text as it is written.
    suspicious: bool,
    patch: Patch<'x>,
    open: Vec<Element>,
    run: Run<'x>,
    /// Where the current event stands.
    place: Range<usize>,
    rooted: bool,
}

#[derive(Clone, Copy)]
struct Element {
    role: Role,
    expect: Expect,
    /// Its text names a sibling (`<Name>`, `<key>`).
    names: bool,
    /// What a child that names its siblings said of them.
    sibling: Hint,
}

#[derive(Clone, Copy)]
enum Role {
    Value,
    /// `<OperationResponse>` of the query protocol, with the output one level below.
    Wrapper,
    /// One entry of the map that `expect` is.
    Entry,
}

/// Character data between two tags.
#[derive(Default)]
struct Run<'x> {
    range: Option<Range<usize>>,
    text: Cow<'x, str>,
    /// Something else than one plain text: what a parser sees is not what is written.
    composed: bool,
    /// A comment or instruction in it holds a secret: written anew without it.
    tainted: bool,
}

impl<'x> Xml<'x, '_> {
    fn event(&mut self, event: Event<'x>) -> Result<(), MaskError> {
        match event {
            Event::Text(text) => self.append(text.into_inner(), false),
            Event::CData(data) => self.append(data.into_inner(), true),
            Event::GeneralRef(reference) => {
                let letter = self.resolve(&reference)?;
                self.append(Cow::Owned(letter.to_string()), true);
            }
            Event::Comment(comment) => self.aside(&comment),
            Event::PI(instruction) => self.aside(&instruction),
            Event::Decl(declaration) => self.check_encoding(&declaration)?,
            Event::DocType(_) => return Err(MaskError::DocumentType { offset: self.place.start }),
            Event::Start(start) => {
                let element = self.start(&start, false)?;
                self.open.push(element);
                if self.open.len() > DEPTH {
                    return Err(MaskError::TooDeep { format: FORMAT, offset: self.place.start });
                }
            }
            Event::Empty(start) => {
                self.start(&start, true)?;
            }
            Event::End(_) => {
                let said = self.flush()?;
                if let Some(Element { names: true, .. }) = self.open.pop()
                    && let Some(parent) = self.open.last_mut()
                {
                    parent.sibling = said.or(parent.sibling);
                }
            }
            Event::Eof => {}
        }
        Ok(())
    }

    fn start(&mut self, start: &BytesStart<'x>, empty: bool) -> Result<Element, MaskError> {
        self.flush()?;
        let name = start.local_name();
        let name = name.as_ref();
        let element = match self.open.last() {
            Some(parent) => self.child(*parent, name),
            None if self.rooted => return Err(self.malformed("a second root element")),
            None => self.root(),
        };
        self.rooted = true;
        self.mask_attributes(start, element.expect, empty)?;
        Ok(element)
    }

    fn root(&self) -> Element {
        let value = |expect| Element { role: Role::Value, expect, names: false, sibling: Hint::None };
        match self.plan {
            None => value(Expect::default()),
            Some(plan) if plan.protocol == Protocol::Query => {
                Element { role: Role::Wrapper, ..value(Expect::default()) }
            }
            Some(plan) => value(plan.root()),
        }
    }

    fn child(&self, parent: Element, name: &str) -> Element {
        let (role, expect) = match self.plan {
            None => (Role::Value, parent.expect.below()),
            Some(plan) => child_of(plan, parent, name),
        };
        let hint = Hint::of_name(name.as_bytes()).or(parent.sibling);
        Element {
            role,
            expect: expect.with_hint(hint),
            names: names_a_sibling(name.as_bytes()),
            sibling: Hint::None,
        }
    }

    fn mask_attributes(
        &mut self,
        start: &BytesStart<'x>,
        expect: Expect,
        empty: bool,
    ) -> Result<(), MaskError> {
        if start.attributes_raw().trim().is_empty() {
            return Ok(());
        }
        let mut tag = format!("<{}", start.name().as_ref());
        let mut changed = false;
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| self.malformed("an attribute is broken or given twice"))?;
            let name = attribute.key.as_ref();
            let value = unescape(&attribute.value)
                .map_err(|_| self.malformed("an attribute has an unknown reference"))?;
            let mut of = self.plan.map_or(expect.below(), |plan| attribute_of(plan, expect, name));
            of = of.with_hint(Hint::of_name(name.as_bytes()));
            let written = match self.masked(&value, of) {
                Some(masked) => {
                    changed = true;
                    escape_text(&masked)
                }
                None => attribute.value.replace('"', "&quot;"),
            };
            for part in [" ", name, "=\"", &written, "\""] {
                tag.push_str(part);
            }
        }
        if changed {
            tag.push_str(if empty { "/>" } else { ">" });
            self.patch.replace(self.place.clone(), tag.as_bytes());
        }
        Ok(())
    }

    fn append(&mut self, text: Cow<'x, str>, composed: bool) {
        self.extend_run();
        let run = &mut self.run;
        run.composed |= composed || !run.text.is_empty();
        if run.text.is_empty() {
            run.text = text;
        } else {
            run.text.to_mut().push_str(&text);
        }
    }

    /// Comments and processing instructions: no parser of AWS answers shows them, but whoever reads the bytes sees them.
    fn aside(&mut self, content: &str) {
        self.extend_run();
        self.run.composed = true;
        self.run.tainted |= self.scan.text(content.as_bytes(), Expect::default().context).is_some();
    }

    fn extend_run(&mut self) {
        let start = self.run.range.as_ref().map_or(self.place.start, |range| range.start);
        self.run.range = Some(start..self.place.end);
    }

    /// Ends the run of text before a tag. Yields what it says of its siblings, if it is a name.
    fn flush(&mut self) -> Result<Hint, MaskError> {
        let run = std::mem::take(&mut self.run);
        let Some(range) = run.range else { return Ok(Hint::None) };
        let Some(element) = self.open.last().copied() else {
            if !run.text.trim_ascii().is_empty() {
                return Err(self.malformed("text stands outside the root element"));
            }
            if run.tainted {
                self.patch.replace(range, b"");
            }
            return Ok(Hint::None);
        };
        let context = element.expect.context;
        let quiet = !self.suspicious
            && !run.composed
            && !element.expect.sensitive
            && context.hint == Hint::None
            && !Scan::may_hide(run.text.as_bytes());
        let blank = run.text.trim_ascii().is_empty();
        let masked = if quiet || blank { None } else { self.masked(&run.text, element.expect) };
        match masked {
            Some(masked) => self.patch.replace(range, escape_text(&masked).as_bytes()),
            None if run.tainted => self.patch.replace(range, escape_text(&run.text).as_bytes()),
            None => {}
        }
        Ok(if element.names { Hint::of_name(run.text.trim_ascii().as_bytes()) } else { Hint::None })
    }

    fn masked(&mut self, text: &str, expect: Expect) -> Option<String> {
        let leaf = self.plan.map_or(Leaf::Text, |plan| plan.leaf(expect));
        if expect.sensitive && leaf != Leaf::Time && self.scan.masks(DataClass::AWS_SENSITIVE) {
            if text.is_empty() {
                return None;
            }
            return Some(match leaf {
                Leaf::Blob => self.scan.blob_word(),
                Leaf::Number => self.scalar("0"),
                Leaf::Boolean => self.scalar("false"),
                Leaf::Text | Leaf::Time => self.scan.word(&DataClass::AWS_SENSITIVE),
            });
        }
        let masked = self.scan.text(text.as_bytes(), expect.context)?;
        Some(String::from_utf8_lossy(&masked).into_owned())
    }

    fn scalar(&mut self, text: &str) -> String {
        self.scan.count(&DataClass::AWS_SENSITIVE);
        text.to_owned()
    }

    fn resolve(&self, reference: &BytesRef<'_>) -> Result<char, MaskError> {
        let broken = |_| self.malformed("a character reference is broken");
        if let Some(letter) = reference.resolve_char_ref().map_err(broken)? {
            return Ok(letter);
        }
        match &**reference {
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "amp" => Ok('&'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            _ => Err(self.malformed("an entity that XML does not define")),
        }
    }

    /// Read as UTF-8 here, so nothing else may be declared for the next reader.
    fn check_encoding(&self, declaration: &BytesDecl<'_>) -> Result<(), MaskError> {
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => {
                Ok(())
            }
            Some(_) => Err(self.malformed("an encoding other than UTF-8 is declared")),
        }
    }

    fn malformed(&self, what: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT, offset: self.place.end, what }
    }
}

fn child_of(plan: &Plan<'_>, parent: Element, name: &str) -> (Role, Expect) {
    let value = |expect| (Role::Value, expect);
    match (parent.role, plan.kind(parent.expect)) {
        (Role::Wrapper, _) if name == "ResponseMetadata" || name == "Error" => value(Expect::default()),
        (Role::Wrapper, _) => value(plan.root()),
        (Role::Entry, Some(ShapeKind::Map { key_name, .. }))
            if name == key_name.as_deref().unwrap_or("key") =>
        {
            value(plan.map_key(parent.expect))
        }
        (Role::Entry, _) => value(plan.map_value(parent.expect)),
        (Role::Value, Some(ShapeKind::List { .. })) => value(plan.item(parent.expect)),
        (Role::Value, Some(ShapeKind::Map { .. })) => (Role::Entry, parent.expect),
        (Role::Value, Some(ShapeKind::Structure { members, .. })) => {
            let Some(member) = find_element(plan, members, name) else { return value(parent.expect.below()) };
            let expect = plan.at_member(member, parent.expect);
            match plan.kind(expect) {
                Some(ShapeKind::List { flattened, .. }) if member.flattened || *flattened => {
                    value(plan.item(expect))
                }
                Some(ShapeKind::Map { flattened, .. }) if member.flattened || *flattened => {
                    (Role::Entry, expect)
                }
                _ => value(expect),
            }
        }
        (Role::Value, _) => value(parent.expect.below()),
    }
}

/// The member that an element is: by wire name, by the item name of a flattened list, or by its model name.
fn find_element<'p>(plan: &Plan<'p>, members: &'p [Member], name: &str) -> Option<&'p Member> {
    let wire = |member: &&Member| member.wire_name.as_deref().unwrap_or(&member.name) == name;
    let item = |member: &&Member| match plan.kind(plan.at_member(member, Expect::default())) {
        Some(ShapeKind::List { item_name: Some(item), flattened, .. }) => {
            (member.flattened || *flattened) && item == name
        }
        _ => false,
    };
    let elements = || members.iter().filter(|member| !member.xml_attribute);
    elements()
        .find(wire)
        .or_else(|| elements().find(item))
        .or_else(|| elements().find(|member| member.name == name))
}

fn attribute_of(plan: &Plan<'_>, element: Expect, name: &str) -> Expect {
    let Some(ShapeKind::Structure { members, .. }) = plan.kind(element) else {
        // namespaces and types must stay readable; what the model does not name is looked through all the same
        return Expect {
            sensitive: element.sensitive && !name.starts_with("xmlns") && !name.contains(':'),
            ..element.below()
        };
    };
    let local = name.rsplit(':').next().unwrap_or(name);
    members
        .iter()
        .filter(|member| member.xml_attribute)
        .find(|member| {
            let wire = member.wire_name.as_deref().unwrap_or(&member.name);
            wire == name || wire == local
        })
        .map_or(Expect::default(), |member| plan.at_member(member, element))
}

/// Escaped for text and attributes; a carriage return would be read as a line feed.
fn escape_text(text: &str) -> String {
    escape(text).replace('\r', "&#13;")
}

#[cfg(test)]
mod tests;
