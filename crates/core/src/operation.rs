//! What an exchange asks, decoded. Both doors decode to this; policy, approval, credential and journal read it.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrontEndKind {
    Aws,
    Mcp,
}

/// AWS's five access levels, as the Service Authorization Reference names them.
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

/// What a demand is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A concrete ARN.
    Arn(String),
    /// The action has no resource-level permissions, or the request names no resource: `*` in IAM.
    Any,
    /// `<server>/<name>` of an MCP tool.
    McpTool { name: String, server: String },
    /// An MCP server itself (methods that name no tool).
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

/// One (action, resource) pair that policy must allow. An operation is allowed when each of its demands is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequiredPermission {
    pub access_level: AccessLevel,
    /// The action as IAM spells it (`s3:DeleteObject`), or an MCP method (`tools/call`).
    pub action: String,
    pub resource: Resource,
}

/// What makes an operation risky beyond its access level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationTraits {
    /// It can give somebody more power than they have.
    pub escalates: bool,
    /// It runs code or makes another service act.
    pub indirect: bool,
    /// What it destroys cannot be brought back.
    pub irreversible: bool,
    /// Its answer holds credentials.
    pub returns_credentials: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub front_end: FrontEndKind,
    /// The IAM service prefix (`s3`, `monitoring` is `cloudwatch`), or the MCP server's name.
    pub service: String,
    /// The API operation (`PutObject`), or the MCP method and tool (`tools/call read_file`).
    pub name: String,
    /// Never empty.
    pub required_permissions: Vec<RequiredPermission>,
    /// The parameters by their model names; an object. MCP: the tool's arguments.
    pub parameters: Value,
    /// JSON Pointers (RFC 6901) into `parameters` whose values the models mark sensitive. A recording masks them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive_pointers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default)]
    pub traits: OperationTraits,
    /// Parts the gateway did not look into ("body": a streamed upload). Shown to people as uninspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninspected_parts: Vec<String>,
    /// Lower-case hex SHA-256 of the body where the caller's signature covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
}

impl Operation {
    /// `s3:PutObject`, for people.
    pub fn qualified_name(&self) -> String {
        format!("{}:{}", self.service, self.name)
    }

    /// The ARNs of its resources, each once.
    pub fn resource_arns(&self) -> Vec<&str> {
        let mut arns = Vec::new();
        for demand in &self.required_permissions {
            if let Resource::Arn(arn) = &demand.resource
                && !arns.contains(&arn.as_str())
            {
                arns.push(arn.as_str());
            }
        }
        arns
    }

    /// The strictest access level of the demands.
    pub fn access_level(&self) -> AccessLevel {
        self.required_permissions.iter().map(|demand| demand.access_level).max().unwrap_or(AccessLevel::Write)
    }

    /// The bytes that an approval, a journal record and a send are bound to: every field, keys sorted, no spaces
    /// (the rules of RFC 8785 for the values that occur here: strings, integers, booleans, arrays, objects).
    pub fn canonical_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        // An Operation holds only strings, numbers, booleans, lists and objects, and a Vec takes all: this cannot fail.
        let _infallible = serde_json::to_writer(&mut out, &CanonicalOperation(self));
        out
    }
}

/// An operation with its keys in the order of their bytes. Those of [`Demand`], [`Traits`] and [`Resource`] are declared so.
struct CanonicalOperation<'a>(&'a Operation);

/// Parameters without what these JSON Pointers (RFC 6901) lead to: of what no model knows nobody can say that the service reads
/// it, so it must not stand for anything.
pub fn remove_json_pointers<'a>(
    parameters: &'a Map<String, Value>,
    pointers: &[String],
) -> Cow<'a, Map<String, Value>> {
    let mut left = Cow::Borrowed(parameters);
    for pointer in pointers {
        let Some(path) = pointer.strip_prefix('/') else { continue };
        let (above, name) = path.rsplit_once('/').map_or((None, path), |(above, name)| (Some(above), name));
        let name = unescape_pointer_token(name);
        let members = match above {
            None => Some(left.to_mut()),
            Some(above) => find_object_mut(left.to_mut(), above),
        };
        members.and_then(|members| members.remove(&name));
    }
    left
}

fn find_object_mut<'v>(
    members: &'v mut Map<String, Value>,
    path: &str,
) -> Option<&'v mut Map<String, Value>> {
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = members.get_mut(&unescape_pointer_token(first))?;
    match rest {
        None => value.as_object_mut(),
        Some(rest) => value.pointer_mut(&format!("/{rest}"))?.as_object_mut(),
    }
}

fn unescape_pointer_token(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

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

/// A value with the keys of every object in the order of their bytes.
struct KeySortedValue<'a>(&'a Value);

impl Serialize for KeySortedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(KeySortedValue)),
            Value::Object(members) => {
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
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

    /// The same rules, written the slow way: every object of the whole tree sorted.
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
        let demand = |resource| RequiredPermission {
            access_level: AccessLevel::PermissionsManagement,
            action: "s3:PutObject".to_owned(),
            resource,
        };
        Operation {
            front_end: FrontEndKind::Aws,
            service: "s3".to_owned(),
            name: "PutObject".to_owned(),
            required_permissions: vec![
                demand(Resource::Arn("arn:aws:s3:::b/k \"\u{1}".to_owned())),
                demand(Resource::McpTool { server: "s".to_owned(), name: "n".to_owned() }),
                demand(Resource::McpServer("s".to_owned())),
                demand(Resource::Any),
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
            let slow = key_sorted_json(&serde_json::to_value(&operation).unwrap());
            assert_eq!(String::from_utf8(operation.canonical_json()).unwrap(), slow);
        }
    }

    #[test]
    fn removes_unmodelled_members_at_any_depth() {
        let whole = json!({"a": 1, "x/y": 2, "b": {"c": [{"d": 1, "e~": 2}, {"d": 3}]}, "f": {}});
        let pointers = ["body", "/x~1y", "/b/c/0/e~0", "/f", "/none", "/b/none/at/all"].map(str::to_owned);
        let left = remove_json_pointers(whole.as_object().unwrap(), &pointers);
        assert_eq!(Value::Object(left.into_owned()), json!({"a": 1, "b": {"c": [{"d": 1}, {"d": 3}]}}));
        let untouched = remove_json_pointers(whole.as_object().unwrap(), &["body".to_owned()]);
        assert!(matches!(untouched, Cow::Borrowed(_)));
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
