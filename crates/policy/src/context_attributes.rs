//! The attributes of Cedar's `context`, in one table: name, type, and the queries that have it.
//!
//! The schema, the context of a query and the reading of conditions are derived from the table. A test holds the list in
//! docs/policies.md to it.

use serde_json::{Value, json};

/// One attribute of `context`. The order is that of [`CONTEXT_ATTRIBUTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextAttribute {
    SourceIp,
    Now,
    Operation,
    Region,
    Account,
    Connection,
    AccessLevel,
    Irreversible,
    Escalates,
    Indirect,
    ReturnsCredentials,
    Params,
    RequestTags,
    Server,
    Tool,
    Arguments,
    Risk,
}

/// The Cedar type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextType {
    IpAddress,
    Datetime,
    String,
    Boolean,
    Long,
    StringSet,
    /// A record whose members depend on the action.
    Record,
}

impl ContextType {
    /// The type as the Cedar documentation writes it.
    #[cfg(test)]
    fn name(self) -> &'static str {
        match self {
            Self::IpAddress => "ipaddr",
            Self::Datetime => "datetime",
            Self::String => "String",
            Self::Boolean => "Bool",
            Self::Long => "Long",
            Self::StringSet => "Set<String>",
            Self::Record => "record",
        }
    }

    /// The type in Cedar's JSON schema format. A record has no members yet.
    fn to_schema(self) -> Value {
        match self {
            Self::IpAddress => json!({ "type": "Extension", "name": "ipaddr" }),
            Self::Datetime => json!({ "type": "Extension", "name": "datetime" }),
            Self::String => json!({ "type": "String" }),
            Self::Boolean => json!({ "type": "Boolean" }),
            Self::Long => json!({ "type": "Long" }),
            Self::StringSet => json!({ "type": "Set", "element": { "type": "String" } }),
            Self::Record => json!({ "type": "Record", "attributes": {} }),
        }
    }
}

/// The queries whose context has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextScope {
    /// Every query, `connect` and `reveal` included.
    Every,
    /// Operations of both front ends.
    Operations,
    Aws,
    Mcp,
}

impl ContextScope {
    fn includes(self, queries: Self) -> bool {
        match self {
            Self::Every => true,
            Self::Operations => queries != Self::Every,
            Self::Aws | Self::Mcp => self == queries,
        }
    }

    /// The scope as docs/policies.md writes it.
    #[cfg(test)]
    fn describe(self) -> &'static str {
        match self {
            Self::Every => "every query",
            Self::Operations => "AWS and MCP",
            Self::Aws => "AWS",
            Self::Mcp => "MCP",
        }
    }
}

/// One row of the table.
pub(crate) struct ContextAttributeRow {
    pub attribute: ContextAttribute,
    pub name: &'static str,
    pub cedar_type: ContextType,
    pub scope: ContextScope,
    /// One line for people: the schema's `@doc`, and the list in docs/policies.md.
    pub description: &'static str,
}

const fn row(
    attribute: ContextAttribute,
    name: &'static str,
    cedar_type: ContextType,
    scope: ContextScope,
    description: &'static str,
) -> ContextAttributeRow {
    ContextAttributeRow { attribute, name, cedar_type, scope, description }
}

pub(crate) const CONTEXT_ATTRIBUTES: [ContextAttributeRow; 17] = {
    use ContextAttribute as Attribute;
    use ContextScope::{Aws, Every, Mcp, Operations};
    use ContextType::{Boolean, Datetime, IpAddress, Long, Record, String, StringSet};
    [
        row(Attribute::SourceIp, "source_ip", IpAddress, Every, "the client's address"),
        row(Attribute::Now, "now", Datetime, Every, "the time of the request"),
        row(Attribute::Operation, "operation", String, Aws, "the API operation, as in `DeleteObject`"),
        row(Attribute::Region, "region", String, Aws, "the region that the request is signed for"),
        row(Attribute::Account, "account", String, Aws, "the account of the connection"),
        row(Attribute::Connection, "connection", String, Aws, "the connection's name in the configuration"),
        row(
            Attribute::AccessLevel,
            "access_level",
            String,
            Aws,
            "the action's access level, as in `\"Write\"`",
        ),
        row(Attribute::Irreversible, "irreversible", Boolean, Aws, "what it destroys cannot be restored"),
        row(Attribute::Escalates, "escalates", Boolean, Aws, "it can give a principal more permissions"),
        row(Attribute::Indirect, "indirect", Boolean, Aws, "it runs code or makes another service act"),
        row(
            Attribute::ReturnsCredentials,
            "returns_credentials",
            Boolean,
            Aws,
            "its response contains credentials, presigned links or sign-in URLs",
        ),
        row(
            Attribute::Params,
            "params",
            Record,
            Aws,
            "the request's parameters, by their names in AWS's model",
        ),
        row(
            Attribute::RequestTags,
            "request_tags",
            StringSet,
            Aws,
            "the tags that the request would set, as `key=value`",
        ),
        row(Attribute::Server, "server", String, Mcp, "the MCP server's name in the configuration"),
        row(Attribute::Tool, "tool", String, Mcp, "the tool's name; only for methods that name a tool"),
        row(Attribute::Arguments, "arguments", Record, Mcp, "the arguments of the tool call"),
        row(Attribute::Risk, "risk", Long, Operations, "the risk of the operation, from 0 to 100"),
    ]
};

impl ContextAttribute {
    /// The attribute of this name. `None`: `context` has no such attribute, which validation reports.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        CONTEXT_ATTRIBUTES.iter().find(|row| row.name == name).map(|row| row.attribute)
    }

    pub(crate) fn row(self) -> &'static ContextAttributeRow {
        &CONTEXT_ATTRIBUTES[self as usize]
    }
}

/// The attributes of the context of these queries, in Cedar's JSON schema format.
pub(crate) fn context_schema(queries: ContextScope) -> serde_json::Map<String, Value> {
    let included = CONTEXT_ATTRIBUTES.iter().filter(|row| row.scope.includes(queries));
    included
        .map(|row| {
            let mut schema = row.cedar_type.to_schema();
            schema["annotations"] = json!({ "doc": row.description });
            (row.name.to_owned(), schema)
        })
        .collect()
}

/// A set of context attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContextAttributeSet(u32);

impl ContextAttributeSet {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(u32::MAX);

    pub(crate) fn insert(&mut self, attribute: ContextAttribute) {
        self.0 |= 1 << attribute as u32;
    }

    pub(crate) fn insert_all(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn contains(self, attribute: ContextAttribute) -> bool {
        self.0 & (1 << attribute as u32) != 0
    }

    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = ContextAttribute> {
        CONTEXT_ATTRIBUTES.iter().map(|row| row.attribute).filter(move |attribute| self.contains(*attribute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_finds_its_own_row() {
        for (index, row) in CONTEXT_ATTRIBUTES.iter().enumerate() {
            assert_eq!(row.attribute as usize, index, "{}", row.name);
            assert_eq!(row.attribute.row().name, row.name);
            assert_eq!(ContextAttribute::from_name(row.name), Some(row.attribute));
        }
        assert_eq!(ContextAttribute::from_name("regoin"), None);
    }

    #[test]
    fn the_policies_page_lists_exactly_these_attributes() {
        let page = include_str!("../../../docs/policies.md");
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `context.")).collect();
        let expected: Vec<String> = CONTEXT_ATTRIBUTES
            .iter()
            .map(|row| {
                let (kind, scope) = (row.cedar_type.name(), row.scope.describe());
                format!("| `context.{}` | `{kind}` | {scope} | {} |", row.name, row.description)
            })
            .collect();
        assert_eq!(listed, expected);
    }
}
