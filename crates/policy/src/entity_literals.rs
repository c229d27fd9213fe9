//! The entity types, and the entities that a policy set names, each with a number.
//!
//! Promise: entity uids are built from a type and an id, never parsed, so that text from a request cannot become an entity of
//! another type. An entity that no policy names can neither match a scope nor stand to the right of an `in`, so a query is
//! decided without it.

use crate::query_error::QueryError;
use cedar_policy_core::{
    ast::{
        Eid, EntityType, EntityUID, Expr, ExprKind, ExtensionFunction, Literal, Name, PartialValue, Value,
    },
    extensions::Extensions,
};
use std::{collections::HashMap, str::FromStr as _};

/// The entity types of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntityKind {
    Caller,
    Group,
    Action,
    Connection,
    DataClass,
    AwsAction,
    AwsAccount,
    AwsResource,
    McpAction,
    McpServer,
    McpTool,
}

const ENTITY_KIND_COUNT: usize = 11;

impl EntityKind {
    /// In the order of the variants.
    pub(crate) const ALL: [(Self, &'static str); ENTITY_KIND_COUNT] = [
        (Self::Caller, "Caller"),
        (Self::Group, "Group"),
        (Self::Action, "Action"),
        (Self::Connection, "Connection"),
        (Self::DataClass, "DataClass"),
        (Self::AwsAction, "Aws::Action"),
        (Self::AwsAccount, "Aws::Account"),
        (Self::AwsResource, "Aws::Resource"),
        (Self::McpAction, "Mcp::Action"),
        (Self::McpServer, "Mcp::Server"),
        (Self::McpTool, "Mcp::Tool"),
    ];

    /// The type of this name. `None`: the schema has no such type, which validation reports.
    pub(crate) fn from_type_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// Cedar's names of the entity types and extension functions, parsed once.
#[derive(Debug)]
pub(crate) struct EntityTypes {
    type_names: [EntityType; ENTITY_KIND_COUNT],
    ip_function: &'static ExtensionFunction,
    datetime_function: &'static ExtensionFunction,
}

impl EntityTypes {
    pub(crate) fn new() -> Self {
        let function = |name: &str| {
            let name = Name::from_str(name).expect("the name of an extension function is well-formed");
            Extensions::all_available().func(&name).expect("cedar-policy is built with its extensions")
        };
        Self {
            type_names: EntityKind::ALL.map(|(_, name)| {
                EntityType::from_str(name).expect("the names of our own types are well-formed")
            }),
            ip_function: function("ip"),
            datetime_function: function("datetime"),
        }
    }

    pub(crate) fn entity_uid(&self, kind: EntityKind, id: &str) -> EntityUID {
        // From parts and never from text: `x"::Group::"admins` in a name stays a part of the id.
        EntityUID::from_components(self.type_names[kind as usize].clone(), Eid::new(id), None)
    }

    /// `None`: no entity of a query has this type.
    pub(crate) fn kind_of(&self, name: &EntityType) -> Option<EntityKind> {
        let index = self.type_names.iter().position(|known| known == name)?;
        EntityKind::ALL.get(index).map(|(kind, _)| *kind)
    }

    pub(crate) fn ip_value(&self, text: &str) -> Result<Value, QueryError> {
        call_extension_function("ip", self.ip_function, text)
    }

    pub(crate) fn datetime_value(&self, text: &str) -> Result<Value, QueryError> {
        call_extension_function("datetime", self.datetime_function, text)
    }
}

fn call_extension_function(
    name: &'static str,
    function: &ExtensionFunction,
    text: &str,
) -> Result<Value, QueryError> {
    match function.call(&[Value::from(text)])? {
        PartialValue::Value(value) => Ok(value),
        PartialValue::Residual(_) => {
            Err(QueryError::NotAnExtensionValue { function: name, text: text.to_owned() })
        }
    }
}

/// The number of an entity that the policy set names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntityNumber(usize);

#[derive(Debug)]
struct NamedEntity {
    uid: EntityUID,
    /// A condition that Cedar evaluates names it. Only then must Cedar know which entities are in it.
    is_read_by_condition: bool,
}

/// The entities that a policy set names.
#[derive(Debug, Default)]
pub(crate) struct EntityLiterals {
    numbers_by_kind: [HashMap<Box<str>, EntityNumber>; ENTITY_KIND_COUNT],
    named_entities: Vec<NamedEntity>,
}

impl EntityLiterals {
    /// The number of an entity that a policy names. `None`: no entity of a query has its type.
    pub(crate) fn insert(&mut self, types: &EntityTypes, uid: &EntityUID) -> Option<EntityNumber> {
        let numbers = &mut self.numbers_by_kind[types.kind_of(uid.entity_type())? as usize];
        let id: &str = uid.eid().as_ref();
        if let Some(known) = numbers.get(id) {
            return Some(*known);
        }
        let number = EntityNumber(self.named_entities.len());
        numbers.insert(id.into(), number);
        self.named_entities.push(NamedEntity { uid: uid.clone(), is_read_by_condition: false });
        Some(number)
    }

    /// Inserts every entity with which the evaluation of the condition can compare.
    pub(crate) fn insert_condition_literals(&mut self, types: &EntityTypes, condition: &Expr) {
        for part in condition.subexpressions() {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = part.expr_kind()
                && let Some(number) = self.insert(types, uid)
                && let Some(named) = self.named_entities.get_mut(number.0)
            {
                named.is_read_by_condition = true;
            }
        }
    }

    /// The number of an entity of a query. `None`: no policy names it.
    pub(crate) fn find_number(&self, kind: EntityKind, id: &str) -> Option<EntityNumber> {
        let numbers = &self.numbers_by_kind[kind as usize];
        if numbers.is_empty() { None } else { numbers.get(id).copied() }
    }

    /// The entity, if a condition that Cedar evaluates names it.
    pub(crate) fn compared_entity(&self, number: EntityNumber) -> Option<&EntityUID> {
        self.named_entities.get(number.0).filter(|named| named.is_read_by_condition).map(|named| &named.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_entities_of_one_id_apart_by_type() {
        let types = EntityTypes::new();
        let mut literals = EntityLiterals::default();
        let server = literals.insert(&types, &types.entity_uid(EntityKind::McpServer, "x"));
        let group = literals.insert(&types, &types.entity_uid(EntityKind::Group, "x"));
        assert!(server.is_some() && group.is_some() && server != group);
        assert_eq!(literals.find_number(EntityKind::Group, "x"), group);
        assert_eq!(literals.insert(&types, &types.entity_uid(EntityKind::Group, "x")), group);
        assert_eq!(literals.find_number(EntityKind::Caller, "x"), None);
        let other_type = EntityUID::with_eid_and_type("Grupe", "x").expect("a type name");
        assert_eq!(literals.insert(&types, &other_type), None);
    }

    #[test]
    fn every_kind_maps_to_its_type_name() {
        let types = EntityTypes::new();
        for (kind, name) in EntityKind::ALL {
            assert_eq!(types.entity_uid(kind, "x").entity_type().to_string(), name);
            assert_eq!(types.kind_of(types.entity_uid(kind, "x").entity_type()), Some(kind));
            assert_eq!(EntityKind::from_type_name(name), Some(kind));
        }
    }
}
