//! Places for requests that are held open while people are asked: so much memory in all, and of that so much for one caller,
//! so that a caller who repeats itself does not send the others away.

use durward_core::{Caller, Demand, Operation, Resource, limits};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the allocator takes for each piece beside what was asked for.
const ALLOCATED: usize = 16;

/// All places; their unit is a KiB.
#[derive(Debug)]
pub struct Held {
    free: Semaphore,
    /// What each caller has, if anything.
    taken: Mutex<HashMap<String, usize>>,
}

impl Default for Held {
    fn default() -> Self {
        Self { free: Semaphore::new(limits::HELD), taken: Mutex::default() }
    }
}

impl Held {
    /// A place for a request that asks for this operation and takes so many bytes itself; none when all or the caller's own are
    /// taken.
    pub(crate) fn place(&self, caller: &Caller, operation: &Operation, bytes: usize) -> Option<Place<'_>> {
        // The operation, as it may be shown, and in the ask.
        self.weighed(caller, limits::HELD_EACH + (3 * memory_of(operation) + bytes) / 1024)
    }

    fn weighed(&self, caller: &Caller, weight: usize) -> Option<Place<'_>> {
        let permit = self.free.try_acquire_many(u32::try_from(weight).ok()?).ok()?;
        let caller = caller.id();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = taken.get(&caller).copied().unwrap_or_default() + weight;
        if theirs > limits::HELD_OF_CALLER {
            return None;
        }
        taken.insert(caller.clone(), theirs);
        drop(taken);
        Some(Place { held: self, caller, weight, _permit: permit })
    }

    /// How much is free, in KiB.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

/// A place, until it is dropped.
pub(crate) struct Place<'h> {
    held: &'h Held,
    caller: String,
    weight: usize,
    _permit: SemaphorePermit<'h>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.held.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = taken.get_mut(&self.caller) {
            *theirs = theirs.saturating_sub(self.weight);
            if *theirs == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

/// What an operation takes in memory, in bytes. A list of zeros takes forty times its text.
fn memory_of(operation: &Operation) -> usize {
    let demands = operation.demands.iter().map(|Demand { action, resource, .. }| {
        let resource = match resource {
            Resource::Arn(name) | Resource::McpServer(name) => text(name),
            Resource::McpTool { server, name } => text(server) + text(name),
            Resource::Any => 0,
        };
        size_of::<Demand>() + text(action) + resource
    });
    let texts = operation.sensitive.iter().chain(&operation.uninspected);
    size_of::<Operation>()
        + memory_of_value(&operation.parameters)
        + demands.sum::<usize>()
        + texts.map(|one| size_of::<String>() + text(one)).sum::<usize>()
}

/// What hangs off a value.
fn memory_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(own) => text(own),
        Value::Array(items) if items.is_empty() => 0,
        Value::Array(items) => {
            let own = ALLOCATED + items.capacity() * size_of::<Value>();
            own + items.iter().map(memory_of_value).sum::<usize>()
        }
        Value::Object(members) => memory_of_members(members),
    }
}

/// What hangs off an object: its members in a list that has room for three at least, and an index by their names.
pub(crate) fn memory_of_members(members: &Map<String, Value>) -> usize {
    if members.is_empty() {
        return 0;
    }
    let room = members.len().max(3);
    let index = (room * 8 / 7 + 1).next_power_of_two() * (size_of::<usize>() + 1);
    let own = 2 * ALLOCATED + room * size_of::<(usize, String, Value)>() + index;
    own + members.iter().map(|(name, value)| text(name) + memory_of_value(value)).sum::<usize>()
}

fn text(text: &str) -> usize {
    if text.is_empty() { 0 } else { ALLOCATED + text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::{AccessLevel, Door, Traits};
    use serde_json::json;

    fn caller(subject: &str) -> Caller {
        Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: subject.to_owned(),
            kind: durward_core::CallerKind::Workload,
            groups: Vec::new(),
            act: Vec::new(),
        }
    }

    fn operation(parameters: Value) -> Operation {
        Operation {
            door: Door::Aws,
            service: "dynamodb".to_owned(),
            name: "DeleteItem".to_owned(),
            demands: vec![Demand {
                access_level: AccessLevel::Write,
                action: "dynamodb:DeleteItem".to_owned(),
                resource: Resource::Arn("arn:aws:dynamodb:us-east-1:123456789012:table/orders".to_owned()),
            }],
            parameters,
            sensitive: Vec::new(),
            region: None,
            account: None,
            traits: Traits::default(),
            uninspected: Vec::new(),
            body_sha256: None,
        }
    }

    fn small() -> Operation {
        operation(json!({ "TableName": "orders", "Key": { "id": { "S": "1" } } }))
    }

    /// What a place takes, in KiB.
    fn weight(operation: &Operation, bytes: usize) -> Option<usize> {
        Held::default().place(&caller("agent"), operation, bytes).map(|place| place.weight)
    }

    #[test]
    fn one_caller_does_not_take_the_places_of_others() {
        let held = Held::default();
        let small = small();
        let mine: Vec<_> = std::iter::from_fn(|| held.place(&caller("greedy"), &small, 1_500)).collect();
        assert!((900..=limits::HELD_OF_CALLER / limits::HELD_EACH).contains(&mine.len()), "{}", mine.len());
        let other = held.place(&caller("other"), &small, 1_500);
        assert!(other.is_some());
        drop((mine, other));
        assert!(held.place(&caller("greedy"), &small, 0).is_some(), "what is given back can be taken again");
        assert_eq!(held.free(), limits::HELD);
        assert!(held.taken.lock().unwrap().is_empty(), "who has none is forgotten");
    }

    #[test]
    fn all_callers_together_take_no_more_than_there_is() {
        let held = Held::default();
        // About more, nobody is asked.
        let largest = operation(json!({ "Payload": "x".repeat(256 << 10) }));
        let each = weight(&largest, limits::BODY).expect("a caller can have one of the largest");
        assert_eq!(limits::HELD_OF_CALLER / each, 3);
        let callers = (0..).map(|number| caller(&format!("agent-{number}")));
        let places: Vec<_> =
            callers.map_while(|caller| held.place(&caller, &largest, limits::BODY)).collect();
        assert_eq!(places.len(), limits::HELD / each);
        assert_eq!(held.free(), limits::HELD - places.len() * each);
    }

    #[test]
    fn a_request_weighs_its_bytes_and_what_its_operation_is_in_memory() {
        let least = weight(&small(), 0).unwrap();
        assert_eq!(weight(&small(), 15 << 20).unwrap() - least, 15 << 10, "spaces take room, too");
        let zeros = operation(json!({ "list": vec![0; 1 << 17] }));
        let room = (1 << 17) * size_of::<Value>() / 1024;
        assert!(weight(&zeros, 0).unwrap() >= 3 * room, "256 KiB of JSON");
        let objects = operation(json!({ "list": vec![json!({ "a": 0 }); 1 << 15] }));
        let member = size_of::<(String, Value)>();
        assert!(weight(&objects, 0).unwrap() >= 3 * (1 << 15) * (size_of::<Value>() + member) / 1024);
        let named = Operation { uninspected: vec!["x".repeat(1 << 20)], ..small() };
        assert!(weight(&named, 0).unwrap() - least >= 3 << 10);
    }
}
