//! Which fields of one answer are sensitive, by walking the operation's output shape alongside the parse.
//! A part of the shape tree with nothing to say (no mark, no access key id) is left at once, so that it costs nothing.

use durward_catalog::model::{Location, Member, Protocol, Service, Shape, ShapeId, ShapeKind};

use crate::names::Hint;
use crate::scan::Context;

/// The output of one operation as it comes in one protocol.
pub struct Plan<'a> {
    service: &'a Service,
    output: Option<ShapeId>,
    pub(crate) protocol: Protocol,
    /// By shape: something at or below it is marked.
    telling: Vec<bool>,
}

/// What is known of the value at the current place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expect {
    pub(crate) shape: Option<ShapeId>,
    pub(crate) sensitive: bool,
    pub(crate) context: Context,
}

/// How a sensitive leaf is replaced so that a typed parser still accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    Text,
    Blob,
    Number,
    Boolean,
    Time,
}

impl<'a> Plan<'a> {
    /// `output` is the operation's output shape; `protocol` the one this answer is written in.
    pub fn new(service: &'a Service, output: Option<ShapeId>, protocol: Protocol) -> Self {
        let mut plan = Self { service, output, protocol, telling: Vec::new() };
        if let Some(output) = output {
            plan.telling = plan.find_telling(output);
        }
        plan
    }

    /// An output shape that the service does not have would silently mask nothing.
    pub(crate) fn missing_shape(&self) -> Option<ShapeId> {
        self.output.filter(|&id| self.shape(id).is_none())
    }

    /// The whole body.
    pub(crate) fn root(&self) -> Expect {
        let Some(output) = self.output else { return Expect::default() };
        if let Some(Shape { kind: ShapeKind::Structure { members, payload: Some(payload), .. }, .. }) =
            self.shape(output)
            && let Some(member) = members.iter().find(|member| member.name == *payload)
        {
            return self.at_member(member, Expect::default());
        }
        self.at(output, Expect::default(), false)
    }

    /// The members of the output that travel in headers.
    pub(crate) fn header_members(&self) -> impl Iterator<Item = (&'a Member, Expect)> + '_ {
        let members = match self.output.and_then(|output| self.shape(output)) {
            Some(Shape { kind: ShapeKind::Structure { members, .. }, .. }) => members.as_slice(),
            _ => &[],
        };
        members
            .iter()
            .filter(|member| matches!(member.location, Location::Header | Location::Headers))
            .map(|member| (member, self.at_member(member, Expect::default())))
    }

    /// The value under `key` of a JSON or CBOR object.
    pub(crate) fn value_of(&self, parent: Expect, key: &str) -> Expect {
        match self.kind(parent) {
            Some(ShapeKind::Structure { members, .. }) => match find_member(members, key) {
                Some(member) => self.at_member(member, parent),
                None => parent.below(),
            },
            Some(ShapeKind::Map { value, .. }) => self.at(*value, parent, false),
            // a list where an object stands: the model is wrong, a mark above still holds
            _ => parent.below(),
        }
    }

    pub(crate) fn item(&self, parent: Expect) -> Expect {
        match self.kind(parent) {
            Some(ShapeKind::List { member, .. }) => self.at(*member, parent, false),
            _ => parent.below(),
        }
    }

    pub(crate) fn map_value(&self, parent: Expect) -> Expect {
        self.value_of(parent, "")
    }

    /// The keys of a map. A mark on the map itself covers its values only: the keys are what makes it usable.
    pub(crate) fn map_key(&self, parent: Expect) -> Expect {
        match self.kind(parent) {
            Some(ShapeKind::Map { key, .. }) => self.at(*key, Expect::default(), false),
            _ => Expect::default(),
        }
    }

    pub(crate) fn kind(&self, at: Expect) -> Option<&'a ShapeKind> {
        at.shape.and_then(|id| self.shape(id)).map(|shape| &shape.kind)
    }

    pub(crate) fn leaf(&self, at: Expect) -> Leaf {
        match self.kind(at) {
            Some(ShapeKind::Blob { .. }) => Leaf::Blob,
            Some(ShapeKind::Boolean) => Leaf::Boolean,
            Some(ShapeKind::Integer | ShapeKind::Long | ShapeKind::Float | ShapeKind::Double) => Leaf::Number,
            Some(ShapeKind::Timestamp { .. }) => Leaf::Time,
            _ => Leaf::Text,
        }
    }

    pub(crate) fn at_member(&self, member: &Member, parent: Expect) -> Expect {
        let mut at = self.at(member.shape, parent, member.sensitive);
        at.context.key_id = !at.sensitive && is_key_id(member);
        at
    }

    fn at(&self, shape: ShapeId, parent: Expect, sensitive: bool) -> Expect {
        let mut at = parent.below();
        at.sensitive |= sensitive || self.shape(shape).is_some_and(|shape| shape.sensitive);
        let telling = self.telling.get(shape as usize).copied().unwrap_or(false);
        at.shape = (telling || at.sensitive).then_some(shape);
        at
    }

    fn shape(&self, id: ShapeId) -> Option<&'a Shape> {
        self.service.shapes.get(id as usize)
    }

    fn find_telling(&self, output: ShapeId) -> Vec<bool> {
        let mut telling = vec![false; self.service.shapes.len()];
        let mut seen = telling.clone();
        let mut order = Vec::new();
        let mut todo = vec![output];
        while let Some(id) = todo.pop() {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            order.push(id);
            if let Some(shape) = self.shape(id) {
                todo.extend(children(shape));
            }
        }
        // children stand after their parents except in cycles, so that going backwards ends in two or three rounds
        let mut settled = false;
        while !settled {
            settled = true;
            for &id in order.iter().rev() {
                let Some(shape) = self.shape(id) else { continue };
                let tells = own_mark(shape)
                    || children(shape).any(|child| telling.get(child as usize).copied().unwrap_or(false));
                if let Some(slot) = telling.get_mut(id as usize)
                    && tells
                    && !*slot
                {
                    *slot = true;
                    settled = false;
                }
            }
        }
        telling
    }
}

impl Expect {
    /// What a child of a place inherits when nothing more is known of it.
    pub(crate) fn below(self) -> Self {
        Self {
            shape: None,
            sensitive: self.sensitive,
            context: Context { key_id: false, hint: self.context.hint },
        }
    }

    pub(crate) fn with_hint(mut self, hint: Hint) -> Self {
        self.context.hint = hint.or(self.context.hint);
        self
    }
}

fn children(shape: &Shape) -> impl Iterator<Item = ShapeId> + '_ {
    let (members, one, two): (&[Member], Option<ShapeId>, Option<ShapeId>) = match &shape.kind {
        ShapeKind::Structure { members, .. } => (members, None, None),
        ShapeKind::List { member, .. } => (&[], Some(*member), None),
        ShapeKind::Map { key, value, .. } => (&[], Some(*key), Some(*value)),
        _ => (&[], None, None),
    };
    members.iter().map(|member| member.shape).chain(one).chain(two)
}

fn own_mark(shape: &Shape) -> bool {
    shape.sensitive
        || matches!(&shape.kind, ShapeKind::Structure { members, .. }
            if members.iter().any(|member| member.sensitive || is_key_id(member)))
}

fn is_key_id(member: &Member) -> bool {
    member.name.eq_ignore_ascii_case("AccessKeyId")
}

/// By wire name first; the model name is the wire name of members without one, and tried for all in the end.
fn find_member<'m>(members: &'m [Member], key: &str) -> Option<&'m Member> {
    members
        .iter()
        .find(|member| member.wire_name.as_deref().unwrap_or(&member.name) == key)
        .or_else(|| members.iter().find(|member| member.name == key))
}
