//! Finds what a model knows of the fields of one response: which are sensitive, which are binary, and which the caller must be
//! able to send back as they came. The operation's output shape is walked alongside the parse.
//!
//! Parts of the shape tree without such a field are not walked, so that they cost nothing.

use durward_catalog::service_model::{
    AwsProtocol, MemberLocation, ModelShape, ReturnedMember, ServiceModel, ShapeId, ShapeKind, ShapeMember,
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
    /// Documents are held to a schema that only the client knows.
    documents_have_schemas: bool,
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
        Self { service, input_shape: input, output_shape: output, protocol, documents_have_schemas: false }
    }

    /// The messages of an MCP server, as JSON.
    pub fn for_mcp() -> MaskingPlan<'static> {
        MaskingPlan {
            service: mcp_model::message_model(),
            input_shape: None,
            output_shape: Some(mcp_model::MESSAGE_SHAPE),
            protocol: AwsProtocol::RestJson,
            documents_have_schemas: true,
        }
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
    pub(crate) fn header_members(&self) -> impl Iterator<Item = &'a ShapeMember> + '_ {
        let members = match self.output_shape.and_then(|output| self.find_shape(output)) {
            Some(ModelShape { kind: ShapeKind::Structure { members, .. }, .. }) => members.as_slice(),
            _ => &[],
        };
        members.iter().filter(|member| {
            matches!(member.location, MemberLocation::Header | MemberLocation::PrefixHeaders)
        })
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
        at.context.is_access_key_id = !at.is_sensitive && member.is_access_key_id();
        if self.is_returned(member) {
            at.context.kind = ValueKind::Returned;
        }
        at
    }

    /// Returns true if the caller must be able to send the values of this member back.
    fn is_returned(&self, member: &ShapeMember) -> bool {
        let is_returned = match member.returned {
            ReturnedMember::No => false,
            ReturnedMember::Yes => NameHint::from_name(member.name.as_bytes()) == NameHint::None,
            ReturnedMember::WithSameShapeInRequest => self.input_shape.is_some_and(|input| {
                self.service.structure_members(input).iter().any(|sent| sent.shape == member.shape)
            }),
        };
        is_returned && !member.is_sensitive && !member.is_access_key_id()
    }

    fn value_for_shape(&self, shape: ShapeId, parent: ExpectedValue, sensitive: bool) -> ExpectedValue {
        let mut at = parent.unknown_child();
        let model = self.find_shape(shape);
        at.is_sensitive |= sensitive || model.is_some_and(|shape| shape.is_sensitive);
        let is_walked = at.is_sensitive || model.is_some_and(|shape| shape.has_marked_values);
        at.shape = is_walked.then_some(shape);
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

/// By wire name first. The model name is the wire name of members without one, and the last resort for the others.
fn find_member<'m>(members: &'m [ShapeMember], key: &str) -> Option<&'m ShapeMember> {
    members
        .iter()
        .find(|member| member.wire_name.as_deref().unwrap_or(&member.name) == key)
        .or_else(|| members.iter().find(|member| member.name == key))
}
