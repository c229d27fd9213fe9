//! Finds what a model knows of the fields of one response: which are sensitive, which are binary, and which the caller must be
//! able to send back as they came. The operation's output shape is walked alongside the parse.
//!
//! Parts of the shape tree without such a field are not walked, so that they cost nothing.

use durward_catalog::ReturnedNames;
use durward_catalog::service_model::{
    AwsProtocol, MemberLocation, ModelShape, ServiceModel, ShapeId, ShapeKind, ShapeMember,
};

use crate::mask_style::MaskStyle;
use crate::masking_run::{ValueContext, ValueKind};
use crate::mcp_model;
use crate::name_hints::NameHint;

/// The output shape of one operation in one protocol, or the messages of MCP.
pub struct MaskingPlan<'a> {
    service: &'a ServiceModel,
    input_shape: Option<ShapeId>,
    output_shape: Option<ShapeId>,
    pub(crate) protocol: AwsProtocol,
    returned_names: &'a ReturnedNames,
    /// Documents are held to a schema that only the client knows.
    documents_have_schemas: bool,
    /// By shape id: true if the shape or one below it has something to know.
    is_walked: Vec<bool>,
}

/// The facts about the value at the current position that come from the model and from names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ExpectedValue {
    pub(crate) shape: Option<ShapeId>,
    pub(crate) is_sensitive: bool,
    pub(crate) context: ValueContext,
}

/// The kind of a leaf, which decides how it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeafKind {
    Text,
    Blob,
    Number,
    Boolean,
    Timestamp,
}

impl<'a> MaskingPlan<'a> {
    /// `input` and `output` are the operation's shapes; `protocol` the one of this response.
    pub fn new(
        service: &'a ServiceModel,
        input: Option<ShapeId>,
        output: Option<ShapeId>,
        protocol: AwsProtocol,
    ) -> Self {
        let mut plan = Self {
            service,
            input_shape: input,
            output_shape: output,
            protocol,
            returned_names: service.returned_names(),
            documents_have_schemas: false,
            is_walked: Vec::new(),
        };
        if let Some(output) = output {
            plan.is_walked = plan.find_walked_shapes(output);
        }
        plan
    }

    /// The messages of an MCP server, as JSON.
    pub fn for_mcp() -> MaskingPlan<'static> {
        let model = mcp_model::message_model();
        let mut plan = MaskingPlan {
            service: &model.service,
            input_shape: None,
            output_shape: Some(mcp_model::MESSAGE_SHAPE),
            protocol: AwsProtocol::RestJson,
            returned_names: &model.returned_names,
            documents_have_schemas: true,
            is_walked: Vec::new(),
        };
        plan.is_walked = plan.find_walked_shapes(mcp_model::MESSAGE_SHAPE);
        plan
    }

    /// The output shape, if the service does not have it: such a plan would mask nothing, in silence.
    pub(crate) fn missing_shape(&self) -> Option<ShapeId> {
        self.output_shape.filter(|&id| self.find_shape(id).is_none())
    }

    /// The whole body.
    pub(crate) fn root_value(&self) -> ExpectedValue {
        let Some(output) = self.output_shape else { return ExpectedValue::default() };
        if let Some(ModelShape { kind: ShapeKind::Structure { members, payload: Some(payload), .. }, .. }) =
            self.find_shape(output)
            && let Some(member) = members.iter().find(|member| member.name == *payload)
        {
            let mut root = self.member_value(member, ExpectedValue::default());
            // A binary payload is the body itself, not base64 in it.
            root.context.kind = ValueKind::Text;
            return root;
        }
        self.value_for_shape(output, ExpectedValue::default(), false)
    }

    /// The members of the output that travel in headers.
    pub(crate) fn header_members(&self) -> impl Iterator<Item = (&'a ShapeMember, ExpectedValue)> + '_ {
        let members = match self.output_shape.and_then(|output| self.find_shape(output)) {
            Some(ModelShape { kind: ShapeKind::Structure { members, .. }, .. }) => members.as_slice(),
            _ => &[],
        };
        members
            .iter()
            .filter(|member| {
                matches!(member.location, MemberLocation::Header | MemberLocation::PrefixHeaders)
            })
            .map(|member| (member, self.member_value(member, ExpectedValue::default())))
    }

    /// The value under `key` of a JSON or CBOR object.
    pub(crate) fn value_for_key(&self, parent: ExpectedValue, key: &str) -> ExpectedValue {
        match self.shape_kind(parent) {
            Some(ShapeKind::Structure { members, .. }) => match find_member(members, key) {
                Some(member) => self.member_value(member, parent),
                None => parent.unknown_child(),
            },
            Some(ShapeKind::Map { value, .. }) => self.value_for_shape(*value, parent, false),
            // An object in place of a list: the response does not follow the model, and a mark above still holds.
            _ => parent.unknown_child(),
        }
    }

    pub(crate) fn list_item(&self, parent: ExpectedValue) -> ExpectedValue {
        match self.shape_kind(parent) {
            Some(ShapeKind::List { member, .. }) => self.value_for_shape(*member, parent, false),
            // `content` of MCP is one block or a list of them.
            Some(ShapeKind::Structure { .. }) if self.documents_have_schemas => parent,
            _ => parent.unknown_child(),
        }
    }

    pub(crate) fn map_value(&self, parent: ExpectedValue) -> ExpectedValue {
        self.value_for_key(parent, "")
    }

    /// The keys of a map. A mark on the map covers its values only: without its keys a map is useless to the caller.
    pub(crate) fn map_key(&self, parent: ExpectedValue) -> ExpectedValue {
        let context = ValueContext { name_hint: NameHint::None, ..parent.context.below() };
        let unmarked = ExpectedValue { context, ..ExpectedValue::default() };
        match self.shape_kind(parent) {
            Some(ShapeKind::Map { key, .. }) => self.value_for_shape(*key, unmarked, false),
            _ => unmarked,
        }
    }

    pub(crate) fn shape_kind(&self, at: ExpectedValue) -> Option<&'a ShapeKind> {
        at.shape.and_then(|id| self.find_shape(id)).map(|shape| &shape.kind)
    }

    pub(crate) fn leaf_kind(&self, at: ExpectedValue) -> LeafKind {
        match self.shape_kind(at) {
            Some(ShapeKind::Blob { .. }) => LeafKind::Blob,
            Some(ShapeKind::Boolean) => LeafKind::Boolean,
            Some(ShapeKind::Integer | ShapeKind::Long | ShapeKind::Float | ShapeKind::Double) => {
                LeafKind::Number
            }
            Some(ShapeKind::Timestamp { .. }) => LeafKind::Timestamp,
            _ => LeafKind::Text,
        }
    }

    pub(crate) fn member_value(&self, member: &ShapeMember, parent: ExpectedValue) -> ExpectedValue {
        let mut at = self.value_for_shape(member.shape, parent, member.is_sensitive);
        at.context.is_access_key_id = !at.is_sensitive && is_access_key_id(member);
        if self.is_returned(member) {
            at.context.kind = ValueKind::Returned;
        }
        at
    }

    /// Returns true if the caller must be able to send the values of this member back.
    fn is_returned(&self, member: &ShapeMember) -> bool {
        if member.is_sensitive || is_access_key_id(member) {
            return false;
        }
        if self.service.is_string_or_list(member.shape) {
            let name = NameHint::from_name(member.name.as_bytes());
            return name == NameHint::None
                && (["next", "lastEvaluated"].iter().any(|word| begins_with_word(&member.name, word))
                    || self.returned_names.contains(&member.name)
                    || member.wire_name.as_ref().is_some_and(|name| self.returned_names.contains(name)));
        }
        // The rest of a batch or of a scan: DynamoDB's `UnprocessedItems` is the next `RequestItems`, and `LastEvaluatedKey` the
        // next `ExclusiveStartKey`. They have the shapes of those.
        PAGE_WORDS.iter().any(|word| begins_with_word(&member.name, word))
            && self.input_shape.is_some_and(|input| {
                self.service.structure_members(input).iter().any(|sent| sent.shape == member.shape)
            })
    }

    fn value_for_shape(&self, shape: ShapeId, parent: ExpectedValue, sensitive: bool) -> ExpectedValue {
        let mut at = parent.unknown_child();
        let model = self.find_shape(shape);
        at.is_sensitive |= sensitive || model.is_some_and(|shape| shape.is_sensitive);
        let is_walked = self.is_walked.get(shape as usize).copied().unwrap_or(false);
        at.shape = (is_walked || at.is_sensitive).then_some(shape);
        match model.map(|shape| &shape.kind) {
            Some(ShapeKind::Blob { .. }) if at.context.kind != ValueKind::Returned => {
                at.context.kind = ValueKind::Binary;
            }
            Some(ShapeKind::Document) if self.documents_have_schemas => {
                at.context.style = MaskStyle::KeepForm;
            }
            _ => {}
        }
        at
    }

    fn find_shape(&self, id: ShapeId) -> Option<&'a ModelShape> {
        self.service.shapes.get(id as usize)
    }

    fn find_walked_shapes(&self, output: ShapeId) -> Vec<bool> {
        let mut walked = vec![false; self.service.shapes.len()];
        let mut seen = walked.clone();
        let mut order = Vec::new();
        let mut pending = vec![output];
        while let Some(id) = pending.pop() {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            order.push(id);
            if let Some(shape) = self.find_shape(id) {
                pending.extend(child_shapes(shape));
            }
        }
        // Children come after their parents except in cycles, so the backward pass settles in two or three rounds.
        let mut settled = false;
        while !settled {
            settled = true;
            for &id in order.iter().rev() {
                let Some(shape) = self.find_shape(id) else { continue };
                let is_marked = self.has_own_mark(shape)
                    || child_shapes(shape).any(|child| walked.get(child as usize).copied().unwrap_or(false));
                if let Some(slot) = walked.get_mut(id as usize)
                    && is_marked
                    && !*slot
                {
                    *slot = true;
                    settled = false;
                }
            }
        }
        walked
    }

    fn has_own_mark(&self, shape: &ModelShape) -> bool {
        shape.is_sensitive
            || match &shape.kind {
                ShapeKind::Structure { members, .. } => members.iter().any(|member| {
                    member.is_sensitive || is_access_key_id(member) || self.is_returned(member)
                }),
                ShapeKind::Blob { .. } => true,
                ShapeKind::Document => self.documents_have_schemas,
                _ => false,
            }
    }
}

/// The first words of names of what is left of a request.
const PAGE_WORDS: [&str; 3] = ["next", "last", "unprocessed"];

/// Returns true if a name begins with a word and goes on with a capital: `NextToken`, `nextToken`, `next_token`.
fn begins_with_word(name: &str, word: &str) -> bool {
    let (Some(start), Some(rest)) = (name.get(..word.len()), name.get(word.len()..)) else { return false };
    start.eq_ignore_ascii_case(word) && !rest.starts_with(|letter: char| letter.is_ascii_lowercase())
}

impl ExpectedValue {
    /// The value of a child that the model does not describe: it inherits the mark and the hint.
    pub(crate) fn unknown_child(self) -> Self {
        Self { shape: None, is_sensitive: self.is_sensitive, context: self.context.below() }
    }

    pub(crate) fn with_name_hint(mut self, hint: NameHint) -> Self {
        self.context.name_hint = hint.or(self.context.name_hint);
        self
    }
}

fn child_shapes(shape: &ModelShape) -> impl Iterator<Item = ShapeId> + '_ {
    let (members, one, two): (&[ShapeMember], Option<ShapeId>, Option<ShapeId>) = match &shape.kind {
        ShapeKind::Structure { members, .. } => (members, None, None),
        ShapeKind::List { member, .. } => (&[], Some(*member), None),
        ShapeKind::Map { key, value, .. } => (&[], Some(*key), Some(*value)),
        _ => (&[], None, None),
    };
    members.iter().map(|member| member.shape).chain(one).chain(two)
}

fn is_access_key_id(member: &ShapeMember) -> bool {
    member.name.eq_ignore_ascii_case("AccessKeyId")
}

/// By wire name first. The model name is the wire name of members without one, and the last resort for the others.
fn find_member<'m>(members: &'m [ShapeMember], key: &str) -> Option<&'m ShapeMember> {
    members
        .iter()
        .find(|member| member.wire_name.as_deref().unwrap_or(&member.name) == key)
        .or_else(|| members.iter().find(|member| member.name == key))
}
