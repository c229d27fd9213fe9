//! The index against Cedar itself: on random policies and questions, deciding by single candidates must come out as the full
//! set does, with the hierarchy spelt out and every attribute present.

use super::*;
use cedar_policy::{Decision as CedarDecision, EntityId, EntityTypeName, RestrictedExpression};
use durward_core::{Door, Resource};
use proptest::prelude::*;
use std::{
    collections::{BTreeSet, HashMap as Map, HashSet},
    str::FromStr as _,
};

const PRINCIPALS: [&str; 7] = [
    "principal",
    "principal == Caller::\"corp/bob\"",
    "principal == Caller::\"corp/eve\"",
    "principal in Group::\"g1\"",
    "principal in Group::\"g2\"",
    "principal is Caller",
    "principal is Caller in Group::\"g1\"",
];
const ACTIONS: [&str; 9] = [
    "action",
    "action == Aws::Action::\"s3:GetObject\"",
    "action == Aws::Action::\"s3:DeleteObject\"",
    "action in Aws::Action::\"Read\"",
    "action in Aws::Action::\"s3:*\"",
    "action in [Aws::Action::\"Write\", Aws::Action::\"s3:GetObject\"]",
    "action == Mcp::Action::\"tools/call\"",
    "action == Action::\"connect\"",
    "action in [Action::\"reveal\", Aws::Action::\"List\"]",
];
const RESOURCES: [&str; 11] = [
    "resource",
    "resource is Aws::Resource",
    "resource == Aws::Resource::\"arn:aws:s3:::b/k\"",
    "resource in Aws::Resource::\"arn:aws:s3:::b\"",
    "resource in Aws::Account::\"123456789012\"",
    "resource in Connection::\"demo\"",
    "resource is Aws::Resource in Aws::Account::\"999999999999\"",
    "resource == Aws::Resource::\"*\"",
    "resource in Mcp::Server::\"files\"",
    "resource == Mcp::Tool::\"files/read\"",
    "resource == Connection::\"demo\"",
];
const CONDITIONS: [&str; 13] = [
    "",
    "",
    "when { context.region == \"eu-central-1\" }",
    "when { context has region && context.region == \"eu-central-1\" }",
    "unless { principal in Group::\"g2\" }",
    "when { resource in Aws::Account::\"123456789012\" }",
    "when { context has params && context.params has Bucket && context.params.Bucket == \"b\" }",
    "when { context.arguments.path like \"/srv/*\" }",
    "when { principal.subject == \"bob\" }",
    "when { principal != Caller::\"corp/eve\" && principal.kind == \"workload\" }",
    "when { resource has bucket && resource.bucket == \"b\" }",
    "unless { context.source_ip.isInRange(ip(\"10.0.0.0/8\")) }",
    "when { action in Aws::Action::\"Write\" }",
];

fn policies() -> impl Strategy<Value = String> {
    let one = (
        any::<bool>(),
        0..4u8,
        0..PRINCIPALS.len(),
        0..ACTIONS.len(),
        0..RESOURCES.len(),
        0..CONDITIONS.len(),
    );
    prop::collection::vec(one, 1..9).prop_map(|all| {
        let lines = all.into_iter().map(|(forbids, approval, principal, action, resource, condition)| {
            format!(
                "{}{} ({}, {}, {}) {};",
                if forbids && approval == 0 { "@approval(\"g\") " } else { "" },
                if forbids { "forbid" } else { "permit" },
                PRINCIPALS[principal],
                ACTIONS[action],
                RESOURCES[resource],
                CONDITIONS[condition],
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn questions() -> Vec<Operation> {
    let params = json!({ "Bucket": "b", "Key": "k" });
    vec![
        operation(&[("s3:GetObject", "arn:aws:s3:::b/k")], params.clone()),
        operation(&[("s3:GetObject", "arn:aws:s3:::c/k")], json!({ "Bucket": "c" })),
        operation(&[("s3:DeleteObject", "arn:aws:s3:::b/k")], params),
        operation(&[("s3:ListBucket", "arn:aws:s3:::b")], json!({})),
        operation(&[("dynamodb:GetItem", "arn:aws:dynamodb:r:999999999999:table/T")], json!({})),
        operation(&[("iam:PutRolePolicy", "*")], json!({})),
        tool_call("files", "read", json!({ "path": "/srv/x" })),
        tool_call("files", "read", json!({})),
        tool_call("other", "read", json!({ "path": 1 })),
    ]
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).expect("a type name"), EntityId::new(id))
}

/// The entities of a question with the hierarchy as documented, nothing flattened.
fn hierarchy(caller: &Caller, ask: &Ask<'_>) -> (EntityUid, EntityUid, EntityUid, Entities) {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let principal = uid("Caller", &caller.id());
    let mut all = vec![
        Entity::new(
            principal.clone(),
            Map::from([
                ("subject".to_owned(), text(&caller.subject)),
                ("kind".to_owned(), text(caller.kind.as_str())),
            ]),
            caller.groups.iter().map(|group| uid("Group", group)).collect(),
        )
        .expect("an entity"),
        Entity::new_no_attrs(uid("Aws::Account", "123456789012"), HashSet::from([uid("Connection", "demo")])),
        Entity::new_no_attrs(uid("Aws::Account", "999999999999"), HashSet::from([uid("Connection", "demo")])),
    ];
    let (action, resource) = match ask {
        Ask::Connect { connection } => (uid("Action", "connect"), uid("Connection", connection)),
        Ask::Reveal { data_class } => (uid("Action", "reveal"), uid("DataClass", data_class)),
        Ask::Demand { operation, demand } if operation.door == Door::Mcp => {
            let Resource::McpTool { server, name } = &demand.resource else {
                unreachable!("only tools are asked for")
            };
            let tool = uid("Mcp::Tool", &format!("{server}/{name}"));
            all.push(Entity::new_no_attrs(tool.clone(), HashSet::from([uid("Mcp::Server", server)])));
            (uid("Mcp::Action", &demand.action), tool)
        }
        Ask::Demand { demand, .. } => {
            let action = uid("Aws::Action", &demand.action);
            let service = demand.action.split(':').next().unwrap_or_default();
            let groups = [
                uid("Aws::Action", demand.access_level.as_str()),
                uid("Aws::Action", &format!("{service}:*")),
            ];
            all.push(Entity::new_no_attrs(action.clone(), HashSet::from(groups)));
            let arn = demand.resource.as_text();
            let account = if arn.contains("999999999999") { "999999999999" } else { "123456789012" };
            let mut parents = HashSet::from([uid("Aws::Account", account)]);
            let mut attributes = Map::new();
            if let Some((bucket, _)) = arn.strip_prefix("arn:aws:s3:::").and_then(|rest| rest.split_once('/'))
            {
                let in_bucket = uid("Aws::Resource", &format!("arn:aws:s3:::{bucket}"));
                all.push(Entity::new_no_attrs(in_bucket.clone(), parents.clone()));
                parents.insert(in_bucket);
                attributes.insert("bucket".to_owned(), text(bucket));
            }
            let resource = uid("Aws::Resource", &arn);
            all.push(Entity::new(resource.clone(), attributes, parents).expect("an entity"));
            (action, resource)
        }
    };
    (principal, action, resource, Entities::from_entities(all, None).expect("no entity twice"))
}

/// The verdict and the determining or failing policies by Cedar's own evaluation of the whole set.
fn by_cedar(set: &PolicySet, full: &CedarSet, caller: &Caller, ask: &Ask<'_>) -> (Verdict, BTreeSet<String>) {
    let (principal, action, resource, entities) = hierarchy(caller, ask);
    let context = context(ask, &facts(), &Needs::everything()).expect("a context");
    let request = Request::new(principal, action, resource, context, None).expect("a request");
    let respond = |policies: &CedarSet| Authorizer::new().is_authorized(&request, policies, &entities);
    let names = |response: &Response| -> BTreeSet<String> {
        response.diagnostics().reason().map(ToString::to_string).collect()
    };
    let response = respond(full);
    let forbids: BTreeSet<String> = names(&response)
        .into_iter()
        .filter(|id| {
            full.policy(&cedar_policy::PolicyId::new(id)).map(cedar_policy::Policy::effect)
                == Some(Effect::Forbid)
        })
        .collect();
    let finally: BTreeSet<String> = forbids.iter().filter(|id| set.approval(id).is_none()).cloned().collect();
    if !finally.is_empty() {
        return (Verdict::Deny, finally);
    }
    let failing: BTreeSet<String> = response
        .diagnostics()
        .errors()
        .map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        })
        .collect();
    if !failing.is_empty() {
        return (Verdict::Deny, failing);
    }
    let mut lifted = full.clone();
    for id in &forbids {
        lifted.remove_static(cedar_policy::PolicyId::new(id)).expect("it is in the set");
    }
    let response = respond(&lifted);
    match (response.decision(), forbids.is_empty()) {
        (CedarDecision::Deny, _) => (Verdict::Deny, BTreeSet::new()),
        (CedarDecision::Allow, true) => (Verdict::Allow, names(&response)),
        (CedarDecision::Allow, false) => (Verdict::Ask, forbids),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_the_full_set(text in policies()) {
        let checked = load::load_unvalidated(&[source(&text)], &Small).expect("every generated policy passes our own checks");
        let full = CedarSet::from_policies(checked.iter().map(|checked| checked.policy.clone())).expect("ids differ");
        let set = PolicySet::compile("v".to_owned(), checked).expect("compiles");
        let operations = questions();
        for caller in [caller("bob", &["g1"]), caller("eve", &["g1", "g2"]), caller("zoe", &[])] {
            let mut asks = vec![
                Ask::Connect { connection: "demo" },
                Ask::Connect { connection: "*" },
                Ask::Reveal { data_class: "email" },
            ];
            asks.extend(operations.iter().map(|operation| Ask::Demand { operation, demand: &operation.demands[0] }));
            for ask in asks {
                let decision = set.decide(&Question { caller: &caller, ask, facts: facts() });
                let policies: BTreeSet<String> = decision.policies.into_iter().collect();
                prop_assert_eq!((decision.verdict, policies), by_cedar(&set, &full, &caller, &ask), "{} asks {}", caller.id(), ask.title());
            }
        }
    }
}
