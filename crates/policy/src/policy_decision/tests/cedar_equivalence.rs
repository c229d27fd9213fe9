//! The index against Cedar itself: for random policies and queries, our decision from single candidates must be the decision of
//! Cedar's authorizer on the full set, with the whole entity hierarchy and every attribute.

use super::*;
use crate::{
    cedar_context::build_cedar_context,
    explanation::EvaluatedPolicy,
    required_attributes::{CombinedAttributes, RequiredAttributes},
};
use cedar_policy::{
    Authorizer, Decision as CedarDecision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet as CedarPolicySet, Request, Response, RestrictedExpression,
};
use durward_core::{FrontEndKind, RequiredPermission};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap as Map, HashSet},
    str::FromStr as _,
    sync::LazyLock,
};

const PRINCIPAL_CLAUSES: [&str; 14] = [
    "principal",
    "principal == Caller::\"corp/bob\"",
    "principal == Caller::\"corp/eve\"",
    "principal in Group::\"g1\"",
    "principal in Group::\"g2\"",
    "principal is Caller",
    "principal is Caller in Group::\"g1\"",
    "principal in Group::\"demo\"",
    "principal in Caller::\"corp/bob\"",
    "principal == Group::\"g1\"",
    "principal in Grupe::\"g1\"",
    "principal is Grupe",
    "principal is Grupe in Group::\"g1\"",
    "principal is Group",
];
const ACTION_CLAUSES: [&str; 13] = [
    "action",
    "action == Aws::Action::\"s3:GetObject\"",
    "action == Aws::Action::\"s3:DeleteObject\"",
    "action in Aws::Action::\"Read\"",
    "action in Aws::Action::\"s3:*\"",
    "action in [Aws::Action::\"Write\", Aws::Action::\"s3:GetObject\"]",
    "action == Mcp::Action::\"tools/call\"",
    "action == Action::\"connect\"",
    "action in [Action::\"reveal\", Aws::Action::\"List\"]",
    "action == Aws::Action::\"Read\"",
    "action in Aws::Action::\"s3:GetObject\"",
    "action in [Mcp::Action::\"tools/call\", Aws::Action::\"dynamodb:*\"]",
    "action == Action::\"reveal\"",
];
const RESOURCE_CLAUSES: [&str; 21] = [
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
    "resource == Aws::Account::\"123456789012\"",
    "resource in Aws::Resource::\"arn:aws:s3:::b/k\"",
    "resource == Mcp::Server::\"files\"",
    "resource is Mcp::Tool in Mcp::Server::\"files\"",
    "resource is Mcp::Server in Mcp::Server::\"files\"",
    "resource is Mcp::Tool",
    "resource is Connection",
    "resource == DataClass::\"email\"",
    "resource in Group::\"demo\"",
    "resource is Grupe",
];
const CONDITION_CLAUSES: [&str; 44] = [
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
    "when { resource in [Aws::Account::\"999999999999\", Aws::Resource::\"arn:aws:s3:::b\"] }",
    "when { principal in [Group::\"g2\", Group::\"demo\", Grupe::\"g1\"] }",
    "when { principal in resource || resource in principal }",
    "when { action in action && principal in principal && resource in [resource] }",
    "when { action in [Aws::Action::\"Read\", Aws::Action::\"s3:*\", Mcp::Action::\"tools/call\"] }",
    "when { resource in (if principal in Group::\"g1\" then Connection::\"demo\" else Aws::Account::\"999999999999\") }",
    "when { principal is Caller in Group::\"g2\" || resource is Mcp::Tool in Mcp::Server::\"files\" }",
    "when { principal has subject && !(action has x) && !(principal has nothing) }",
    "when { resource has arn && resource.arn like \"arn:aws:s3:::*\" }",
    "when { resource.bucket == \"b\" }",
    "unless { action.x == 1 }",
    "when { context has params.Bucket } unless { context.params.Bucket == \"c\" }",
    "when { context.params.Key == 1 }",
    "when { context.params.Bucket > 1 }",
    "when { context.params.Limit + 9223372036854775807 > 0 }",
    "when { context.source_ip == ip(\"10.0.0.7\") && context.now < datetime(\"2027-01-01\") }",
    "when { ip(context.region).isLoopback() }",
    "when { principal.acting_for.contains(\"alice\") && [context.region, \"x\"].containsAny([\"eu-central-1\"]) }",
    "when { resource.hasTag(\"critical\") && resource.getTag(\"critical\") == \"true\" }",
    "unless { resource.hasTag(\"critical\") || action in Aws::Action::\"Read\" }",
    "when { resource.getTag(\"owner\") == \"ann\" }",
    "when { context has risk && context.risk > 50 && context.request_tags.contains(\"a=b\") }",
    "when { context has arguments.count && context.arguments.count > 2 }",
    "when { context has arguments && context.arguments has path && !(context.arguments has missing) }",
    "when { principal.subject == \"bob\" || context.arguments.path == \"/srv/x\" }",
    "when { if principal in Group::\"g1\" then context.arguments.count == 3 else context.arguments.path == [\"/srv/x\"] }",
    "unless { context has arguments.path.deep && context.arguments.path.deep.contains(1) }",
    "when { context.arguments == {path: \"/srv/x\"} || context.params == context.params }",
    "when { context.region }",
    "when { context in Group::\"g1\" }",
    "when { principal == Group::\"g1\" || resource == Mcp::Tool::\"files/read\" || Caller::\"corp/bob\" == principal }",
];

fn arbitrary_policies() -> impl Strategy<Value = String> {
    let one = (
        any::<bool>(),
        0..4u8,
        0..PRINCIPAL_CLAUSES.len(),
        0..ACTION_CLAUSES.len(),
        0..RESOURCE_CLAUSES.len(),
        0..CONDITION_CLAUSES.len(),
    );
    prop::collection::vec(one, 1..9).prop_map(|all| {
        let lines = all.into_iter().map(|(is_forbid, approval, principal, action, resource, condition)| {
            let line = format!(
                "{} ({}, {}, {}) {};",
                if is_forbid { "forbid" } else { "permit" },
                PRINCIPAL_CLAUSES[principal],
                ACTION_CLAUSES[action],
                RESOURCE_CLAUSES[resource],
                CONDITION_CLAUSES[condition],
            );
            let with_approval = format!("@approval(\"g\") {line}");
            // Approval applies to operations only, so the loader refuses some of these.
            let takes_approval = is_forbid
                && approval == 0
                && policy_loader::load_unvalidated(&[test_policy_file(&with_approval)], &TestSchemaSource)
                    .is_ok();
            if takes_approval { with_approval } else { line }
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn test_operations() -> Vec<Operation> {
    let params = json!({ "Bucket": "b", "Key": "k" });
    vec![
        test_operation(&[("s3:GetObject", "arn:aws:s3:::b/k")], params.clone()),
        test_operation(&[("s3:GetObject", "arn:aws:s3:::c/k")], json!({ "Bucket": "c" })),
        test_operation(&[("s3:DeleteObject", "arn:aws:s3:::b/k")], params),
        test_operation(&[("s3:DeleteObject", "arn:aws:s3:::c/k")], json!({ "Tagging": "a=b" })),
        test_operation(&[("s3:ListBucket", "arn:aws:s3:::b")], json!({})),
        test_operation(
            &[("dynamodb:GetItem", "arn:aws:dynamodb:r:999999999999:table/T")],
            json!({ "Limit": 1 }),
        ),
        test_operation(&[("iam:PutRolePolicy", "*")], json!({})),
        test_operation(&[("s3:GetObject", "arn:aws:s3:::b/*")], json!({ "Bucket": "b" })),
        test_operation(&[("s3:DeleteObject", "*")], json!({})),
        test_tool_call("files", "read", json!({ "path": "/srv/x" })),
        test_tool_call("files", "read", json!({})),
        test_tool_call("other", "read", json!({ "path": 1 })),
        test_tool_call("files", "read", json!({ "path": ["/srv/x", null] })),
        test_tool_call("files", "read", json!({ "path": { "deep": [0.5] }, "count": 3 })),
        test_tool_call("other", "read", json!({ "path": "/srv/x", "count": 1e30 })),
        test_operation(&[("s3:GetObject", "arn:aws:s3:::b/k")], json!({ "Bucket": "b", "Key": u64::MAX })),
        test_operation(&[("s3:GetObject", "arn:aws:s3:::c/k")], json!({ "Bucket": null, "Key": 1 })),
    ]
}

/// The tags of every resource of the test operations.
fn test_resource_tags() -> &'static ResourceTags {
    static RESOURCE_TAGS: LazyLock<ResourceTags> = LazyLock::new(|| {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut tags: ResourceTags = test_operations()
            .iter()
            .flat_map(|operation| {
                operation.resource_arns().into_iter().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|arn| (arn, BTreeMap::new()))
            .collect();
        tags.insert("arn:aws:s3:::b/k".to_owned(), pairs(&[("critical", "true"), ("owner", "ann")]));
        tags.insert("arn:aws:s3:::c/k".to_owned(), pairs(&[("critical", "false")]));
        tags
    });
    &RESOURCE_TAGS
}

fn tagged_context() -> RequestContext<'static> {
    RequestContext { tags: Some(test_resource_tags()), risk: Some(60), ..test_context() }
}

fn entity_uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).expect("a type name"), EntityId::new(id))
}

/// The entities of a query with the hierarchy as it is documented, not flattened.
fn entity_hierarchy(caller: &Caller, query: &PolicyQuery<'_>) -> (EntityUid, EntityUid, EntityUid, Entities) {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let principal = entity_uid("Caller", &caller.id());
    let mut all = vec![
        Entity::new(
            principal.clone(),
            Map::from([
                ("subject".to_owned(), text(&caller.subject)),
                ("kind".to_owned(), text(caller.kind.as_str())),
                (
                    "acting_for".to_owned(),
                    RestrictedExpression::new_set(caller.act.iter().map(|act| text(act))),
                ),
            ]),
            caller.groups.iter().map(|group| entity_uid("Group", group)).collect(),
        )
        .expect("an entity"),
        Entity::new_no_attrs(
            entity_uid("Aws::Account", "123456789012"),
            HashSet::from([entity_uid("Connection", "demo")]),
        ),
        Entity::new_no_attrs(
            entity_uid("Aws::Account", "999999999999"),
            HashSet::from([entity_uid("Connection", "demo")]),
        ),
    ];
    let (action, resource) = match query {
        PolicyQuery::Connect { connection } => {
            (entity_uid("Action", "connect"), entity_uid("Connection", connection))
        }
        PolicyQuery::Reveal { data_class } => {
            (entity_uid("Action", "reveal"), entity_uid("DataClass", data_class))
        }
        PolicyQuery::Permission { operation, permission } if operation.front_end == FrontEndKind::Mcp => {
            let Resource::McpTool { server, name } = &permission.resource else {
                unreachable!("only tools are queried")
            };
            let tool = entity_uid("Mcp::Tool", &format!("{server}/{name}"));
            all.push(Entity::new_no_attrs(tool.clone(), HashSet::from([entity_uid("Mcp::Server", server)])));
            (entity_uid("Mcp::Action", &permission.action), tool)
        }
        PolicyQuery::Permission { permission, .. } => {
            let action = entity_uid("Aws::Action", &permission.action);
            let service = permission.action.split(':').next().unwrap_or_default();
            let groups = [
                entity_uid("Aws::Action", permission.access_level.as_str()),
                entity_uid("Aws::Action", &format!("{service}:*")),
            ];
            all.push(Entity::new_no_attrs(action.clone(), HashSet::from(groups)));
            let arn = permission.resource.to_text();
            let account = if arn.contains("999999999999") { "999999999999" } else { "123456789012" };
            let mut parents = HashSet::from([entity_uid("Aws::Account", account)]);
            let mut attributes = Map::from([("arn".to_owned(), text(&arn))]);
            if let Some((bucket, _)) = arn.strip_prefix("arn:aws:s3:::").and_then(|rest| rest.split_once('/'))
            {
                let in_bucket = entity_uid("Aws::Resource", &format!("arn:aws:s3:::{bucket}"));
                all.push(Entity::new_no_attrs(in_bucket.clone(), parents.clone()));
                parents.insert(in_bucket);
                attributes.insert("bucket".to_owned(), text(bucket));
            }
            let resource = entity_uid("Aws::Resource", &arn);
            let tags = test_resource_tags()
                .get(&arn)
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)));
            all.push(Entity::new_with_tags(resource.clone(), attributes, parents, tags).expect("an entity"));
            (action, resource)
        }
    };
    (principal, action, resource, Entities::from_entities(all, None).expect("no entity twice"))
}

fn names_resource_exactly(policy: &cedar_policy::Policy, arn: &str) -> bool {
    policy.to_string().contains(&format!("Aws::Resource::\"{arn}\""))
}

/// The implicit targets of the test operations that name no single resource, written by hand.
fn implicit_permissions(full: &CedarPolicySet, query: &PolicyQuery<'_>) -> Vec<RequiredPermission> {
    let PolicyQuery::Permission { permission, .. } = query else { return Vec::new() };
    let targets = match (permission.resource.to_text().as_str(), permission.action.as_str()) {
        ("arn:aws:s3:::b/*", _) => &["arn:aws:s3:::b/k"][..],
        ("*", "s3:DeleteObject") => &["arn:aws:s3:::b", "arn:aws:s3:::b/k"][..],
        _ => &[],
    };
    let forbidden = |arn: &str| {
        full.policies().any(|policy| policy.effect() == Effect::Forbid && names_resource_exactly(policy, arn))
    };
    let on_target = |arn: &&str| RequiredPermission {
        resource: Resource::Arn((*arn).to_owned()),
        ..(*permission).clone()
    };
    targets.iter().filter(|arn| forbidden(arn)).map(on_target).collect()
}

/// Cedar's own response to one query.
fn authorize_with_cedar(
    set: &PolicySet,
    policies: &CedarPolicySet,
    caller: &Caller,
    query: &PolicyQuery<'_>,
) -> Response {
    let (principal, action, resource, entities) = entity_hierarchy(caller, query);
    let everything = [RequiredAttributes::all()];
    let mut required = CombinedAttributes::new(&everything);
    required.include(0);
    let built =
        build_cedar_context(&set.entity_types, query, &tagged_context(), &required).expect("a context");
    assert_eq!(built.unrepresentable, None, "Cedar gets what it can hold");
    let context = built.context;
    let request = Request::new(principal, action, resource, context.into(), None).expect("a request");
    Authorizer::new().is_authorized(&request, policies, &entities)
}

/// The parameters with another value in place of each one that Cedar cannot hold. `None`: without those that are null.
fn with_substitute(json: &Value, substitute: Option<&Value>) -> Option<Value> {
    Some(match json {
        Value::Null => substitute?.clone(),
        Value::Number(number) if number.as_i64().is_none() => substitute.unwrap_or(&json!(3)).clone(),
        Value::Array(items) => items.iter().filter_map(|item| with_substitute(item, substitute)).collect(),
        Value::Object(members) => members
            .iter()
            .filter_map(|(name, member)| Some((name.clone(), with_substitute(member, substitute)?)))
            .collect(),
        other => other.clone(),
    })
}

/// The operation once for each kind of value in place of what Cedar cannot hold; only itself, if it can hold everything.
fn representable_operations(operation: &Operation) -> Vec<Operation> {
    let substitutes = [json!("/srv/x"), json!(3), json!(["/srv/x"])];
    let all = substitutes.iter().map(Some).chain([None]);
    let mut operations: Vec<Operation> = Vec::new();
    for substitute in all {
        let parameters = with_substitute(&operation.parameters, substitute).expect("an object stays");
        let representable = Operation { parameters, ..operation.clone() };
        if !operations.contains(&representable) {
            operations.push(representable);
        }
    }
    operations
}

/// The verdict and the determining or failing policies by Cedar's own evaluation of the whole set.
fn decide_with_cedar(
    set: &PolicySet,
    full: &CedarPolicySet,
    caller: &Caller,
    query: &PolicyQuery<'_>,
) -> (Verdict, BTreeSet<String>) {
    let names = |response: &Response| -> BTreeSet<String> {
        response.diagnostics().reason().map(ToString::to_string).collect()
    };
    let forbids = |id: &String| {
        full.policy(&cedar_policy::PolicyId::new(id)).map(cedar_policy::Policy::effect)
            == Some(Effect::Forbid)
    };
    let failing = |response: &Response| -> BTreeSet<String> {
        let errors = response.diagnostics().errors();
        errors
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            })
            .collect()
    };
    let response = authorize_with_cedar(set, full, caller, query);
    let mut forbidding: BTreeSet<String> = names(&response).into_iter().filter(forbids).collect();
    let mut failed = failing(&response);
    if let PolicyQuery::Permission { operation, .. } = query {
        for permission in &implicit_permissions(full, query) {
            let arn = permission.resource.to_text();
            let naming = full.policies().filter(|policy| {
                policy.effect() == Effect::Forbid
                    && (names_resource_exactly(policy, &arn)
                        || (arn == "arn:aws:s3:::b/k" && names_resource_exactly(policy, "arn:aws:s3:::b")))
            });
            let naming = CedarPolicySet::from_policies(naming.cloned()).expect("ids differ");
            let response = authorize_with_cedar(
                set,
                &naming,
                caller,
                &PolicyQuery::Permission { operation, permission },
            );
            forbidding.extend(names(&response));
            failed.extend(failing(&response));
        }
    }
    // A forbid that fails for one of the resources has failed, although it is satisfied for another.
    forbidding.retain(|id| !failed.contains(id));
    let final_forbids: BTreeSet<String> =
        forbidding.iter().filter(|id| set.approval_rule(id).is_none()).cloned().collect();
    if !final_forbids.is_empty() {
        return (Verdict::Deny, final_forbids);
    }
    if !failed.is_empty() {
        return (Verdict::Deny, failed);
    }
    let mut without_forbids = full.clone();
    for id in &forbidding {
        without_forbids.remove_static(cedar_policy::PolicyId::new(id)).expect("it is in the set");
    }
    let response = authorize_with_cedar(set, &without_forbids, caller, query);
    match (response.decision(), forbidding.is_empty()) {
        (CedarDecision::Deny, _) => (Verdict::Deny, BTreeSet::new()),
        (CedarDecision::Allow, true) => (Verdict::Allow, names(&response)),
        (CedarDecision::Allow, false) => (Verdict::RequireApproval, forbidding),
    }
}

/// Every query of every caller on which the set and Cedar itself differ.
fn find_differences(text: &str) -> Vec<String> {
    let checked = policy_loader::load_unvalidated(&[test_policy_file(text)], &TestSchemaSource)
        .expect("every generated policy passes our own checks");
    let full = CedarPolicySet::from_policies(checked.iter().map(|checked| checked.policy.clone()))
        .expect("ids differ");
    let set = PolicySet::compile("v".to_owned(), checked, &TestSchemaSource);
    let operations = test_operations();
    let queries = [
        PolicyQuery::Connect { connection: "demo" },
        PolicyQuery::Connect { connection: "*" },
        PolicyQuery::Reveal { data_class: "email" },
    ];
    let mut found = Vec::new();
    for caller in [
        test_caller("bob", &["g1"]),
        test_caller("eve", &["g1", "g2"]),
        test_caller("zoe", &[]),
        test_caller("bob", &["b", "demo", "files", "g2"]),
    ] {
        let mut compare = |query: &PolicyQuery<'_>, for_cedar: &PolicyQuery<'_>| {
            let request = AuthorizationRequest { caller: &caller, query: *query, context: tagged_context() };
            let decision = set.decide(&request);
            let ours = (decision.verdict, decision.policies.iter().cloned().collect::<BTreeSet<_>>());
            let theirs = decide_with_cedar(&set, &full, &caller, for_cedar);
            // A policy that depends on a value that Cedar cannot hold has failed, which denies. All others are as with any value.
            let has_failed = || {
                let is_failure = |policy: &EvaluatedPolicy| {
                    matches!(
                        policy.outcome,
                        PolicyOutcome::Failed(PolicyFailure::UnrepresentableParameter(_))
                    )
                };
                decision.verdict == Verdict::Deny
                    && set.explain(&request).evaluated_policies().any(is_failure)
            };
            if ours != theirs && !has_failed() {
                found.push(format!("{} on {}: {ours:?}, Cedar {theirs:?}", caller.id(), query.title()));
            }
        };
        for query in &queries {
            compare(query, query);
        }
        for operation in &operations {
            let query = |operation| PolicyQuery::Permission {
                operation,
                permission: &operation.required_permissions[0],
            };
            for representable in &representable_operations(operation) {
                compare(&query(operation), &query(representable));
            }
        }
    }
    found
}

#[test]
fn each_single_clause_is_decided_as_by_cedar() {
    let mut texts = Vec::new();
    for effect in ["permit", "permit (principal, action, resource); forbid"] {
        let rule = |principal: &str, action: &str, resource: &str, condition: &str| {
            format!("{effect} ({principal}, {action}, {resource}) {condition};")
        };
        texts.extend(PRINCIPAL_CLAUSES.map(|clause| rule(clause, "action", "resource", "")));
        texts.extend(ACTION_CLAUSES.map(|clause| rule("principal", clause, "resource", "")));
        texts.extend(RESOURCE_CLAUSES.map(|clause| rule("principal", "action", clause, "")));
        texts.extend(CONDITION_CLAUSES.map(|clause| rule("principal", "action", "resource", clause)));
    }
    for text in texts {
        assert_eq!(find_differences(&text), Vec::<String>::new(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_cedar_on_the_full_set(text in arbitrary_policies()) {
        prop_assert_eq!(find_differences(&text), Vec::<String>::new());
    }
}
