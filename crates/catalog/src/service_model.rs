//! The data model of the catalog: the API of one AWS service on the wire and in IAM.
//!
//! Everything here is data of the compiled index. Nothing here parses a request.

use durward_core::AccessLevel;
use serde::{Deserialize, Serialize};

/// A wire protocol, as Smithy and botocore name it.
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

/// Index of a shape in [`ServiceModel::shapes`].
pub type ShapeId = u32;

/// The API of one service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceModel {
    /// botocore's name of the service (`dynamodb`, `s3`, `cloudwatch`).
    pub id: String,
    /// The prefix of its IAM actions (`cloudwatch` for `monitoring`).
    pub iam_prefix: String,
    /// The service in the SigV4 credential scope (`monitoring`).
    pub signing_name: String,
    pub api_version: String,
    /// The `X-Amz-Target` prefix of the json protocols, and the service segment of rpc-v2-cbor paths. The two services of Timestream share
    /// one.
    pub target_prefix: Option<String>,
    /// The protocols that the service accepts, the one that botocore prefers first.
    pub protocols: Vec<AwsProtocol>,
    /// Error responses have the header `x-amzn-query-error` (`awsQueryCompatible` in the models).
    pub is_query_compatible: bool,
    pub xml_namespace: Option<String>,
    pub operations: Vec<OperationModel>,
    pub shapes: Vec<ModelShape>,
}

/// One operation of a service.
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
    /// The template of a host prefix (`{AccountId}.`, `sync-`), if the model has one.
    pub host_prefix: Option<String>,
    /// The IAM actions that the operation needs. Empty if they are unknown: then it is denied by default.
    pub required_actions: Vec<RequiredAction>,
    pub traits: durward_core::OperationTraits,
    /// The operation takes no signature (`noAuth`).
    pub is_unsigned: bool,
}

/// One IAM action that an operation needs, with its resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAction {
    /// `s3:GetObject`.
    pub action: String,
    pub access_level: AccessLevel,
    /// ARN templates, each for one resource type. Empty: `*`.
    pub resources: Vec<ArnTemplate>,
    /// The action is needed only if this input member, or path into one, is present.
    pub required_if_member: Option<String>,
    /// IAM can allow the action on single resources. If `resources` is empty nevertheless, no request names its resource.
    pub has_resource_level_permissions: bool,
}

/// A template such as `arn:${Partition}:dynamodb:${Region}:${Account}:table/${TableName}`, with the input members that fill it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArnTemplate {
    pub template: String,
    /// Placeholder and input member: a top-level model name, or a path. `RequestItems{}` are the keys of a map, `Entries[].QueueName` is a
    /// member of each list item. `${Partition}`, `${Region}` and `${Account}` come from the connection.
    pub placeholder_members: Vec<(String, String)>,
    /// An input member whose value may be the whole ARN: if it begins with `arn:`, it is the resource.
    pub arn_member: Option<String>,
}

/// The type of a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelShape {
    pub kind: ShapeKind,
    /// Marked `sensitive` in the model, or in the reviewed data/overlay.toml.
    pub is_sensitive: bool,
    /// The shape, or one below it, is sensitive, binary or a document, or has a member that callers send back. Derived when the
    /// model of the service is unpacked.
    #[serde(skip)]
    pub has_marked_values: bool,
}

/// The kinds of shapes, as in Smithy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShapeKind {
    Structure {
        members: Vec<ShapeMember>,
        /// The name of the member that is the whole HTTP body in the rest protocols.
        payload: Option<String>,
        /// A union: exactly one member is set.
        is_union: bool,
    },
    List {
        member: ShapeId,
        /// The wire name of an item in XML and query, if it is not `member`.
        item_name: Option<String>,
        is_flattened: bool,
    },
    Map {
        key: ShapeId,
        value: ShapeId,
        /// The wire names in XML and query, if they are not `key` and `value`.
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
    /// An event stream: a sequence of frames, never a whole body.
    EventStream,
}

/// A member of a structure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShapeMember {
    /// The model name: the key in [`durward_core::Operation::parameters`].
    pub name: String,
    /// The name on the wire (`locationName`), if it differs from `name`.
    pub wire_name: Option<String>,
    /// `queryName` of the ec2 protocol.
    pub ec2_name: Option<String>,
    pub shape: ShapeId,
    pub location: MemberLocation,
    pub is_required: bool,
    /// Sensitive by itself, even if its shape is not.
    pub is_sensitive: bool,
    /// A list or map that is written without its wrapper element (member-level `flattened`).
    pub is_flattened: bool,
    /// An XML attribute, not an element.
    pub is_xml_attribute: bool,
    /// Derived from the requests of the service when its model is unpacked.
    #[serde(skip)]
    pub returned: ReturnedMember,
}

/// Says if callers send the values of a member back as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReturnedMember {
    #[default]
    No,
    /// An id, a cursor, a handle.
    Yes,
    /// The rest of a batch or of a scan, if a request of the operation has a member of its shape: DynamoDB's `UnprocessedItems` is
    /// the next `RequestItems`, and `LastEvaluatedKey` the next `ExclusiveStartKey`.
    WithSameShapeInRequest,
}

/// The part of an HTTP message that a member is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberLocation {
    Body,
    Uri,
    Query,
    Header,
    /// All headers that begin with the wire name (`x-amz-meta-`).
    PrefixHeaders,
    StatusCode,
}
