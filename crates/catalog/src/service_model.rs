//! The data model of the catalog: what one AWS service's API looks like on the wire and in IAM.
//!
//! Everything here is data, read from the compiled index; nothing here knows how to parse a request.

use durward_core::AccessLevel;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AwsProtocol {
    Query,
    Ec2,
    Json10,
    Json11,
    RestJson,
    RestXml,
    RpcV2Cbor,
}

/// Index of a shape in [`Service::shapes`].
pub type ShapeId = u32;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceModel {
    /// botocore's name of the service (`dynamodb`, `s3`, `cloudwatch`).
    pub id: String,
    /// The prefix of its IAM actions (`cloudwatch` for `monitoring`).
    pub iam_prefix: String,
    /// The service in the SigV4 credential scope (`monitoring`).
    pub signing_name: String,
    pub api_version: String,
    /// `X-Amz-Target` prefix of the json protocols and the service segment of rpc-v2-cbor paths.
    pub target_prefix: Option<String>,
    /// Every protocol the service accepts, botocore's preferred one first.
    pub protocols: Vec<AwsProtocol>,
    /// Answers carry `x-amzn-query-error` (`awsQueryCompatible` in the models).
    pub is_query_compatible: bool,
    pub xml_namespace: Option<String>,
    pub operations: Vec<OperationModel>,
    pub shapes: Vec<ModelShape>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationModel {
    pub name: String,
    /// HTTP method of the rest protocols.
    pub http_method: String,
    /// Path template of the rest protocols without its query: `/{Bucket}/{Key+}`.
    pub path_template: String,
    /// Query literals of the template: `?acl` is `("acl", None)`, `list-type=2` is `("list-type", Some("2"))`.
    pub query_literals: Vec<(String, Option<String>)>,
    pub input_shape: Option<ShapeId>,
    pub output_shape: Option<ShapeId>,
    /// Host prefix template (`{AccountId}.`, `sync-`), where the model has one.
    pub host_prefix: Option<String>,
    /// IAM actions the operation needs, always at least one where known; empty: unknown, denied by default.
    pub required_actions: Vec<RequiredAction>,
    pub traits: durward_core::OperationTraits,
    /// The operation takes no signature (`noAuth`).
    pub is_unsigned: bool,
}

/// One IAM action that an operation needs, and on which resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAction {
    /// `s3:GetObject`.
    pub action: String,
    pub access_level: AccessLevel,
    /// ARN templates, alternatives of one resource type each. Empty: `*`.
    pub resources: Vec<ArnTemplate>,
    /// The action is needed only when this input member, or path into one, is present.
    pub required_if_member: Option<String>,
    /// IAM can allow the action on single resources. With no `resources`, no request says which: `*`, and marked so here.
    pub has_resource_level_permissions: bool,
}

/// `arn:${Partition}:dynamodb:${Region}:${Account}:table/${TableName}` with the members that fill it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArnTemplate {
    pub template: String,
    /// Placeholder to input member (top-level model name, or a path with `.` and `[]`: `RequestItems{}` are map keys,
    /// `Entries[].QueueName` each list item). `${Partition}`, `${Region}`, `${Account}` come from the connection.
    pub placeholder_members: Vec<(String, String)>,
    /// An input member that may hold the whole ARN; when its value starts with `arn:` it is the resource.
    pub arn_member: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelShape {
    pub kind: ShapeKind,
    /// Marked `sensitive` in the model, or by the reviewed supplement.
    pub is_sensitive: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShapeKind {
    Structure {
        members: Vec<ShapeMember>,
        /// Name of the member that is the whole HTTP body of the rest protocols.
        payload: Option<String>,
        /// A union: exactly one member set.
        is_union: bool,
    },
    List {
        member: ShapeId,
        /// Wire name of an item in XML and query (`member` unless the model says otherwise).
        item_name: Option<String>,
        is_flattened: bool,
    },
    Map {
        key: ShapeId,
        value: ShapeId,
        /// Wire names in XML and query (`key`, `value` unless the model says otherwise).
        key_name: Option<String>,
        value_name: Option<String>,
        is_flattened: bool,
    },
    String,
    Blob {
        is_streaming: bool,
    },
    Boolean,
    Integer,
    Long,
    Float,
    Double,
    Timestamp {
        format: Option<String>,
    },
    /// A JSON document of any shape.
    Document,
    /// An event stream: frames, never a whole body.
    EventStream,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShapeMember {
    /// Model name: the key in `Operation.parameters`.
    pub name: String,
    /// Name on the wire (`locationName`), where it differs from `name`.
    pub wire_name: Option<String>,
    /// `queryName` of the ec2 protocol.
    pub ec2_name: Option<String>,
    pub shape: ShapeId,
    pub location: MemberLocation,
    pub is_required: bool,
    /// Sensitive by itself, whatever its shape.
    pub is_sensitive: bool,
    /// List or map member written without its wrapper (member-level `flattened`).
    pub is_flattened: bool,
    /// An XML attribute, not an element.
    pub is_xml_attribute: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberLocation {
    Body,
    Uri,
    Query,
    Header,
    /// All headers with the wire name as prefix (`x-amz-meta-`).
    PrefixHeaders,
    StatusCode,
}
