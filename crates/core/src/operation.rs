//! What an exchange asks, decoded. Both doors decode to this; policy, approval, credential and journal read it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
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
    McpTool { server: String, name: String },
    /// An MCP server itself (methods that name no tool).
    McpServer(String),
}

impl Resource {
    pub fn as_text(&self) -> String {
        match self {
            Self::Arn(arn) => arn.clone(),
            Self::Any => "*".to_owned(),
            Self::McpTool { server, name } => format!("{server}/{name}"),
            Self::McpServer(server) => server.clone(),
        }
    }
}

/// One (action, resource) pair that policy must allow. An operation is allowed when each of its demands is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// The action as IAM spells it (`s3:DeleteObject`), or an MCP method (`tools/call`).
    pub action: String,
    pub resource: Resource,
    pub access_level: AccessLevel,
}

/// What makes an operation risky beyond its access level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// What it destroys cannot be brought back.
    pub irreversible: bool,
    /// It can give somebody more power than they have.
    pub escalates: bool,
    /// It runs code or makes another service act.
    pub indirect: bool,
    /// Its answer holds credentials.
    pub returns_credentials: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub door: Door,
    /// The IAM service prefix (`s3`, `monitoring` is `cloudwatch`), or the MCP server's name.
    pub service: String,
    /// The API operation (`PutObject`), or the MCP method and tool (`tools/call read_file`).
    pub name: String,
    /// Never empty.
    pub demands: Vec<Demand>,
    /// The parameters by their model names; an object. MCP: the tool's arguments.
    pub parameters: Value,
    /// JSON Pointers (RFC 6901) into `parameters` whose values the models mark sensitive. A recording masks them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default)]
    pub traits: Traits,
    /// Parts the gateway did not look into ("body": a streamed upload). Shown to people as uninspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninspected: Vec<String>,
    /// Lower-case hex SHA-256 of the body where the caller's signature covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
}

impl Operation {
    /// `s3:PutObject`, for people.
    pub fn title(&self) -> String {
        format!("{}:{}", self.service, self.name)
    }

    /// The strictest access level of the demands.
    pub fn access_level(&self) -> AccessLevel {
        self.demands.iter().map(|demand| demand.access_level).max().unwrap_or(AccessLevel::Write)
    }

    /// The bytes that an approval, a journal record and a send are bound to: every field, keys sorted, no spaces
    /// (the rules of RFC 8785 for the values that occur here: strings, integers, booleans, arrays, objects).
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(512);
        // An Operation holds only strings, numbers, booleans, lists and objects: it always serialises.
        if let Ok(value) = serde_json::to_value(self) {
            write_canonical(&value, &mut out);
        }
        out
    }
}

/// `value` as JSON text with the keys of every object sorted by their bytes.
pub fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(&Value::String(key.clone()), out);
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        scalar => {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "{scalar}");
        }
    }
}
