//! The decoded operation of an exchange. Both front ends decode to it; policy, approval, credential and journal read it.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// The front end that an exchange came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrontEndKind {
    Aws,
    Mcp,
}

/// The five access levels of AWS, as the Service Authorization Reference names them. They are ordered by strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccessLevel {
    List,
    Read,
    Tagging,
    Write,
    #[serde(rename = "Permissions management")]
    PermissionsManagement,
}

impl AccessLevel {
    pub const ALL: [Self; 5] =
        [Self::List, Self::Read, Self::Tagging, Self::Write, Self::PermissionsManagement];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "List",
            Self::Read => "Read",
            Self::Tagging => "Tagging",
            Self::Write => "Write",
            Self::PermissionsManagement => "Permissions management",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// The resource of a required permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A concrete ARN.
    Arn(String),
    /// `*` in IAM: the action has no resource-level permissions, or the request names no resource.
    Any,
    /// `<server>/<name>` of an MCP tool.
    McpTool { name: String, server: String },
    /// An MCP server, for methods that name no tool.
    McpServer(String),
}

impl Resource {
    pub fn to_text(&self) -> String {
        match self {
            Self::Arn(arn) => arn.clone(),
            Self::Any => "*".to_owned(),
            Self::McpTool { server, name } => format!("{server}/{name}"),
            Self::McpServer(server) => server.clone(),
        }
    }
}

/// One (action, resource) pair that policy must allow. An operation is allowed if all of its required permissions are.
///
/// The fields are declared in alphabetical order: see [`Operation::canonical_json`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequiredPermission {
    pub access_level: AccessLevel,
    /// The action as IAM spells it (`s3:DeleteObject`), or an MCP method (`tools/call`).
    pub action: String,
    pub resource: Resource,
}

/// The name, after the service prefix, of the action that stands for every operation that the catalog does not know:
/// `dynamodb:*unknown*`. No IAM action is called so: an action name has no asterisk outside of a pattern.
pub const UNKNOWN_OPERATION_ACTION: &str = "*unknown*";

/// Returns true if an action stands for the operations of its service that the catalog does not know.
pub fn is_unknown_operation_action(action: &str) -> bool {
    action.rsplit_once(':').is_some_and(|(_service, name)| name == UNKNOWN_OPERATION_ACTION)
}

impl RequiredPermission {
    /// Returns true if the permission is for an operation that the catalog does not know.
    pub fn is_unknown_operation(&self) -> bool {
        is_unknown_operation_action(&self.action)
    }
}

/// Properties of an operation that make it risky beyond its access level, declared in alphabetical order as
/// [`RequiredPermission`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationTraits {
    /// It can escalate privileges.
    pub escalates: bool,
    /// It runs code, or makes another service act.
    pub indirect: bool,
    /// It destroys data that cannot be restored.
    pub irreversible: bool,
    /// Its response contains credentials.
    pub returns_credentials: bool,
}

/// One API operation or MCP method with everything that decides whether it is allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub front_end: FrontEndKind,
    /// The IAM service prefix (`s3`; `cloudwatch` for requests signed for `monitoring`), or the name of the MCP server.
    pub service: String,
    /// The API operation (`PutObject`), or the MCP method and tool (`tools/call read_file`).
    pub name: String,
    /// Never empty: an operation without a known action requires `<service>:*unknown*`.
    pub required_permissions: Vec<RequiredPermission>,
    /// An object: the parameters by their model names, or the arguments of an MCP tool.
    pub parameters: Value,
    /// JSON Pointers (RFC 6901) into `parameters` whose values the models mark as sensitive. They are masked before they are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive_pointers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default)]
    pub traits: OperationTraits,
    /// The parts that the gateway did not inspect: `body` for a streamed upload, or JSON Pointers to members that no model describes.
    /// Approvers see them as uninspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninspected_parts: Vec<String>,
    /// Lower-case hex SHA-256 of the body, if the caller's signature covers the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
}

impl Operation {
    /// The name as people read it: `s3:PutObject`.
    pub fn qualified_name(&self) -> String {
        format!("{}:{}", self.service, self.name)
    }

    /// The distinct ARNs of its resources.
    pub fn resource_arns(&self) -> Vec<&str> {
        let mut arns = Vec::new();
        for permission in &self.required_permissions {
            if let Resource::Arn(arn) = &permission.resource
                && !arns.contains(&arn.as_str())
            {
                arns.push(arn.as_str());
            }
        }
        arns
    }

    /// The strictest access level of the required permissions.
    pub fn access_level(&self) -> AccessLevel {
        self.required_permissions
            .iter()
            .map(|permission| permission.access_level)
            .max()
            // Unreachable, because `required_permissions` is never empty. The value errs toward strictness.
            .unwrap_or(AccessLevel::Write)
    }

    /// The bytes whose digest binds a grant and a journal record to the request that is sent: every field, keys sorted, no spaces.
    /// These are the rules of RFC 8785 (JSON Canonicalization Scheme) for the values that occur here: strings, integers, booleans,
    /// arrays and objects. Every field takes part, so that no change of an approved operation keeps its digest.
    pub fn canonical_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        // This cannot fail: every value of an Operation has a JSON form, and writing to a Vec does not fail.
        let _infallible = serde_json::to_writer(&mut out, &CanonicalOperation(self));
        out
    }
}

/// An operation that serializes with its keys in the order of their bytes. The fields of [`RequiredPermission`],
/// [`OperationTraits`] and [`Resource`] are declared in that order.
struct CanonicalOperation<'a>(&'a Operation);

impl Serialize for CanonicalOperation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Operation {
            front_end,
            service,
            name,
            required_permissions,
            parameters,
            sensitive_pointers,
            region,
            account,
            traits,
            uninspected_parts,
            body_sha256,
        } = self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(account) = account {
            map.serialize_entry("account", account)?;
        }
        if let Some(body_sha256) = body_sha256 {
            map.serialize_entry("body_sha256", body_sha256)?;
        }
        map.serialize_entry("front_end", front_end)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("parameters", &KeySortedValue(parameters))?;
        if let Some(region) = region {
            map.serialize_entry("region", region)?;
        }
        map.serialize_entry("required_permissions", required_permissions)?;
        if !sensitive_pointers.is_empty() {
            map.serialize_entry("sensitive_pointers", sensitive_pointers)?;
        }
        map.serialize_entry("service", service)?;
        map.serialize_entry("traits", traits)?;
        if !uninspected_parts.is_empty() {
            map.serialize_entry("uninspected_parts", uninspected_parts)?;
        }
        map.end()
    }
}

/// A value that serializes with the keys of every object in the order of their bytes.
struct KeySortedValue<'a>(&'a Value);

impl Serialize for KeySortedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(KeySortedValue)),
            Value::Object(members) => {
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                // Sorted here, although the map of serde_json is sorted already: its feature `preserve_order`, which any
                // dependency can enable, changes that.
                members.sort_unstable_by_key(|(name, _value)| *name);
                serializer.collect_map(members.into_iter().map(|(name, value)| (name, KeySortedValue(value))))
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The same rules in a simple form: every object of the tree is sorted.
    fn key_sorted_json(value: &Value) -> String {
        match value {
            Value::Array(items) => {
                format!("[{}]", items.iter().map(key_sorted_json).collect::<Vec<_>>().join(","))
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _value)| *name);
                let members =
                    members.iter().map(|(name, value)| format!("{}:{}", json!(name), key_sorted_json(value)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
            scalar => scalar.to_string(),
        }
    }

    fn sample_operation() -> Operation {
        let permission = |resource| RequiredPermission {
            access_level: AccessLevel::PermissionsManagement,
            action: "s3:PutObject".to_owned(),
            resource,
        };
        Operation {
            front_end: FrontEndKind::Aws,
            service: "s3".to_owned(),
            name: "PutObject".to_owned(),
            required_permissions: vec![
                permission(Resource::Arn("arn:aws:s3:::b/k \"\u{1}".to_owned())),
                permission(Resource::McpTool { server: "s".to_owned(), name: "n".to_owned() }),
                permission(Resource::McpServer("s".to_owned())),
                permission(Resource::Any),
            ],
            parameters: json!({"b": [1, {"z": null, "a": true}], "a": -1.5, "\u{e9}": {}, "Z": "\n"}),
            sensitive_pointers: vec!["/b".to_owned()],
            region: Some("r".to_owned()),
            account: Some("123456789012".to_owned()),
            traits: OperationTraits { irreversible: true, ..OperationTraits::default() },
            uninspected_parts: vec!["body".to_owned()],
            body_sha256: Some("00".to_owned()),
        }
    }

    #[test]
    fn the_canonical_form_has_every_field_and_sorted_keys() {
        let bare = Operation {
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            uninspected_parts: Vec::new(),
            body_sha256: None,
            ..sample_operation()
        };
        for operation in [sample_operation(), bare] {
            let expected = key_sorted_json(&serde_json::to_value(&operation).unwrap());
            assert_eq!(String::from_utf8(operation.canonical_json()).unwrap(), expected);
        }
    }

    #[test]
    fn the_order_of_parameters_does_not_matter_and_their_values_do() {
        let one = Operation { parameters: json!({"a": 1, "b": 2}), ..sample_operation() };
        let two = Operation { parameters: json!({"b": 2, "a": 1}), ..sample_operation() };
        let three = Operation { parameters: json!({"b": 2, "a": "1"}), ..sample_operation() };
        assert_eq!(one.canonical_json(), two.canonical_json());
        assert_ne!(one.canonical_json(), three.canonical_json());
    }
}
