//! What is known of the messages of an MCP server: which members are binary, which the client sends back or opens, and which a
//! tool's own schema describes. From the schemas of the revisions 2024-11-05 to 2026-07-28.
//!
//! The model has the members of all results and notifications together: a member of one means the same in another.

use std::sync::LazyLock;

use durward_catalog::service_model::{
    AwsProtocol, MemberLocation, ModelShape, ReturnedMember, ServiceModel, ShapeId, ShapeKind, ShapeMember,
};

/// Members that come back in later requests (`cursor`, `requestState`, `taskId`, `uri`), or that a person opens (the URLs of
/// elicitations and icons).
const RETURNED_MEMBERS: [&str; 12] = [
    "nextCursor",
    "requestState",
    "taskId",
    "progressToken",
    "elicitationId",
    "requestId",
    "toolUseId",
    "uri",
    "uriTemplate",
    "url",
    "websiteUrl",
    "src",
];

pub(crate) const MESSAGE_SHAPE: ShapeId = 0;
const RESULT: ShapeId = 1;
const PARAMS: ShapeId = 2;
const ERROR: ShapeId = 3;
const TEXT: ShapeId = 4;
const BYTES: ShapeId = 5;
const SCHEMA_DATA: ShapeId = 6;
const CONTENT_BLOCK: ShapeId = 7;
const RESOURCE_CONTENTS: ShapeId = 8;
const ICON: ShapeId = 9;
const PROMPT_MESSAGE: ShapeId = 10;
const NAMED_ENTRY: ShapeId = 11;
const TASK: ShapeId = 12;
const INPUT_REQUEST: ShapeId = 13;
const META: ShapeId = 14;
const ERROR_DATA: ShapeId = 15;
const ICONS: ShapeId = 16;
const CONTENTS: ShapeId = 17;
const PROMPT_MESSAGES: ShapeId = 18;
const NAMED_ENTRIES: ShapeId = 19;
const TASKS: ShapeId = 20;
const INPUT_REQUESTS: ShapeId = 21;
const ELICITATIONS: ShapeId = 22;
const SHAPE_COUNT: usize = 23;

pub(crate) fn message_model() -> &'static ServiceModel {
    static MODEL: LazyLock<ServiceModel> = LazyLock::new(build_service);
    &MODEL
}

fn build_service() -> ServiceModel {
    let content = [
        ("data", BYTES),
        ("uri", TEXT),
        ("toolUseId", TEXT),
        ("resource", RESOURCE_CONTENTS),
        ("icons", ICONS),
        ("content", CONTENT_BLOCK),
        ("structuredContent", SCHEMA_DATA),
        ("_meta", META),
    ];
    let result = [
        ("content", CONTENT_BLOCK),
        ("structuredContent", SCHEMA_DATA),
        ("contents", CONTENTS),
        ("messages", PROMPT_MESSAGES),
        ("resources", NAMED_ENTRIES),
        ("resourceTemplates", NAMED_ENTRIES),
        ("tools", NAMED_ENTRIES),
        ("prompts", NAMED_ENTRIES),
        ("serverInfo", NAMED_ENTRY),
        ("nextCursor", TEXT),
        ("requestState", TEXT),
        ("inputRequests", INPUT_REQUESTS),
        ("task", TASK),
        ("tasks", TASKS),
        ("taskId", TEXT),
        // `tasks/get` of 2026-07-28 has the result of a task in its own.
        ("result", RESULT),
        ("_meta", META),
    ];
    let params = [
        ("progressToken", TEXT),
        ("requestId", TEXT),
        ("uri", TEXT),
        ("url", TEXT),
        ("elicitationId", TEXT),
        ("taskId", TEXT),
        ("messages", PROMPT_MESSAGES),
        ("_meta", META),
    ];
    let shapes: [(ShapeId, ShapeKind); SHAPE_COUNT] = [
        (MESSAGE_SHAPE, structure(&[("result", RESULT), ("params", PARAMS), ("error", ERROR)])),
        (RESULT, structure(&result)),
        (PARAMS, structure(&params)),
        (ERROR, structure(&[("data", ERROR_DATA)])),
        (TEXT, ShapeKind::String),
        (BYTES, ShapeKind::Blob { is_streaming: false }),
        (SCHEMA_DATA, ShapeKind::Document),
        (CONTENT_BLOCK, structure(&content)),
        (RESOURCE_CONTENTS, structure(&[("uri", TEXT), ("blob", BYTES), ("_meta", META)])),
        (ICON, structure(&[("src", TEXT)])),
        (PROMPT_MESSAGE, structure(&[("content", CONTENT_BLOCK)])),
        (
            NAMED_ENTRY,
            structure(&[("uri", TEXT), ("uriTemplate", TEXT), ("websiteUrl", TEXT), ("icons", ICONS)]),
        ),
        (TASK, structure(&[("taskId", TEXT)])),
        (INPUT_REQUEST, structure(&[("params", PARAMS)])),
        (META, structure(&[("progressToken", TEXT), ("io.modelcontextprotocol/related-task", TASK)])),
        (ERROR_DATA, structure(&[("elicitations", ELICITATIONS), ("uri", TEXT)])),
        (ICONS, list(ICON)),
        (CONTENTS, list(RESOURCE_CONTENTS)),
        (PROMPT_MESSAGES, list(PROMPT_MESSAGE)),
        (NAMED_ENTRIES, list(NAMED_ENTRY)),
        (TASKS, list(TASK)),
        (
            INPUT_REQUESTS,
            ShapeKind::Map {
                key: TEXT,
                value: INPUT_REQUEST,
                key_name: None,
                value_name: None,
                is_flattened: false,
            },
        ),
        (ELICITATIONS, list(PARAMS)),
    ];
    debug_assert!(shapes.iter().enumerate().all(|(at, (id, _))| at == *id as usize));
    let mut service = ServiceModel {
        id: "mcp".to_owned(),
        iam_prefix: "mcp".to_owned(),
        signing_name: "mcp".to_owned(),
        api_version: "2026-07-28".to_owned(),
        target_prefix: None,
        protocols: vec![AwsProtocol::RestJson],
        is_query_compatible: false,
        xml_namespace: None,
        operations: Vec::new(),
        shapes: shapes
            .into_iter()
            .map(|(_, kind)| ModelShape { kind, is_sensitive: false, has_marked_values: false })
            .collect(),
    };
    service.mark_shapes();
    service
}

fn structure(members: &[(&str, ShapeId)]) -> ShapeKind {
    let members = members
        .iter()
        .map(|(name, shape)| ShapeMember {
            name: (*name).to_owned(),
            wire_name: None,
            ec2_name: None,
            shape: *shape,
            location: MemberLocation::Body,
            is_required: false,
            is_sensitive: false,
            is_flattened: false,
            is_xml_attribute: false,
            returned: if RETURNED_MEMBERS.contains(name) { ReturnedMember::Yes } else { ReturnedMember::No },
        })
        .collect();
    ShapeKind::Structure { members, payload: None, is_union: false }
}

fn list(member: ShapeId) -> ShapeKind {
    ShapeKind::List { member, item_name: None, is_flattened: false }
}

#[cfg(test)]
mod tests;
