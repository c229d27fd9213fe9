//! The entity types of the vocabulary, and the entities that a policy set names, each with a number.
//!
//! Promise: uids are built, never parsed: text from a request cannot become another type. An entity no policy names can neither
//! match a scope nor stand right of an `in`, so a question is decided without it.

use cedar_policy_core::{
    ast::{
        Eid, EntityType, EntityUID, Expr, ExprKind, ExtensionFunction, Literal, Name, PartialValue, Value,
    },
    extensions::Extensions,
};
use std::{collections::HashMap, str::FromStr as _};

/// The entity types of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
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

const KINDS: usize = 11;

impl Kind {
    const ALL: [(Self, &'static str); KINDS] = [
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
}

/// Cedar's names for what a question is put together from, parsed once.
#[derive(Debug)]
pub(crate) struct Types {
    names: [EntityType; KINDS],
    ip: &'static ExtensionFunction,
    datetime: &'static ExtensionFunction,
}

impl Types {
    pub(crate) fn new() -> Self {
        let function = |name: &str| {
            let name = Name::from_str(name).expect("the name of an extension function is well-formed");
            Extensions::all_available().func(&name).expect("cedar-policy is built with its extensions")
        };
        Self {
            names: Kind::ALL.map(|(_, name)| {
                EntityType::from_str(name).expect("the names of our own types are well-formed")
            }),
            ip: function("ip"),
            datetime: function("datetime"),
        }
    }

    pub(crate) fn uid(&self, kind: Kind, id: &str) -> EntityUID {
        EntityUID::from_components(self.names[kind as usize].clone(), Eid::new(id), None)
    }

    /// None: a type that nothing in a question has.
    pub(crate) fn kind(&self, name: &EntityType) -> Option<Kind> {
        let found = self.names.iter().position(|known| known == name)?;
        Kind::ALL.get(found).map(|(kind, _)| *kind)
    }

    pub(crate) fn ip(&self, text: &str) -> Result<Value, String> {
        call(self.ip, text)
    }

    pub(crate) fn datetime(&self, text: &str) -> Result<Value, String> {
        call(self.datetime, text)
    }
}

fn call(function: &ExtensionFunction, text: &str) -> Result<Value, String> {
    match function.call(&[Value::from(text)]) {
        Ok(PartialValue::Value(value)) => Ok(value),
        Ok(PartialValue::Residual(_)) => Err(format!("\"{text}\" has no value")),
        Err(error) => Err(error.to_string()),
    }
}

/// The number of an entity that the policy set names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(usize);

#[derive(Debug)]
struct Named {
    uid: EntityUID,
    /// Some condition that Cedar evaluates names it: only then must Cedar be told what is in it.
    read: bool,
}

/// The entities that a policy set names.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    numbers: [HashMap<Box<str>, Number>; KINDS],
    named: Vec<Named>,
}

impl Literals {
    /// The number of an entity named in a policy. None: nothing in a question can be this entity.
    pub(crate) fn add(&mut self, types: &Types, uid: &EntityUID) -> Option<Number> {
        let numbers = &mut self.numbers[types.kind(uid.entity_type())? as usize];
        let id: &str = uid.eid().as_ref();
        if let Some(known) = numbers.get(id) {
            return Some(*known);
        }
        let number = Number(self.named.len());
        numbers.insert(id.into(), number);
        self.named.push(Named { uid: uid.clone(), read: false });
        Some(number)
    }

    /// Takes in every entity that evaluating the condition can compare with.
    pub(crate) fn read(&mut self, types: &Types, condition: &Expr) {
        for part in condition.subexpressions() {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = part.expr_kind()
                && let Some(number) = self.add(types, uid)
                && let Some(named) = self.named.get_mut(number.0)
            {
                named.read = true;
            }
        }
    }

    /// The number of an entity of a question. None: no policy names it.
    pub(crate) fn find(&self, kind: Kind, id: &str) -> Option<Number> {
        let numbers = &self.numbers[kind as usize];
        if numbers.is_empty() { None } else { numbers.get(id).copied() }
    }

    /// The entity, if a condition that Cedar evaluates names it.
    pub(crate) fn compared(&self, number: Number) -> Option<&EntityUID> {
        self.named.get(number.0).filter(|named| named.read).map(|named| &named.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_entities_of_one_id_apart_by_type() {
        let types = Types::new();
        let mut literals = Literals::default();
        let server = literals.add(&types, &types.uid(Kind::McpServer, "x"));
        let group = literals.add(&types, &types.uid(Kind::Group, "x"));
        assert!(server.is_some() && group.is_some() && server != group);
        assert_eq!(literals.find(Kind::Group, "x"), group);
        assert_eq!(literals.add(&types, &types.uid(Kind::Group, "x")), group);
        assert_eq!(literals.find(Kind::Caller, "x"), None);
        let foreign = EntityUID::with_eid_and_type("Grupe", "x").expect("a type name");
        assert_eq!(literals.add(&types, &foreign), None);
    }

    #[test]
    fn every_kind_has_the_place_of_its_name() {
        let types = Types::new();
        for (kind, name) in Kind::ALL {
            assert_eq!(types.uid(kind, "x").entity_type().to_string(), name);
            assert_eq!(types.kind(types.uid(kind, "x").entity_type()), Some(kind));
        }
    }
}
