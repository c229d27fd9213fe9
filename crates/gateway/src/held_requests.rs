//! Limits the memory of requests that are held open while they wait for approval: in total and for each caller, so that a caller
//! who sends many requests does not keep the others from being held.

use crate::memory_budget::{MemoryBudget, MemoryReservation};
use durward_core::{Caller, Operation, RequiredPermission, Resource, limits};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The bytes that the allocator adds to each allocation.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;

/// The memory for held requests.
#[derive(Debug)]
pub struct HeldRequests(Arc<MemoryBudget>);

impl Default for HeldRequests {
    fn default() -> Self {
        Self(MemoryBudget::new(limits::MAX_HELD_REQUESTS_KIB, limits::MAX_HELD_KIB_PER_CALLER))
    }
}

impl HeldRequests {
    /// Admits a request for this operation whose own bytes are `bytes`; `None` when the total or the caller's share is used up.
    /// The request is held until the reservation is dropped.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        operation: &Operation,
        bytes: usize,
    ) -> Option<MemoryReservation> {
        // The operation is in memory three times: as decoded, as it may be shown, and in the approval request.
        let weight_kib =
            limits::HELD_REQUEST_BASE_KIB + (3 * operation_memory_bytes(operation) + bytes) / 1024;
        let mut reservation = self.0.reservation(caller.id());
        reservation.resize(weight_kib).then_some(reservation)
    }

    /// The free memory, in KiB.
    pub fn available_kib(&self) -> usize {
        self.0.available_kib()
    }
}

/// The memory of an operation, in bytes. Its text would be the wrong measure: a list of zeros takes about forty times its text.
pub(crate) fn operation_memory_bytes(operation: &Operation) -> usize {
    let permissions =
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
        + permissions.sum::<usize>()
        + texts.map(|text| size_of::<String>() + string_memory_bytes(text)).sum::<usize>()
}

/// The memory that a value owns on the heap, in bytes.
fn value_memory_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => string_memory_bytes(text),
        Value::Array(items) if items.is_empty() => 0,
        Value::Array(items) => {
            let own = ALLOCATION_OVERHEAD_BYTES + items.capacity() * size_of::<Value>();
            own + items.iter().map(value_memory_bytes).sum::<usize>()
        }
        Value::Object(members) => object_memory_bytes(members),
    }
}

/// The memory that an object owns on the heap, in bytes.
pub(crate) fn object_memory_bytes(members: &Map<String, Value>) -> usize {
    if members.is_empty() {
        return 0;
    }
    // With serde_json's `preserve_order`, which Cedar turns on, an object is an index map: a list of entries with capacity for at
    // least three, and a hash table over them that is at most 7/8 full.
    let capacity = members.len().max(3);
    let index = (capacity * 8 / 7 + 1).next_power_of_two() * (size_of::<usize>() + 1);
    let own = 2 * ALLOCATION_OVERHEAD_BYTES + capacity * size_of::<(usize, String, Value)>() + index;
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

    /// The weight of such a request, in KiB.
    fn admitted_weight_kib(operation: &Operation, bytes: usize) -> Option<usize> {
        HeldRequests::default().admit(&test_caller("agent"), operation, bytes).map(|permit| permit.kib())
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
        assert!(held.admit(&test_caller("greedy"), &small, 0).is_some(), "released memory can be used again");
        assert_eq!(held.available_kib(), limits::MAX_HELD_REQUESTS_KIB);
        assert_eq!(held.0.caller_count(), 0, "a caller without held requests is forgotten");
    }

    #[test]
    fn all_callers_together_stay_within_the_total() {
        let held = HeldRequests::default();
        // No approval is requested for a larger operation.
        let largest = test_operation(json!({ "Payload": "x".repeat(256 << 10) }));
        let each = admitted_weight_kib(&largest, limits::MAX_BODY_BYTES)
            .expect("a caller can have one of the largest");
        assert_eq!(limits::MAX_HELD_KIB_PER_CALLER / each, 3);
        let callers = (0..).map(|number| test_caller(&format!("agent-{number}")));
        let permits: Vec<_> =
            callers.map_while(|caller| held.admit(&caller, &largest, limits::MAX_BODY_BYTES)).collect();
        assert_eq!(permits.len(), limits::MAX_HELD_REQUESTS_KIB / each);
        assert_eq!(held.available_kib(), limits::MAX_HELD_REQUESTS_KIB - permits.len() * each);
    }

    #[test]
    fn a_request_weighs_its_bytes_and_the_memory_of_its_operation() {
        let least = admitted_weight_kib(&small_operation(), 0).unwrap();
        assert_eq!(
            admitted_weight_kib(&small_operation(), 15 << 20).unwrap() - least,
            15 << 10,
            "white space counts, too"
        );
        let zeros = test_operation(json!({ "list": vec![0; 1 << 17] }));
        let list_kib = (1 << 17) * size_of::<Value>() / 1024;
        assert!(admitted_weight_kib(&zeros, 0).unwrap() >= 3 * list_kib, "256 KiB of JSON");
        let objects = test_operation(json!({ "list": vec![json!({ "a": 0 }); 1 << 15] }));
        let member = size_of::<(String, Value)>();
        assert!(
            admitted_weight_kib(&objects, 0).unwrap() >= 3 * (1 << 15) * (size_of::<Value>() + member) / 1024
        );
        let named = Operation { uninspected_parts: vec!["x".repeat(1 << 20)], ..small_operation() };
        assert!(admitted_weight_kib(&named, 0).unwrap() - least >= 3 << 10);
    }
}
