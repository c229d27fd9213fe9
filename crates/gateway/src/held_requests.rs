//! Places for requests that are held open while people are asked: so much memory in all, and of that so much for one caller,
//! so that a caller who repeats itself does not send the others away.

use durward_core::{Caller, Operation, RequiredPermission, Resource, limits};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the allocator takes for each piece beside what was asked for.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;

/// All places; their unit is a KiB.
#[derive(Debug)]
pub struct HeldRequests {
    free_kib: Semaphore,
    /// What each caller has, if anything.
    kib_by_caller: Mutex<HashMap<String, usize>>,
}

impl Default for HeldRequests {
    fn default() -> Self {
        Self { free_kib: Semaphore::new(limits::MAX_HELD_REQUESTS_KIB), kib_by_caller: Mutex::default() }
    }
}

impl HeldRequests {
    /// A place for a request that asks for this operation and takes so many bytes itself; none when all or the caller's own are
    /// taken.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        operation: &Operation,
        bytes: usize,
    ) -> Option<HeldRequestPermit<'_>> {
        // The operation, as it may be shown, and in the ask.
        self.admit_weight(
            caller,
            limits::HELD_REQUEST_BASE_KIB + (3 * operation_memory_bytes(operation) + bytes) / 1024,
        )
    }

    fn admit_weight(&self, caller: &Caller, weight: usize) -> Option<HeldRequestPermit<'_>> {
        let permit = self.free_kib.try_acquire_many(u32::try_from(weight).ok()?).ok()?;
        let caller = caller.id();
        let mut taken = durward_core::lock_ignoring_poison(&self.kib_by_caller);
        let theirs = taken.get(&caller).copied().unwrap_or_default() + weight;
        if theirs > limits::MAX_HELD_KIB_PER_CALLER {
            return None;
        }
        taken.insert(caller.clone(), theirs);
        drop(taken);
        Some(HeldRequestPermit {
            held_requests: self,
            caller_id: caller,
            weight_kib: weight,
            _permit: permit,
        })
    }

    /// How much is free, in KiB.
    pub fn available_kib(&self) -> usize {
        self.free_kib.available_permits()
    }
}

/// A place, until it is dropped.
pub(crate) struct HeldRequestPermit<'h> {
    held_requests: &'h HeldRequests,
    caller_id: String,
    weight_kib: usize,
    _permit: SemaphorePermit<'h>,
}

impl Drop for HeldRequestPermit<'_> {
    fn drop(&mut self) {
        let mut taken = durward_core::lock_ignoring_poison(&self.held_requests.kib_by_caller);
        if let Some(theirs) = taken.get_mut(&self.caller_id) {
            *theirs = theirs.saturating_sub(self.weight_kib);
            if *theirs == 0 {
                taken.remove(&self.caller_id);
            }
        }
    }
}

/// What an operation takes in memory, in bytes. A list of zeros takes forty times its text.
fn operation_memory_bytes(operation: &Operation) -> usize {
    let demands =
        operation.required_permissions.iter().map(|RequiredPermission { action, resource, .. }| {
            let resource = match resource {
                Resource::Arn(name) | Resource::McpServer(name) => string_memory_bytes(name),
                Resource::McpTool { server, name } => string_memory_bytes(server) + string_memory_bytes(name),
                Resource::Any => 0,
            };
            size_of::<RequiredPermission>() + string_memory_bytes(action) + resource
        });
    let texts = operation.sensitive_pointers.iter().chain(&operation.uninspected_parts);
    size_of::<Operation>()
        + value_memory_bytes(&operation.parameters)
        + demands.sum::<usize>()
        + texts.map(|one| size_of::<String>() + string_memory_bytes(one)).sum::<usize>()
}

/// What hangs off a value.
fn value_memory_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(own) => string_memory_bytes(own),
        Value::Array(items) if items.is_empty() => 0,
        Value::Array(items) => {
            let own = ALLOCATION_OVERHEAD_BYTES + items.capacity() * size_of::<Value>();
            own + items.iter().map(value_memory_bytes).sum::<usize>()
        }
        Value::Object(members) => object_memory_bytes(members),
    }
}

/// What hangs off an object: its members in a list that has room for three at least, and an index by their names.
pub(crate) fn object_memory_bytes(members: &Map<String, Value>) -> usize {
    if members.is_empty() {
        return 0;
    }
    let room = members.len().max(3);
    let index = (room * 8 / 7 + 1).next_power_of_two() * (size_of::<usize>() + 1);
    let own = 2 * ALLOCATION_OVERHEAD_BYTES + room * size_of::<(usize, String, Value)>() + index;
    own + members
        .iter()
        .map(|(name, value)| string_memory_bytes(name) + value_memory_bytes(value))
        .sum::<usize>()
}

fn string_memory_bytes(text: &str) -> usize {
    if text.is_empty() { 0 } else { ALLOCATION_OVERHEAD_BYTES + text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::{AccessLevel, FrontEndKind, OperationTraits};
    use serde_json::json;

    fn test_caller(subject: &str) -> Caller {
        Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: subject.to_owned(),
            kind: durward_core::CallerKind::Workload,
            groups: Vec::new(),
            act: Vec::new(),
        }
    }

    fn test_operation(parameters: Value) -> Operation {
        Operation {
            front_end: FrontEndKind::Aws,
            service: "dynamodb".to_owned(),
            name: "DeleteItem".to_owned(),
            required_permissions: vec![RequiredPermission {
                access_level: AccessLevel::Write,
                action: "dynamodb:DeleteItem".to_owned(),
                resource: Resource::Arn("arn:aws:dynamodb:us-east-1:123456789012:table/orders".to_owned()),
            }],
            parameters,
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            traits: OperationTraits::default(),
            uninspected_parts: Vec::new(),
            body_sha256: None,
        }
    }

    fn small_operation() -> Operation {
        test_operation(json!({ "TableName": "orders", "Key": { "id": { "S": "1" } } }))
    }

    /// What a place takes, in KiB.
    fn admitted_weight_kib(operation: &Operation, bytes: usize) -> Option<usize> {
        HeldRequests::default().admit(&test_caller("agent"), operation, bytes).map(|place| place.weight_kib)
    }

    #[test]
    fn one_caller_cannot_use_up_the_memory_of_others() {
        let held = HeldRequests::default();
        let small = small_operation();
        let mine: Vec<_> = std::iter::from_fn(|| held.admit(&test_caller("greedy"), &small, 1_500)).collect();
        assert!(
            (900..=limits::MAX_HELD_KIB_PER_CALLER / limits::HELD_REQUEST_BASE_KIB).contains(&mine.len()),
            "{}",
            mine.len()
        );
        let other = held.admit(&test_caller("other"), &small, 1_500);
        assert!(other.is_some());
        drop((mine, other));
        assert!(
            held.admit(&test_caller("greedy"), &small, 0).is_some(),
            "what is given back can be taken again"
        );
        assert_eq!(held.available_kib(), limits::MAX_HELD_REQUESTS_KIB);
        assert!(held.kib_by_caller.lock().unwrap().is_empty(), "who has none is forgotten");
    }

    #[test]
    fn all_callers_together_stay_within_the_total() {
        let held = HeldRequests::default();
        // About more, nobody is asked.
        let largest = test_operation(json!({ "Payload": "x".repeat(256 << 10) }));
        let each = admitted_weight_kib(&largest, limits::MAX_BODY_BYTES)
            .expect("a caller can have one of the largest");
        assert_eq!(limits::MAX_HELD_KIB_PER_CALLER / each, 3);
        let callers = (0..).map(|number| test_caller(&format!("agent-{number}")));
        let places: Vec<_> =
            callers.map_while(|caller| held.admit(&caller, &largest, limits::MAX_BODY_BYTES)).collect();
        assert_eq!(places.len(), limits::MAX_HELD_REQUESTS_KIB / each);
        assert_eq!(held.available_kib(), limits::MAX_HELD_REQUESTS_KIB - places.len() * each);
    }

    #[test]
    fn a_request_weighs_its_bytes_and_the_memory_of_its_operation() {
        let least = admitted_weight_kib(&small_operation(), 0).unwrap();
        assert_eq!(
            admitted_weight_kib(&small_operation(), 15 << 20).unwrap() - least,
            15 << 10,
            "spaces take room, too"
        );
        let zeros = test_operation(json!({ "list": vec![0; 1 << 17] }));
        let room = (1 << 17) * size_of::<Value>() / 1024;
        assert!(admitted_weight_kib(&zeros, 0).unwrap() >= 3 * room, "256 KiB of JSON");
        let objects = test_operation(json!({ "list": vec![json!({ "a": 0 }); 1 << 15] }));
        let member = size_of::<(String, Value)>();
        assert!(
            admitted_weight_kib(&objects, 0).unwrap() >= 3 * (1 << 15) * (size_of::<Value>() + member) / 1024
        );
        let named = Operation { uninspected_parts: vec!["x".repeat(1 << 20)], ..small_operation() };
        assert!(admitted_weight_kib(&named, 0).unwrap() - least >= 3 << 10);
    }
}
